// The reader's own clip: chosen, dropped or recorded; its waveform, and its bytes for the calls that judge it.

import { $, showing } from "./api.js";
import { outline, track } from "./waveform.js";

let clip = null;
let sound = null;
let drawn = null;
let recorder = null;
let clipUrl = null;

/** Make a file the clip that is judged. */
export async function take(file, name = file.name) {
  clip = new File([file], name, { type: file.type });
  sound = drawn = null;
  $("clip-name").textContent = `Clip: ${name}, ${(file.size / 1024).toFixed(0)} KB`;
  if (clipUrl) URL.revokeObjectURL(clipUrl);
  clipUrl = URL.createObjectURL(clip);
  $("clip-player").src = clipUrl;
  $("clip-player").hidden = false;
  $("clip-track").replaceChildren();
  $("verdict").replaceChildren();
  try {
    sound = await outline(clip);
    redraw();
  } catch {
    sound = null; // the service decodes more than some browsers do, and says so where it cannot either
  }
}

/** The clip's waveform as it was before anything was drawn on it; null where the browser cannot decode it. */
export function redraw() {
  if (!sound) return null;
  const player = $("clip-player");
  const onSeek = (at) => {
    player.currentTime = at;
    player.play();
  };
  drawn = track({ ...sound, onSeek, label: `Waveform of ${clip.name}` });
  $("clip-track").replaceChildren(drawn.made);
  return { made: drawn.made, duration: sound.duration };
}

/** A form with the clip in it. */
export function formWithClip() {
  if (!clip) throw new Error("Choose, drop or record a clip first");
  const form = new FormData();
  form.append("files", clip, clip.name);
  return form;
}

/** The clip as { uri, name }. */
export async function clipAsUri() {
  if (!clip) throw new Error("Choose, drop or record a clip first");
  const bytes = new Uint8Array(await clip.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return { uri: `data:application/octet-stream;base64,${btoa(text)}`, name: clip.name };
}

/** What a recorder yields is WebM in most browsers, which the service does not take: make it 16-bit WAV. */
async function toWav(blob) {
  const context = new AudioContext();
  const audio = await context.decodeAudioData(await blob.arrayBuffer());
  await context.close();
  const samples = audio.getChannelData(0);
  const view = new DataView(new ArrayBuffer(44 + samples.length * 2));
  const ascii = (at, text) => [...text].forEach((char, i) => view.setUint8(at + i, char.charCodeAt(0)));
  ascii(0, "RIFF");
  view.setUint32(4, 36 + samples.length * 2, true);
  ascii(8, "WAVEfmt ");
  [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, audio.sampleRate, 4], [28, audio.sampleRate * 2, 4], [32, 2, 2], [34, 16, 2]]
    .forEach(([at, value, size]) => (size === 4 ? view.setUint32(at, value, true) : view.setUint16(at, value, true)));
  ascii(36, "data");
  view.setUint32(40, samples.length * 2, true);
  samples.forEach((sample, i) => view.setInt16(44 + i * 2, Math.max(-1, Math.min(1, sample)) * 32767, true));
  return new Blob([view], { type: "audio/wav" });
}

async function toggleRecording() {
  if (recorder) {
    recorder.stop();
    return;
  }
  if (!navigator.mediaDevices) throw new Error("Recording needs https or localhost");
  const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch((error) => {
    throw new Error(`The microphone cannot be used: ${error.message}`);
  });
  const parts = [];
  recorder = new MediaRecorder(stream);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", () => {
    stream.getTracks().forEach((one) => one.stop());
    const kind = recorder.mimeType;
    recorder = null;
    setRecording(false);
    showing("Converting…", async () => take(await toWav(new Blob(parts, { type: kind })), "recording.wav"));
  });
  recorder.start();
  setRecording(true);
}

function setRecording(on) {
  $("record").setAttribute("aria-pressed", String(on));
  $("record").textContent = on ? "Stop" : "Record";
}

// A file that is no audio, or of a kind that only the service reads: a dead player says nothing.
$("clip-player").addEventListener("error", () => ($("clip-player").hidden = true));
$("clip-player").addEventListener("timeupdate", () => drawn?.cursor($("clip-player").currentTime));
$("file").addEventListener("change", () => $("file").files[0] && take($("file").files[0]));
$("record").addEventListener("click", () => showing("", toggleRecording));
