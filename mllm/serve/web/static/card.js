// How questions and answers are shown.

import { faultsOf, marksOf, wordsOf } from "./answer.js";
import { h } from "./dom.js";
import { imageWith, save, saveJson, stemOf } from "./download.js";
import { Layer } from "./layer.js";
import { regionsOf, withoutImages } from "./requests.js";
import { markOf } from "./stage.js";
import { chip } from "./words.js";

/** The user's regions of a question on an image. */
export function askedMarks(turn, picture) {
  const there = regionsOf(turn).filter((region) => region.picture === picture);
  return [...new Map(there.map((region) => [region.number, markOf(region)])).values()].map((mark) => ({
    ...mark,
    key: `turn-${turn.number}-${mark.key}`,
  }));
}

/** A question with its answers. `show()`: its image is wanted. */
export class TurnView {
  constructor(turn, { show }) {
    this.turn = turn;
    const words = turn.parts.map((part) => (typeof part === "string" ? part : chip(part)));
    const asked = h("p", { class: "asked" }, ...words);
    this.answers = h("div", { class: "answers" });
    this.root = h("article", { class: "turn", "aria-label": `Question ${turn.number}` });
    if (turn.start && turn.number > 1) this.root.append(h("p", { class: "divide" }, "New conversation"));
    const question = h("div", { class: "question" });
    if (turn.picture) {
      this.thumb = new Layer();
      const name = `Show ${turn.picture.name}, the image of question ${turn.number}`;
      question.append(h("button", { type: "button", class: "thumb", "aria-label": name, onclick: show }, this.thumb.root));
      this.thumb.show(turn.picture);
    }
    question.append(asked);
    this.root.append(question, this.answers);
  }

  add(view) {
    this.answers.append(view.root);
    this.answers.dataset.count = this.answers.childElementCount;
  }

  /** The image in small, with the regions of the question and of an answer. */
  mark(answer) {
    if (!this.thumb) return;
    const { picture } = this.turn;
    this.thumb.set([...(answer ? marksOf(answer, picture) : []), ...askedMarks(this.turn, picture)]);
  }
}

/** An answer. `acts`: {picked(region?), again(), report(view)}. */
export class AnswerView {
  constructor(answer, turn, { codecMarks, names, acts }) {
    Object.assign(this, { answer, turn, codecMarks, acts, waiting: false });
    const { picture } = turn;
    this.text = h("p", { class: "text" });
    this.notes = h("ul", { class: "notes" });
    this.problem = h("div", { class: "problem", role: "alert", hidden: true });
    this.meta = h("p", { class: "meta" });
    this.own = this.button("Model's own words", () => this.toggle(), "The text as the model wrote it, with coordinates");
    this.own.setAttribute("aria-pressed", "false");
    this.pick = this.button("Go on from this one", () => acts.picked());
    this.actions = h("div", { class: "actions" }, this.own);
    if (picture) this.actions.append(this.button("Image", () => this.saveImage(), "Save the image with the regions (PNG)"));
    this.actions.append(this.button("JSON", () => this.saveJson(), "Save question and answer (JSON)"));
    this.actions.append(this.button("Report", () => acts.report(this), "Report a bad answer"));
    if (names.length) this.actions.prepend(this.pick);
    const head = names.length ? h("h3", {}, names.join(", ")) : null;
    this.root = h("article", { class: "answer", "aria-label": ["Answer", ...names].join(", ") }, head);
    if (picture) {
      this.figure = new Layer("Answer on the image");
      this.figure.show(picture);
      this.frame = h("div", { class: "figure", hidden: true }, this.figure.root);
      this.root.append(this.frame);
    }
    this.root.append(this.text, this.notes, this.problem, this.actions, this.meta);
    this.draw();
  }

  button(text, onclick, title) {
    return h("button", { type: "button", class: "quiet", onclick, title }, text);
  }

  /** Once for all that came since the last frame. */
  update() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    const { answer, codecMarks } = this;
    const running = answer.state === "running";
    const picked = (region) => this.acts.picked(region);
    this.text.replaceChildren(...wordsOf(answer, { raw: answer.raw, open: answer.state !== "done", codecMarks, picked }));
    this.text.classList.toggle("running", running);
    this.text.classList.toggle("raw", answer.raw);
    const silent = answer.state === "done" && answer.text === "";
    if (silent) this.text.append(h("span", { class: "silent" }, "The model said nothing."));
    this.notes.replaceChildren(...faultsOf(answer).map((fault) => h("li", {}, fault)));
    this.notes.hidden = !this.notes.childElementCount;
    this.actions.hidden = running || (answer.state === "failed" && answer.text === "");
    this.problem.hidden = !answer.error;
    if (answer.error) {
      const again = this.button("Ask again", () => this.acts.again());
      this.problem.replaceChildren(h("span", {}, answer.error.message), again);
    }
    this.meta.textContent = metaOf(answer);
    if (!this.figure) return;
    const marks = marksOf(answer, this.turn.picture);
    this.frame.hidden = marks.length === 0;
    this.figure.set([...marks, ...askedMarks(this.turn, this.turn.picture)]);
  }

  toggle() {
    this.answer.raw = !this.answer.raw;
    this.own.setAttribute("aria-pressed", String(this.answer.raw));
    this.draw();
  }

  async saveImage() {
    const { picture } = this.turn;
    const marks = [...askedMarks(this.turn, picture), ...marksOf(this.answer, picture)];
    save(await imageWith(picture, marks), `${stemOf(picture.name)}_answer.png`);
  }

  saveJson() {
    const { text, regions, reason, usage, request } = this.answer;
    const images = request.pictures.map(({ name, width, height }) => ({ name, width, height }));
    const record = { request: withoutImages(request), images, answer: { text, regions, finish_reason: reason, usage } };
    saveJson(record, `${stemOf(this.turn.picture?.name ?? "answer")}_answer.json`);
  }
}

function metaOf({ state, reason, usage, seconds }) {
  const told = [];
  if (state === "stopped") told.push("stopped");
  if (reason === "length") told.push("cut at the most tokens that were asked for");
  if (usage) told.push(`${usage.completion_tokens} tokens`);
  if (state === "done" && seconds) told.push(`${seconds.toFixed(1)} s`);
  return told.join(" · ");
}
