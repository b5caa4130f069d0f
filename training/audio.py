"""Audio files for training and evaluation: any rate and channel count -> 16 kHz mono float32."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from training.model.frontend import SAMPLE_RATE


def load_clip(path: Path, max_s: float | None = None) -> NDArray[np.float32]:
    """Read a clip: [samples] at 16 kHz, channels averaged, at most `max_s` seconds from its start.

    Raises soundfile.LibsndfileError when the file can't be decoded, ValueError when it is empty or holds NaN: of such a
    clip nothing compares, and what nothing beats would rank first.
    """
    with soundfile.SoundFile(path) as file:
        frames = -1 if max_s is None else round(max_s * file.samplerate)
        samples = file.read(frames, dtype="float32", always_2d=True).mean(1)
        rate = file.samplerate
    if not len(samples):
        raise ValueError(f"{path} holds no samples")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path} holds samples that are no numbers")
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="HQ")
    return np.ascontiguousarray(samples, np.float32)
