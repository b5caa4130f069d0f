// Calls to the service with the reader's API key, waiting where it asks to, and errors made visible.

export const $ = (id) => document.getElementById(id);

/** An answer that is a problem document (RFC 9457). */
export class Problem extends Error {
  constructor(body, status) {
    const detail = body.detail?.replace(/^files\[\d+\]: /, ""); // the page sends one file at a time
    super([body.title || `HTTP ${status}`, detail].filter(Boolean).join(": "));
    this.status = status;
    this.requestId = body.request_id;
  }
}

const KEY = "clsp-key";
const MOST_WAITS = 4;
let secret = sessionStorage.getItem(KEY) || "";

/** Whether calls carry a key: audio elements can't, so that with one the audio is fetched first. */
export const hasKey = () => secret !== "";

/** Ask for a key; what was waiting for it starts again at "key-changed". */
export function askForKey(reason) {
  const dialog = $("key-dialog");
  if (!dialog || dialog.open) return;
  $("key-reason").textContent = reason;
  $("key").value = "";
  dialog.showModal();
}

$("key-form")?.addEventListener("submit", () => {
  $("error").hidden = true;
  secret = $("key").value.trim();
  sessionStorage.setItem(KEY, secret);
  document.dispatchEvent(new Event("key-changed"));
});

$("key-later")?.addEventListener("click", () => $("key-dialog").close());

const headers = (extra = {}) => (secret ? { ...extra, Authorization: `Bearer ${secret}` } : extra);
const pause = (seconds, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });

/** Wait, and say so: a page that seems to do nothing is reloaded, and asks a full service once more. */
async function waiting(seconds, signal) {
  const before = $("status").textContent;
  $("status").textContent = `The service is busy. Trying again in ${seconds} s…`;
  await pause(seconds, signal).finally(() => ($("status").textContent = before));
}

// Where this file lies tells under which path a proxy serves the page.
const BASE = new URL("..", import.meta.url).pathname.replace(/\/$/, "");

/** The address of a path of the API, which may have the prefix already. */
export const at = (path) => (path.startsWith(`${BASE}/`) ? path : BASE + path);

async function send(path, options = {}) {
  for (let wait = 0; ; wait++) {
    let response;
    try {
      response = await fetch(at(path), { ...options, headers: headers(options.headers) });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem({ title: "The service does not answer. Is it still running? Try again when it is." }, 0);
    }
    if (response.ok) return response;
    // A full service says when to come back; all calls of this page may be repeated.
    const asked = Number(response.headers.get("Retry-After"));
    if ((response.status === 429 || response.status === 503) && asked > 0 && wait < MOST_WAITS) {
      await waiting(asked, options.signal);
      continue;
    }
    throw new Problem(await response.json().catch(() => ({})), response.status);
  }
}

const answer = async (response) => (response.status === 204 ? null : response.json());

export const get = async (path) => answer(await send(path));
export const open = (path, options) => send(path, options);
export const getBlob = async (path) => (await send(path)).blob();
export const remove = async (path) => answer(await send(path, { method: "DELETE" }));
export const postForm = async (path, form, signal) => answer(await send(path, { method: "POST", body: form, signal }));
const json = (method) => async (path, body) =>
  answer(await send(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }));
export const postJson = json("POST");
export const putJson = json("PUT");

/** Show a failure; a missing key is asked for. */
export function showError(error) {
  if (error.name === "AbortError") return;
  const id = error.requestId ? ` (request ${error.requestId})` : "";
  $("error").textContent = `${error.message}${id}`;
  $("error").hidden = false;
  if (error.status === 401) askForKey(error.message);
}

/** Run `work`, with `status` shown meanwhile and any failure shown after. */
export async function showing(status, work) {
  $("error").hidden = true;
  $("status").textContent = status;
  try {
    return await work();
  } catch (error) {
    showError(error);
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

/** An SVG element with attributes and children. */
export function svg(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** A small button that does something. */
export function button(text, work, properties = {}) {
  const made = element("button", { type: "button", textContent: text, className: "quiet", ...properties });
  made.addEventListener("click", work);
  return made;
}
