"""Files as people have them: every kind that is read, joined and tagged ones, and what each refusal says."""

import io
import struct

import numpy as np
import pytest
import soundfile as sf

from service.audio.decode import SAMPLE_RATE, AudioError, AudioLimits, decode
from tests.support.audio_files import FFMPEG_FORMATS, FORMATS, encode, encode_av, voice

LIMITS = AudioLimits()


def refusal(data: bytes, limits: AudioLimits = LIMITS) -> AudioError:
    with pytest.raises(AudioError) as caught:
        decode(data, limits)
    return caught.value


def made(name: str, seconds: float = 2.0, channels: int = 1) -> bytes:
    return encode_av(voice(seconds, FFMPEG_FORMATS[name][2], channels), name)


def riff(*chunks: tuple[bytes, bytes], pad: bool = True, order: str = "<") -> bytes:
    body = b"WAVE"
    for name, content in chunks:
        body += name + struct.pack(f"{order}I", len(content)) + content + bytes(len(content) % 2 if pad else 0)
    return b"RIFF" + struct.pack(f"{order}I", len(body)) + body


def id3(size: int) -> bytes:
    return b"ID3\x03\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) + bytes(size)


FMT = (b"fmt ", struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16))
PCM = (voice(2.0)[:, 0] * 32_767).astype("<i2").tobytes()


@pytest.mark.parametrize("name", FFMPEG_FORMATS)
def test_every_kind_gives_the_signal_that_went_in(name: str) -> None:
    rate = FFMPEG_FORMATS[name][2]
    clip = decode(made(name), LIMITS)
    assert (clip.source_rate, clip.channels) == (rate, 1)
    assert clip.duration_s == pytest.approx(2.0, abs=0.12)
    assert np.array_equal(clip.samples, decode(made(name), LIMITS).samples)
    expected = decode(encode(voice(2.0, rate), rate, "wav-float"), LIMITS).samples
    # Codecs delay by a frame or two; what is heard must be the same.
    heard = [
        np.corrcoef(clip.samples[4000 + d : 24_000 + d], expected[4000:24_000])[0, 1] for d in range(-2500, 2500, 2)
    ]
    assert max(heard) > (0.5 if "amr" in name else 0.9)
    assert np.std(clip.samples) == pytest.approx(np.std(expected), rel=0.15)


@pytest.mark.parametrize("name", ["m4a-aac", "webm-opus", "aiff", "caf", "mov-pcm"])
def test_channels_and_limits_hold_for_every_decoder(name: str) -> None:
    data = made(name, 3.0, channels=2)
    assert decode(data, LIMITS).channels == 2
    assert refusal(data, AudioLimits(max_channels=1)).code == "too_many_channels"
    assert refusal(data, AudioLimits(max_s=1.0)).code == "too_long"
    assert refusal(data, AudioLimits(max_samples=10_000)).code == "too_many_samples"
    assert refusal(data, AudioLimits(max_sample_rate=8000)).code == "sample_rate"
    assert refusal(encode_av(np.zeros((48_000, 1)), name)).code == "silent"

    def enough(samples: int) -> None:
        if samples > 20_000:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        decode(data, LIMITS, watch=enough)


