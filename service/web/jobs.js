// Bulk ingest on the server: a form where folders may be read, and each job with live progress, a stop and its refusals.

import { $, button, element, get, open, postJson, showError, showing } from "./api.js";
import { pathOf } from "./collections.js";
import { openCollection, refresh } from "./library.js";

const SHOWN = 10;
const REFUSED_SHOWN = 20;
const RETRY_S = 2;
const MOST_STREAMS = 2;  // a browser has six connections to a service, and the page needs some for the rest
const ENDED = ["succeeded", "failed", "cancelled"];
const WORDS = { queued: "Waiting", listing: "Looking", running: "Adding", succeeded: "Done", failed: "Failed", cancelled: "Cancelled" };
const cards = new Map();
let loaded = false;
let streams = 0;

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

/** One job on the page. It follows the job's events for as long as the job has not ended. */
class Card {
  constructor(job) {
    this.words = element("span", { className: "job-words" });
    this.meter = element("progress", {});
    this.meter.setAttribute("aria-label", `Ingest of ${job.path} into ${job.collection}`);
    this.why = element("span", { className: "bad" });
    this.cancel = button("Cancel", () => this.act("cancel"));
    this.resume = button("Resume", () => this.act("resume"));
    this.list = element("ul", { className: "failures" });
    this.details = element("details", {}, element("summary", {}), this.list);
    this.details.addEventListener("toggle", () => this.details.open && this.showRefused());
    this.shown = element(
      "div", { className: "job server-job" }, this.words, this.meter, this.why,
      element("span", { className: "tools" }, this.cancel, this.resume), this.details,
    );
    this.draw(job);
    this.follow();
  }

  draw(job) {
    this.job = job;
    const of = job.total === null ? "" : ` of ${job.total}`;
    const parts = [
      `${WORDS[job.state]}: ${job.done}${of} clips of ${job.path} into ${job.collection}`,
      job.added && `${job.added} added`, job.replaced && `${job.replaced} replaced`, job.relabelled && `${job.relabelled} relabelled`,
      job.unchanged && `${job.unchanged} there already`, job.refused && `${job.refused} refused`,
    ];
    this.words.textContent = parts.filter(Boolean).join(", ");
    // Without a value the bar says that something happens, but not how much is left.
    if (job.total === null && !ENDED.includes(job.state)) this.meter.removeAttribute("value");
    else {
      this.meter.max = Math.max(1, job.total ?? 1);
      this.meter.value = job.total === 0 ? 1 : job.done;
    }
    this.why.textContent = job.error ? [job.error.title, job.error.detail].filter(Boolean).join(": ") : "";
    const ended = ENDED.includes(job.state);
    this.cancel.hidden = ended;
    this.resume.hidden = !ended || (job.state === "succeeded" && !job.refused);
    this.resume.textContent = job.state === "succeeded" ? "Try the refused ones again" : "Resume";
    this.details.hidden = !job.refused;
    this.details.firstChild.textContent = `${job.refused} refused`;
  }

  async act(name) {
    await showing("", async () => {
      this.draw(await postJson(`/v1/jobs/${this.job.id}/${name}`, {}));
      if (this.details.open) await this.showRefused();
    });
    this.follow();
  }

  /** Read events until the job ends; a stream that breaks off is asked for again from where it was. */
  async follow() {
    if (this.following || ENDED.includes(this.job.state)) return;
    this.following = true;
    try {
      while (!ENDED.includes(this.job.state)) {
        try {
          if (this.job.state === "queued" || streams >= MOST_STREAMS) this.draw(await get(`/v1/jobs/${this.job.id}`));
          else await this.listen();
        } catch (error) {
          if (error.status && error.status !== 503) throw error;
        }
        if (!ENDED.includes(this.job.state)) await pause(this.job.state === "queued" ? RETRY_S / 4 : RETRY_S);
      }
      if (this.details.open) await this.showRefused();
      await refresh();
    } catch (error) {
      showError(error);
    } finally {
      this.following = false;
    }
  }

  async listen() {
    streams++;
    try {
      const response = await open(`/v1/jobs/${this.job.id}/events`, { headers: { "Last-Event-ID": String(this.job.revision) } });
      if (response.status === 204) this.draw(await get(`/v1/jobs/${this.job.id}`));
      else for await (const event of events(response)) this.draw(event);
    } finally {
      streams--;
    }
  }

  async showRefused() {
    const response = await open(`/v1/jobs/${this.job.id}/refused?limit=${REFUSED_SHOWN}`);
    const rows = (await response.text()).split("\n").filter(Boolean).map((line) => JSON.parse(line));
    const more = this.job.refused - rows.length;
    this.list.replaceChildren(
      ...rows.map((row) => element("li", { textContent: `${row.file}: ${row.error.detail ?? row.error.title}` })),
      ...(more > 0 ? [element("li", { textContent: `and ${more} more` })] : []),
    );
  }
}

/** Jobs out of an event stream. Fetched rather than an EventSource, which could not send an API key. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const data = block.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      if (data.length) yield JSON.parse(data.join("\n"));
    }
  }
}

function show(job) {
  if (cards.has(job.id)) {
    cards.get(job.id).draw(job);
    cards.get(job.id).follow();
    return;
  }
  const card = new Card(job);
  cards.set(job.id, card);
  $("server-jobs").prepend(card.shown);
}

/** Show what the server may read, and its latest jobs. Nothing of it where it may read nothing. */
export async function showJobs() {
  if (loaded) return;
  loaded = true;
  await showing("Loading…", async () => {
    const [roots, jobs] = await Promise.all([get("/v1/ingest-roots"), get(`/v1/jobs?limit=${SHOWN}`)]);
    $("root").replaceChildren(...roots.data.map((one) => element("option", { value: one.name, textContent: one.name })));
    $("ingest").hidden = roots.data.length === 0;
    $("bulk").hidden = roots.data.length === 0 && jobs.data.length === 0;
    for (const job of jobs.data.reverse()) show(job);
  });
}

$("ingest").addEventListener("submit", (event) => {
  event.preventDefault();
  const collection = openCollection();
  if (!collection) {
    showError(new Error("Open or create a collection first"));
    return;
  }
  const below = $("ingest-path").value.trim().replace(/^\/+/, "");
  const path = [$("root").value, below].filter(Boolean).join("/");
  showing("Starting…", async () => {
    show(await postJson(`${pathOf(collection)}/ingest`, { kind: $("ingest-kind").value, path }));
    $("ingest-path").value = "";
  });
});
document.addEventListener("key-changed", () => {
  loaded = false;
});
