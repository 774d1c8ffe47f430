// Cards of a page at full size; all answers of an evaluation, loaded from the files beside the page, searched, filtered
// and sorted. Texts come from datasets and models: they reach the page as text nodes and attributes, never as HTML.
"use strict";
{
const PER_PAGE = 12;
const config = JSON.parse(document.getElementById("data").textContent);
const several = config.answered.length > 1;
const items = [];
const byIndex = new Map();
let chosen = []; // items that pass the filters, in order
let start = 0;

const element = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === undefined) continue;
    if (name.startsWith("--")) made.style.setProperty(name, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
};

const drawing = (tag, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

// cards

const classesOf = (place, number) => `answered a${place} c${(several ? place : number) % 8}`;

const shape = (region, kind) => {
  const [x, y, right, bottom] = region;
  if (region.length === 2) return drawing("path", { class: `dot ${kind}`, d: `M${x} ${y}h0` });
  return drawing("rect", { class: kind, x, y, width: right - x, height: bottom - y });
};

const group = (classes, regions) =>
  drawing("g", { class: classes }, ...regions.flatMap((region) => [shape(region, "case"), shape(region, "mark")]));

const missing = (text) => element("div", { class: "missing" }, text);

const pictureOf = (item) => {
  const { picture } = item;
  if (!picture.source) return element("div", { class: "frame" }, missing(`${picture.name}: ${picture.missing}`));
  const own = new Set(item.true.map(String));
  const others = picture.boxes.filter((box) => !own.has(String(box)));
  const layers = [group("other", others), group("true", item.true), group("asked", item.asked)];
  const tags = [];
  item.answers.forEach((answer, place) =>
    answer.regions.forEach((region, number) => {
      const classes = classesOf(place, number);
      layers.push(group(classes, [region]));
      if (answer.regions.length < 2) return;
      const at = { "--x": `${(100 * region[0]) / picture.width}%`, "--y": `${(100 * region[1]) / picture.height}%` };
      tags.push(element("span", { class: `number tag ${classes}`, ...at }, String(number + 1)));
    }),
  );
  const image = element("img", {
    class: picture.pixel_art && "pixel-art",
    src: picture.source,
    alt: `Image of ${item.key}`,
  });
  const frame = element("div", { class: "frame" });
  image.addEventListener("error", () => frame.replaceChildren(missing(`not found: ${picture.name}`)));
  const view = { viewBox: `0 0 ${picture.width} ${picture.height}`, preserveAspectRatio: "none", "aria-hidden": true };
  const ratio = { "--ratio": picture.width / picture.height };
  frame.append(element("div", { class: "image", ...ratio }, image, drawing("svg", view, ...layers), ...tags));
  return frame;
};

const rich = (pieces) =>
  pieces.map((piece) => (typeof piece === "string" ? piece : element("span", { class: "chip" }, piece[0])));

const numberOf = (place, number) =>
  element("span", { class: `number ${classesOf(place, number)}` }, String(number + 1));

// the text, with the number of each region before its form where that is known
const written = (answer, place) =>
  (answer.pieces ?? [answer.text || element("span", { class: "empty" }, "empty")]).flatMap((piece) =>
    Array.isArray(piece) ? [...piece[1].map((number) => numberOf(place, number)), piece[0]] : piece,
  );

const said = (answer, place) => {
  const parts = written(answer, place);
  if (several) parts.unshift(element("span", { class: "verdict" }, answer.verdict), " ");
  if (answer.regions.length > 1) {
    const where = (region, number) => answer.places?.[number] ?? region.map(Math.round).join(", ");
    const lines = answer.regions.map((region, number) => {
      const label = answer.labels ? ` ${answer.labels[number]}` : "";
      return element("li", {}, numberOf(place, number), element("span", {}, where(region, number) + label));
    });
    parts.push(element("ol", { class: "regions" }, ...lines));
  }
  return element("dd", { class: "answer" }, ...parts);
};

// stretches of a video, first those of the truth
const timelineOf = ({ length, rows, seconds }) => {
  const words = seconds.map(
    (row, number) => `${number ? "answer" : "truth"} ${row.map(([from, to]) => `${from} to ${to} s`).join(", ")}`,
  );
  const line = element("div", { class: "timeline", role: "img", "aria-label": `${words.join("; ")}; of ${length} s` });
  const ends = [element("span", {}, "0 s"), element("span", {}, `${length} s`)];
  line.append(element("p", { "aria-hidden": "true" }, ...ends));
  rows.forEach((row, number) => {
    const spans = row.map(([from, to]) => element("span", { "--from": `${from}%`, "--to": `${to}%` }));
    line.append(element("div", { class: `rail ${number ? classesOf(number - 1, 0) : "true"}` }, ...spans));
  });
  return line;
};

const cardOf = (item) => {
  const facts = element("p", { class: "facts" }, element("span", { class: "id" }, item.key));
  if (!several) facts.append(element("span", { class: "verdict" }, item.answers[0].verdict));
  const lines = element("dl");
  if (item.question.length) lines.append(element("dt", {}, "Question"), element("dd", {}, ...rich(item.question)));
  item.answers.forEach((answer, place) => {
    const named = { class: `named c${place % 8}` };
    const head = several ? element("dt", named, config.answered[place]) : element("dt", {}, "Answer");
    lines.append(head, said(answer, place));
  });
  if (item.timeline) lines.append(element("dt", {}, "Time"), element("dd", {}, timelineOf(item.timeline)));
  item.truths.forEach((truth, number) =>
    lines.append(element("dt", {}, number ? "" : "Truth"), element("dd", {}, ...rich(truth))),
  );
  const card = element("article", { class: "card", "data-index": item.index });
  if (item.picture) card.append(pictureOf(item));
  card.append(facts, lines);
  return card;
};

// full size: `show(n)` gives the n-th of `count` cards

const dialog = document.createElement("dialog");
const place = element("span", { class: "place" });
const holder = element("div");
let viewed = null;

const view = (number) => {
  if (number < 0 || number >= viewed.count) return;
  viewed.number = number;
  holder.replaceChildren(viewed.show(number));
  place.textContent = `${(number + 1).toLocaleString()} of ${viewed.count.toLocaleString()}`;
  back.disabled = number === 0;
  on.disabled = number === viewed.count - 1;
};

const open = (count, number, show) => {
  viewed = { count, show };
  view(number);
  dialog.showModal();
};

const button = (text, label, act) => {
  const made = element("button", { type: "button", "aria-label": label, title: label }, text);
  made.addEventListener("click", act);
  return made;
};

const back = button("‹", "previous (left arrow)", () => view(viewed.number - 1));
const on = button("›", "next (right arrow)", () => view(viewed.number + 1));
const swatches = element("div", { class: "key" });
for (const label of document.querySelectorAll(".controls.key label")) {
  const nodes = [...label.cloneNode(true).childNodes].filter((node) => node.nodeName !== "INPUT");
  swatches.append(element("span", {}, ...nodes));
}
dialog.append(
  element("div", { class: "bar" }, place, swatches, back, on, button("✕", "close (Esc)", () => dialog.close())),
  holder,
);
document.body.append(dialog);
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") view(viewed.number - 1);
  if (event.key === "ArrowRight") view(viewed.number + 1);
});