@pytest.mark.parametrize("name", [*FFMPEG_FORMATS])
def test_a_cut_file_is_not_taken_for_a_shorter_one(name: str) -> None:
    data = made(name, 4.0)
    error = None
    try:
        clip = decode(data[: len(data) // 2], LIMITS)
    except AudioError as refused:
        error = refused
    if name in ("aac-adts", "amr", "wma"):  # frames without a count: what is there is all that can be known
        assert error is not None or clip.duration_s < 2.5
    else:
        assert error is not None and error.code in ("truncated", "unreadable")


def test_a_joined_mp3_is_heard_to_its_end() -> None:
    first, second = encode(voice(2.0), SAMPLE_RATE, "mp3"), encode(voice(3.0, seed=1), SAMPLE_RATE, "mp3")
    for joined in (
        first + second,
        first + id3(300) + second,
        first + b"TAG" + bytes(125) + second,
        id3(50) + first + second,
    ):
        assert decode(joined, LIMITS).duration_s == pytest.approx(5.0, abs=0.3)
    assert decode(first * 10, LIMITS).duration_s == pytest.approx(20.0, abs=1.5)
    assert refusal(first + second, AudioLimits(max_s=4.0)).code == "too_long"
    slower = encode(voice(3.0, 24_000), 24_000, "mp3")
    assert "changes its sample rate" in refusal(first + slower).detail


def test_tags_after_an_mp3_are_no_second_stream() -> None:
    data = encode(voice(2.0), SAMPLE_RATE, "mp3")
    alone = decode(data, LIMITS).samples
    cover = np.random.default_rng(0).bytes(200_000)
    ape = b"APETAGEX" + struct.pack("<II", 2000, len(cover)) + bytes(16) + cover
    for tagged in (
        data + b"TAG" + bytes(125),
        data + ape,
        id3(3_000_000) + data,
        id3(20) + id3(20) + data,
        data + bytes(9000),
    ):
        assert np.array_equal(decode(tagged, LIMITS).samples, alone)


@pytest.mark.parametrize(
    "name", ["wav-16", "flac-16", "ogg-opus", "aiff", "au", "caf", "w64", "amr", "m4a-aac", "webm-opus"]
)
def test_other_joined_files_are_refused(name: str) -> None:
    data = encode(voice(2.0), SAMPLE_RATE, name) if name in FORMATS else made(name)
    error = refusal(data + data)
    assert error.code == "unsupported"
    assert "one after the other" in error.detail or "the second from byte" in error.detail


def test_a_wav_that_declares_less_than_follows_is_refused() -> None:
    body = riff(FMT, (b"data", PCM[: len(PCM) // 4]))
    error = refusal(body + PCM[len(PCM) // 4 :])
    assert error.code == "truncated" and "more bytes follow" in error.detail
    listed = riff(FMT, (b"data", PCM), (b"LIST", b"INFO" + bytes(5000)))
    assert decode(listed, LIMITS).duration_s == 2.0


@pytest.mark.parametrize("size", [20, 20_000])
def test_id3_before_any_kind_takes_nothing_away(size: int) -> None:
    for name in ("wav-16", "flac-16", "ogg-opus", "mp3"):
        data = encode(voice(8.0), SAMPLE_RATE, name)
        assert np.array_equal(decode(id3(size) + data, LIMITS).samples, decode(data, LIMITS).samples), name
    assert decode(bytes(4096) + encode(voice(2.0), SAMPLE_RATE), LIMITS).duration_s == 2.0


@pytest.mark.parametrize("size", [2_000_000_000, 0x40000000, 0x7FFFFF9B, 0x3FFFFFFF, 0xFFFFFFFF])
def test_a_placeholder_for_the_size_is_no_cut(size: int) -> None:
    data = bytearray(riff(FMT, (b"data", PCM)))
    data[4:8], data[40:44] = struct.pack("<I", min(size + 36, 0xFFFFFFFF)), struct.pack("<I", size)
    assert decode(bytes(data), LIMITS).duration_s == 2.0


def test_a_cut_of_a_long_wav_is_still_one() -> None:
    data = bytearray(riff(FMT, (b"data", PCM)))
    data[40:44] = struct.pack("<I", 44_100 * 4 * 3571)
    assert refusal(bytes(data)).code == "truncated"


def test_chunks_without_their_pad_byte_and_zeros_between_them() -> None:
    info = (b"LIST", b"INFOISFT" + struct.pack("<I", 5) + b"Tool\0")
    for data in (riff(FMT, info, (b"data", PCM)), riff(FMT, info, (b"data", PCM), pad=False)):
        assert decode(data, LIMITS).duration_s == 2.0
    head, sound = riff(FMT, info), b"data" + struct.pack("<I", len(PCM)) + PCM
    assert np.array_equal(decode(head + bytes(20_000) + sound, LIMITS).samples, decode(head + sound, LIMITS).samples)


def test_a_big_endian_wav_is_read() -> None:
    buffer = io.BytesIO()
    sf.write(buffer, voice(2.0), SAMPLE_RATE, format="WAV", subtype="PCM_16", endian="BIG")
    assert buffer.getvalue()[:4] == b"RIFX"
    assert decode(buffer.getvalue(), LIMITS).duration_s == 2.0
    assert refusal(buffer.getvalue()[:30_000]).code == "truncated"


def test_channels_that_cancel_each_other_are_not_called_silence() -> None:
    error = refusal(encode(voice(2.0, channels=2) * [1.0, -1.0], SAMPLE_RATE, "wav-float"))
    assert error.code == "silent" and "cancel each other out" in error.detail


@pytest.mark.parametrize(
    ("head", "named"),
    [
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ", "AppleDouble"),
        (b"NIST_1A\n   1024\n", "NIST SPHERE"),
        (b"wvpk\0\0\0\0", "WavPack"),
        (b"ADIF\0\0\0\0", "AAC"),
        (b"PK\x03\x04", "ZIP"),
    ],
)
def test_what_is_not_read_is_named(head: bytes, named: str) -> None:
    error = refusal(head + bytes(500))
    assert error.code == "unsupported" and named in error.detail
