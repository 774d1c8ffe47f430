// The words of an answer, with the phrases that its regions are about in the colours of these.

import { answerColour, h, letter } from "./dom.js";
import { place } from "./layer.js";

/** What is left at the end of a text that is still written: perhaps the beginning of coordinates. */
const UNFINISHED = /\s*(?:[[({<](?:<[^<>\n]*>?|["']?\w*["']?\s*[:=]|[\d\s.,:;|[\](){}-])*)$/;

export const boxesOf = (region) => region.boxes ?? [];
export const pointsOf = (region) => region.points ?? [];
export const isReadable = (region) => boxesOf(region).length + pointsOf(region).length > 0;

/** The link of an answer's region; `answer.id` is the page's own number. */
export const linkOf = (answer, region) => `answer-${answer.id}-${region.index}`;

/** How the regions of an answer on one of its images are drawn. */
export function marksOf(answer, picture) {
  const marks = [];
  for (const region of answer.regions) {
    if (answer.pictures[region.image] !== picture) continue;
    const [badge, colour, link] = [letter(region.index), answerColour(region.index), linkOf(answer, region)];
    const add = (kind, at, number) => {
      const name = `Answer ${badge}, ${region.label ?? kind}, ${place(at)}`;
      marks.push({ key: `${link}-${kind}-${number}`, kind, at, badge, colour, name, link, own: false });
    };
    boxesOf(region).forEach((at, number) => add("box", at, number));
    pointsOf(region).forEach((at, number) => add("point", at, number));
  }
  return marks;
}

/**
 * The nodes of an answer's words.
 *
 * `raw`: the model's own words; else without coordinates. `open`: its end has not come, or never will. `codecMarks`: what the model puts
 * around phrases. `picked(region)`: a phrase was chosen.
 */
export function wordsOf(answer, { raw, open, codecMarks = [], picked }) {
  const letters = Array.from(answer.text); // spans count characters, not UTF-16 units
  const kinds = letters.map(() => "text");
  const owners = letters.map(() => null);
  for (const region of answer.regions) {
    if (!region.span) continue;
    const owned = raw ? [region.span, region.phrase] : [region.phrase];
    if (!raw && isReadable(region)) cut(letters, kinds, region);
    for (const range of owned.filter(Boolean)) owners.fill(region, ...range);
  }
  if (!raw) {
    for (const mark of codecMarks) cutAll(answer.text, mark, kinds);
    if (open) cutEnd(answer.text, letters, kinds);
  }
  return nodes(answer, { letters, kinds, owners, raw, picked });
}

/** Leave out the form of a region but for its phrase, and a space that would stand before nothing. */
function cut(letters, kinds, { span, phrase }) {
  let [start, end] = span;
  const within = phrase && phrase[0] >= start && phrase[1] <= end;
  if (within) {
    kinds.fill("cut", start, phrase[0]);
    kinds.fill("cut", phrase[1], end);
    return;
  }
  if (phrase && letters[start - 1] === " " && (end === letters.length || " .,;:!?)\n".includes(letters[end]))) start -= 1;
  kinds.fill("cut", start, end);
}

function cutAll(text, mark, kinds) {
  for (let at = text.indexOf(mark); at >= 0; at = text.indexOf(mark, at + mark.length)) {
    const start = Array.from(text.slice(0, at)).length;
    kinds.fill("cut", start, start + Array.from(mark).length);
  }
}

function cutEnd(text, letters, kinds) {
  const found = UNFINISHED.exec(text);
  if (found) kinds.fill("cut", letters.length - Array.from(found[0]).length);
}

function nodes(answer, { letters, kinds, owners, raw, picked }) {
  const made = [];
  const shown = new Set();
  const without = new Map(); // where a region has no phrase, a badge stands in place of its form
  for (const region of answer.regions) {
    if (!raw && !region.phrase && isReadable(region)) {
      const at = region.span ? region.span[0] : letters.length;
      without.set(at, [...(without.get(at) ?? []), region]);
    }
  }
  for (let at = 0; at <= letters.length; ) {
    for (const region of without.get(at) ?? []) made.push(button(answer, region, countOf(region), picked, true), " ");
    if (at === letters.length) break;
    let end = at + 1;
    while (end < letters.length && owners[end] === owners[at] && kinds[end] === kinds[at] && !without.has(end)) end += 1;
    const text = letters.slice(at, end).join("");
    if (kinds[at] === "text") {
      const region = owners[at];
      if (region && (isReadable(region) || raw)) {
        made.push(button(answer, region, text, picked, !shown.has(region)));
        shown.add(region);
      } else made.push(text);
    }
    at = end;
  }
  return made;
}

function button(answer, region, text, picked, withBadge) {
  const at = [...boxesOf(region), ...pointsOf(region)].map(place).join("; ");
  const given = { class: isReadable(region) ? "phrase" : "phrase broken", role: "button", tabindex: 0, title: at };
  const element = h("span", { ...given, colour: answerColour(region.index) });
  if (withBadge) element.append(h("b", {}, letter(region.index)), " ");
  element.append(text);
  element.dataset.link = linkOf(answer, region);
  element.addEventListener("click", () => picked(region));
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    picked(region);
  });
  return element;
}

/** "box", "3 points" */
function countOf(region) {
  const [count, kind] = boxesOf(region).length ? [boxesOf(region).length, "box"] : [pointsOf(region).length, "point"];
  return count === 1 ? kind : `${count} ${kind === "box" ? "boxes" : "points"}`;
}

const FAILURES = {
  none: "there is none in the text",
  malformed: "its numbers or their form are broken",
  out_of_range: "it lies outside of the image",
  wrong_count: "it has the wrong number of coordinates",
  inverted: "its far corner comes before its near one",
};

/** The words as parts, with the regions as chips among them; `Words` shows them, so that people can mend them. */
export function partsOf(answer, codecMarks = []) {
  const letters = Array.from(answer.text);
  const parts = [];
  let done = 0;
  const said = (from, to) => {
    const text = letters.slice(from, to).join("");
    parts.push(codecMarks.reduce((left, mark) => left.replaceAll(mark, ""), text));
  };
  for (const region of answer.regions.filter((each) => each.span && isReadable(each))) {
    const [start, end] = region.span;
    said(done, start);
    if (region.phrase && region.phrase[0] >= start) {
      said(...region.phrase);
      parts.push(" ");
    }
    parts.push(asOwn(answer, region));
    done = end;
  }
  said(done, letters.length);
  return parts.filter((part) => part !== "");
}

/** A region of an answer in the form of the user's own. */
export function asOwn(answer, region) {
  const kind = boxesOf(region).length ? "box" : "point";
  const all = kind === "box" ? region.boxes : region.points;
  const title = `${letter(region.index)} ${countOf(region)}`;
  const picture = answer.pictures[region.image];
  return { kind, at: all[0], all, picture, title, colour: answerColour(region.index), link: linkOf(answer, region) };
}

/** What is wrong with the regions of an answer, in words. */
export function faultsOf(answer) {
  return answer.regions
    .filter((region) => region.failure)
    .map((region) => {
      const why = FAILURES[region.failure] ?? region.failure;
      return `Region ${letter(region.index)} could not be read${isReadable(region) ? " in full" : ""}: ${why}.`;
    });
}