document.addEventListener("click", (event) => {
  const card = event.target.closest(".frame")?.closest(".cards > .card");
  if (!card) return;
  const cards = [...card.parentElement.children];
  const number = cards.indexOf(card);
  if (card.closest("#all")) return open(chosen.length, start + number, (n) => cardOf(chosen[n]));
  // a card of the page itself: its item, with the image's own file, where that is loaded
  open(cards.length, number, (n) => {
    const item = byIndex.get(Number(cards[n].dataset.index));
    return item?.picture?.source ? cardOf(item) : cards[n].cloneNode(true);
  });
});

// all answers

const all = document.getElementById("all");
const form = all.querySelector(".filters");
const pages = all.querySelector(".pages");
const grid = all.querySelector(".cards");
const status = all.querySelector("h2 small");

const labelled = (name, ...inputs) => element("label", {}, name, ...inputs);
const select = (name, options) =>
  element("select", { name }, ...options.map(([value, text]) => element("option", { value }, text)));

const search = element("input", { type: "search", name: "text", placeholder: "question, answer or key" });
const searching = labelled("search", search);
searching.className = "search";
form.append(searching);
const kindOf = new Map();
for (const [name, values] of Object.entries(config.kinds)) {
  const sorted = Object.entries(values).sort(([a], [b]) => a.localeCompare(b, undefined, { numeric: true }));
  const options = sorted.map(([value, count]) => [value, `${value} (${count.toLocaleString()})`]);
  const chooser = select(name, [["", "any"], ...options]);
  kindOf.set(name, chooser);
  form.append(labelled(name, chooser));
}
const measure = select("measure", config.measures.map((name) => [name, name]));
const above = element("input", { type: "number", step: "any", placeholder: "above", "aria-label": "above" });
const upTo = element("input", { type: "number", step: "any", placeholder: "up to", "aria-label": "up to" });
if (config.measures.length) {
  form.append(element("label", {}, "range", element("fieldset", {}, measure, above, upTo)));
}
const order = select("order", [
  ["", "of the data"],
  ...config.measures.flatMap((name) => [
    [`+${name}`, `${name}, lowest first`],
    [`-${name}`, `${name}, highest first`],
  ]),
]);
form.append(labelled("order", order));
form.append(button("clear", "clear all filters", () => {
  form.reset();
  update();
}));

