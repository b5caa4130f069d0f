"""Waveform to features inside the graph: Kaldi fbank for a Zipformer tower, Whisper's log-mel for a Whisper tower.

Both fold everything linear (DC removal, pre-emphasis, window, Fourier transform) into one matrix, made in float64,
so that a front-end is a strided convolution, a square, a filter bank and a logarithm in any runtime. Padding of the
batch is never read: each clip's edge is made from its own samples.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from training.model.scalar import padding_mask

SAMPLE_RATE = 16000
HOP = 160  # samples: 10 ms

Matrix = NDArray[np.float64]


def fourier_matrix(size: int) -> Matrix:
    """Real and imaginary parts of the size-point transform's first half: [2 (size // 2 + 1), size]."""
    angle = 2 * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(size)) / size
    return np.concatenate([np.cos(angle), -np.sin(angle)])


def kaldi_frame_matrix(frame: int = 400, size: int = 512) -> Matrix:
    """DC removal, pre-emphasis 0.97, Povey window and transform as one matrix: [2 (size // 2 + 1), frame]."""
    centre = np.eye(frame) - 1.0 / frame
    emphasis = np.eye(frame) - 0.97 * np.eye(frame, k=-1)
    emphasis[0, 0] -= 0.97
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / (frame - 1))) ** 0.85
    return fourier_matrix(size)[:, :frame] @ (window[:, None] * (emphasis @ centre))


def kaldi_mel_filters(bins: int, size: int = 512, low: float = 20.0, high: float = 7600.0) -> Matrix:
    """Triangles on Kaldi's mel scale, 1127 ln(1 + f / 700): [bins, size // 2 + 1]; the Nyquist bin gets no weight."""

    def mel(hertz: Matrix | float) -> Matrix:
        return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)

    edges = np.linspace(mel(low), mel(high), bins + 2)
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    place = mel(np.arange(size // 2) * SAMPLE_RATE / size)[None, :]
    triangles = np.minimum((place - left) / (middle - left), (right - place) / (right - middle)).clip(min=0)
    return np.pad(triangles, ((0, 0), (0, 1)))


def slaney_mel_filters(bins: int, size: int = 400) -> Matrix:
    """Area-normalised triangles on Slaney's mel scale, 0 to 8 kHz, as Whisper uses: [bins, size // 2 + 1]."""
    step = np.log(6.4) / 27.0

    def hertz(mel: Matrix) -> Matrix:
        return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp(step * (mel - 15.0)))

    edges = hertz(np.linspace(0.0, 15.0 + np.log(SAMPLE_RATE / 2 / 1000.0) / step, bins + 2))
    left, middle, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    place = (np.arange(size // 2 + 1) * SAMPLE_RATE / size)[None, :]
    triangles = np.minimum((place - left) / (middle - left), (right - place) / (right - middle)).clip(min=0)
    return triangles * (2.0 / (right - left))


class _FrameSpectrum(nn.Module):
    """Frames of 400 samples each 160 -> power spectrum -> filter bank: [N, samples] -> [N, frames, bins]."""

    def __init__(self, frame_matrix: Matrix, filters: Matrix) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.from_numpy(frame_matrix).float()[:, None, :], persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()).float(), persistent=False)
        self.kernel: Tensor
        self.filters: Tensor

    def energies(self, framed: Tensor) -> Tensor:
        spectrum = F.conv1d(framed[:, None], self.kernel, stride=HOP)
        real, imaginary = spectrum.chunk(2, dim=1)
        return (real.square() + imaginary.square()).transpose(1, 2) @ self.filters


class KaldiFbank(_FrameSpectrum):
    """Kaldi log-mel filter bank, 25 ms / 10 ms, no dither, `snip_edges=False` (PAPER: 128 bins, 20 to 7600 Hz)."""

    def __init__(self, bins: int = 128) -> None:
        super().__init__(kaldi_frame_matrix(), kaldi_mel_filters(bins))
        self.floor = float(np.finfo(np.float32).eps)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveform [N, samples] in [-1, 1], lengths int64 [N] -> features [N, T, bins], frame counts [N].

        Frames past a clip's end are 0. T = round(samples / 160); edges mirror the clip's own samples.
        """
        counts = (lengths + HOP // 2) // HOP
        frames = (waveform.shape[1] + HOP // 2) // HOP
        index = torch.arange(frames * HOP + 240, device=waveform.device)[None, :] - 120
        index = torch.where(index < 0, -1 - index, index)
        last = lengths[:, None] - 1
        index = torch.where(index > last, 2 * last + 1 - index, index)
        mirrored = waveform.gather(1, index.clamp(min=0).minimum(last.clamp(min=0)))
        features = self.energies(mirrored).clamp(min=self.floor).log()
        return features.masked_fill(padding_mask(counts, frames)[..., None], 0.0), counts


class WhisperLogMel(_FrameSpectrum):
    """Whisper's log-mel: Hann window, Slaney filters, base-10 logarithm, 8 decades below the clip's own maximum.

    `channel_norm` takes out that share of the clip's mean log-mel (its microphone and room) and puts the same share
    of a reference mean in its place, which keeps the features where the pretrained encoder expects them.
    """

    def __init__(self, bins: int = 80, channel_norm: float = 0.0) -> None:
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
        super().__init__(fourier_matrix(400) * window, slaney_mel_filters(bins))
        self.channel_norm = channel_norm
        if channel_norm:
            self.register_buffer("reference_mean", torch.zeros(bins))
            self.reference_mean: Tensor

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """waveform [N, samples] in [-1, 1], lengths int64 [N] -> features [N, T, bins], frame counts [N].

        Frames past a clip's end are 0 and never enter its maximum or mean. T = ceil(samples / 160); the clip's
        start is mirrored, after its end there is silence, as in Whisper's own 30 s windows.
        """
        logs, counts = self.log_energies(waveform, lengths)
        padded = padding_mask(counts, logs.shape[1])[..., None]
        if self.channel_norm:
            mean = logs.masked_fill(padded, 0.0).sum(1, keepdim=True) / counts.clamp(min=1)[:, None, None]
            logs = logs - self.channel_norm * (mean - self.reference_mean)
        top = logs.masked_fill(padded, -10.0).amax((1, 2), keepdim=True)
        features = (torch.maximum(logs, top - 8.0) + 4.0) / 4.0
        return features.masked_fill(padded, 0.0), counts

    def log_energies(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Base-10 logarithms of the filter bank, [N, T, bins], before any normalisation, and frame counts [N]."""
        counts = (lengths + HOP - 1) // HOP
        frames = (waveform.shape[1] + HOP - 1) // HOP
        index = torch.arange(frames * HOP + 240, device=waveform.device)[None, :] - 200
        index = index.abs()
        inside = index < lengths[:, None]
        last = (lengths[:, None] - 1).clamp(min=0)
        mirrored = waveform.gather(1, index.minimum(last)) * inside.to(waveform.dtype)
        return self.energies(mirrored).clamp(min=1e-10).log10(), counts
