"""Clips on their way to the service: as data URIs, or as files of a form."""

from __future__ import annotations

import base64
from pathlib import Path

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})
"""Names that the service's formats go by."""
_OTHER = "3gp aac ac3 aif aifc aiff alac amr ape au caf dsf dts m4a m4b mka mp2 mpc ra snd spx w64 weba webm wma wv"
OTHER_AUDIO_SUFFIXES = frozenset(f".{name}" for name in _OTHER.split(" "))
"""Names of audio that the service does not read: to be named rather than passed over."""

Audio = str | Path | bytes
"""A clip: a data URI, the path of a file, or the bytes of one."""

_NAMES = {"oga": "ogg", "opus": "ogg", "mp3": "mpeg"}


def media_type(path: Path) -> str:
    """The media type that the file's name promises; the service looks at the bytes, not at this."""
    suffix = path.suffix.lower().lstrip(".") or "wav"
    return f"audio/{_NAMES.get(suffix, suffix)}"


def data_uri(audio: Audio) -> str:
    """A clip as a data URI; one that is a data URI already stays as it is. Raises OSError for an unreadable file."""
    if isinstance(audio, str) and audio.startswith("data:"):
        return audio
    if isinstance(audio, bytes):
        data, kind = audio, "application/octet-stream"
    else:
        path = Path(audio)
        data, kind = path.read_bytes(), media_type(path)
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
