// The page: an image to draw on, and a conversation about it.

import { Api } from "./api.js";
import { Conversation, marksOn } from "./conversation.js";
import { byId, h, linkAll, say } from "./dom.js";
import { imageWith, save, stemOf } from "./download.js";
import { place } from "./layer.js";
import { imageFile, readPicture } from "./picture.js";
import { filled, PRESETS } from "./presets.js";
import { reportForm } from "./report.js";
import { samplingOf } from "./requests.js";
import { Stage } from "./stage.js";
import { chip, titleOf, Words } from "./words.js";

const STATES = {
  loading: "The model is still loading. The page goes on when it is ready.",
  gone: "The server cannot be reached. Trying again …",
  stopping: "The server is stopping.",
};
let models = [];
let offered = [];
let reports = [];
let goesOn = true; // whether questions go on from those before, as the user wants it

const api = new Api({ askKey, onState: showState });
const stage = new Stage(byId("stage"), { changed: regionsChanged, refer: insert });
const words = new Words("Question", "Ask about the image …", { submit: ask });
let editor = words;
const talk = new Conversation(byId("turns"), {
  api,
  marks: (model) => models.find(({ id }) => id === model)?.mllm?.phrase_marks ?? [],
  shown: showAnswer,
  changed: talkChanged,
  report: openReport,
});

function showState(state) {
  byId("state").textContent = STATES[state] ?? "";
  byId("state").dataset.state = state;
}

// images

async function load(blob, name, questions = []) {
  const trouble = byId("image-problem");
  trouble.hidden = true;
  try {
    const picture = await readPicture(blob, name, api);
    picture.questions = questions;
    openPicture(picture);
  } catch (error) {
    trouble.textContent = `${name} cannot be shown: ${error.message}`;
    trouble.hidden = false;
  }
}

function openPicture(picture) {
  byId("start").hidden = true;
  byId("tools").hidden = false;
  byId("save-image").hidden = false;
  stage.layer.root.hidden = false;
  byId("context").checked = goesOn && talk.turns.length === 0;
  talk.selected = null;
  stage.setAnswer([]);
  stage.show(picture);
  byId("overlay-field").hidden = true;
  showCaption();
  regionsChanged();
  showPresets();
  talkChanged();
}

function showCaption() {
  const { name, width, height } = stage.picture;
  const shape = stage.tool === "box" ? "drag to draw a box" : "click to set a point";
  byId("caption").textContent = `${name} · ${width} × ${height} pixels · ${shape}`;
}

async function openExample({ name, questions }) {
  byId("gallery").close();
  const response = await api.request(`examples/${encodeURIComponent(name)}`);
  await load(await response.blob(), name, questions);
}

function exampleButtons(examples) {
  return examples.map((example) => {
    const image = h("img", { src: `examples/${encodeURIComponent(example.name)}`, alt: "", loading: "lazy" });
    const given = { type: "button", class: "example", "aria-label": `Example ${example.name}` };
    return h("button", { ...given, onclick: () => openExample(example) }, image);
  });
}

function showStart() {
  const choose = h("button", { type: "button", class: "primary", onclick: () => byId("file").click() }, "Choose an image");
  const start = h("div", { class: "start", id: "start" }, h("p", { class: "big" }, "Drop or paste an image here"), choose);
  if (offered.length) {
    start.append(h("p", { class: "hint" }, "or begin with an example"));
    start.append(h("div", { class: "gallery" }, ...exampleButtons(offered.slice(0, 8))));
  }
  byId("stage").prepend(start);
  stage.layer.root.hidden = true;
}

// regions

