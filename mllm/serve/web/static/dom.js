// Elements, and the colours of regions.

const SVG = "http://www.w3.org/2000/svg";

/** As `mllm.report.drawing` draws the regions of an answer. */
export const COLOURS = ["#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#f032e6", "#9a6324"];
/** The user's own begin elsewhere, so that the first of both differ. */
const OWN = [6, 5, 4, 3, 2, 1, 0, 7];

export const answerColour = (index) => COLOURS[index % COLOURS.length];
export const ownColour = (number) => COLOURS[OWN[(number - 1) % OWN.length]];

/** A, B, ... Z, AA, ...: what the regions of an answer are called; the user's are numbered. */
export function letter(index) {
  return (index >= 26 ? letter(Math.floor(index / 26) - 1) : "") + String.fromCharCode(65 + (index % 26));
}

/** Black or white, whichever is easier to read on a colour. */
export function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((at) => (parseInt(colour.slice(at, at + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

export const byId = (id) => document.getElementById(id);

/** An element: `h("button", {class: "quiet", onclick}, "Close")`. `colour` sets the custom property `--colour`. */
export function h(tag, given = {}, ...children) {
  return filled(document.createElement(tag), given, children);
}

/** The same for SVG. */
export function s(tag, given = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), given, children);
}

function filled(element, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "colour") element.style.setProperty("--colour", value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function setAll(element, given) {
  for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
}

/** Tell those who do not see the page. */
export function say(text) {
  byId("said").textContent = text;
}

/** Light up everything that belongs to a region, or nothing. */
export function light(link) {
  for (const element of document.querySelectorAll(".lit")) element.classList.remove("lit");
  if (!link) return;
  for (const element of document.querySelectorAll(`[data-link="${CSS.escape(link)}"]`)) element.classList.add("lit");
}

/** Words and drawn regions with the same `data-link` light up together, under the pointer and with the focus. */
export function linkAll() {
  for (const [enter, leave] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
    document.addEventListener(enter, (event) => {
      const element = event.target.closest?.("[data-link]");
      if (element) light(element.dataset.link);
    });
    document.addEventListener(leave, (event) => {
      if (event.target.closest?.("[data-link]")) light(document.activeElement?.closest?.("[data-link]")?.dataset.link);
    });
  }
}
