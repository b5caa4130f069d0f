// The library: collections to make, open and drop, and the clips of the one that is open.

import { $, button, element, get, putJson, remove, showing } from "./api.js";
import { all, choose, loadCollections, pathOf } from "./collections.js";
import { inOrder, wordsOf } from "./metadata.js";
import { play } from "./player.js";

const PAGE = 50;
let open = null;
let cursor = null;
let listings = 0;

/** The collection that clips are added to; null while none is open. */
export const openCollection = () => open;

/** Draw the view; open a collection where only one could be meant. */
export function showLibrary() {
  $("collections").replaceChildren(...all().map(shown));
  if (open && !all().some((one) => one.name === open)) open = null;
  if (!open && all().length === 1) openOne(all()[0].name);
  $("open-collection").hidden = !open;
  $("no-collections").hidden = all().length > 0;
}

/** Fetch what may have changed, then draw. */
export async function refresh() {
  await loadCollections();
  showLibrary();
  if (open) await showItems();
}

function shown(one) {
  const facts = `${one.items} clips, ${one.segments} segments`;
  const row = element(
    "li", { className: one.name === open ? "open" : "" },
    element("strong", { textContent: one.name }),
    element("span", { className: "hint", textContent: [facts, one.description].filter(Boolean).join(" · ") }),
    element(
      "span", { className: "tools" },
      button("Open", () => openOne(one.name), { ariaLabel: `Open ${one.name}` }),
      button("Search", () => {
        choose(one.name);
        // Once the view is shown: what is hidden takes no focus.
        window.addEventListener("hashchange", () => $("query").focus(), { once: true });
        location.hash = "#search";
      }, { ariaLabel: `Search ${one.name}` }),
      button("Delete", () => drop(one), { ariaLabel: `Delete ${one.name}` }),
    ),
  );
  return row;
}

async function drop(one) {
  if (!confirm(`Delete ${one.name} with its ${one.items} clips? There is no undo.`)) return;
  await showing("Deleting…", async () => {
    await remove(pathOf(one.name));
    await refresh();
  });
}

/** Show a collection's clips, and make it the one that drops go to. */
export async function openOne(name) {
  open = name;
  showLibrary();
  $("open-title").textContent = `Clips of ${name}`;
  await showing("Loading…", showItems);
}

async function showItems() {
  cursor = null;
  $("items").tBodies[0].replaceChildren();
  await nextPage();
}

async function nextPage() {
  const query = new URLSearchParams({ limit: PAGE, ...(cursor ? { cursor } : {}) });
  const number = ++listings;
  const page = await get(`${pathOf(open)}/items?${query}`);
  if (number !== listings) return;  // asked for again meanwhile, or another collection was opened: only the last one counts
  cursor = page.next_cursor;
  $("items").tBodies[0].append(...page.data.map(itemRow));
  $("more-items").hidden = !cursor;
  showWhetherEmpty();
}

function showWhetherEmpty() {
  const empty = !$("items").tBodies[0].rows.length;
  $("items").hidden = empty;
  $("no-items").hidden = !empty;
}

async function dropItem(item, row) {
  if (!confirm(`Delete ${item.id}? There is no undo.`)) return;
  await showing("Deleting…", async () => {
    await remove(`${pathOf(open)}/items/${encodeURIComponent(item.id)}`);
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (next?.querySelector("button:not(:disabled)") ?? $("upload-files")).focus();
    showWhetherEmpty();
    await loadCollections();
    $("collections").replaceChildren(...all().map(shown));
  });
}

function itemRow(item) {
  const about = inOrder(item.metadata).map(wordsOf).join(" · ");
  const name = item.filename ?? item.id;
  const row = element(
    "tr", {},
    element("td", { textContent: item.id }),
    element("td", { className: "n", textContent: `${item.duration_s.toFixed(1)} s` }),
    element("td", { className: "hint" }, element("span", { className: "about", title: about, textContent: about })),
    element(
      "td", { className: "tools" },
      button("Play", () => play({ key: `${open}/${item.id}`, title: name, url: item.audio_url }), { disabled: !item.audio_url, ariaLabel: `Play ${name}` }),
      button("Delete", () => dropItem(item, row), { ariaLabel: `Delete ${name}` }),
    ),
  );
  return row;
}

$("more-items").addEventListener("click", () => showing("Loading…", nextPage));
$("create").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("new-name").value.trim();
  showing("Creating…", async () => {
    await putJson(pathOf(name), { description: $("new-description").value.trim() });
    $("create").reset();
    await loadCollections();
    await openOne(name);
  });
});
