// One player for all hits: it plays a stretch of a clip, stops at its end, and moves the cursor on its waveform.

import { $, at, getBlob, hasKey, showing } from "./api.js";

const player = $("player");
let current = null;

/** Tell whoever shows a play button what plays now; null when nothing does. */
const announce = () => document.dispatchEvent(new CustomEvent("now-playing", { detail: player.paused ? null : current?.key }));
let objectUrl = null;

/** What plays: { key, title, url, segment, onTime }. `segment` ends the playing once; the listener may go on by hand. */
export async function play(track) {
  if (current?.key === track.key && track.at === undefined) {
    return player.paused ? player.play() : player.pause();
  }
  return showing("", async () => {
    current?.onTime?.(null);
    // Audio elements send no key: with one, the audio is fetched first.
    const url = hasKey() ? URL.createObjectURL(await getBlob(track.url)) : at(track.url);
    const same = current?.url === track.url;
    current = { ...track, segment: track.at === undefined ? track.segment : null };
    $("now").hidden = false;
    const start = track.at ?? track.segment?.start_s ?? 0;
    $("now-title").textContent = `Playing ${track.title} from ${start.toFixed(1)} s`;
    if (!same || hasKey()) {
      if (objectUrl) URL.revokeObjectURL(objectUrl);
      objectUrl = url.startsWith("blob:") ? url : null;
      player.src = url;
    }
    if (player.readyState < 1) await loadedMetadata();
    player.currentTime = start;
    await player.play();
  });
}

/** Stop, and forget what was playing. */
export function stop() {
  player.pause();
  current?.onTime?.(null);
  current = null;
  $("now").hidden = true;
}

function loadedMetadata() {
  return new Promise((resolve, reject) => {
    player.addEventListener("loadedmetadata", resolve, { once: true });
    player.addEventListener("error", () => reject(new Error("The browser cannot play this clip")), { once: true });
    player.load();
  });
}

player.addEventListener("timeupdate", () => {
  current?.onTime?.(player.currentTime);
  if (current?.segment && player.currentTime >= current.segment.end_s) {
    player.pause();
    current.segment = null;
  }
});
for (const name of ["play", "pause", "ended"]) player.addEventListener(name, announce);
$("now-stop").addEventListener("click", stop);
player.addEventListener("seeking", () => {
  const segment = current?.segment;
  if (segment && (player.currentTime < segment.start_s - 0.5 || player.currentTime > segment.end_s + 0.5)) current.segment = null;
});
