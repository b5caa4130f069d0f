// The hits of a search: what each is, how it sounds, where it fits best, and what can be done with it.

import { $, button, element, getBlob, postForm, showError, showing } from "./api.js";
import { addCurve, attributes, lanes } from "./charts.js";
import { narrowed } from "./collections.js";
import { inOrder, wordsOf } from "./metadata.js";
import { play } from "./player.js";
import { MOST_SECONDS, soundOf, track } from "./waveform.js";

const SHOWN_FACTS = 8;
const LONGEST_FACT = 90;
const CURVE_WINDOW_S = 3;
let rows = [];

// Sound is fetched when a hit comes into view, not for a hundred at once.
const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    entry.target.dispatchEvent(new Event("seen"));
  }
}, { rootMargin: "300px" });

/** Show hits in place of the earlier ones. `text` is what was searched for, for scores over time. */
export function showHits(hits, context) {
  clearHits();
  rows = hits.map((hit) => shownHit(hit, context));
  $("hits").replaceChildren(...rows);
}

/** Show none: hits of one search below the words of another would be taken for its answer. */
export function clearHits() {
  seen.disconnect();
  rows = [];
  $("hits").replaceChildren();
}

/** Whether an element is a hit itself, not a control in it. */
export const isHit = (target) => rows.includes(target);

/** The hit that has the focus, or the first. */
export const currentHit = () => rows.find((row) => row.contains(document.activeElement)) ?? rows[0];

/** Focus the next (1) or previous (-1) hit. */
export function moveTo(step) {
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  rows[Math.max(0, Math.min(rows.length - 1, at + step))]?.focus();
}

function shownHit(hit, { text, onMore }) {
  const { start_s: start, end_s: end } = hit.segment;
  const whole = start < 0.05 && end > hit.duration_s - 0.05;
  const place = whole ? `all of ${hit.duration_s.toFixed(1)} s` : `${start.toFixed(1)} to ${end.toFixed(1)} s of ${hit.duration_s.toFixed(1)} s`;
  const name = hit.filename ?? hit.id;
  const row = element("li", { tabIndex: -1 });
  const state = { track: null };
  const start_at = (at) => {
    for (const other of rows) other.classList.toggle("playing", other === row);
    return play({ key: hit.id, title: name, url: hit.audio_url, segment: hit.segment, at, onTime: (seconds) => state.track?.cursor(seconds) });
  };
  const listen = button("Play", () => start_at(), {
    className: "play", disabled: !hit.audio_url,
    ariaLabel: hit.audio_url ? `Play ${name}, ${place}` : `${name}: no audio is kept`,
  });
  Object.assign(row.dataset, { key: hit.id, label: listen.ariaLabel.replace(/^Play /, "") });
  const more = button("More like this", () => onMore(hit), { className: "quiet more" });
  const tools = element("span", { className: "tools" }, more);
  const match = hit.match_probability === null ? [] : matchOf(hit.match_probability); // none without words to match
  const wave = element("div", { className: "wave-place" });
  row.append(
    listen,
    element("span", { className: "title", textContent: name }),
    tools,
    element("p", { className: "scores" }, ...match, `cosine ${hit.score.toFixed(3)} · ${place}`),
    wave,
    element("p", { className: "meta" }, ...facts(hit.metadata)),
  );
  if (hit.audio_url && hit.duration_s <= MOST_SECONDS) {
    wave.classList.add("awaited");  // its place is kept, so that what is below does not jump
    const draw = () => (state.drawn ??= drawWave(hit, name, place, wave, state, start_at));
    row.addEventListener("seen", draw);
    if (text) {
      const over = button("Over time", () => overTime(hit, text, wave, state, draw), { className: "quiet over-time" });
      tools.append(over);
    }
    seen.observe(row);
  }
  return row;
}

function matchOf(probability) {
  const meter = element("meter", { min: 0, max: 1, value: probability });
  meter.setAttribute("aria-label", "Match");
  return [meter, ` match ${(probability * 100).toFixed(0)} % · `];
}

async function drawWave(hit, name, place, wave, state, onSeek) {
  try {
    const sound = await soundOf(hit.audio_url, () => getBlob(hit.audio_url));
    state.track = track({ ...sound, segment: hit.segment, onSeek, label: `Waveform of ${name}; best at ${place}` });
    wave.replaceChildren(state.track.made);
  } catch {
    wave.replaceChildren(); // a browser that cannot decode a format can mostly still play it
    wave.classList.remove("awaited");
  }
}

/** The hit's similarity to the text, window by window, over its waveform. */
async function overTime(hit, text, wave, state, draw) {
  await showing("Scoring over time…", async () => {
    await draw(); // there may be nothing to draw on yet
    const sound = await soundOf(hit.audio_url, () => getBlob(hit.audio_url));
    const form = new FormData();
    form.append("files", sound.blob, hit.filename ?? hit.id);
    form.append("caption", text);
    form.append("sentences", "true");
    form.append("attributes", "true");
    if (hit.duration_s > CURVE_WINDOW_S) form.append("window_s", String(CURVE_WINDOW_S));
    const result = (await postForm("/v1/score", form)).results[0];
    wave.querySelectorAll(".curves, .details").forEach((old) => old.remove());
    const scale = state.track ? addCurve(state.track.made, result, sound.duration) : "";
    const note = result.curve.length > 1 ? scale : "This clip is one window: there is nothing to draw over time.";
    wave.append(element("div", { className: "details" }, element("p", { className: "hint", textContent: note }), ...lanes(result, sound.duration), ...attributes(result)));
  });
}

/** Metadata as chips; one that is clicked becomes a filter. A caption leads, what is long or legal comes last. */
function facts(metadata) {
  return inOrder(metadata).slice(0, SHOWN_FACTS).map(([name, value]) => {
    if (name === "caption") return element("span", { className: "caption", textContent: value });
    const plain = typeof value !== "object" && String(value).length <= 24;
    if (!plain) {
      const words = wordsOf([name, value]);
      return element("span", { className: "fact", title: words, textContent: words.length > LONGEST_FACT ? `${words.slice(0, LONGEST_FACT)}…` : words });
    }
    const chip = button(`${name}: ${value}`, () => addFilter(name, value), { className: "fact" });
    chip.title = `Only clips with ${name} ${value}`;
    return chip;
  });
}

document.addEventListener("now-playing", ({ detail }) => {
  for (const row of rows) {
    const control = row.querySelector(".play");
    if (control.disabled) continue;
    control.textContent = row.dataset.key === detail ? "Pause" : "Play";
    control.ariaLabel = `${control.textContent} ${row.dataset.label}`;
  }
});

function addFilter(name, value) {
  const box = $("filter");
  try {
    box.value = narrowed(box.value, name, value);
  } catch (error) {
    showError(error);  // what is typed there already is no filter
    return;
  }
  $("search").requestSubmit();
}
