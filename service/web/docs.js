// The manual: one section a group of calls, one fold a call, with parameters, bodies, examples and errors.

import { $, element, get, showing } from "/web/api.js";

let components = {};

const resolve = (schema) => (schema?.$ref ? components[schema.$ref.split("/").pop()] : schema) ?? {};
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

function table(head, rows) {
  return element(
    "table", {},
    element("thead", {}, element("tr", {}, ...head.map((text) => element("th", { scope: "col", textContent: text })))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((text) => element("td", { textContent: text ?? "" }))))),
  );
}

function members(schema) {
  const needed = schema.required ?? [];
  return Object.entries(schema.properties ?? {}).map(([name, one]) => [
    name, typeOf(one), needed.includes(name) ? "yes" : one.default === undefined || one.default === null ? "" : `default ${JSON.stringify(one.default)}`,
    one.description ?? resolve(one).description,
  ]);
}

/** A schema's table and example, then those of the models inside it that were not shown yet. */
function shownSchema(reference, seen = new Set()) {
  const schema = resolve(reference);
  const parts = [];
  if (schema.properties) parts.push(table(["member", "type", "needed", "what"], members(schema)));
  const sample = schema.examples?.[0];
  if (sample !== undefined && seen.size === 0) parts.push(element("pre", { tabIndex: 0, textContent: JSON.stringify(sample, null, 2) }));
  seen.add(nameOf(reference));
  for (const inner of JSON.stringify(schema).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
    if (seen.has(inner[1])) continue;
    const link = { $ref: inner[0].slice(1, -1) };
    parts.push(element("h4", { textContent: inner[1] }), ...shownSchema(link, seen));
  }
  return parts;
}

function shownCall(path, method, call) {
  const parts = [element("p", { textContent: call.description ?? call.summary })];
  if (call.parameters?.length) {
    parts.push(element("h3", { textContent: "Parameters" }), table(
      ["name", "in", "type", "what"],
      call.parameters.map((one) => [one.name, one.in, typeOf(one.schema), one.description ?? one.schema.description]),
    ));
  }
  for (const [kind, media] of Object.entries(call.requestBody?.content ?? {})) {
    parts.push(element("h3", { textContent: `Body: ${kind}` }), ...shownSchema(media.schema));
  }
  const answers = Object.entries(call.responses ?? {});
  for (const [status, answer] of answers.filter(([status]) => status < "300")) {
    parts.push(element("h3", { textContent: `${status}: ${answer.description}` }));
    for (const media of Object.values(answer.content ?? {})) parts.push(...shownSchema(media.schema));
  }
  const problems = answers.filter(([status]) => status >= "400").map(([status, answer]) => [status, answer.description]);
  if (problems.length) parts.push(element("h3", { textContent: "Problems" }), table(["status", "types"], problems));
  const title = element("summary", {}, element("strong", { textContent: method.toUpperCase() }), ` ${path}`);
  return element("details", {}, title, ...parts);
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
  $("manual").replaceChildren(
    element("pre", { tabIndex: 0, textContent: api.info.description ?? "" }),
    ...[...groups].map(([group, calls]) => element("section", {}, element("h2", { textContent: group }), ...calls)),
  );
});
