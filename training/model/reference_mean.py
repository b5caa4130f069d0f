"""The mean log-mel that channel normalisation brings every clip to, measured once on training clips."""

from collections.abc import Sequence
from pathlib import Path

import torch

from training.audio import load_clip
from training.model import Clsp, WhisperConfig
from training.model.frontend import WhisperLogMel

CLIPS = 400


@torch.no_grad()
def measure_reference_mean(model: Clsp, paths: Sequence[Path]) -> None:
    """Set the front-end's reference mean from the first 400 clips of `paths`, which a build shuffles."""
    speech = model.config.speech
    if not isinstance(speech, WhisperConfig) or not speech.channel_norm or not paths:
        return
    plain = WhisperLogMel(speech.mel_bins)
    means = []
    for path in paths[:CLIPS]:
        wave = torch.from_numpy(load_clip(path, 10.0))[None]
        means.append(plain.log_energies(wave, torch.tensor([wave.shape[1]]))[0][0].mean(0))
    model.frontend.get_buffer("reference_mean").copy_(torch.stack(means).mean(0))
