"""WAV as it is written in practice: where the samples lie, whether some are missing, and a tidy file for libsndfile.

A WAV is a list of chunks (Multimedia Programming Interface 1.0, 1991; RF64: EBU Tech 3306). Streaming servers write a
placeholder for the size they do not know, some tools forget the pad byte after a chunk of odd size, and libsndfile
reads such files as shorter ones or not at all. Pure functions on bytes, in time linear in their length.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

# Piped writers (ffmpeg, sox) do not know the length and write a size at or just under 2 or 4 GiB.
_STREAMED_SIZE = 0x7FFFF000
# Other writers take a round number: 2,000,000,000 or 0x40000000. An honest size is round once in a million files.
_ROUND = (100_000_000, 1 << 24)
_MIN_ROUND = 1 << 28
# Some writers count a header into the size of the samples; a real cut loses more than that.
_SLOPPY_BYTES = 64
# What may follow the samples unnamed: tags (ID3v1 has 128 bytes) and padding, but not this many seconds of sound.
_MAX_REST_S = 0.1
_MAX_CHUNKS = 1000
_KEPT = (b"fmt ", b"fact")
_START = re.compile(rb"RI(?:FF|FX)[\s\S]{4}WAVE")
_CHUNK_NAME = re.compile(rb"[A-Za-z][\x20-\x7e]{3}")


@dataclass
class Wav:
    """Where things lie. `data` to `end` are the samples' bytes; `problem` says in words why the file is refused;
    `joined_at` is where a second file begins inside this one, `irregular` whether libsndfile needs it `tidied`."""

    order: str = "<"
    chunks: dict[bytes, bytes] = field(default_factory=dict)
    data: int = 0
    end: int = 0
    irregular: bool = False
    joined_at: int | None = None
    problem: str | None = None


def read_wav(data: bytes) -> Wav:
    """Walk the chunks of a file that begins with RIFF, RIFX or RF64."""
    wav = Wav(order=">" if data[:4] == b"RIFX" else "<")
    position, wide_size = 12, None
    for _ in range(_MAX_CHUNKS):
        position = _after_zeros(data, position, wav)
        if position + 8 > len(data):
            break
        name, (size,) = data[position : position + 4], struct.unpack_from(f"{wav.order}I", data, position + 4)
        present = len(data) - position - 8
        if name == b"ds64" and present >= 16:
            (wide_size,) = struct.unpack_from("<Q", data, position + 16)
        if name == b"data":
            if size == 0xFFFFFFFF and wide_size is not None:
                size = wide_size
            _measure(data, wav, position + 8, size)
            return wav
        if name in _KEPT and size <= present:
            wav.chunks[name] = data[position + 8 : position + 8 + size]
        position = _next(data, position + 8 + size, wav) if size % 2 else position + 8 + size
    wav.problem = "the header is not followed by samples"
    return wav


def tidied(data: bytes, wav: Wav) -> bytes:
    """The same samples in a plain file. Only for what `read_wav` calls irregular: it copies."""
    order, samples = wav.order, data[wav.data : wav.end]
    chunks = [*((name, wav.chunks[name]) for name in _KEPT if name in wav.chunks), (b"data", samples)]
    parts = [b"WAVE"]
    for name, content in chunks:
        parts += [name, struct.pack(f"{order}I", len(content)), content, bytes(len(content) % 2)]
    body = b"".join(parts)
    return (b"RIFX" if order == ">" else b"RIFF") + struct.pack(f"{order}I", len(body)) + body


def _after_zeros(data: bytes, position: int, wav: Wav) -> int:
    """Past zeros that fill the space before a chunk; a chunk's name has none."""
    while data[position : position + 4] == bytes(4):
        wav.irregular = True
        following = re.compile(rb"[^\0]").search(data, position)
        position = following.start() if following else len(data)
    return position


def _next(data: bytes, end: int, wav: Wav) -> int:
    """Where the chunk after one of odd size begins: behind its pad byte, unless the writer forgot that."""
    forgotten = data[end : end + 1] not in (b"\0", b"") and _CHUNK_NAME.fullmatch(data[end : end + 4]) is not None
    if forgotten and _CHUNK_NAME.fullmatch(data[end + 1 : end + 5]) is None:
        wav.irregular = True
        return end
    if forgotten and struct.unpack_from(f"{wav.order}I", data.ljust(end + 9, b"\0"), end + 4)[0] <= len(data) - end:
        wav.irregular = True
        return end
    return end + 1


def _is_placeholder(size: int) -> bool:
    near = any(unit - _SLOPPY_BYTES <= size % unit or size % unit == 0 for unit in _ROUND)
    return size >= _STREAMED_SIZE or (size >= _MIN_ROUND and near)


def _measure(data: bytes, wav: Wav, start: int, size: int) -> None:
    present = len(data) - start
    wav.data, wav.end = start, start + min(size, present)
    if size > present and _is_placeholder(size):
        wav.irregular |= size < _STREAMED_SIZE
    elif size == 0 and present > _SLOPPY_BYTES:
        wav.problem = "the header says 0 bytes of samples: whoever wrote the file never finished it"
        return
    elif size > present + _SLOPPY_BYTES:
        wav.problem = f"the header says {size} bytes of samples, the file holds {present}"
        return
    if (another := _START.search(data, start)) is not None:
        wav.joined_at = another.start()
    elif (rest := len(data) - _after_chunks(data, wav)) > _MAX_REST_S * max(_bytes_per_s(wav), 8000):
        wav.problem = f"the header says {size} bytes of samples, and {rest} more bytes follow them"


def _after_chunks(data: bytes, wav: Wav) -> int:
    """Where the chunks, tags and zeros end that follow the samples."""
    position = wav.end + (wav.end - wav.data) % 2
    for _ in range(_MAX_CHUNKS):
        if _CHUNK_NAME.fullmatch(data[position : position + 4]) is None or position + 8 > len(data):
            break
        (size,) = struct.unpack_from(f"{wav.order}I", data, position + 4)
        if position + 8 + size > len(data):
            break
        position += 8 + size + size % 2
    return len(data) if not data[position:].strip(b"\0") else position


def _bytes_per_s(wav: Wav) -> int:
    layout = wav.chunks.get(b"fmt ", b"")
    return int(struct.unpack_from(f"{wav.order}I", layout, 8)[0]) if len(layout) >= 12 else 0
