// The image that is drawn on: boxes and points by mouse, touch and keyboard.

import { light, ownColour, s, say } from "./dom.js";
import { Layer, place } from "./layer.js";

const SMALLEST = 5; // pixels on the screen: a box below this is a slip
const CORNERS = { nw: [0, 1], ne: [2, 1], se: [2, 3], sw: [0, 3] };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const clamp = (value, most) => Math.min(Math.max(value, 0), most);
const round = (value) => Math.round(value * 100) / 100;

/** `regions` are the user's, {number, kind, at, picture}, all pictures' together. */
export class Stage {
  /** `changed()`: the regions are others now; `refer(region)`: one is to be named in the question. */
  constructor(root, { changed, refer }) {
    Object.assign(this, { changed, refer, tool: "box", regions: [], answer: [], selected: null, drag: null, last: 0 });
    this.layer = new Layer("Regions on the image");
    this.svg = this.layer.svg;
    this.handles = s("g", { class: "handles" });
    this.svg.append(this.handles);
    root.append(this.layer.root);
    new ResizeObserver(() => this.draw()).observe(this.layer.root);
    this.svg.addEventListener("pointerdown", (event) => this.down(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerup", (event) => this.up(event));
    this.svg.addEventListener("pointercancel", () => this.cancel());
    this.svg.addEventListener("pointerleave", () => !this.drag && light(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
    this.svg.addEventListener("dblclick", (event) => {
      const region = this.regionOf(event.target);
      if (region) this.refer(region);
    });
    this.svg.addEventListener("focusin", (event) => this.select(this.regionOf(event.target)));
  }

  get picture() {
    return this.layer.picture;
  }

  /** The user's regions on the image that is shown. */
  get shown() {
    return this.regions.filter((region) => region.picture === this.picture);
  }

  show(picture) {
    this.selected = null;
    this.layer.show(picture);
    this.draw();
  }

  /** The marks of an answer, beside the user's regions. */
  setAnswer(marks) {
    this.answer = marks;
    this.draw();
  }

  clear() {
    this.regions = this.regions.filter((region) => region.picture !== this.picture);
    this.selected = null;
    this.changed();
  }

  /** Forget all regions, and count from 1 again. */
  reset() {
    Object.assign(this, { regions: [], selected: null, last: 0 });
    this.changed();
  }

  /** One of the current kind in the middle of the image, with the focus. */
  add() {
    const { width, height } = this.picture;
    const step = this.shown.length % 5;
    const [x, y] = [width * (0.5 + step * 0.04), height * (0.5 + step * 0.04)];
    const at = this.tool === "box" ? [x - width / 6, y - height / 6, x + width / 6, y + height / 6] : [x, y];
    const region = this.create(this.tool, at);
    this.changed();
    this.focus(region);
    say(`${nameOf(region)} added. Arrow keys move it, with shift they resize it.`);
  }

  create(kind, at) {
    this.last += 1;
    const region = { number: this.last, kind, at: at.map(round), picture: this.picture };
    this.regions.push(region);
    this.selected = region;
    return region;
  }

  remove(region) {
    const beside = this.shown;
    const index = beside.indexOf(region);
    this.regions = this.regions.filter((other) => other !== region);
    if (this.selected === region) this.selected = null;
    this.changed();
    const next = beside[index + 1] ?? beside[index - 1];
    say(`${region.kind} ${region.number} deleted`);
    return next;
  }

  focus(region) {
    this.layer.drawn.get(keyOf(region))?.focus();
  }

  select(region) {
    if (region === this.selected) return;
    this.selected = region;
    this.draw();
  }

  regionOf(target) {
    const key = target.closest?.("[data-key]")?.dataset.key;
    return this.shown.find((region) => keyOf(region) === key) ?? null;
  }

  draw() {
    if (!this.picture) return;
    const own = this.shown.map((region) => markOf(region, true));
    this.layer.set([...this.answer, ...own]);
    for (const [key, element] of this.layer.drawn) {
      element.classList.toggle("selected", Boolean(this.selected) && key === keyOf(this.selected));
    }
    this.handles.replaceChildren();
    if (this.selected?.kind === "box") {
      for (const [name, [x, y]] of Object.entries(CORNERS)) {
        const [cx, cy] = [this.selected.at[x], this.selected.at[y]].map((value) => value * this.layer.scale);
        const hold = s("circle", { class: "hold", r: 15, cx, cy, "data-handle": name });
        this.handles.append(hold, s("rect", { class: "knob", x: cx - 4.5, y: cy - 4.5, width: 9, height: 9, rx: 2 }));
      }
      this.handles.style.setProperty("--colour", ownColour(this.selected.number));
    }
  }

  at(event) {
    const area = this.svg.getBoundingClientRect();
    const x = clamp((event.clientX - area.x) / area.width, 1) * this.picture.width;
    return [x, clamp((event.clientY - area.y) / area.height, 1) * this.picture.height];
  }

  down(event) {
    if (event.button !== 0 || this.drag || !this.picture) return;
    event.preventDefault();
    const from = this.at(event);
    const handle = event.target.dataset.handle;
    const found = handle ? this.selected : this.regionOf(event.target);
    this.svg.setPointerCapture(event.pointerId);
    if (found) {
      this.drag = { pointer: event.pointerId, from, handle, region: found, before: [...found.at] };
      this.select(found);
      this.focus(found);
    } else {
      const kind = this.tool;
      const region = this.create(kind, kind === "box" ? [...from, ...from] : from);
      this.drag = { pointer: event.pointerId, from, region, handle: kind === "box" ? "new" : undefined, before: null };
      if (kind === "point") this.drag.before = [...region.at];
      this.drag.fresh = true;
      this.draw();
    }
  }

  move(event) {
    const to = this.picture && this.at(event);
    if (!this.drag) {
      if (to && event.pointerType === "mouse") light(this.under(to));
      return;
    }
    if (event.pointerId !== this.drag.pointer) return;
    const { region, from, handle, before } = this.drag;
    const by = [to[0] - from[0], to[1] - from[1]];
    if (handle === "new") region.at = ordered([...from, ...to]);
    else if (handle) {
      const at = [...before];
      CORNERS[handle].forEach((side, axis) => (at[side] += by[axis]));
      region.at = this.inside(ordered(at));
    } else region.at = this.moved(before, by);
    region.at = region.at.map(round);
    this.draw();
  }

  up(event) {
    if (!this.drag || event.pointerId !== this.drag.pointer) return;
    const { region, fresh } = this.drag;
    this.drag = null;
    if (region.kind === "box") {
      const [x, y, right, bottom] = region.at;
      if (Math.min(right - x, bottom - y) * this.layer.scale < SMALLEST) {
        if (fresh) this.take(region);
        else region.at = this.widened(region.at);
      }
    }
    this.changed();
    if (fresh && this.regions.includes(region)) {
      this.focus(region);
      say(`${nameOf(region)} drawn`);
    }
  }

  cancel() {
    if (!this.drag) return;
    const { region, fresh, before } = this.drag;
    this.drag = null;
    if (fresh) this.take(region);
    else region.at = before;
    this.changed();
  }

  /** Undo what a slip has made; its number is free again. */
  take(region) {
    this.regions = this.regions.filter((other) => other !== region);
    this.selected = null;
    this.last -= 1;
  }

  /** The smallest region at a place of the image. */
  under([x, y]) {
    const near = 9 / this.layer.scale;
    const size = ({ kind, at }) => (kind === "box" ? (at[2] - at[0]) * (at[3] - at[1]) : 0);
    const inside = ({ kind, at }) =>
      kind === "box"
        ? x >= at[0] && x <= at[2] && y >= at[1] && y <= at[3]
        : Math.hypot(x - at[0], y - at[1]) <= near;
    const found = this.layer.marks.filter(inside).sort((a, b) => size(a) - size(b));
    return found[0]?.link ?? null;
  }

  key(event) {
    if (event.key === "Escape" && this.drag) return this.cancel();
    const region = this.regionOf(event.target);
    if (!region) return;
    const arrow = ARROWS[event.key];
    if (event.key === "Delete" || event.key === "Backspace") {
      const next = this.remove(region);
      if (next) this.focus(next);
      else document.getElementById("add").focus();
    } else if (event.key === "Enter" || event.key === " ") this.refer(region);
    else if (arrow) this.nudge(region, arrow, event);
    else return;
    event.preventDefault();
  }

  /** One step by the keyboard: a hundredth of the image, with ctrl a pixel; with shift the far corner alone. */
  nudge(region, [dx, dy], { shiftKey, ctrlKey, metaKey }) {
    const { width, height } = this.picture;
    const step = ctrlKey || metaKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 100));
    const by = [dx * step, dy * step];
    if (shiftKey && region.kind === "box") {
      const [x, y, right, bottom] = region.at;
      region.at = [x, y, clamp(Math.max(right + by[0], x + 1), width), clamp(Math.max(bottom + by[1], y + 1), height)];
    } else region.at = this.moved(region.at, by);
    region.at = region.at.map(round);
    this.changed();
    say(nameOf(region));
  }

  moved(at, [dx, dy]) {
    const { width, height } = this.picture;
    const [x, y, right = x, bottom = y] = at;
    const bx = clamp(x + dx, width - (right - x)) - x;
    const by = clamp(y + dy, height - (bottom - y)) - y;
    return at.map((value, side) => value + (side % 2 ? by : bx));
  }

  inside([x, y, right, bottom]) {
    const { width, height } = this.picture;
    return [clamp(x, width), clamp(y, height), clamp(right, width), clamp(bottom, height)];
  }

  widened([x, y, right, bottom]) {
    const least = SMALLEST / this.layer.scale;
    return this.inside([x, y, Math.max(right, x + least), Math.max(bottom, y + least)]).map(round);
  }
}

const ordered = ([a, b, c, d]) => [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
const keyOf = (region) => `own-${region.number}`;

/** "Box 2, 12, 30 to 80, 95" */
export function nameOf(region) {
  return `${region.kind === "box" ? "Box" : "Point"} ${region.number}, ${place(region.at)}`;
}

/** How a region of the user is drawn. */
export function markOf(region, editable = false) {
  const { number, kind, at } = region;
  const [key, badge] = [keyOf(region), String(number)];
  return { key, kind, at, badge, colour: ownColour(number), name: nameOf(region), link: key, own: true, editable };
}
