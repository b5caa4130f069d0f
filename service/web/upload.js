// Adding many clips from the browser: a job in this tab, with live progress, a stop, and a list of what was refused.

import { $, button, element, get, postForm, showError } from "./api.js";
import { openCollection, refresh } from "./library.js";
import { pathOf } from "./collections.js";

const AT_ONCE = 3;
const REFRESH_EVERY = 20;

class Job {
  constructor(collection, files) {
    this.collection = collection;
    this.files = files;
    this.waiting = [...files];
    this.added = 0;
    this.there = 0;
    this.taken = new Set();
    this.failures = [];
    this.stopper = new AbortController();
    this.meter = element("progress", { max: files.length, value: 0 });
    this.meter.setAttribute("aria-label", `Adding clips to ${collection}`);
    this.words = element("span", {});
    this.list = element("ul", { className: "failures" });
    this.stop = button("Stop", () => this.stopper.abort());
    this.again = button("Try the refused ones again", () => this.retry(), { hidden: true });
    this.shown = element("div", { className: "job" }, this.words, this.meter, element("span", { className: "tools" }, this.stop, this.again), this.list);
  }

  async run() {
    const workers = Array.from({ length: AT_ONCE }, () => this.work());
    await Promise.all(workers);
    this.finished = true;
    this.update();
    await refresh().catch(showError);
  }

  /** A name that no other clip has: "take (2).wav" for a second "take.wav". Null where this very clip is there. */
  async freeName(file) {
    const dot = file.name.lastIndexOf(".");
    const [stem, end] = dot > 0 ? [file.name.slice(0, dot), file.name.slice(dot)] : [file.name, ""];
    for (let number = 1; ; number++) {
      const name = number === 1 ? file.name : `${stem} (${number})${end}`;
      if (this.taken.has(name)) continue;
      this.taken.add(name); // before anything is waited for: other workers look for names too
      const holder = await get(`${pathOf(this.collection)}/items/${encodeURIComponent(name)}`).catch((error) => {
        if (error.status !== 404) throw error;
        return null;
      });
      if (!holder) return name;
      if (holder.content_sha256 === (await sha256(file))) return null;
    }
  }

  async work() {
    while (this.waiting.length && !this.stopper.signal.aborted) {
      const file = this.waiting.shift();
      try {
        const name = await this.freeName(file);
        if (name === null) {
          this.there++;
          this.update();
          continue;
        }
        const form = new FormData();
        form.append("files", file, name);
        await postForm(`${pathOf(this.collection)}/items`, form, this.stopper.signal);
        this.added++;
        if (this.added % REFRESH_EVERY === 0) refresh().catch(showError);
      } catch (error) {
        if (error.name === "AbortError") {
          this.waiting.unshift(file);
          break;
        }
        this.failures.push({ file, reason: error.message });
        if (error.status === 401 || error.status === 403 || error.status === 0) {
          // No other clip would fare better.
          this.failures.push(...this.waiting.splice(0).map((other) => ({ file: other, reason: error.message })));
          showError(error);
        }
      }
      this.update();
    }
    this.update();
  }

  retry() {
    const files = this.failures.map((one) => one.file);
    this.shown.remove();
    enqueue(files, this.collection);
  }

  update() {
    this.meter.value = this.added + this.there + this.failures.length;
    const state = this.finished ? (this.waiting.length ? "Stopped" : "Done") : "Adding";
    const left = this.waiting.length && this.finished ? `, ${this.waiting.length} not sent` : "";
    this.words.textContent = `${state}: ${this.added} of ${this.files.length} added to ${this.collection}${this.there ? `, ${this.there} there already` : ""}${this.failures.length ? `, ${this.failures.length} refused` : ""}${left}`;
    this.stop.hidden = Boolean(this.finished);
    this.again.hidden = !(this.finished && this.failures.length);
    this.list.replaceChildren(...this.failures.map(({ file, reason }) => element("li", { textContent: `${file.name}: ${reason}` })));
  }
}

/** Hex digest of a file; "" where the browser has none to offer (a page over plain HTTP). */
async function sha256(file) {
  if (!crypto.subtle) return "";
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Add files to the open collection: another clip of a name that is there gets a name of its own, and the same clip
    is there already, so that adding twice does no harm. */
export function enqueue(files, collection = openCollection()) {
  if (!collection) {
    showError(new Error("Open or create a collection first"));
    return;
  }
  const job = new Job(collection, files);
  job.update();
  $("jobs").prepend(job.shown);
  job.run();
}

$("upload-files").addEventListener("change", () => {
  const files = [...$("upload-files").files];
  $("upload-files").value = "";
  if (files.length) enqueue(files);
});
window.addEventListener("beforeunload", (event) => {
  if ($("jobs").querySelector(".job button:not([hidden])")?.textContent === "Stop") event.preventDefault();
});
