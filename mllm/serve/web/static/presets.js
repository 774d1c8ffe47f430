// Beginnings of questions.

const REGION = { region: true };

/** A part `{select}` is a text to be replaced, `REGION` the user's region. */
export const PRESETS = [
  { name: "Find", parts: ["Where is ", { select: "the object" }, "?"] },
  { name: "Describe a region", parts: ["Describe ", REGION, " in detail."] },
  { name: "Caption with spots", parts: ["Describe the image, and give the box of each object that you mention."] },
  {
    name: "Reason",
    parts: [{ select: "Why is that so?" }, " Think step by step, and give the box of each object that you refer to."],
  },
  { name: "Count", parts: ["How many ", { select: "objects" }, " are there? Give the box of each."] },
  { name: "Read text", parts: ["Read all text in the image."], about: ["Read the text in ", REGION, "."] },
  { name: "Free", parts: [] },
];

/** The words of a preset about a region, if there is one; null: it needs one. */
export function filled(preset, region) {
  const parts = region && preset.about ? preset.about : preset.parts;
  if (parts.includes(REGION) && !region) return null;
  return parts.map((part) => (part === REGION ? region : part));
}
