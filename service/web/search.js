// Search: a text, clips and items to sound like, a filter; asked, answered, and kept in the address.

import { $, button, element, postJson, showing } from "/web/api.js";
import { choose, chosen, parseFilter, pathOf } from "/web/collections.js";
import { showHits } from "/web/hits.js";

const EXAMPLES = [
  "a calm older woman",
  "somebody whispers, not a woman",
  "warm, low, slow, slightly amused",
  "excited and fast",
  "a flat, monotone voice",
];
let likes = [];
let asked = "";

for (const text of EXAMPLES) {
  $("examples").append(button(text, () => ask(text), { className: "chip" }));
}

function ask(text) {
  $("query").value = text;
  run();
}

/** Search for what sounds like an item of the collection; words may be added: "faster". */
export function moreLike(hit) {
  likes = [{ part: { item_id: hit.id }, name: hit.filename ?? hit.id }];
  $("query").value = "";
  $("query").placeholder = "like it, but … faster, a man, not whispering";
  showLikes();
  run();
  $("query").focus();
}

/** Search for what sounds like a clip of the reader's own. */
export function likeClip(uri, name) {
  likes = [{ part: { audio: uri }, name }];
  $("query").value = "";
  showLikes();
  location.hash = "#search";
  return run();
}

function showLikes() {
  $("likes").replaceChildren(
    ...likes.map((like) =>
      button(`like ${like.name} ✕`, () => {
        likes = likes.filter((one) => one !== like);
        showLikes();
        if (likes.length || $("query").value.trim()) run();
      }, { className: "chip on", ariaLabel: `Remove: like ${like.name}` })),
  );
}

/** A text is sent as it is and read by the service; beside a clip it is read here, since parts are taken as they are. */
function queryParts(text) {
  if (!likes.length) return text;
  // Alone, an item asks for its style, whoever speaks; with words beside it, for its voice with that one change.
  const parts = likes.map((like) => (like.part.item_id && !text ? { ...like.part, aspect: "style" } : like.part));
  const refused = [];
  const wanted = text.replace(/[\s,;]*\b(?:but\s+|and\s+)?(?:not|without|no|never)\b\s+([^,;.]+)/gi, (_, what) => {
    refused.push(what.trim());
    return "";
  }).replace(/^\s*but\b/i, "").trim();
  if (wanted) parts.push({ text: wanted });
  return [...parts, ...refused.map((what) => ({ text: what, weight: -0.5 }))];
}

async function run() {
  await showing("Searching…", () => search().catch((error) => {
    clear(); // what answered another query would pass for this one's
    throw error;
  }));
}

async function search() {
  const collection = chosen();
  const text = $("query").value.trim();
  if (!collection) throw new Error("There is no collection to search in");
  if (!text && !likes.length) throw new Error("Say how it should sound, or choose a clip that it should sound like");
  remember(text, collection.name);
  const body = { query: queryParts(text), filter: parseFilter($("filter").value), top_k: Number($("top").value), diversity: Number($("variety").value) };
  const answer = await postJson(`${pathOf(collection.name)}/search`, body);
  showHits(answer.hits, { text, onMore: moreLike });
  const cut = answer.truncated ? " The text was longer than the model reads." : "";
  $("summary").textContent = `${answer.hits.length} hits in ${answer.took_ms.toFixed(1)} ms.${cut}`;
  showUnderstood(answer.query);
}

function clear() {
  showHits([], { text: "", onMore: moreLike });
  $("summary").textContent = "";
  showUnderstood([]);
}

/** How the service read the query, where that is more than the words as typed. */
function showUnderstood(parts) {
  $("understood").replaceChildren();
  if (parts.length < 2) return;
  $("understood").append(
    element("span", { className: "hint", textContent: "Searched for" }),
    ...parts.map((part) => {
      const name = part.text ?? (part.item_id ? `like ${part.item_id}` : "like the clip");
      return element("span", { className: part.weight < 0 ? "chip against" : "chip on", textContent: part.weight < 0 ? `not ${name}` : name });
    }),
  );
}

function remember(text, collection) {
  asked = likes.length ? "#search" : `#search?${new URLSearchParams({ collection, q: text })}`;
  if (location.hash !== asked) history.pushState(null, "", asked);
}

/** Ask what the address asks for: a link to a search is a search. */
export function searchFromAddress() {
  const [view, query] = location.hash.slice(1).split("?");
  if (view !== "search" || !query || location.hash === asked) return;
  const wanted = new URLSearchParams(query);
  choose(wanted.get("collection"));
  likes = [];
  showLikes();
  if (wanted.get("q")) ask(wanted.get("q"));
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
for (const id of ["variety", "top"]) {
  $(id).addEventListener("change", () => ($("query").value.trim() || likes.length) && run());
}
