// Search: collections, a query with a filter, hits, and playing the best segment of a hit.

import { $, element, get, playable, postJson, showing } from "/web/api.js";

const player = $("player");
let segment = null;
let objectUrl = null;
let collections = [];

async function loadCollections() {
  const chosen = $("collection").value;
  collections = (await get("/v1/collections")).data;
  $("collection").replaceChildren(
    ...collections.map((one) => element("option", { value: one.name, textContent: `${one.name} (${one.items} clips)` })),
  );
  if (collections.some((one) => one.name === chosen)) $("collection").value = chosen;
  $("collection").disabled = collections.length === 0;
  $("summary").textContent = collections.length ? "" : "There are no collections yet. Fill one: clsp ingest FOLDER --collection voices";
  describeFilter();
}

function describeFilter() {
  const fields = collections.find((one) => one.name === $("collection").value)?.metadata_fields ?? [];
  $("filter-help").textContent = fields.length
    ? `Fields: ${fields.join(", ")}. Write field=value, with =, !=, >, >=, < or <=, or the API's JSON.`
    : "The clips of this collection have no metadata to filter by.";
}

const OPERATORS = { "=": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte" };

/** `gender=female age>=40`, or JSON, to the API's filter. */
export function parseFilter(text) {
  if (!text.trim()) return null;
  if (text.trim().startsWith("{")) {
    try {
      return JSON.parse(text);
    } catch (error) {
      throw new Error(`The filter is not JSON: ${error.message}`);
    }
  }
  const conditions = (text.match(/(?:[^\s"]|"[^"]*")+/g) ?? []).map((part) => {
    const match = /^([^=!<>]+)(>=|<=|!=|=|>|<)(.+)$/.exec(part);
    if (!match) throw new Error(`The filter part "${part}" is not of the form field=value`);
    return { [match[1]]: { [OPERATORS[match[2]]]: parseValue(match[3]) } };
  });
  return { all: conditions };
}

function parseValue(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Search the chosen collection; `query` is what the API takes: a text, or parts. */
export async function search(query) {
  await showing("Searching…", async () => {
    const collection = $("collection").value;
    if (!collection) throw new Error("There is no collection to search in");
    const body = { query, filter: parseFilter($("filter").value), top_k: Number($("top").value) };
    const answer = await postJson(`/v1/collections/${encodeURIComponent(collection)}/search`, body);
    $("hits").replaceChildren(...answer.hits.map(shownHit));
    const cut = answer.truncated ? " The text was longer than the model reads." : "";
    $("summary").textContent = `${answer.hits.length} hits in ${answer.took_ms.toFixed(1)} ms.${cut}`;
  });
}

function shownHit(hit) {
  const { start_s: start, end_s: end } = hit.segment;
  const place = `${start.toFixed(1)} to ${end.toFixed(1)} s of ${hit.duration_s.toFixed(1)} s`;
  const play = element("button", { type: "button", textContent: "Play", disabled: !hit.audio_url });
  play.setAttribute("aria-label", hit.audio_url ? `Play ${hit.id}, ${place}` : `${hit.id}: no audio is kept`);
  const more = element("button", { type: "button", className: "quiet", textContent: "More like this" });
  const facts = Object.entries(hit.metadata).map(([name, value]) => `${name}: ${value}`);
  const row = element(
    "li", {}, play,
    element("span", { className: "title", textContent: hit.filename ?? hit.id }), more,
    element("p", {
      className: "meta",
      textContent: [`cosine ${hit.score.toFixed(3)}`, `match ${(hit.match_probability * 100).toFixed(0)} %`, place, ...facts].join(" · "),
    }),
  );
  play.addEventListener("click", () => playSegment(row, hit));
  more.addEventListener("click", () => search([{ item_id: hit.id }]));
  return row;
}

async function playSegment(row, hit) {
  await showing("", async () => {
    const url = await playable(hit.audio_url);
    if (objectUrl) URL.revokeObjectURL(objectUrl);
    objectUrl = url.startsWith("blob:") ? url : null;
    segment = hit.segment;
    player.src = url;
    $("now").hidden = false;
    $("now-title").textContent = `Playing ${hit.filename ?? hit.id} from ${segment.start_s.toFixed(1)} s`;
    document.querySelectorAll("#hits li").forEach((other) => other.classList.toggle("playing", other === row));
    if (player.readyState < 1) await loadedMetadata();
    player.currentTime = segment.start_s;
    await player.play();
  });
}

function loadedMetadata() {
  return new Promise((resolve, reject) => {
    player.addEventListener("loadedmetadata", resolve, { once: true });
    player.addEventListener("error", () => reject(new Error("The browser cannot play this clip")), { once: true });
    player.load();
  });
}

player.addEventListener("timeupdate", () => {
  // Only the segment was asked for; once it has stopped there, the listener may go on by hand.
  if (segment && player.currentTime >= segment.end_s) {
    player.pause();
    segment = null;
  }
});
player.addEventListener("seeking", () => {
  if (segment && (player.currentTime < segment.start_s - 0.5 || player.currentTime > segment.end_s + 0.5)) segment = null;
});

$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search($("query").value);
});
$("collection").addEventListener("change", describeFilter);
document.addEventListener("key-changed", () => showing("Loading…", loadCollections));
showing("Loading…", loadCollections);
