"""What an audio file says of itself before it is decoded: its container, and what of it is missing or too much.

libsndfile reads a WAV or an Opus file that was cut off as a shorter one, and of joined files the first, without a word:
so both are told here. Pure functions on bytes; constant time or one linear scan in C, whatever the bytes are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Container = Literal[
    "wav", "flac", "ogg", "mp3", "mp4", "webm", "aiff", "au", "caf", "w64", "aac", "amr", "asf", "avi", "flv"
]

ACCEPTED = "WAV, FLAC, OGG (Vorbis or Opus), MP3, M4A/MP4, WebM, AAC, AIFF, AU, CAF, W64, AMR or WMA"


@dataclass(frozen=True)
class Foreign:
    """A container that FFmpeg reads: by which demuxer, how people call it, and whether its header counts the sound."""

    demuxer: str
    title: str
    media_type: str
    counted: bool = True


FFMPEG: dict[str, Foreign] = {
    "mp4": Foreign("mov", "MP4 or M4A", "audio/mp4"),
    "webm": Foreign("matroska", "WebM or Matroska", "audio/webm"),
    "aiff": Foreign("aiff", "AIFF", "audio/aiff"),
    "au": Foreign("au", "AU", "audio/basic"),
    "caf": Foreign("caf", "CAF", "audio/x-caf"),
    "w64": Foreign("w64", "W64", "audio/x-w64"),
    "aac": Foreign("aac", "AAC", "audio/aac", counted=False),
    "amr": Foreign("amr", "AMR", "audio/amr", counted=False),
    "asf": Foreign("asf", "WMA or WMV", "audio/x-ms-wma", counted=False),
    "avi": Foreign("avi", "AVI", "video/x-msvideo", counted=False),
    "flv": Foreign("flv", "FLV", "video/x-flv", counted=False),
}

_OGG_HEADER = 27
# The first packet of an OGG stream begins with its codec's mark: what libsndfile does not decode it calls damaged.
_FOREIGN_CODECS: tuple[tuple[bytes, str], ...] = (
    (b"\x7fFLAC", "FLAC"),
    (b"fLaC", "FLAC"),
    (b"Speex   ", "Speex"),
    (b"\x80theora", "Theora video"),
    (b"BBCD\0", "Dirac video"),
    (b"PCM     ", "PCM"),
)
_MARKS: tuple[tuple[int, bytes, Container], ...] = (
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (4, b"ftyp", "mp4"),
    (4, b"moov", "mp4"),
    (4, b"wide", "mp4"),
    (0, b"\x1aE\xdf\xa3", "webm"),
    (0, b".snd", "au"),
    (0, b"caff", "caf"),
    (0, b"riff\x2e\x91\xcf\x11", "w64"),
    (0, b"#!AMR", "amr"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"FLV\x01", "flv"),
)
# Where another file of the kind begins inside one: eight bytes or more, which sound does not hold by chance.
_STARTS: dict[str, re.Pattern[bytes]] = {
    "flac": re.compile(rb"fLaC[\x00\x80]\x00\x00\x22"),
    "mp4": re.compile(rb"\x00\x00\x00[\x08-\x80]ftyp[A-Za-z0-9 ]{4}\x00\x00"),
    "webm": re.compile(rb"\x1aE\xdf\xa3[\s\S]{1,40}\x42\x82[\x84-\x88](?:webm|matroska)"),
    "aiff": re.compile(rb"FORM[\s\S]{4}AIF[FC]"),
    "au": re.compile(rb"\.snd\x00\x00[\s\S]{6}\x00\x00\x00[\x01-\x1b]\x00"),
    "caf": re.compile(rb"caff\x00\x01\x00\x00desc"),
    "w64": re.compile(rb"riff\x2e\x91\xcf\x11"),
    "amr": re.compile(rb"#!AMR(?:-WB)?\n"),
    "asf": re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
}
_XING = re.compile(rb"(?:Xing|Info)\x00\x00\x00([\x00-\x0f])")
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"ADIF", "an AAC file without frames (ADIF)"),
    (0, b"NIST_1A", "a NIST SPHERE file"),
    (0, b"MAC ", "a Monkey's Audio file"),
    (0, b"wvpk", "a WavPack file"),
    (0, b"DSD ", "a DSD file"),
    (0, b"MThd", "a MIDI file"),
    (0, b"\x00\x05\x16\x07", "an AppleDouble companion of a file (its name begins with ._), which holds no sound"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"%PDF", "a PDF document"),
)
_MP3_FRAME_BYTES = 1441
_NOT_ZERO = re.compile(rb"[^\x00]")


def start_of_audio(data: bytes) -> int:
    """Where the container begins: behind ID3 tags, which some tools put before any kind, and behind zeros."""
    position = 0
    while data[position : position + 3] == b"ID3":
        position = _after_id3(data, position)
    found = _NOT_ZERO.search(data, position)
    # Not the three zeros that MP4 begins with, nor those of anything else that is known as it stands.
    return position if found is None or sniff(data[position : position + 16]) else found.start()


def sniff(data: bytes) -> Container | None:
    """The container by its first bytes, never by its name; None when it is none of the accepted ones."""
    if data[:3] == b"ID3":
        data = data[start_of_audio(data) :][:16] or b"\xff\xfb\x90\x64"
        return sniff(data) or "mp3"
    if data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    if data[:4] == b"FORM" and data[8:11] == b"AIF":
        return "aiff"
    for offset, magic, container in _MARKS:
        if data[offset : offset + len(magic)] == magic:
            return container
    # MPEG sync: 11 set bits, then the layer, which AAC's ADTS (12 set bits) writes as 00.
    if len(data) > 4 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0:
        if data[1] & 0x06:
            return "mp3"
        return "aac" if data[1] & 0xF0 == 0xF0 else None
    return None


def title(container: str) -> str:
    """As people call it."""
    return FFMPEG[container].title if container in FFMPEG else container.upper()


def describe(data: bytes) -> str:
    """In words for an error message: what bytes that `sniff` does not know look like."""
    for offset, magic, name in _FOREIGN:
        if data[offset : offset + len(magic)] == magic:
            return name
    head = data[:512]
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\n\r\f" for byte in head):
        return "a text file"
    return "no audio format that is known here"


def ogg_cut(data: bytes) -> str | None:
    """In words, what is missing at the end of an OGG file that was cut off; None when nothing shows it."""
    last = data.rfind(b"OggS")
    header = data[last : last + _OGG_HEADER]
    if len(header) < _OGG_HEADER:
        return "the last page is cut off"
    segments = data[last + _OGG_HEADER : last + _OGG_HEADER + header[26]]
    end = last + _OGG_HEADER + header[26] + sum(segments)
    if len(segments) < header[26] or end > len(data):
        return "the last page is cut off"
    return None


def container_cut(data: bytes, container: Container) -> str | None:
    """The same of an AVI or a W64 file, whose size FFmpeg corrects in silence. 0 and -1 are for unknown."""
    at = {"avi": slice(4, 8), "w64": slice(16, 24)}.get(container)
    if at is None:
        return None
    size = int.from_bytes(data[at], "little") + (8 if container == "avi" else 0)
    unknown = size <= 8 or size >= 0xFFFFFFFF
    return None if unknown or size <= len(data) + 64 else f"it should have {size} bytes and has {len(data)}"


def foreign_codec(data: bytes) -> str | None:
    """What an OGG file holds instead of Vorbis or Opus; None where it is one of these, or cannot be told."""
    first = _OGG_HEADER + (data[_OGG_HEADER - 1] if len(data) >= _OGG_HEADER else 0)
    return next((name for mark, name in _FOREIGN_CODECS if data[first : first + len(mark)] == mark), None)


def joined_at(data: bytes, container: Container) -> int | None:
    """Where a second file begins in one: every decoder here reads the first and drops the rest in silence."""
    if container == "ogg":
        second = data.find(b"OggS\x00\x02", 4)
        return second if second > 0 else None
    pattern = _STARTS.get(container)
    found = pattern.search(data, 12) if pattern is not None else None
    return found.start() if found is not None else None


def mp3_has_count(data: bytes) -> bool:
    """Whether an MP3 carries its length (a Xing or Info tag with a frame count).

    Without one libsndfile guesses the length from the first frame's bit rate and stops there: a variable-rate file
    loses its end (measured: 40,484 of 129,600 samples were read).
    """
    found = _xing(data)
    return found is not None and bool(found[1][0] & 1)


def mp3_is_joined(data: bytes) -> bool:
    """Whether more sound follows the frames that an MP3's tag counts, where libsndfile stops."""
    found = _xing(data)
    if found is None or not found[1][0] & 1:
        return False
    if not found[1][0] & 2:
        return _XING.search(data, found.end()) is not None
    start = _after_id3(data, 0) if data[:3] == b"ID3" else 0
    at = found.end() + 4
    rest = after_tags(data, start + int.from_bytes(data[at : at + 4], "big"))
    # Of the same version and layer as the first frame; some writers count a few bytes too few.
    return data.find(data[start : start + 2], rest, rest + _MP3_FRAME_BYTES) >= 0


def _xing(data: bytes) -> re.Match[bytes] | None:
    start = _after_id3(data, 0) if data[:3] == b"ID3" else 0
    return _XING.search(data, start, start + 256)


def after_tags(data: bytes, position: int) -> int:
    """Past what may lie between or behind MP3 streams: ID3 and APE tags and zeros."""
    while position < len(data):
        if data[position : position + 3] == b"ID3":
            position = _after_id3(data, position)
        elif data[position : position + 8] == b"APETAGEX":
            position += 32 + int.from_bytes(data[position + 12 : position + 16], "little")
        elif data[position : position + 3] == b"TAG":
            position += 128
        elif data[position] == 0:
            found = _NOT_ZERO.search(data, position)
            position = found.start() if found is not None else len(data)
        else:
            break
    return min(position, len(data))


def _after_id3(data: bytes, start: int) -> int:
    if len(data) < start + 10:
        return len(data)
    size = 0
    for byte in data[start + 6 : start + 10]:
        size = size << 7 | byte & 0x7F
    return start + 10 + size + (10 if data[start + 5] & 0x10 else 0)
