// The form that tells the server of a bad answer.

import { asOwn, isReadable, partsOf } from "./answer.js";
import { h } from "./dom.js";
import { regionsOf, textOf, written } from "./requests.js";
import { chip, titleOf, Words } from "./words.js";

let made = 0;

/**
 * A form under an answer. `own()`: the regions that the user has drawn; `editing(words)`: regions go there now;
 * `closed()`: it is no longer needed.
 */
export function reportForm(answer, { api, own, codecMarks, editing, closed }) {
  made += 1;
  const before = partsOf(answer, codecMarks);
  const words = new Words("The right answer", "What would have been right?");
  const comment = h("input", { type: "text", id: `comment-${made}`, maxlength: 2000 });
  const offered = h("div", { class: "row chips", role: "group", "aria-label": "Regions for the right answer" });
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const send = h("button", { type: "submit", class: "primary" }, "Send");
  const cancel = h("button", { type: "button", class: "quiet", onclick: closed }, "Cancel");
  const form = h(
    "form",
    { class: "report", "aria-label": "Report a bad answer" },
    h("p", { class: "hint" }, "Say what would have been right. Draw regions on the image, and click on them to put them in."),
    words.root,
    offered,
    h("label", { class: "field wide", for: comment.id }, h("span", {}, "Comment"), comment),
    problem,
    h("div", { class: "buttons" }, cancel, send),
  );

  function offer() {
    const usable = own().filter((region) => answer.pictures.includes(region.picture));
    const theirs = answer.regions.filter(isReadable).map((region) => asOwn(answer, region));
    offered.replaceChildren(
      ...[...theirs, ...usable].map((region) => {
        const button = h("button", { type: "button", class: "bare", "aria-label": `Put in ${titleOf(region)}` }, chip(region));
        button.addEventListener("click", () => words.insert(region));
        return button;
      }),
    );
  }

  function right() {
    const parts = words.parts;
    const same = JSON.stringify(keyed(parts)) === JSON.stringify(keyed(trimmed(before)));
    if (same || parts.length === 0) return undefined;
    const regions = regionsOf({ parts }).map((region) => written(region, answer.pictures.indexOf(region.picture)));
    return { text: textOf(parts), regions };
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.hidden = true;
    send.disabled = true;
    const body = { request: answer.request.body, answer: answer.text, comment: comment.value, right: right() };
    try {
      const { number } = await api.report(body);
      form.replaceChildren(h("p", { class: "done", role: "status" }, `Kept as number ${number} of the server's reports.`));
      setTimeout(closed, 4000);
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      send.disabled = false;
    }
  });
  words.root.addEventListener("focus", () => editing(words));
  words.set(before);
  offer();
  return { root: form, words, offer };
}

const trimmed = (parts) =>
  parts
    .map((part, at) => {
      if (typeof part !== "string") return part;
      const left = at === 0 ? part.trimStart() : part;
      return at === parts.length - 1 ? left.trimEnd() : left;
    })
    .filter((part) => part !== "");

const keyed = (parts) => [textOf(parts), regionsOf({ parts }).map((region) => region.all ?? [region.at])];
