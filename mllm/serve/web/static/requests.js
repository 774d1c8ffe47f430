// Conversations as requests to the API.

/**
 * The request that asks the last of some turns, and the images that it shows, in order.
 *
 * A turn is {parts, picture, answers}; of each turn before, `said(turn)` is the answer that the model gave.
 */
export function requestOf(model, turns, settings, said) {
  const pictures = [];
  const messages = [];
  const regions = [];
  const indexOf = (picture) => pictures.indexOf(picture);
  for (const [number, turn] of turns.entries()) {
    const fresh = [turn.picture, ...regionsOf(turn).map((region) => region.picture)].filter(
      (picture, at, all) => picture && !pictures.includes(picture) && all.indexOf(picture) === at,
    );
    pictures.push(...fresh);
    regions.push(...regionsOf(turn).map((region) => written(region, indexOf(region.picture))));
    const images = fresh.map((picture) => ({ type: "image_url", image_url: { url: picture.url } }));
    messages.push({ role: "user", content: [...images, { type: "text", text: textOf(turn.parts) }] });
    if (number < turns.length - 1) messages.push({ role: "assistant", content: said(turn).text });
  }
  const body = { model, messages, ...settings };
  if (regions.length) body.regions = regions;
  if (pictures.length) body.image_sizes = pictures.map(({ width, height }) => [width, height]);
  if (pictures.length > 1) body.answer_image = indexOf(turns.at(-1).picture);
  return { body, pictures };
}

/** The words with `<boxes>` and `<points>` in place of regions. */
export function textOf(parts) {
  return parts.map((part) => (typeof part === "string" ? part : part.kind === "box" ? "<boxes>" : "<points>")).join("");
}

export const regionsOf = ({ parts }) => parts.filter((part) => typeof part !== "string");

export function written(region, image) {
  return region.kind === "box" ? { image, boxes: region.all ?? [region.at] } : { image, points: region.all ?? [region.at] };
}

/** The sampling fields that are filled in. */
export function samplingOf(root) {
  const given = {};
  for (const input of root.querySelectorAll("input[name]")) {
    if (input.value !== "") given[input.name] = Number(input.value);
  }
  return given;
}

/** A request for people to keep: its images by name and size. */
export function withoutImages({ body, pictures }) {
  let next = 0;
  const messages = body.messages.map((message) => ({
    ...message,
    content:
      typeof message.content === "string"
        ? message.content
        : message.content.map((part) => {
            if (part.type !== "image_url") return part;
            const { name } = pictures[next];
            next += 1;
            return { type: "image_url", image_url: { url: name } };
          }),
  }));
  return { ...body, messages };
}
