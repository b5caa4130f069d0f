"""Clips as the report carries them: a small MP3 inside the page, and the outline of the waveform."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from service.audio.decode import SAMPLE_RATE, AudioError, decode
from service.audio.limits import AudioLimits
from service.settings import Settings

PEAKS = 320
MAX_PLAYED_S = 120.0
"""A page with hours of audio in it opens nowhere."""


@dataclass(frozen=True)
class Sound:
    """`uri` plays in every browser and holds at most MAX_PLAYED_S; `peaks` are PEAKS highest amplitudes, 0 to 1."""

    uri: str
    peaks: list[float]
    duration_s: float
    cut: bool


def read_sound(path: Path) -> Sound | None:
    """A clip for the page; None when it cannot be read, which the run has reported already."""
    try:
        samples = decode(path.read_bytes(), AudioLimits.from_settings(Settings(api_keys=[]), min_s=0.0)).samples
    except (OSError, AudioError):
        return None
    most = int(MAX_PLAYED_S * SAMPLE_RATE)
    return Sound(_mp3(samples[:most]), _peaks(samples), len(samples) / SAMPLE_RATE, len(samples) > most)


def _mp3(samples: NDArray[np.float32]) -> str:
    buffer = io.BytesIO()
    sf.write(buffer, np.clip(samples, -1, 1), SAMPLE_RATE, format="MP3", subtype="MPEG_LAYER_III")
    return f"data:audio/mpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _peaks(samples: NDArray[np.float32]) -> list[float]:
    """Scaled to the clip's own loudest moment: a quiet clip has a shape too."""
    edges = np.linspace(0, len(samples), PEAKS + 1).astype(int)
    highest = np.array([np.abs(samples[a:b]).max(initial=0.0) for a, b in pairwise(edges)])
    top = float(highest.max(initial=0.0)) or 1.0
    return [round(float(value) / top, 3) for value in highest]
