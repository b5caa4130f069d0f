// The collections there are, and the one that is searched: shared by the search and library views.

import { $, element, get } from "/web/api.js";

let collections = [];

export const all = () => collections;
export const chosen = () => collections.find((one) => one.name === $("collection").value);
export const pathOf = (name) => `/v1/collections/${encodeURIComponent(name)}`;

/** Fetch the list, keep the choice where it is still there. */
export async function loadCollections() {
  const before = $("collection").value;
  collections = (await get("/v1/collections")).data;
  $("collection").replaceChildren(
    ...collections.map((one) => element("option", { value: one.name, textContent: `${one.name} (${one.items} clips)` })),
  );
  choose(before);
  $("collection").disabled = collections.length === 0;
  for (const one of document.querySelectorAll("#search .options, #filter-help")) one.hidden = !collections.length;
  if (!collections.length) {
    $("summary").replaceChildren("There is nothing to search yet. ", element("a", { href: "#library", textContent: "Make a collection in the library" }), ", or fill one from a terminal: ", element("code", { textContent: "clsp ingest voices FOLDER" }));
  } else if ($("summary").querySelector("a")) $("summary").replaceChildren();
  describeFilter();
}

/** Make a collection the one that is searched, if it is there. */
export function choose(name) {
  if (collections.some((one) => one.name === name)) $("collection").value = name;
  describeFilter();
}

function describeFilter() {
  const fields = chosen()?.metadata_fields ?? [];
  $("filter-help").textContent = fields.length
    ? `Fields: ${fields.join(", ")}. Write field=value, with =, !=, >, >=, < or <=, or the API's JSON.`
    : "";
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
  const joined = text.replace(/("[^"]*")|\s*(>=|<=|!=|=|>|<)\s*/g, (_, quoted, operator) => quoted ?? operator);
  const conditions = (joined.match(/(?:[^\s"]|"[^"]*")+/g) ?? []).map((part) => {
    const match = /^([^=!<>]+)(>=|<=|!=|=|>|<)(.+)$/.exec(part);
    if (!match) throw new Error(`The filter part “${part}” is not of the form field=value; put values with spaces into quotes: accent="northern English"`);
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

$("collection").addEventListener("change", describeFilter);
