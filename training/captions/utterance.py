"""One clip of a manifest as annotators and judges hear it: which stretch of which file, and what is known of it."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from training.captions.formats.rows import audio_channel

SAMPLE_RATE = 16_000

Wave = NDArray[np.float32]


class AudioError(RuntimeError):
    """A clip's audio cannot be used; the message says why."""


@dataclass(frozen=True)
class Utterance:
    """A clip. `fields` is the manifest's line as it stood; `duration_s` is None where the line does not tell."""

    id: str
    audio: Path
    start_s: float = 0.0
    duration_s: float | None = None
    channel: int | None = None  # None averages all channels
    whole: bool = True  # the whole file, rather than a stretch of it
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Utterance:
        """A row as `training.captions.formats.read_rows` gives it. Raises ValueError without id or path."""
        if not row.get("id") or not row.get("path"):
            raise ValueError(f"a row needs id and path, this one has {', '.join(sorted(row)) or 'nothing'}")
        start = float(row.get("start_s") or 0.0)
        told = row.get("duration_s")
        return cls(
            id=str(row["id"]),
            audio=Path(row["path"]),
            start_s=start,
            duration_s=None if told is None else float(told),
            channel=audio_channel(row),
            whole=row.get("start_s") is None and audio_channel(row) is None,
            fields=row,
        )

    def label(self, name: str) -> Any:
        """What the manifest knows under that name; None for a gender that an annotator only estimated."""
        estimated = name == "gender" and self.fields.get("gender_from") == "estimate"
        return None if estimated else self.fields.get(name)

    def hash(self) -> str:
        """sha256 hex of what is heard: the file's bytes, and the stretch and channel where it is not the whole.

        Raises AudioError when the file cannot be read.
        """
        try:
            with self.audio.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        except OSError as error:
            raise AudioError(f"{self.audio}: {error.strerror or error}") from error
        if not self.whole:
            digest.update(f"|{self.start_s:.6f}|{self.duration_s}|{self.channel}".encode())
        return digest.hexdigest()

    def load(self, max_s: float | None = None) -> Wave:
        """[samples] in -1..1 at 16 kHz mono, at most `max_s` from its start. Raises AudioError."""
        length = self.duration_s if not self.whole else None
        if max_s is not None:
            length = max_s if length is None else min(length, max_s)
        try:
            with soundfile.SoundFile(self.audio) as file:
                file.seek(round(self.start_s * file.samplerate))
                frames = -1 if length is None else round(length * file.samplerate)
                samples = file.read(frames, dtype="float32", always_2d=True)
                rate = file.samplerate
        except (OSError, RuntimeError, ValueError) as error:
            raise AudioError(f"{self.audio}: {error}") from error
        if self.channel is not None and self.channel >= samples.shape[1]:
            raise AudioError(f"{self.audio} has {samples.shape[1]} channels, channel {self.channel} is wanted")
        mono = samples.mean(axis=1) if self.channel is None else samples[:, self.channel]
        if not len(mono):
            raise AudioError(f"{self.audio} holds no samples at {self.start_s:g} s")
        if not np.isfinite(mono).all():
            raise AudioError(f"{self.audio} holds samples that are no numbers")
        if rate != SAMPLE_RATE:
            mono = soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ")
        return np.ascontiguousarray(mono, np.float32)


def wav_base64(wave: Wave) -> str:
    """16 kHz mono samples as a base64 WAV of 16-bit PCM: what every audio endpoint reads."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