function regionsChanged() {
  stage.draw();
  const own = stage.regions;
  const elsewhere = own.filter((region) => region.picture !== stage.picture);
  words.keep(own);
  for (const report of reports) report.offer();
  byId("regions").hidden = own.length === 0;
  const rows = [...stage.shown, ...elsewhere].map((region) => {
    const name = titleOf(region) + (region.picture === stage.picture ? "" : ` of ${region.picture.name}`);
    const put = h("button", { type: "button", class: "bare", title: `Refer to ${name} in the question` }, chip(region));
    put.setAttribute("aria-label", `Refer to ${name}, ${place(region.at)}`);
    put.addEventListener("click", () => insert(region));
    const away = h("button", { type: "button", class: "away", "aria-label": `Delete ${name}` }, "×");
    away.addEventListener("click", () => stage.remove(region));
    const where = region.picture === stage.picture ? null : h("small", {}, region.picture.name);
    return h("span", { class: "region" }, put, where, away);
  });
  byId("regions").replaceChildren(h("span", { class: "label" }, "Click to refer to"), ...rows);
  redraw();
}

function insert(region) {
  editor.insert(region);
  say(`${titleOf(region)} is in the text`);
}

function showAnswer(turn, answer) {
  if (turn?.picture && turn.picture !== stage.picture) {
    stage.show(turn.picture);
    showCaption();
    regionsChanged();
  }
  redraw();
  byId("overlay-field").hidden = !answer;
}

function redraw() {
  const hidden = !talk.selected || !byId("overlay").checked || !stage.picture;
  stage.setAnswer(hidden ? [] : marksOn(stage.picture, talk.selected, stage.shown));
}

// asking

function showPresets() {
  const tries = (stage.picture?.questions ?? []).map((text) => {
    const use = () => {
      setGoesOn(false); // it stands on its own
      words.set([text]);
      words.focus();
    };
    return h("button", { type: "button", class: "pill try", onclick: use }, text);
  });
  const pills = PRESETS.map((preset) =>
    h("button", { type: "button", class: "pill", onclick: () => usePreset(preset) }, preset.name),
  );
  byId("presets").replaceChildren(...tries, ...pills);
}

function usePreset(preset) {
  const parts = filled(preset, stage.selected ?? stage.shown.at(-1));
  if (!parts) return complain("Draw a box or a point on the image first, or press Add.");
  complain("");
  words.set(parts);
  words.focus();
}

function setGoesOn(wanted) {
  goesOn = wanted;
  byId("context").checked = wanted;
}

function complain(text) {
  byId("complaint").textContent = text;
  byId("complaint").hidden = !text;
}

async function ask() {
  if (talk.running) return;
  if (words.empty) return complain("Write a question first.");
  if (!models.length) return complain("No model is ready yet.");
  const wrong = [...byId("settings").querySelectorAll("input")].find((input) => !input.checkValidity());
  if (wrong) {
    byId("settings").open = true;
    wrong.reportValidity();
    return;
  }
  complain("");
  const chosen = [byId("model").value, byId("beside").value].filter(Boolean);
  const goOn = byId("context").checked && talk.thread.length > 0;
  const asked = { parts: words.parts, picture: stage.picture, models: chosen, settings: samplingOf(byId("settings")), goOn };
  words.clear();
  byId("context").checked = goesOn;
  byId("overlay").checked = true;
  await talk.ask(asked);
}

function talkChanged() {
  byId("send").hidden = talk.running;
  byId("stop").hidden = !talk.running;
  byId("new").hidden = talk.turns.length === 0;
  const count = talk.thread.length;
  byId("context-field").hidden = count === 0;
  byId("context-label").textContent = count === 1 ? "With the question before" : `With ${count} questions before`;
  document.body.classList.toggle("talking", talk.turns.length > 0);
}

function openReport(view) {
  if (view.report) return view.report.words.focus();
  const closed = () => {
    view.report.root.remove();
    reports = reports.filter((report) => report !== view.report);
    view.report = null;
    editor = words;
  };
  const own = () => stage.regions;
  const editing = (which) => (editor = which);
  view.report = reportForm(view.answer, { api, own, codecMarks: view.codecMarks, editing, closed });
  reports.push(view.report);
  view.root.append(view.report.root);
  view.report.root.scrollIntoView({ block: "nearest" });
  view.report.words.focus();
}

// models

function showModels() {
  byId("models").hidden = false;
  byId("model").replaceChildren(...models.map(({ id }) => h("option", { value: id }, id)));
  byId("beside-field").hidden = models.length < 2;
  showBeside();
}

