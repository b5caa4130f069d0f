// Judging a clip of one's own: dropped, chosen or recorded, then classified, scored or searched by.

import { $, bar, element, get, postForm, showing } from "/web/api.js";
import { search } from "/web/app.js";

let clip = null;
let recorder = null;
let clipUrl = null;

async function loadModel() {
  const model = (await get("/v1/models")).data[0];
  $("identity").textContent = model.identity;
  $("preset").replaceChildren(
    ...Object.entries(model.presets).map(([name, labels]) => element("option", { value: name, textContent: `${name}: ${labels.join(", ")}` })),
  );
}

function take(file, name = file.name) {
  clip = new File([file], name, { type: file.type });
  $("clip-name").textContent = `Clip: ${name}, ${(file.size / 1024).toFixed(0)} KB`;
  if (clipUrl) URL.revokeObjectURL(clipUrl);
  clipUrl = URL.createObjectURL(clip);
  $("clip-player").src = clipUrl;
  $("clip-player").hidden = false;
  $("verdict").replaceChildren();
}

function formWithClip() {
  if (!clip) throw new Error("Choose, drop or record a clip first");
  const form = new FormData();
  form.append("files", clip, clip.name);
  return form;
}

async function classify() {
  const form = formWithClip();
  const own = $("labels").value.split(",").map((label) => label.trim()).filter(Boolean);
  if (own.length) form.append("labels", JSON.stringify(own));
  else form.append("preset", $("preset").value);
  const result = (await postForm("/v1/classify", form)).results[0];
  const ranked = Object.entries(result.probabilities).sort((a, b) => b[1] - a[1]);
  $("verdict").replaceChildren(
    element("p", { textContent: `Most likely: ${result.label}` }),
    ...ranked.map(([label, share]) => bar(label, share, `${(share * 100).toFixed(1)} %, cosine ${result.cosines[label].toFixed(3)}`)),
  );
}

async function score() {
  const form = formWithClip();
  form.append("caption", $("caption").value);
  form.append("curve", "true");
  const result = (await postForm("/v1/score", form)).results[0];
  const above = result.percentile === null ? "" : `, better than ${result.percentile.toFixed(0)} % of other captions`;
  $("verdict").replaceChildren(
    bar("Match", result.match_probability, `${(result.match_probability * 100).toFixed(0)} %`),
    element("p", { textContent: `Cosine ${result.cosine.toFixed(3)}${above}` }),
    ...(result.curve.length > 1
      ? result.curve.map((point) =>
          bar(`${point.start_s.toFixed(1)} to ${point.end_s.toFixed(1)} s`, Math.max(0, point.cosine), point.cosine.toFixed(3)))
      : []),
  );
}

async function dataUri() {
  if (!clip) throw new Error("Choose, drop or record a clip first");
  const bytes = new Uint8Array(await clip.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return `data:application/octet-stream;base64,${btoa(text)}`;
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
    stream.getTracks().forEach((track) => track.stop());
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

const drop = $("drop");
for (const name of ["dragover", "dragleave", "drop"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
  });
}
$("file").addEventListener("change", () => $("file").files[0] && take($("file").files[0]));
$("record").addEventListener("click", () => showing("", toggleRecording));
$("like-clip").addEventListener("click", () => showing("", async () => search([{ audio: await dataUri() }])));
$("classify").addEventListener("submit", (event) => {
  event.preventDefault();
  showing("Classifying…", classify);
});
$("score").addEventListener("submit", (event) => {
  event.preventDefault();
  showing("Scoring…", score);
});
document.addEventListener("key-changed", () => showing("Loading…", loadModel));
showing("Loading…", loadModel);
