// The collections there are, and the one that is searched: shared by the search and library views.

import { $, element, get } from "./api.js";

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

/** Make a collection the one that is searched; false where it is not there. */
export function choose(name) {
  const there = collections.some((one) => one.name === name);
  if (there) $("collection").value = name;
  describeFilter();
  return there;
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

/** A filter's text that also asks for a field's value: in the short form where that says it, else in the API's JSON. */
export function narrowed(text, name, value) {
  const conditions = conditionsOf(parseFilter(text));
  const wanted = { [name]: { eq: value } };
  if (conditions.some((one) => same(one, wanted) || same(one, { [name]: value }))) return text;
  const all = [...conditions, wanted];
  const short = [value, JSON.stringify(value)].map((written) => `${text.trim()} ${name}=${written}`.trim());
  return short.find((one) => reads(one, { all })) ?? JSON.stringify(all.length > 1 ? { all } : { [name]: value });
}

function conditionsOf(filter) {
  if (!filter) return [];
  return Object.keys(filter).length === 1 && Array.isArray(filter.all) ? filter.all : [filter];
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function reads(text, filter) {
  try {
    return same(parseFilter(text), filter);
  } catch {
    return false;
  }
}

function parseValue(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

$("collection").addEventListener("change", describeFilter);
