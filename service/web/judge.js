// Judging the reader's clip: labels for it, how well it fits a caption, and what in the library sounds like it.

import { $, element, postForm, showing } from "./api.js";
import { addCurve, attributes, bar, lanes } from "./charts.js";
import { clipAsUri, formWithClip, redraw } from "./clip.js";
import { likeClip } from "./search.js";

const CURVE_WINDOW_S = 3;

/** Offer the model's label sets. */
export function loadModel(model) {
  $("preset").replaceChildren(
    ...Object.entries(model.presets).map(([name, labels]) => element("option", { value: name, textContent: `${name}: ${labels.join(", ")}` })),
  );
}

/** Judge, and bring the verdict into sight; what was said of an earlier caption would pass for this one's. */
const judging = (status, work) =>
  showing(status, async () => {
    try {
      await work();
    } catch (error) {
      $("verdict").replaceChildren();
      throw error;
    }
    $("verdict").scrollIntoView({ block: "nearest" });
  });

const hint = (text) => (text ? [element("p", { className: "hint", textContent: text })] : []);

async function classify() {
  const form = formWithClip();
  const own = $("labels").value.split(",").map((label) => label.trim()).filter(Boolean);
  if (own.length) form.append("labels", JSON.stringify(own));
  else form.append("preset", $("preset").value);
  const answer = await postForm("/v1/classify", form);
  const result = answer.results[0];
  const ranked = Object.entries(result.probabilities).sort((a, b) => b[1] - a[1]);
  $("verdict").replaceChildren(
    element("p", { className: "headline", textContent: `Most likely: ${result.label}` }),
    ...hint(answer.truncated.length ? `Longer than the model reads, and cut: ${answer.truncated.join(", ")}` : ""),
    ...ranked.map(([label, share]) => bar(label, share, `${(share * 100).toFixed(1)} %, cosine ${result.cosines[label].toFixed(3)}`)),
  );
}

async function score() {
  const form = formWithClip();
  form.append("caption", $("caption").value);
  form.append("sentences", "true");
  form.append("attributes", "true");
  const shown = redraw();
  if (shown && shown.duration > CURVE_WINDOW_S) form.append("window_s", String(CURVE_WINDOW_S));
  const answer = await postForm("/v1/score", form);
  const result = answer.results[0];
  const above = result.percentile === null ? "" : `, above ${result.percentile.toFixed(0)} % of pairs that do not match`;
  const scale = shown && result.curve.length > 1 ? addCurve(shown.made, result, shown.duration) : "";
  $("verdict").replaceChildren(
    bar("Match", result.match_probability, `${(result.match_probability * 100).toFixed(0)} %`),
    element("p", { textContent: `Cosine ${result.cosine.toFixed(3)}${above}` }),
    ...hint(answer.truncated.length ? "The caption was longer than the model reads: its end was cut." : ""),
    ...hint(scale ? `Over time on the waveform: ${scale}` : ""),
    ...lanes(result, result.duration_s),
    ...attributes(result),
  );
}

$("like-clip").addEventListener("submit", (event) => {
  event.preventDefault();
  showing("", async () => {
    const { uri, name } = await clipAsUri();
    await likeClip(uri, name, $("like-words").value.trim());
  });
});
$("classify").addEventListener("submit", (event) => {
  event.preventDefault();
  judging("Classifying…", classify);
});
$("score").addEventListener("submit", (event) => {
  event.preventDefault();
  judging("Scoring…", score);
});
