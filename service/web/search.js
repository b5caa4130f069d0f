// Search: a text, clips and items to sound like, a filter; asked, answered, and kept in the address.

import { $, button, element, postJson, showing } from "./api.js";
import { choose, chosen, loadCollections, parseFilter, pathOf } from "./collections.js";
import { clearHits, showHits } from "./hits.js";

const EXAMPLES = [
  "a calm older woman",
  "somebody whispers, not a woman",
  "warm, low, slow, slightly amused",
  "excited and fast",
  "a flat, monotone voice",
];
const PLACEHOLDER = $("query").placeholder;
const TITLE = "Speech, by how it sounds";
let likes = [];
let asked = "";
let searches = 0;

for (const text of EXAMPLES) {
  $("examples").append(button(text, () => ask(text), { className: "chip" }));
}

function ask(text, collection) {
  $("query").value = text;
  run(collection);
}

/** Search for what sounds like an item of the collection; words may be added: "faster". */
export function moreLike(hit) {
  likes = [{ part: { item_id: hit.id }, name: hit.filename ?? hit.id }];
  $("query").value = "";
  showLikes();
  run();
  if (matchMedia("(pointer: coarse)").matches) $("view-search").scrollIntoView();  // a focus would bring up the keyboard
  else $("query").focus();
}

/** Search for what sounds like a clip of the reader's own; words may be added. */
export function likeClip(uri, name, words) {
  likes = [{ part: { audio: uri }, name }];
  $("query").value = words;
  showLikes();
  location.hash = "#search";
  return run();
}

function showLikes() {
  $("query").placeholder = likes.length ? "like it, but … faster, a man, not whispering" : PLACEHOLDER;
  $("likes").replaceChildren(
    ...likes.map((like) =>
      button(`like ${like.name} ✕`, () => {
        likes = likes.filter((one) => one !== like);
        showLikes();
        if (likes.length || $("query").value.trim()) run();
      }, { className: "chip on", ariaLabel: `Remove: like ${like.name}` })),
  );
}

/** What is typed is read by the service for what it refuses, alone or beside a clip. */
function queryParts(text) {
  if (!likes.length) return text;
  // Alone, an item asks for its style, whoever speaks; with words beside it, for its voice with that one change.
  const parts = likes.map((like) => (like.part.item_id && !text ? { ...like.part, aspect: "style" } : like.part));
  return text ? [...parts, text] : parts;
}

async function run(collection = null) {
  const number = ++searches;
  await showing("Searching…", async () => {
    try {
      if (collection) await chooseThere(collection);
      await search(number);
    } catch (error) {
      if (number === searches) forget();
      throw error;
    }
  });
}

/** What somebody sent a search of is not to be looked for elsewhere. */
async function chooseThere(name) {
  if (choose(name)) return;
  await loadCollections();  // made since, or the service was away
  if (!choose(name)) throw new Error(`There is no collection ${name}`);
}

async function search(number) {
  if (!chosen()) await loadCollections();  // asked before the page had them, or when the service was away
  const collection = chosen();
  const text = $("query").value.trim();
  if (!collection) throw new Error("There is no collection to search in: make one in the library");
  if (!text && !likes.length) throw new Error("Say how it should sound, or choose a clip that it should sound like");
  const filter = parseFilter($("filter").value);
  remember(text, collection.name);
  const body = { query: queryParts(text), filter, top_k: Number($("top").value), diversity: Number($("variety").value) };
  const answer = await postJson(`${pathOf(collection.name)}/search`, body);
  if (number !== searches) return;  // another was asked for meanwhile
  // Over time counts what is wanted: a caption with "not whispering" in it is heard as whispering.
  const wanted = answer.query.filter((part) => part.text && part.weight > 0).map((part) => part.text).join(", ");
  showHits(answer.hits, { text: wanted, onMore: moreLike });
  const cut = answer.truncated ? " The text was longer than the model reads." : "";
  $("summary").textContent = answer.hits.length ? `${answer.hits.length} ${answer.hits.length === 1 ? "hit" : "hits"} in ${answer.took_ms.toFixed(1)} ms.${cut}` : nothing(collection, filter);
  showUnderstood(answer.query);
}

/** Why there are no hits: the only reasons are a filter and an empty collection. */
const nothing = (collection, filter) =>
  filter ? "No clip passes this filter." : `There is nothing to find in ${collection.name} yet.`;

/** Take away what an earlier search showed. */
function forget() {
  asked = "";  // so that Back shows it again
  clearHits();
  $("summary").textContent = "";
  $("understood").replaceChildren();
}

/** How the service read the query, where that is more than the words as typed. */
function showUnderstood(parts) {
  $("understood").replaceChildren();
  if (parts.length < 2 && !parts.some((part) => part.weight < 0)) return;
  $("understood").append(
    element("span", { className: "hint", textContent: "Searched for" }),
    ...parts.map((part) => {
      const name = part.text ?? (part.item_id ? `like ${part.item_id}` : "like the clip");
      return element("span", { className: part.weight < 0 ? "chip against" : "chip on", textContent: part.weight < 0 ? `not ${name}` : name });
    }),
  );
}

function remember(text, collection) {
  const filter = $("filter").value.trim();
  asked = likes.length ? "#search" : `#search?${new URLSearchParams({ collection, q: text, ...(filter ? { filter } : {}) })}`;
  if (location.hash !== asked) history.pushState(null, "", asked);
  document.title = `${text || `like ${likes[0].name}`} · ${TITLE}`;
}

/** Ask what the address asks for: a link to a search is a search. */
export function searchFromAddress() {
  const [view, query] = location.hash.slice(1).split("?");
  if (view !== "search" || !query || location.hash === asked) return;
  const wanted = new URLSearchParams(query);
  const collection = wanted.get("collection");
  choose(collection);
  $("filter").value = wanted.get("filter") ?? "";
  likes = [];
  showLikes();
  if (wanted.get("q")) ask(wanted.get("q"), collection);
}

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
for (const id of ["variety", "top", "collection"]) {
  $(id).addEventListener("change", () => ($("query").value.trim() || likes.length) && run());
}
