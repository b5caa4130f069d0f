// What is known of a clip, in the order in which people want it: a caption leads, what is long or legal comes last.

const LAST = ["text", "licence"];
const place = ([name]) => (name === "caption" ? -1 : LAST.indexOf(name) + 1);

/** [name, value] of each fact. */
export const inOrder = (metadata) => Object.entries(metadata).sort((a, b) => place(a) - place(b));

/** One fact in words. */
export function wordsOf([name, value]) {
  if (name === "caption") return value;
  return `${name}: ${typeof value === "object" ? [value].flat().map((one) => (typeof one === "object" ? JSON.stringify(one) : one)).join(", ") : value}`;
}
