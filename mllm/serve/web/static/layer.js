// An image with regions drawn over it.

import { h, inkOn, s, setAll } from "./dom.js";

const LINE = 17; // height of a badge
const SMALL = 160; // pixels: images below are shown with hard edges

/**
 * A region that is drawn: {key, kind: "box" | "point", at, colour, badge, name, link, own}.
 * `at`: x1, y1, x2, y2 or x, y in pixels of the image. `own`: the user's, dashed; the model's are solid.
 */
export class Layer {
  /** `label`: what the drawing is called; without one it is decoration, and nothing in it takes the focus. */
  constructor(label = "") {
    this.label = label;
    this.marks = [];
    this.drawn = new Map();
    this.image = h("img", { alt: "" });
    this.svg = s("svg", label ? { role: "group", "aria-label": label } : { "aria-hidden": "true" });
    this.under = s("g");
    this.over = s("g"); // the user's regions, which are taken hold of
    this.svg.append(this.under, this.over);
    this.root = h("div", { class: "layer" }, this.image, this.svg);
    new ResizeObserver(() => this.draw()).observe(this.root);
  }

  show(picture) {
    this.picture = picture;
    this.image.src = picture.shown;
    this.image.alt = this.label ? picture.name : "";
    this.root.style.setProperty("--ratio", picture.width / picture.height);
    this.root.classList.toggle("hard", Math.max(picture.width, picture.height) < SMALL);
    this.draw();
  }

  set(marks) {
    this.marks = marks;
    this.draw();
  }

  /** Pixels on the screen for one of the image. */
  get scale() {
    return this.picture ? this.root.clientWidth / this.picture.width : 0;
  }

  draw() {
    if (!this.scale) return;
    const known = new Set(this.marks.map((mark) => mark.key));
    for (const [key, element] of this.drawn) {
      if (!known.has(key)) {
        element.remove();
        this.drawn.delete(key);
      }
    }
    for (const mark of this.marks) {
      if (!this.drawn.has(mark.key)) {
        const element = shape(mark, Boolean(this.label));
        this.drawn.set(mark.key, element);
        (mark.own ? this.over : this.under).append(element);
      }
      this.place(this.drawn.get(mark.key), mark);
    }
  }

  place(element, mark) {
    const at = mark.at.map((value) => value * this.scale);
    if (this.label) element.setAttribute("aria-label", mark.name);
    if (mark.kind === "box") {
      const [x, y, right, bottom] = at;
      const box = { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
      for (const rect of element.querySelectorAll(".outline")) setAll(rect, box);
    } else {
      for (const circle of element.querySelectorAll("circle")) setAll(circle, { cx: at[0], cy: at[1] });
    }
    const width = 9 + 8 * mark.badge.length;
    const [x, y] = mark.kind === "box" ? [at[0] - 1, at[1] - LINE] : [at[0] + 8, at[1] - LINE - 4];
    const left = Math.min(Math.max(0, x), Math.max(0, this.root.clientWidth - width));
    const above = y < 0 ? Math.min(Math.max(0, at[1] + (mark.kind === "box" ? 0 : 6)), this.root.clientHeight - LINE) : y;
    element.querySelector(".badge").setAttribute("transform", `translate(${left},${above})`);
    element.querySelector(".badge rect").setAttribute("width", width);
    element.querySelector(".badge text").setAttribute("x", width / 2);
  }
}

function shape(mark, interactive) {
  const lines =
    mark.kind === "box"
      ? ["tint", "case", "line", "grip"].map((name) => s("rect", { class: `outline ${name}`, rx: 1.5 }))
      : [
          s("circle", { class: "case", r: 7 }),
          s("circle", { class: "line", r: 7 }),
          s("circle", { class: "dot", r: 2.5 }),
          s("circle", { class: "grip", r: 14 }),
        ];
  const text = s("text", { y: LINE / 2 + 0.5, fill: inkOn(mark.colour) }, mark.badge);
  const badge = s("g", { class: "badge" }, s("rect", { height: LINE, rx: 3 }), text);
  const focus = interactive ? { tabindex: 0, role: mark.own && mark.editable ? "button" : "img" } : {};
  const given = { class: `mark ${mark.kind} ${mark.own ? "own" : "answer"}`, colour: mark.colour, ...focus };
  const element = s("g", given, ...lines, badge);
  if (mark.link) element.dataset.link = mark.link;
  element.dataset.key = mark.key;
  return element;
}

/** "12, 30 to 80, 95" */
export function place(at) {
  const [x, y, right, bottom] = at.map((value) => Math.round(value));
  return right === undefined ? `${x}, ${y}` : `${x}, ${y} to ${right}, ${bottom}`;
}
