// What scores look like: a meter, a curve over a waveform, sentences as lanes, attributes as bars from the middle.

import { element, svg } from "./api.js";

const MOST_CURVES = 4;
const LOGITS = 6;

/** A labelled meter from 0 to 1. */
export function bar(label, share, text) {
  const meter = element("meter", { min: 0, max: 1, value: share });
  meter.setAttribute("aria-label", label);
  return element("div", { className: "bar" }, element("span", { textContent: label }), meter, element("span", { textContent: text }));
}

/** Cosines over time on top of a waveform: one line a sentence where there are several, and the turns between them. */
export function addCurve(trackElement, result, duration) {
  const curves = result.sentences?.length > 1
    ? result.sentences.slice(0, MOST_CURVES).map((one) => one.curve)
    : [result.curve.map((point) => point.cosine)];
  const values = curves.flat();
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const spread = Math.max(0.1, 1.1 * (high - low));
  const base = (low + high - spread) / 2;
  const drawing = svg("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", class: "curves", "aria-hidden": "true" });
  curves.forEach((curve, number) => {
    const points = curve.map((value, i) => {
      const { start_s: start, end_s: end } = result.curve[i];
      return `${(500 * (start + end)) / duration},${96 - (92 * (value - base)) / spread}`;
    });
    if (points.length > 1) drawing.append(svg("polyline", { class: `curve s${number}`, points: points.join(" ") }));
  });
  for (const turn of result.turns ?? []) {
    if (turn.strength < 1) continue;
    const x = (1000 * turn.at_s) / duration;
    drawing.append(svg("line", { class: "turn", x1: x, x2: x, y1: 0, y2: 100 }));
  }
  trackElement.append(drawing);
  return `cosine ${base.toFixed(2)} to ${(base + spread).toFixed(2)}`;
}

/** When each sentence holds. */
export function lanes(result, duration) {
  if (!(result.sentences?.length > 1)) return [];
  return result.sentences.map((sentence, number) => {
    const drawing = svg("svg", { viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" });
    const spans = sentence.holds.map(({ start_s: start, end_s: end }) => {
      drawing.append(svg("rect", { x: (1000 * start) / duration, width: (1000 * (end - start)) / duration, y: 0, height: 10 }));
      return `${start.toFixed(1)} to ${end.toFixed(1)} s`;
    });
    return element(
      "div", { className: `lane s${number}` },
      element("span", {}, sentence.text, element("small", { textContent: spans.length ? ` ${spans.join(", ")}` : " never" })),
      drawing,
    );
  });
}

/** Attributes of a caption against their opposites, the least fitting first. */
export function attributes(result) {
  if (!result.attributes?.length) return [];
  const rows = result.attributes.map((one) => {
    const share = Math.max(-1, Math.min(1, one.margin / LOGITS));
    const drawing = svg(
      "svg", { viewBox: "-50 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      svg("line", { class: "zero", x1: 0, x2: 0, y1: 0, y2: 10 }),
      svg("rect", { class: share < 0 ? "bad" : "good", x: Math.min(0, 48 * share), width: Math.abs(48 * share), y: 1, height: 8 }),
    );
    const name = `${one.family}: ${one.negated ? "not " : ""}${one.value}`;
    const verdict = one.margin < 0 ? `sounds more ${one.heard}` : "holds";
    return element(
      "div", { className: "attribute" },
      element("span", {}, name, element("small", { textContent: ` “${one.phrase}”` })),
      drawing,
      element("span", { className: one.margin < 0 ? "bad" : "", textContent: verdict }),
    );
  });
  return [element("h4", { textContent: "What the caption says, the least fitting first" }), ...rows];
}
