// Wires the page: views, the keyboard, drops, and what is loaded first.

import { $, get, showing } from "./api.js";
import { take } from "./clip.js";
import { loadCollections } from "./collections.js";
import { currentHit, isHit, moveTo } from "./hits.js";
import { showJobs } from "./jobs.js";
import { loadModel } from "./judge.js";
import { showLibrary } from "./library.js";
import { stop } from "./player.js";
import { searchFromAddress } from "./search.js";
import { enqueue } from "./upload.js";

const VIEWS = ["search", "judge", "library"];
let view = "search";

/** Show the view that the address names; the address is the state, so that Back works. */
export function showView() {
  const name = location.hash.slice(1).split("?")[0];
  view = VIEWS.includes(name) ? name : "search";
  for (const one of VIEWS) $(`view-${one}`).hidden = one !== view;
  for (const link of document.querySelectorAll("nav [data-view]")) {
    if (link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (view === "library") showServerLibrary();
}

function showServerLibrary() {
  showLibrary();
  if ($("identity").textContent !== "unknown") showJobs();
}

function typing(target) {
  return target.matches("input:not([type=range], [type=file]), textarea, select") || document.querySelector("dialog[open]");
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return stop();
  if (event.target === $("query") && event.key === "ArrowDown") return moveTo(1);
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return undefined;
  const onButton = event.target.matches("button, a, audio, [tabindex]") && !event.target.matches("#hits li");
  const acts = {
    "/": () => {
      location.hash = "#search";
      showView();  // at once: what is hidden takes no focus
      $("query").focus();
      $("query").select();
    },
    "?": () => $("help").showModal(),
    j: () => moveTo(1),
    k: () => moveTo(-1),
    m: () => currentHit()?.querySelector(".more").click(),
    t: () => currentHit()?.querySelector(".over-time")?.click(),
    " ": () => (onButton ? null : currentHit()?.querySelector(".play").click()),
    1: () => (location.hash = "#search"),
    2: () => (location.hash = "#judge"),
    3: () => (location.hash = "#library"),
  };
  if (isHit(event.target)) Object.assign(acts, { ArrowDown: acts.j, ArrowUp: acts.k });
  const act = acts[event.key];
  if (!act || (event.key === " " && onButton)) return undefined;
  event.preventDefault();
  return act();
});

$("help-button").addEventListener("click", () => $("help").showModal());

// A drop means what the view is for: clips to add in the library, elsewhere a clip to judge.
let depth = 0;
const veil = (on) => ($("drop-veil").hidden = !on);
document.addEventListener("dragenter", (event) => {
  if (event.dataTransfer?.types.includes("Files")) veil(++depth > 0);
});
document.addEventListener("dragleave", () => {
  depth = Math.max(0, depth - 1);
  veil(depth > 0);
});
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  veil(false);
  const files = [...(event.dataTransfer?.files ?? [])];
  if (!files.length) return;
  if (view === "library") enqueue(files);
  else {
    location.hash = "#judge";
    take(files[0]);
  }
});

async function load() {
  await showing("Loading…", async () => {
    const model = (await get("/v1/models")).data[0];
    $("identity").textContent = model.identity;
    loadModel(model);
    await loadCollections();
  });
  if (view === "library") showServerLibrary();
  searchFromAddress();
}

window.addEventListener("hashchange", () => {
  showView();
  searchFromAddress();
});
document.addEventListener("key-changed", load);
showView();
load();