const searchable = (item) => {
  const texts = [item.key, ...item.question.flat(), ...item.answers.map((answer) => answer.text)];
  item.found ??= texts.join("\n").toLowerCase();
  return item.found;
};

const passes = () => {
  const words = search.value.trim().toLowerCase();
  // the first option is any; an empty text is a value too
  const wanted = [...kindOf].filter(([, chooser]) => chooser.selectedIndex > 0);
  const low = above.value === "" ? null : Number(above.value);
  const high = upTo.value === "" ? null : Number(upTo.value);
  return (item) => {
    for (const [name, chooser] of wanted) if (item.kinds[name] !== chooser.value) return false;
    if (low !== null || high !== null) {
      const value = item.measures[measure.value];
      if (value === undefined || (low !== null && value <= low) || (high !== null && value > high)) return false;
    }
    return !words || searchable(item).includes(words);
  };
};

const update = (to = 0) => {
  chosen = items.filter(passes());
  if (order.value) {
    const sign = order.value[0] === "+" ? 1 : -1;
    const name = order.value.slice(1);
    // items without the measure stand last, whichever way
    const value = (item) => item.measures[name] ?? sign * Infinity;
    chosen.sort((a, b) => sign * (value(a) - value(b)) || a.index - b.index);
  }
  turn(to);
};

const count = () => {
  const loading = items.length < config.count ? `, ${(config.count - items.length).toLocaleString()} still loading` : "";
  status.textContent = `${chosen.length.toLocaleString()} of ${items.length.toLocaleString()}${loading}`;
};

const turn = (to) => {
  start = Math.max(0, Math.min(to, Math.floor((chosen.length - 1) / PER_PAGE) * PER_PAGE));
  const shown = chosen.slice(start, start + PER_PAGE);
  grid.replaceChildren(...shown.map(cardOf));
  count();
  const range = shown.length ? `${(start + 1).toLocaleString()} to ${(start + shown.length).toLocaleString()}` : "none";
  const last = Math.floor(Math.max(chosen.length - 1, 0) / PER_PAGE) * PER_PAGE;
  const turning = [
    ["«", "first page", 0, start > 0],
    ["‹", "previous page", start - PER_PAGE, start > 0],
    ["›", "next page", start + PER_PAGE, start < last],
    ["»", "last page", last, start < last],
  ].map(([text, label, place, possible]) => {
    const made = button(text, label, () => turn(place));
    made.disabled = !possible;
    return made;
  });
  pages.replaceChildren(...turning, range);
};

form.addEventListener("input", () => update());
form.addEventListener("submit", (event) => event.preventDefault());

// Rows and bars that stand for some of the answers: data-filter holds [kind, value], or [measure, above, up to].

const filter = (wanted) => {
  form.reset();
  if (wanted.length === 2) {
    const [name, value] = wanted;
    [...kindOf.get(name).options].slice(1).find((option) => option.value === value).selected = true;
  } else {
    [measure.value, above.value, upTo.value] = wanted;
  }
  update();
  all.scrollIntoView();
};

const offerFilters = () => {
  for (const each of document.querySelectorAll("[data-filter]")) {
    const wanted = JSON.parse(each.dataset.filter);
    const known = wanted.length === 3 ? config.measures.includes(wanted[0]) : config.kinds[wanted[0]]?.[wanted[1]];
    if (!known) continue;
    each.classList.add("filters-all");
    each.tabIndex = 0;
    each.addEventListener("click", () => filter(wanted));
    each.addEventListener("keydown", (event) => {
      if (event.key === "Enter") filter(wanted);
    });
  }
};

// the files, one after the other: the page can be used from the first on

const load = (number) => {
  const script = element("script", { src: `${encodeURIComponent(config.folder)}/${config.files[number]}` });
  script.addEventListener("load", () => {
    script.remove();
    const last = number + 1 === config.files.length;
    if (number === 0) {
      all.hidden = false;
      offerFilters();
    }
    if (number === 0 || last) update(start);
    else count();
    if (!last) load(number + 1);
  });
  script.addEventListener("error", () => {
    all.hidden = false;
    form.hidden = number === 0;
    status.textContent = `${items.length} of ${config.count}: ${script.getAttribute("src")} is not beside this page`;
  });
  document.head.append(script);
};

globalThis.loaded = (data) => {
  for (const item of data.items) {
    item.picture = item.image === undefined ? null : data.images[item.image];
    items.push(item);
    byIndex.set(item.index, item);
  }
};

if (config.files.length) load(0);
}
