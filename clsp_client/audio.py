"""Clips on their way to the service: as data URIs, or as files of a form."""

from __future__ import annotations

import base64
from pathlib import Path

_READ = "wav flac ogg oga opus mp3 m4a m4b mp4 aac aif aiff aifc amr awb 3gp au snd caf w64 weba webm mka wma"
AUDIO_SUFFIXES = frozenset(f".{name}" for name in _READ.split(" "))
"""Names that the service's formats go by."""
_OTHER = "ac3 alac ape dsf dts mp2 mpc ra spx wv"
OTHER_AUDIO_SUFFIXES = frozenset(f".{name}" for name in _OTHER.split(" "))
"""Names of audio that the service does not read: to be named rather than passed over."""

Audio = str | Path | bytes
"""A clip: a data URI, the path of a file, or the bytes of one."""

_NAMES = {
    **{"oga": "ogg", "opus": "ogg", "mp3": "mpeg", "m4a": "mp4", "m4b": "mp4", "aif": "aiff", "aifc": "aiff"},
    **{"au": "basic", "snd": "basic", "weba": "webm", "wma": "x-ms-wma", "3gp": "3gpp", "awb": "amr-wb"},
}


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
