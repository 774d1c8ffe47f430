// What people take with them: the image with its regions, and the answer as JSON.

import { inkOn, h } from "./dom.js";

const LEAST = 1000; // pixels of the longer side: below, the drawing is enlarged, so that its lines can be seen

/** The image with marks on it, as PNG. */
export async function imageWith(picture, marks) {
  const image = new Image();
  image.src = picture.shown;
  await image.decode();
  const zoom = Math.max(1, Math.round(LEAST / Math.max(picture.width, picture.height)));
  const canvas = h("canvas", { width: picture.width * zoom, height: picture.height * zoom });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingEnabled = Math.max(picture.width, picture.height) >= 160;
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  const line = Math.max(2, Math.max(canvas.width, canvas.height) / 300);
  for (const mark of marks) stroke(pen, mark, mark.at.map((value) => value * zoom), line);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

function stroke(pen, mark, at, line) {
  const path = new Path2D();
  const [x, y, right, bottom] = at;
  if (mark.kind === "box") path.rect(x, y, right - x, bottom - y);
  else path.arc(x, y, 3 * line, 0, 2 * Math.PI);
  pen.setLineDash([]);
  pen.strokeStyle = "#0009";
  pen.lineWidth = 1.8 * line;
  pen.stroke(path);
  pen.setLineDash(mark.own ? [3 * line, 2 * line] : []);
  pen.strokeStyle = mark.colour;
  pen.lineWidth = line;
  pen.stroke(path);
  pen.font = `600 ${6 * line}px system-ui, sans-serif`;
  const width = pen.measureText(mark.badge).width + 3 * line;
  const height = 8 * line;
  const left = Math.min(Math.max(0, mark.kind === "box" ? x - line / 2 : x + 3 * line), pen.canvas.width - width);
  const above = y - height >= 0 ? y - height : y;
  pen.fillStyle = mark.colour;
  pen.fillRect(left, above, width, height);
  pen.fillStyle = inkOn(mark.colour);
  pen.textBaseline = "middle";
  pen.fillText(mark.badge, left + 1.5 * line, above + height / 2 + line / 3);
}

export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export function saveJson(record, name) {
  save(new Blob([JSON.stringify(record, null, 2), "\n"], { type: "application/json" }), name);
}

/** "street" of "street.jpg" */
export const stemOf = (name) => name.replace(/\.[^.]*$/, "") || "image";
