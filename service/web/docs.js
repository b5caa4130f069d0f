// The manual: what the service says of itself in openapi.json, a group of calls a section and a call a fold.

import { $, element, get, showing } from "./api.js";

let components = {};

const resolve = (schema) => (schema?.$ref ? components[nameOf(schema)] : schema) ?? {};
const nameOf = (schema) => schema?.$ref?.split("/").pop();

function typeOf(schema) {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${typeOf(schema.items) || "values"}`;
  return [schema.type].flat().join(" or ") || "any";
}

/** Text with `code` in it, as nodes: never as markup. */
function spans(text) {
  return text.split("`").map((part, i) => (i % 2 ? element("code", { textContent: part }) : part));
}

/** The little Markdown that descriptions use: paragraphs, lists, code. */
function prose(text) {
  return text.trim().split(/\n{2,}/).map((block) => {
    const items = block.split(/^[*-] /m).map((item) => item.replace(/\s+/g, " ").trim());
    if (!/^[*-] /.test(block)) return element("p", {}, ...spans(items.join(" ")));
    return element("ul", {}, ...items.filter(Boolean).map((item) => element("li", {}, ...spans(item))));
  });
}

/** Names with their type, whether they are needed, and what they mean. */
function list(rows) {
  return element("dl", { className: "members" }, ...rows.flatMap(({ name, type, needed, preset, what }) => {
    const title = element("dt", {}, element("code", { textContent: name }), element("small", { textContent: type }));
    if (needed) title.append(element("small", { className: "needed", textContent: "required" }));
    else if (preset !== undefined && preset !== null) title.append(element("small", { textContent: `default ${JSON.stringify(preset)}` }));
    return what ? [title, element("dd", {}, ...spans(what))] : [title];
  }));
}

function members(schema) {
  const needed = schema.required ?? [];
  return Object.entries(schema.properties ?? {}).map(([name, one]) => ({
    name, type: typeOf(one), needed: needed.includes(name), preset: one.default, what: one.description ?? resolve(one).description,
  }));
}

const sample = (value) => element("pre", { tabIndex: 0, textContent: JSON.stringify(value, null, 2) });

/** A schema's members and example, then those of the models inside it that were not shown yet. */
function shownSchema(reference, seen = new Set()) {
  const schema = resolve(reference);
  const parts = [];
  if (schema.properties) parts.push(list(members(schema)));
  if (schema.examples?.length && seen.size === 0) parts.push(sample(schema.examples[0]));
  seen.add(nameOf(reference));
  for (const inner of JSON.stringify(schema).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
    if (seen.has(inner[1])) continue;
    const link = { $ref: inner[0].slice(1, -1) };
    parts.push(element("h4", { textContent: inner[1] }), ...shownSchema(link, seen));
  }
  return parts;
}

const heading = (...text) => element("h3", {}, ...text);

function shownCall(path, method, call) {
  const parts = prose(call.description ?? call.summary ?? "");
  if (call.parameters?.length) {
    parts.push(heading("Parameters"), list(call.parameters.map((one) => ({
      name: one.name, type: `${typeOf(one.schema)}, in the ${one.in}`, needed: one.required, preset: one.schema.default,
      what: one.description ?? one.schema.description,
    }))));
  }
  for (const [kind, media] of Object.entries(call.requestBody?.content ?? {})) {
    parts.push(heading("Body ", element("code", { textContent: kind })), ...shownSchema(media.schema));
  }
  const answers = Object.entries(call.responses ?? {});
  for (const [status, answer] of answers.filter(([status]) => status < "400")) {
    parts.push(heading(`Answer ${status}`), ...(answer.description === "Successful Response" ? [] : prose(answer.description)));
    for (const media of Object.values(answer.content ?? {})) parts.push(...shownSchema(media.schema));
  }
  const problems = answers.filter(([status]) => status >= "400");
  if (problems.length) {
    parts.push(heading("Problems"), list(problems.map(([status, answer]) => ({ name: status, type: "", what: answer.description }))));
  }
  const title = element(
    "summary", {},
    element("span", { className: `method ${method}`, textContent: method.toUpperCase() }),
    element("code", { textContent: path }),
    element("small", { textContent: (call.description ?? call.summary ?? "").split(/\.(?:\s|$)/)[0].replaceAll("`", "") }),
  );
  const made = element("details", { id: `${method}-${path}` }, title, ...parts);
  made.addEventListener("toggle", () => made.open && history.replaceState(null, "", `#${encodeURIComponent(made.id)}`));
  return made;
}

/** Only calls whose address, method or words hold what is typed. */
function find() {
  const wanted = $("find").value.trim().toLowerCase().split(/\s+/);
  for (const section of $("manual").querySelectorAll("section")) {
    const calls = [...section.querySelectorAll("details")];
    for (const call of calls) {
      const text = call.textContent.toLowerCase();
      call.hidden = !wanted.every((word) => text.includes(word));
    }
    section.hidden = calls.every((call) => call.hidden);
  }
}

/** A link to a call opens it. */
function openFromAddress() {
  const call = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!call?.matches("details")) return;
  call.open = true;
  call.scrollIntoView();
}

showing("Loading…", async () => {
  const api = await get("/openapi.json");
  components = api.components?.schemas ?? {};
  $("title").textContent = `${api.info.title} ${api.info.version}`;
  const groups = new Map();
  for (const [path, calls] of Object.entries(api.paths)) {
    for (const [method, call] of Object.entries(calls)) {
      const group = call.tags?.[0] ?? "other";
      groups.set(group, [...(groups.get(group) ?? []), shownCall(path, method, call)]);
    }
  }
  $("about").replaceChildren(...prose(api.info.description ?? ""));
  $("groups").replaceChildren(...[...groups.keys()].map((group) => element("a", { href: `#calls-${group}`, textContent: group })));
  $("manual").replaceChildren(
    ...[...groups].map(([group, calls]) => element("section", { id: `calls-${group}` }, element("h2", { textContent: group }), ...calls)),
  );
  openFromAddress();
});
$("find").addEventListener("input", find);
window.addEventListener("hashchange", openFromAddress);
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.target === $("find")) return;
  event.preventDefault();
  $("find").focus();
});