function showBeside() {
  const { value } = byId("beside");
  const others = models.filter(({ id }) => id !== byId("model").value);
  byId("beside").replaceChildren(h("option", { value: "" }, "Compare with …"), ...others.map(({ id }) => h("option", { value: id }, id)));
  if (others.some(({ id }) => id === value)) byId("beside").value = value;
}

function openCard() {
  const shown = models.filter(({ id }) => [byId("model").value, byId("beside").value].includes(id));
  const cards = shown.map(({ id, mllm }) => {
    const rows = Object.entries(mllm ?? {}).filter(([, value]) => !Array.isArray(value) || value.length);
    const pairs = rows.flatMap(([name, value]) => [h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, written(name, value))]);
    return h("section", {}, h("h3", {}, id), h("dl", {}, ...pairs));
  });
  byId("card-body").replaceChildren(...cards);
  byId("card").showModal();
}

/** "bins (bins: 25)" of {type: "bins", bins: 25} */
function written(name, value) {
  if (Array.isArray(value)) return value.join(" ");
  if (typeof value === "object" && value !== null) {
    const rest = Object.entries(value).filter(([key, given]) => key !== "type" && given !== "");
    return `${value.type ?? ""} ${rest.length ? `(${rest.map((pair) => pair.join(": ")).join(", ")})` : ""}`.trim();
  }
  if (name !== "parameters") return String(value);
  const [unit, of] = value >= 1e9 ? ["B", 1e9] : value >= 1e6 ? ["M", 1e6] : ["K", 1e3];
  return `${(value / of).toPrecision(3)} ${unit}`;
}

let asking = null;
function askKey(wrong) {
  asking ??= new Promise((resolve) => {
    byId("key-problem").hidden = !wrong;
    byId("key-input").value = "";
    byId("key").showModal();
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      byId("key").close();
      asking = null;
      resolve(byId("key-input").value);
    };
  });
  return asking;
}

// what the page's parts do

function wire() {
  byId("words").replaceWith(words.root);
  words.edited();
  words.root.addEventListener("focus", () => (editor = words));
  byId("composer").prepend(h("p", { class: "problem", id: "complaint", role: "alert", hidden: true }));
  const on = (id, type, act) => byId(id).addEventListener(type, act);
  on("composer", "submit", (event) => (event.preventDefault(), ask()));
  on("stop", "click", () => talk.stop());
  on("new", "click", () => (talk.clear(), stage.reset(), setGoesOn(true), talkChanged()));
  on("choose", "click", () => byId("file").click());
  on("file", "change", ({ target }) => {
    if (target.files[0]) load(target.files[0], target.files[0].name);
    target.value = "";
  });
  on("examples-button", "click", () => byId("gallery").showModal());
  on("add", "click", () => stage.add());
  on("clear", "click", () => stage.clear());
  on("context", "change", ({ target }) => setGoesOn(target.checked));
  on("overlay", "change", redraw);
  on("save-image", "click", async () => save(await imageWith(stage.picture, stage.layer.marks), `${stemOf(stage.picture.name)}_regions.png`));
  on("tools", "change", ({ target }) => {
    if (target.name !== "tool") return;
    stage.tool = target.value;
    showCaption();
  });
  on("model", "change", showBeside);
  on("card-button", "click", openCard);
  on("key", "cancel", (event) => event.preventDefault());
  for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
  document.addEventListener("paste", ({ clipboardData }) => {
    const file = imageFile(clipboardData);
    if (file) load(file, file.name || "pasted image");
  });
  document.addEventListener("dragover", (event) => (event.preventDefault(), document.body.classList.add("dropping")));
  document.addEventListener("dragleave", (event) => !event.relatedTarget && document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const file = imageFile(event.dataTransfer);
    if (file) load(file, file.name);
  });
}

async function begin() {
  wire();
  linkAll();
  showPresets();
  talkChanged();
  offered = await api.examples();
  byId("examples-button").hidden = offered.length === 0;
  byId("gallery-body").replaceChildren(...exampleButtons(offered));
  showStart();
  models = await api.models();
  showState("ready");
  showModels();
}

begin().catch((error) => {
  byId("state").textContent = error.message;
  byId("state").dataset.state = "gone";
});
