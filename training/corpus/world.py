"""The WORLD vocoder with types: voice in, (pitch, envelope, aperiodicity) out, and back.

pyworld's package file imports `pkg_resources`, which recent setuptools no longer ship, so its extension module is
loaded straight from the installed package.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import machinery, util
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from training.captions.acoustic import praat_pitch

Wave = NDArray[np.float32]
Frames = NDArray[np.float64]

FRAME_MS = 5.0
SAMPLE_RATE = 16_000


@cache
def _pyworld() -> ModuleType:
    package = util.find_spec("pyworld")
    folders = package.submodule_search_locations if package is not None else None
    found = machinery.PathFinder.find_spec("pyworld.pyworld", folders) if folders else None
    if found is None or found.loader is None:
        raise ModuleNotFoundError("resynthesis needs pyworld: pip install 'clsp-service[train]'")
    module = util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Voice:
    """WORLD's description of a clip, one row every `FRAME_MS`.

    f0: [n] Hz, 0 where unvoiced. envelope: [n, bins] power. aperiodicity: [n, bins] in 0..1 (1 is all noise).
    """

    f0: Frames
    envelope: Frames
    aperiodicity: Frames

    @property
    def seconds(self) -> float:
        return len(self.f0) * FRAME_MS / 1000


def analyse(wave: Wave, pitch: tuple[Frames, Frames] | None = None) -> Voice:
    """Describe a 16 kHz mono clip ([samples], in -1..1).

    Pitch comes from Praat, whose voicing decisions are steadier: `pitch` is (times s, f0 Hz with 0 for unvoiced)
    where it was measured before.
    """
    samples = np.ascontiguousarray(wave, dtype=np.float64)
    frames = int(len(samples) / SAMPLE_RATE * 1000 / FRAME_MS) + 1
    times = np.arange(frames) * FRAME_MS / 1000
    f0 = _on_grid(times, *(pitch or praat_pitch(wave)))
    world = _pyworld()
    envelope = world.cheaptrick(samples, f0, times, SAMPLE_RATE)
    aperiodicity = world.d4c(samples, f0, times, SAMPLE_RATE)
    return Voice(f0=f0, envelope=envelope, aperiodicity=aperiodicity)


def _on_grid(times: Frames, measured: Frames, f0: Frames) -> Frames:
    """f0 at `times`: between two voiced frames a line, elsewhere the nearest frame's value; unvoiced outside."""
    if len(measured) < 2:
        return np.zeros(len(times))
    step = measured[1] - measured[0]
    at = (times - measured[0]) / step
    low = np.clip(np.floor(at).astype(int), 0, len(f0) - 1)
    high = np.minimum(low + 1, len(f0) - 1)
    part = np.clip(at - low, 0, 1)
    line = (1 - part) * f0[low] + part * f0[high]
    nearest = np.where(part < 0.5, f0[low], f0[high])
    inside = (at > -1) & (at < len(f0))
    return np.where(inside, np.where((f0[low] > 0) & (f0[high] > 0), line, nearest), 0.0)


def synthesise(voice: Voice) -> Wave:
    """Sound of a description: [samples] float32 at 16 kHz (its length is the frames' total)."""
    made = _pyworld().synthesize(
        np.ascontiguousarray(voice.f0),
        np.ascontiguousarray(voice.envelope),
        np.ascontiguousarray(voice.aperiodicity),
        SAMPLE_RATE,
        FRAME_MS,
    )
    return np.asarray(made, dtype=np.float32)
