// Calls to the service with the reader's API key, and errors made visible: shared by the page's modules.

export const $ = (id) => document.getElementById(id);

/** An answer that is a problem document (RFC 9457). */
export class Problem extends Error {
  constructor(body, status) {
    super([body.title || `HTTP ${status}`, body.detail].filter(Boolean).join(": "));
    this.status = status;
    this.requestId = body.request_id;
  }
}

const key = $("key");
if (key) {
  key.value = sessionStorage.getItem("clsp-key") || "";
  key.addEventListener("change", () => {
    sessionStorage.setItem("clsp-key", key.value.trim());
    document.dispatchEvent(new Event("key-changed"));
  });
}

function headers(extra = {}) {
  const secret = key ? key.value.trim() : "";
  return secret ? { ...extra, Authorization: `Bearer ${secret}` } : extra;
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Problem({ title: "The service does not answer" }, 0);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  throw new Problem(body, response.status);
}

export const get = async (path) => (await send(path, { headers: headers() })).json();
export const postForm = async (path, form) => (await send(path, { method: "POST", headers: headers(), body: form })).json();
export const postJson = async (path, body) =>
  (await send(path, { method: "POST", headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) })).json();

/** A URL that an audio element can play; elements send no key, so that with one the audio is fetched first. */
export async function playable(path) {
  if (!key || !key.value.trim()) return path;
  return URL.createObjectURL(await (await send(path, { headers: headers() })).blob());
}

/** Run `work`, with `status` shown meanwhile and any failure shown after. */
export async function showing(status, work) {
  $("error").hidden = true;
  $("status").textContent = status;
  try {
    return await work();
  } catch (error) {
    const hint = error.status === 401 || error.status === 403 ? " Enter an API key above." : "";
    const id = error.requestId ? ` (request ${error.requestId})` : "";
    $("error").textContent = `${error.message}${id}${hint}`;
    $("error").hidden = false;
    if (error.status === 401) key.focus();
    return undefined;
  } finally {
    $("status").textContent = "";
  }
}

/** An element with properties and children; text is set as text, never as markup. */
export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** A labelled meter from 0 to 1. */
export function bar(label, share, text) {
  const meter = element("meter", { min: 0, max: 1, value: share });
  meter.setAttribute("aria-label", label);
  return element("div", { className: "bar" }, element("span", { textContent: label }), meter, element("span", { textContent: text }));
}
