"""What audio may be, and the one error that says why a clip is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from service.settings import Settings

AudioErrorCode = Literal[
    "empty",
    "bad_data_uri",
    "too_large",
    "unsupported",
    "unreadable",
    "truncated",
    "too_many_channels",
    "too_many_samples",
    "sample_rate",
    "too_long",
    "too_short",
    "not_finite",
    "out_of_range",
    "silent",
    "url_refused",
    "url_failed",
]


class AudioError(ValueError):
    """A clip that is refused. The message is written for the caller.

    `code` is stable; `limit` is the limit that was crossed, in the unit that the message names; `field` is filled in
    by whoever knows which part of the request the clip came from.
    """

    def __init__(self, code: AudioErrorCode, detail: str, *, limit: float | None = None) -> None:
        super().__init__(detail)
        self.code: AudioErrorCode = code
        self.detail = detail
        self.limit = limit
        self.field: str | None = None


@dataclass(frozen=True, kw_only=True)
class AudioLimits:
    """What a clip may be: bytes as sent, seconds and Hz as recorded, peak in dB relative to full scale.

    `max_samples` are of all channels together: they are what decoding costs.
    """

    max_bytes: int = 128 * 1024 * 1024
    min_s: float = 0.25
    max_s: float = 3600.0
    max_channels: int = 8
    max_samples: int = 3600 * 48_000 * 2
    min_sample_rate: int = 4000
    max_sample_rate: int = 192_000
    min_peak_dbfs: float = -80.0

    @classmethod
    def from_settings(cls, settings: Settings, *, min_s: float) -> AudioLimits:
        """The operator's limits; `min_s` is the bundle's, because a shorter clip means nothing to its encoder."""
        return cls(
            max_bytes=settings.max_audio_bytes,
            min_s=min_s,
            max_s=settings.max_audio_s,
            max_channels=settings.max_channels,
            max_samples=settings.max_decoded_samples,
            min_sample_rate=settings.min_sample_rate,
            max_sample_rate=settings.max_sample_rate,
            min_peak_dbfs=settings.min_peak_dbfs,
        )
