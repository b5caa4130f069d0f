"""Rooms, noise, microphones, codecs and levels: the channel changes, what the captions say of the voice stays true."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import butter, fftconvolve, sosfilt

Wave = NDArray[np.float32]
SAMPLE_RATE = 16_000

# Chance of each step, in the order in which a channel applies them.
DEFAULT_CHANCES: Mapping[str, float] = {"room": 0.5, "noise": 0.45, "eq": 0.6, "band": 0.3, "codec": 0.3, "level": 1.0}


def augment(wave: Wave, seed: int, chances: Mapping[str, float] = DEFAULT_CHANCES) -> tuple[Wave, dict[str, Any]]:
    """A 16 kHz clip through a random channel: (samples of the same length, what was done). Deterministic by seed.

    At least one step besides level is always taken. Raises ValueError for an unknown step.
    """
    if unknown := set(chances) - set(_STEPS):
        raise ValueError(f"unknown augmentation steps: {', '.join(sorted(unknown))}; known: {', '.join(_STEPS)}")
    rng = np.random.default_rng(seed)
    taken = [name for name in _STEPS if rng.random() < chances.get(name, 0.0)]
    optional = [name for name in _STEPS if name != "level" and chances.get(name, 0.0) > 0]
    if optional and not set(taken) & set(optional):
        taken.insert(0, optional[int(rng.integers(len(optional)))])
    done: dict[str, Any] = {}
    for name in taken:
        changed, done[name] = _STEPS[name](wave, rng)
        wave = _fit(changed, len(wave))
    return wave, done


def room(wave: Wave, rng: np.random.Generator) -> tuple[Wave, dict[str, float]]:
    """Convolution with decaying noise after a direct path: RT60 0.15 to 0.8 s, direct-to-reverberant 0 to 14 dB."""
    rt60, ratio_db = float(rng.uniform(0.15, 0.8)), float(rng.uniform(0, 14))
    count = int(rt60 * SAMPLE_RATE)
    tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / count)
    tail[: int(0.002 * SAMPLE_RATE)] = 0
    tail = _lowpass(tail, float(rng.uniform(3000, 7500)))  # air and walls take the highs first
    tail *= 10 ** (-ratio_db / 20) / np.sqrt((tail**2).sum())
    tail[0] += 1.0
    return np.asarray(fftconvolve(wave, tail)[: len(wave)], np.float32), {"rt60_s": _r(rt60), "direct_db": _r(ratio_db)}


def noise(wave: Wave, rng: np.random.Generator) -> tuple[Wave, dict[str, float]]:
    """Coloured noise (power falling 0 to 2 times 10 dB a decade), 10 to 30 dB under the speech."""
    colour, snr_db = float(rng.uniform(0, 2)), float(rng.uniform(10, 30))
    count = next_fast_len(len(wave), real=True)
    spectrum = rfft(rng.standard_normal(count))
    spectrum *= np.maximum(np.arange(len(spectrum)), 8) ** (-colour / 2)
    hiss = irfft(spectrum, count)[: len(wave)]
    hiss *= np.sqrt(_power(wave) / _power(hiss) * 10 ** (-snr_db / 10))
    return np.asarray(wave + hiss, np.float32), {"snr_db": _r(snr_db), "colour": _r(colour)}


def eq(wave: Wave, rng: np.random.Generator) -> tuple[Wave, dict[str, float]]:
    """A microphone's colour: a tilt of up to 4 dB an octave around 1 kHz, and one broad bump of up to 6 dB."""
    tilt, bump = float(rng.uniform(-4, 4)), float(rng.uniform(-6, 6))
    centre = float(np.exp(rng.uniform(np.log(150), np.log(6000))))
    count = next_fast_len(len(wave) + SAMPLE_RATE // 10, real=True)
    hertz = np.maximum(rfftfreq(count, 1 / SAMPLE_RATE), 60)
    octaves = np.clip(np.log2(hertz / 1000), -3, 3)
    gain_db = tilt * octaves + bump * np.exp(-0.5 * (np.log2(hertz / centre) / 0.7) ** 2)
    shaped = irfft(rfft(np.asarray(wave, np.float64), count) * 10 ** (gain_db / 20), count)[: len(wave)]
    return _same_power(shaped, wave), {"tilt_db_per_octave": _r(tilt), "bump_db": _r(bump), "bump_hz": round(centre)}


def band(wave: Wave, rng: np.random.Generator) -> tuple[Wave, dict[str, float]]:
    """Telephone (300 to 3400 Hz), a small speaker, or a low-pass: the edges of cheap channels."""
    kind = int(rng.integers(3))
    low = (300.0, float(rng.uniform(120, 400)), 0.0)[kind]
    high = (3400.0, float(rng.uniform(4500, 7500)), float(rng.uniform(3000, 6500)))[kind]
    shaped = _lowpass(wave, high)
    if low:
        shaped = sosfilt(butter(4, low, "highpass", fs=SAMPLE_RATE, output="sos"), shaped)
    return np.asarray(shaped, np.float32), {"low_hz": round(low), "high_hz": round(high)}


def codec(wave: Wave, rng: np.random.Generator) -> tuple[Wave, dict[str, str]]:
    """Through MP3, Opus or Vorbis and back, at a low to middling quality."""
    kind, subtype = (("MP3", "MPEG_LAYER_III"), ("OGG", "OPUS"), ("OGG", "VORBIS"))[int(rng.integers(3))]
    quality = float(rng.uniform(0.3, 0.9))
    memory = io.BytesIO()
    soundfile.write(memory, wave, SAMPLE_RATE, format=kind, subtype=subtype, compression_level=quality)
    memory.seek(0)
    decoded, rate = soundfile.read(memory, dtype="float32")
    if rate != SAMPLE_RATE:
        decoded = soxr.resample(decoded, rate, SAMPLE_RATE)
    return np.asarray(decoded, np.float32), {"codec": subtype.lower(), "compression": f"{quality:.2f}"}


def opus(wave: Wave, rng: np.random.Generator) -> tuple[Wave, dict[str, str]]:
    """Through Opus at about 18 to 44 kb/s, the rates of corpora that are kept small."""
    kilobits = float(rng.uniform(18, 44))
    memory = io.BytesIO()
    # libsndfile maps its compression level linearly onto 256 to 6 kb/s a channel.
    soundfile.write(memory, wave, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=(256 - kilobits) / 250)
    memory.seek(0)
    decoded, rate = soundfile.read(memory, dtype="float32")
    if rate != SAMPLE_RATE:
        decoded = soxr.resample(decoded, rate, SAMPLE_RATE)
    return _fit(np.asarray(decoded, np.float32), len(wave)), {"kbps": f"{kilobits:.0f}"}


def level(wave: Wave, rng: np.random.Generator) -> tuple[Wave, dict[str, float]]:
    """Peak anywhere from -26 to -0.5 dBFS: level says nothing of the voice's effort."""
    peak_db = float(rng.uniform(-26, -0.5))
    peak = float(np.abs(wave).max(initial=1e-6))
    return np.asarray(wave * (10 ** (peak_db / 20) / max(peak, 1e-6)), np.float32), {"peak_dbfs": _r(peak_db)}


_STEPS: dict[str, Callable[[Wave, np.random.Generator], tuple[Wave, dict[str, Any]]]] = {
    "room": room,
    "noise": noise,
    "eq": eq,
    "band": band,
    "codec": codec,
    "level": level,
}


def _lowpass(wave: NDArray[Any], hertz: float) -> NDArray[Any]:
    return np.asarray(sosfilt(butter(4, min(hertz, 7900), "lowpass", fs=SAMPLE_RATE, output="sos"), wave))


def _same_power(shaped: NDArray[Any], wave: Wave) -> Wave:
    return np.asarray(shaped * np.sqrt(_power(wave) / _power(shaped)), np.float32)


def _power(wave: NDArray[Any]) -> float:
    return float(np.mean(np.square(wave))) + 1e-12


def _fit(wave: Wave, count: int) -> Wave:
    """The clip's own length, and no clipping: codecs pad, rooms and noise add."""
    fitted = wave[:count] if len(wave) >= count else np.pad(wave, (0, count - len(wave)))
    peak = float(np.abs(fitted).max(initial=0.0))
    return np.asarray(fitted if peak <= 0.99 else fitted * (0.99 / peak), np.float32)


def _r(value: float) -> float:
    return round(value, 2)
