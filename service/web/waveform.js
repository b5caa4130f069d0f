// Waveforms: a clip's bytes to the outline of its sound, and the outline to a drawing that can be clicked.

import { element, svg } from "./api.js";

const PEAKS = 240;
export const MOST_SECONDS = 600;
const KEPT = 100;
const known = new Map();

/** A clip's { blob, peaks, duration } by the address it is fetched from; drawn once, kept for a while. */
export function soundOf(key, fetchBlob) {
  if (!known.has(key)) {
    if (known.size >= KEPT) known.delete(known.keys().next().value);
    const made = fetchBlob().then(outline);
    made.catch(() => known.delete(key));
    known.set(key, made);
  }
  return known.get(key);
}

/** Decode a file and take its highest amplitudes, scaled to the clip's own loudest moment. */
export async function outline(blob) {
  const context = new OfflineAudioContext(1, 1, 16000);
  const audio = await context.decodeAudioData(await blob.arrayBuffer());
  const samples = audio.getChannelData(0);
  const peaks = new Float32Array(PEAKS);
  for (let i = 0; i < PEAKS; i++) {
    const end = Math.floor(((i + 1) * samples.length) / PEAKS);
    for (let at = Math.floor((i * samples.length) / PEAKS); at < end; at++) peaks[i] = Math.max(peaks[i], Math.abs(samples[at]));
  }
  const top = Math.max(...peaks) || 1;
  return { blob, peaks: peaks.map((peak) => peak / top), duration: audio.duration };
}

/**
 * A waveform as an element: `segment` is marked, `onSeek(seconds)` answers a click or an arrow key, and the returned
 * `cursor(seconds | null)` moves a line. `label` names it for those who cannot see it.
 */
export function track({ peaks, duration, segment, onSeek, label }) {
  const drawing = svg("svg", { viewBox: `0 0 ${PEAKS} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
  if (segment && segment.end_s - segment.start_s < duration - 0.05) {
    const scale = PEAKS / duration;
    drawing.append(svg("rect", { class: "best", x: segment.start_s * scale, y: 0, width: (segment.end_s - segment.start_s) * scale, height: 100 }));
  }
  if (peaks) {
    const upper = [...peaks].map((peak, i) => `${i},${50 - 46 * peak}`);
    const lower = [...peaks].map((peak, i) => `${i},${50 + 46 * peak}`).reverse();
    drawing.append(svg("polygon", { class: "wave", points: [...upper, ...lower].join(" ") }));
  }
  const line = element("span", { className: "cursor", hidden: true });
  const made = element("div", { className: "track", tabIndex: onSeek ? 0 : -1 }, drawing, line);
  made.setAttribute("role", onSeek ? "slider" : "img");
  made.setAttribute("aria-label", label);
  if (onSeek) {
    made.setAttribute("aria-valuemin", "0");
    made.setAttribute("aria-valuemax", duration.toFixed(1));
    made.setAttribute("aria-valuenow", "0");
    let at = segment?.start_s ?? 0;
    made.addEventListener("click", (event) => {
      const box = made.getBoundingClientRect();
      onSeek((duration * (event.clientX - box.left)) / box.width);
    });
    made.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      at = Math.max(0, Math.min(duration, Number(made.getAttribute("aria-valuenow")) + step * Math.max(0.25, duration / 40)));
      onSeek(at);
    });
  }
  const cursor = (seconds) => {
    line.hidden = seconds === null;
    if (seconds === null) return;
    line.style.left = `${Math.min(100, (100 * seconds) / duration)}%`;
    made.setAttribute("aria-valuenow", seconds.toFixed(1));
    made.setAttribute("aria-valuetext", `${seconds.toFixed(1)} s`);
  };
  return { made, cursor };
}
