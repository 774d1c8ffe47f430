// Questions and answers: what is asked of which model, and what comes back.

import { faultsOf, linkOf, marksOf } from "./answer.js";
import { AnswerView, askedMarks, TurnView } from "./card.js";
import { light, say } from "./dom.js";
import { requestOf } from "./requests.js";

let made = 0;
const isGood = (answer) => answer.text !== "" && ["done", "stopped"].includes(answer.state);

/**
 * A turn is {number, parts, picture, start, answers, picked}; an answer {id, model, text, regions, pictures, state:
 * "running" | "done" | "stopped" | "failed", reason, error, usage, request, raw}.
 */
export class Conversation {
  /** `shown(turn, answer)`: they are what the image shows now; `changed()`: it runs, or has ended; `report(view)`. */
  constructor(root, { api, marks, shown, changed, report }) {
    Object.assign(this, { root, api, marks, shown, changed, report, turns: [], stops: new Set(), selected: null });
  }

  get running() {
    return this.stops.size > 0;
  }

  /** The turns that the next question goes on from, if it goes on: those that were answered since the last beginning. */
  get thread() {
    const begun = this.turns.slice(Math.max(0, this.turns.findLastIndex((turn) => turn.start)));
    return begun.filter((turn) => turn.answers.some(isGood));
  }

  clear() {
    this.stop();
    Object.assign(this, { turns: [], selected: null });
    this.root.replaceChildren();
    this.shown(null, null);
  }

  stop() {
    for (const controller of this.stops) controller.abort();
  }

  /** `goOn`: with the turns before; `models`: one, or two side by side. */
  async ask({ parts, picture, models, settings, goOn }) {
    const before = goOn ? this.thread : [];
    const copies = parts.map((part) => (typeof part === "string" ? part : { ...part, at: [...part.at] }));
    const turn = { number: this.turns.length + 1, parts: copies, picture, start: !before.length, answers: [], picked: null };
    this.turns.push(turn);
    turn.view = new TurnView(turn, { show: () => this.select(turn, turn.picked) });
    const runs = models.map((model) => ({ model, answers: this.rows(turn, model, models.length, settings.n ?? 1) }));
    this.root.append(turn.view.root);
    this.select(turn, turn.answers[0]);
    this.root.scrollTo({ top: this.root.scrollHeight });
    if (this.root.scrollHeight <= this.root.clientHeight) turn.view.root.scrollIntoView({ block: "nearest" });
    await Promise.all(runs.map((run) => this.run({ ...run, turn, before, settings })));
    say(turn.answers.map((answer) => [answer.view.text.textContent, ...faultsOf(answer)].join(" ")).join(" "));
  }

  rows(turn, model, models, count) {
    return Array.from({ length: count }, (_, choice) => {
      made += 1;
      const answer = { id: made, model, raw: false, ...nothing() };
      const names = [models > 1 && model, count > 1 && `answer ${choice + 1}`].filter(Boolean);
      const acts = {
        picked: (region) => this.pickRegion(turn, answer, region),
        again: () => this.again(turn, model),
        report: (view) => this.report(view),
      };
      answer.view = new AnswerView(answer, turn, { codecMarks: this.marks(model), names, acts });
      turn.answers.push(answer);
      turn.view.add(answer.view);
      return answer;
    });
  }

  /** Ask one model of a turn once more, as before. */
  async again(turn, model) {
    const answers = turn.answers.filter((answer) => answer.model === model);
    const { before, settings } = answers[0].asked;
    for (const answer of answers) Object.assign(answer, nothing());
    await this.run({ model, answers, turn, before, settings });
  }

  async run({ model, answers, turn, before, settings }) {
    const controller = new AbortController();
    this.stops.add(controller);
    this.changed();
    const history = before.filter((earlier) => this.said(earlier, model));
    const request = requestOf(model, [...history, turn], settings, (earlier) => this.said(earlier, model));
    const began = performance.now();
    for (const answer of answers) {
      Object.assign(answer, { request, pictures: request.pictures, asked: { before, settings } });
      answer.view.update();
    }
    try {
      for await (const chunk of this.api.chat(request.body, controller.signal)) this.take(chunk, answers, turn);
    } catch (error) {
      const stopped = error.name === "AbortError";
      for (const answer of answers.filter((each) => each.state === "running")) {
        Object.assign(answer, stopped ? { state: "stopped" } : { state: "failed", error });
      }
    } finally {
      this.stops.delete(controller);
      for (const answer of answers) {
        answer.seconds = (performance.now() - began) / 1000;
        answer.view.draw();
      }
      this.changed();
    }
  }

  take(chunk, answers, turn) {
    for (const { index, delta, finish_reason: reason } of chunk.choices) {
      const answer = answers[index];
      answer.text += delta.content ?? "";
      if (delta.regions) {
        answer.regions.push(...delta.regions);
        if (this.selected?.answer === answer) this.shown(turn, answer);
        if (turn.picked === answer) turn.view.mark(answer);
      }
      if (reason) Object.assign(answer, { reason, state: "done" });
      answer.view.update();
    }
    if (chunk.usage) for (const answer of answers) answer.usage = answers.length === 1 ? chunk.usage : null;
  }

  /** What a model answered in a turn, as far as the next question is concerned; undefined: nothing. */
  said(turn, model) {
    const own = turn.answers.filter((answer) => answer.model === model && isGood(answer));
    if (turn.picked && isGood(turn.picked) && (turn.picked.model === model || !own.length)) return turn.picked;
    return own[0] ?? turn.answers.find(isGood);
  }

  /** Show a turn's image with an answer, from which the next question goes on. */
  select(turn, answer) {
    turn.picked = answer;
    this.selected = { turn, answer };
    for (const each of this.turns) each.view.root.classList.toggle("selected", each === turn);
    for (const each of turn.answers) {
      each.view.root.classList.toggle("picked", each === answer);
      each.view.pick.setAttribute("aria-pressed", String(each === answer));
    }
    turn.view.mark(answer);
    this.shown(turn, answer);
  }

  pickRegion(turn, answer, region) {
    this.select(turn, answer);
    if (!region) return;
    const picture = answer.pictures[region.image];
    if (picture !== turn.picture) this.shown({ ...turn, picture }, answer);
    light(linkOf(answer, region));
  }
}

/** The marks of a turn and its answer on an image, without those of the user that are drawn there as they are. */
export function marksOn(picture, { turn, answer }, own) {
  const drawn = new Set(own.map(({ number, at }) => `${number} ${at}`));
  const asked = askedMarks(turn, picture).filter((mark) => !drawn.has(`${mark.badge} ${mark.at}`));
  return [...(answer ? marksOf(answer, picture) : []), ...asked];
}

const nothing = () => ({ text: "", regions: [], pictures: [], state: "running", reason: null, error: null, usage: null });
