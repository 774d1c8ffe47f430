// A text field whose words hold regions, as coloured chips.

import { h, ownColour } from "./dom.js";

/** The words of a question or an answer: texts, and regions among them. */
export class Words {
  /** `submit()`: enter was pressed; `changed()`: the words are others. */
  constructor(label, hint, { submit = () => {}, changed = () => {} } = {}) {
    Object.assign(this, { changed, range: null });
    const given = { class: "words", contenteditable: "true", role: "textbox", "aria-multiline": "true" };
    this.root = h("div", { ...given, "aria-label": label, "data-hint": hint, spellcheck: "true" });
    this.root.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      event.preventDefault();
      if (event.shiftKey) document.execCommand("insertText", false, "\n");
      else submit();
    });
    this.root.addEventListener("paste", (event) => {
      const text = event.clipboardData.getData("text/plain");
      if (event.clipboardData.files.length) return;
      event.preventDefault();
      document.execCommand("insertText", false, text);
    });
    this.root.addEventListener("beforeinput", (event) => this.close(event.data));
    this.root.addEventListener("input", () => this.edited());
    document.addEventListener("selectionchange", () => {
      const selection = getSelection();
      if (selection.rangeCount && this.root.contains(selection.anchorNode)) this.range = selection.getRangeAt(0).cloneRange();
    });
  }

  /** Texts and regions in turn, without white space around. */
  get parts() {
    const parts = [];
    const walk = (node) => {
      for (const child of node.childNodes) {
        if (child.nodeType === Node.TEXT_NODE) push(parts, child.data.replaceAll("\u00a0", " "));
        else if (child.region) parts.push(child.region);
        else if (child.tagName === "BR") push(parts, "\n");
        else walk(child);
      }
    };
    walk(this.root);
    if (typeof parts[0] === "string") parts[0] = parts[0].trimStart();
    if (typeof parts.at(-1) === "string") parts[parts.length - 1] = parts.at(-1).trimEnd();
    return parts.filter((part) => part !== "");
  }

  get empty() {
    return this.parts.length === 0;
  }

  get regions() {
    return this.parts.filter((part) => typeof part !== "string");
  }

  /** Replace the words; a part `{select: "..."}` is a text that is selected, so that typing replaces it. */
  set(parts) {
    this.root.replaceChildren(
      ...parts.map((part) => (typeof part === "string" ? part : part.select ? h("span", {}, part.select) : chip(part))),
    );
    const wanted = this.root.querySelector("span:not(.chip)");
    this.range = document.createRange();
    this.range.selectNodeContents(wanted ?? this.root);
    if (!wanted) this.range.collapse(false);
    this.edited();
  }

  clear() {
    this.set([]);
  }

  /** Put a region where the caret was last. */
  insert(region) {
    const range = this.range ?? document.createRange();
    if (!this.range || !this.root.contains(range.startContainer)) {
      range.selectNodeContents(this.root);
      range.collapse(false);
    }
    range.deleteContents();
    const before = beforeRange(this.root, range);
    const element = chip(region);
    range.insertNode(element);
    if (before && !/\s$/.test(before)) element.before(" ");
    const rest = element.nextSibling?.data ?? "";
    if (!/^[\s.,;:!?]/.test(rest)) element.after(" ");
    const after = element.nextSibling;
    this.range = document.createRange();
    this.range.setStart(after, /^\s/.test(after.data) ? 1 : 0);
    this.edited();
    this.focus();
  }

  /** The space that `insert` has put behind a chip goes when a sign follows that stands close. */
  close(typed) {
    const { anchorNode: node, anchorOffset: at, isCollapsed } = getSelection();
    const behind = isCollapsed && at === 1 && node.data?.startsWith(" ") && node.previousSibling?.region;
    if (behind && /^[.,;:!?]$/.test(typed ?? "")) node.deleteData(0, 1);
  }

  focus() {
    this.root.focus();
    if (!this.range) return;
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(this.range);
  }

  /** Take out the chips of regions that are no more. */
  keep(regions) {
    for (const element of this.root.querySelectorAll(".chip")) {
      if (!regions.includes(element.region)) element.remove();
    }
    this.edited();
  }

  edited() {
    this.root.classList.toggle("blank", this.root.textContent.trim() === "");
    this.changed();
  }
}

export function chip(region) {
  const element = h("span", { class: "chip", contenteditable: "false", colour: region.colour ?? ownColour(region.number) });
  element.append(h("i", { class: `ico ${region.kind}` }), titleOf(region));
  element.region = region;
  element.dataset.link = region.link ?? `own-${region.number}`;
  return element;
}

/** "box 2" */
export const titleOf = (region) => region.title ?? `${region.kind} ${region.number}`;

function push(parts, text) {
  if (typeof parts.at(-1) === "string") parts[parts.length - 1] += text;
  else parts.push(text);
}

function beforeRange(root, range) {
  const all = document.createRange();
  all.setStart(root, 0);
  all.setEnd(range.startContainer, range.startOffset);
  return all.toString();
}
