// Adding many clips from the browser: a job in this tab, with live progress, a stop, and a list of what was refused.

import { $, button, element, postForm, showError } from "./api.js";
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

  async work() {
    while (this.waiting.length && !this.stopper.signal.aborted) {
      const file = this.waiting.shift();
      try {
        const form = new FormData();
        form.append("files", file, file.name);
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
    this.meter.value = this.added + this.failures.length;
    const state = this.finished ? (this.waiting.length ? "Stopped" : "Done") : "Adding";
    const left = this.waiting.length && this.finished ? `, ${this.waiting.length} not sent` : "";
    this.words.textContent = `${state}: ${this.added} of ${this.files.length} added to ${this.collection}${this.failures.length ? `, ${this.failures.length} refused` : ""}${left}`;
    this.stop.hidden = Boolean(this.finished);
    this.again.hidden = !(this.finished && this.failures.length);
    this.list.replaceChildren(...this.failures.map(({ file, reason }) => element("li", { textContent: `${file.name}: ${reason}` })));
  }
}

/** Add files to the open collection. A file of a name that is there replaces it: adding twice does no harm. */
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
