"""Whatever the bytes, decoding ends in a clip or an AudioError: no other exception, no crash, bounded memory."""

import random
import resource
import struct
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.audio.data_uri import parse_data_uri
from service.audio.decode import AudioError, AudioLimits, decode
from tests.support.audio_files import FFMPEG_FORMATS, FORMATS, encode, encode_av, voice

LIMITS = AudioLimits(max_s=30.0)
MAGICS = [
    b"RIFF\xff\xff\0\0WAVEfmt ",
    b"RF64\xff\xff\xff\xffWAVEds64",
    b"fLaC\0\0\0\x22",
    b"OggS\0\x02",
    b"ID3\x04",
    b"\xff\xfb\x90\x64",
    b"\0\0\0\x20ftypM4A \0\0\0\0",
    b"\x1aE\xdf\xa3\x9fB\x86\x81\x01",
    b"FORM\0\0\xff\xffAIFFCOMM",
    b"caff\0\x01\0\0desc",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    b"#!AMR\n",
    b"\xff\xf1\x60\x40",
    b"FLV\x01\x05",
]
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@cache
def valid(name: str) -> bytes:
    if name in FFMPEG_FORMATS:
        return encode_av(voice(0.5, FFMPEG_FORMATS[name][2], 1 if "amr" in name else 2), name)
    return encode(voice(0.5, 48_000, 2), 48_000, name)


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def survive(data: bytes) -> None:
    try:
        clip = decode(data, LIMITS)
    except AudioError as error:
        assert error.detail
    else:
        assert 0 < len(clip.samples) <= LIMITS.max_s * 16_000 + 16_000
        assert abs(clip.samples).max() > 0


def test_a_corpus_of_damaged_files_leaves_memory_and_descriptors_as_they_were() -> None:
    """Seeded, so that growth is decoding's and not the test generator's: nothing claimed is spent, nothing leaks."""
    generator = random.Random(0)
    for name in FORMATS:
        survive(valid(name))
    before, descriptors = peak_mib(), len(list(Path("/proc/self/fd").iterdir()))
    for name in sorted(FORMATS) * 150:
        data = bytearray(valid(name))
        for _ in range(generator.randint(1, 8)):
            data[int(generator.random() ** 3 * len(data))] ^= generator.randint(1, 255)  # mostly in the header
        survive(bytes(data[: max(1, int(min(1.0, 1.3 * generator.random()) * len(data)))]))
    assert peak_mib() - before < 24
    # Fewer is no fault: a service that another test left running may close a connection of its own meanwhile.
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


@pytest.mark.parametrize("rounds", [20, pytest.param(400, marks=pytest.mark.slow)])
def test_files_for_ffmpeg_that_are_damaged(rounds: int) -> None:
    """300 files, and 6,000 in the long run; joined ones and other kinds' bodies among them."""
    generator = random.Random(rounds)
    names = sorted(FFMPEG_FORMATS)
    for name in names:
        survive(valid(name))
    before, descriptors = peak_mib(), len(list(Path("/proc/self/fd").iterdir()))
    for name in names * rounds:
        data = bytearray(valid(name))
        for _ in range(generator.randint(1, 12)):
            data[int(generator.random() ** 2 * len(data))] = generator.choice(
                (0, 0x7F, 0x80, 0xFF, generator.randrange(256))
            )
        if generator.random() < 0.2:
            at = generator.randrange(len(data))
            data[at:at] = valid(generator.choice(names))[: generator.randrange(2000)]
        survive(bytes(data[: max(1, int(min(1.0, 1.3 * generator.random()) * len(data)))]))
    assert peak_mib() - before < 64
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors


@quick
@given(magic=st.sampled_from([b"", *MAGICS]), body=st.binary(max_size=2000))
def test_arbitrary_bytes(magic: bytes, body: bytes) -> None:
    survive(magic + body)


@quick
@given(
    name=st.sampled_from(sorted(FORMATS)),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=20),
    keep=st.floats(0.01, 1.0),
)
def test_flipped_and_cut_files(name: str, flips: list[tuple[float, int]], keep: float) -> None:
    data = bytearray(valid(name))
    for where, mask in flips:
        data[int(where * len(data))] ^= mask
    survive(bytes(data[: int(keep * len(data))]))


@quick
@given(
    name=st.sampled_from(sorted(FORMATS)),
    at=st.integers(0, 80),
    value=st.sampled_from([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]),
)
def test_headers_that_lie(name: str, at: int, value: int) -> None:
    data = bytearray(valid(name))
    data[at : at + 4] = struct.pack("<I", value)
    survive(bytes(data))


@quick
@given(st.one_of(st.text(max_size=200), st.text(max_size=100).map(lambda text: "data:audio/wav;base64," + text)))
def test_arbitrary_uris(uri: str) -> None:
    try:
        media_type, data = parse_data_uri(uri)
    except AudioError as error:
        assert error.code == "bad_data_uri"
    else:
        assert media_type
        assert isinstance(data, bytes)
