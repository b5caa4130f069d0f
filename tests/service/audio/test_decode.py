"""What decoding promises: every accepted format, every refusal with its code and limit, the same samples each time."""

import io
import resource
import struct
import time

import numpy as np
import pytest
import soundfile as sf
import soxr

from service.audio.containers import ACCEPTED
from service.audio.decode import SAMPLE_RATE, AudioError, AudioLimits, decode
from service.settings import Settings
from tests.support.audio_files import FORMATS, LOSSY, encode, voice

LIMITS = AudioLimits()


def refusal(data: bytes, limits: AudioLimits = LIMITS) -> AudioError:
    with pytest.raises(AudioError) as caught:
        decode(data, limits)
    return caught.value


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_signal_that_went_in(name: str) -> None:
    signal = voice(2.0)
    clip = decode(encode(signal, SAMPLE_RATE, name), LIMITS)
    assert clip.samples.dtype == np.float32
    assert clip.samples.ndim == 1
    assert (clip.source_rate, clip.channels, clip.duration_s) == (SAMPLE_RATE, 1, 2.0)
    assert len(clip.samples) == 2 * SAMPLE_RATE
    if name in LOSSY:
        assert np.corrcoef(clip.samples, signal[:, 0])[0, 1] > 0.98
    else:
        np.testing.assert_allclose(clip.samples, signal[:, 0], atol=1.0 / 2**15)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_every_rate_is_resampled_to_16_khz(rate: int) -> None:
    signal = voice(6.0, rate)
    clip = decode(encode(signal, rate, "wav-float"), LIMITS)
    assert len(clip.samples) == 6 * SAMPLE_RATE
    assert clip.source_rate == rate
    reference = soxr.resample(signal[:, 0].astype(np.float32), rate, SAMPLE_RATE, quality="HQ")
    np.testing.assert_allclose(clip.samples, reference, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
@pytest.mark.parametrize("name", ["wav-16", "flac-24", "ogg-vorbis", "ogg-opus"])
def test_channels_are_averaged(name: str, channels: int) -> None:
    signal = voice(1.0, 48_000, channels) * np.linspace(0.2, 1.0, channels)
    clip = decode(encode(signal, 48_000, name), LIMITS)
    assert clip.channels == channels
    expected = soxr.resample(signal.mean(axis=1).astype(np.float32), 48_000, SAMPLE_RATE, quality="HQ")
    assert np.corrcoef(clip.samples, expected)[0, 1] > (0.95 if name in LOSSY else 0.9999)
    assert np.std(clip.samples) == pytest.approx(np.std(expected), rel=0.15)


@pytest.mark.parametrize("name", ["wav-16", "flac-16", "ogg-vorbis", "ogg-opus", "mp3"])
def test_decoding_twice_gives_the_same_bits(name: str) -> None:
    data = encode(
        voice(20.0, 44_100 if name != "ogg-opus" else 48_000, 2), 44_100 if name != "ogg-opus" else 48_000, name
    )
    first, second = decode(data, LIMITS), decode(data, LIMITS)
    assert np.array_equal(first.samples, second.samples)
    assert first.sha256 == second.sha256


def test_mp3_is_read_forwards_over_block_borders() -> None:
    """soundfile's own block reading seeks, and an MP3 decoder glitches there; one long read does not."""
    data = encode(voice(60.0), SAMPLE_RATE, "mp3")
    whole, _ = sf.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_allclose(decode(data, LIMITS).samples, whole, atol=1e-6)


def untagged_variable_rate_mp3() -> bytes:
    quiet, loud = 0.001 * voice(2.0), np.random.default_rng(0).normal(0, 0.2, (4 * SAMPLE_RATE, 1))
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", SAMPLE_RATE, 1, "MPEG_LAYER_III", format="MP3", bitrate_mode="VARIABLE") as file:
        file.write(np.concatenate([loud, quiet, loud, quiet]))
    data = buffer.getvalue()
    kilobits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[data[2] >> 4]
    first_frame = 72 * kilobits * 1000 // SAMPLE_RATE + (data[2] >> 1 & 1)
    assert b"Xing" in data[:first_frame]
    return data[first_frame:]


def test_a_variable_rate_mp3_without_a_length_is_read_to_its_end() -> None:
    data = untagged_variable_rate_mp3()
    with sf.SoundFile(io.BytesIO(data)) as file:
        assert file.frames < 10 * SAMPLE_RATE, "libsndfile no longer guesses: the pipe in service.audio.decode can go"
    assert decode(data, LIMITS).duration_s == pytest.approx(12.0, abs=0.2)
    assert refusal(data, AudioLimits(max_s=5.0)).code == "too_long"


def streamed_flac(seconds: float) -> bytes:
    """A FLAC as a pipe writes it: the count of samples in its header (36 bits) is zero, for unknown."""
    data = bytearray(encode(voice(seconds), SAMPLE_RATE, "flac-16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


def test_what_decoding_costs_is_bounded_whatever_the_seconds() -> None:
    """Silence in eight channels at 192 kHz takes a hundred times as long as speech of as many bytes."""
    limits = AudioLimits(max_samples=2 * SAMPLE_RATE)
    counted = refusal(encode(voice(1.5, channels=2), SAMPLE_RATE), limits)
    assert (counted.code, counted.limit) == ("too_many_samples", 32_000)
    assert "has 48000 samples" in counted.detail
    assert refusal(streamed_flac(3.0), limits).code == "too_many_samples"
    assert decode(streamed_flac(2.0), limits).duration_s == 2.0


def test_who_watches_can_end_it() -> None:
    told: list[int] = []
    decode(encode(voice(5.0, channels=2), SAMPLE_RATE), LIMITS, watch=told.append)
    assert (told[0], told[-1]) == (160_000, 160_000), "first what the header says, then what was read"
    assert told[1:] == sorted(told[1:])

    def enough(samples: int) -> None:
        if samples > 40_000:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        decode(streamed_flac(5.0), LIMITS, watch=enough)
    with pytest.raises(TimeoutError):
        decode(untagged_variable_rate_mp3(), LIMITS, watch=enough)


def test_a_flac_of_unknown_length_is_read_to_its_end() -> None:
    assert decode(streamed_flac(3.0), LIMITS).duration_s == 3.0
    assert refusal(streamed_flac(3.0), AudioLimits(max_s=2.0)).code == "too_long"


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_pipe_is_read_to_its_end(size: int) -> None:
    data = bytearray(encode(voice(1.0), SAMPLE_RATE))
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = struct.pack("<I", size)
    assert decode(bytes(data), LIMITS).duration_s == 1.0


def test_what_follows_the_audio_does_not_matter() -> None:
    for name in ("wav-16", "flac-16", "ogg-vorbis", "ogg-opus", "mp3"):
        data = encode(voice(1.0), SAMPLE_RATE, name)
        assert decode(data + b"TAG" + bytes(125), LIMITS).duration_s == 1.0, name


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_refused(name: str, share: float) -> None:
    data = encode(voice(3.0), SAMPLE_RATE, name)
    error = refusal(data[: int(len(data) * share)])
    assert error.code in ("truncated", "unreadable")
    assert name.split("-")[0].removesuffix("ex").replace("rf64", "wav").upper() in error.detail


def test_a_cut_flac_says_how_much_of_it_is_left() -> None:
    signal = np.random.default_rng(0).normal(0, 0.1, (120 * SAMPLE_RATE, 1))
    data = encode(signal, SAMPLE_RATE, "flac-16")
    error = refusal(data[: len(data) // 2])
    assert error.code == "truncated"
    assert "of 120.00 s" in error.detail


def test_a_wav_whose_writer_died_is_refused() -> None:
    data = bytearray(encode(voice(1.0), SAMPLE_RATE))
    at = data.index(b"data") + 4
    data[at : at + 4] = bytes(4)
    assert refusal(bytes(data)).code == "truncated"


def test_empty_foreign_and_renamed_files() -> None:
    assert refusal(b"").code == "empty"
    renamed = refusal(b"Dear colleague,\nplease find the recording attached.\n" * 20)
    assert renamed.code == "unsupported"
    assert "a text file" in renamed.detail
    assert "WAV, FLAC" in renamed.detail
    video = refusal(b"\0\0\0\x18ftypmp42" + bytes(2000))
    assert video.code == "unreadable"
    assert "MP4" in video.detail
    assert refusal(bytes(5000)).code == "unsupported"
    assert refusal(b"RIFF\x24\0\0\0WAVEfmt ").code == "truncated"
    assert refusal(b"RIFF\x24\0\0\0WAVE" + b"garbage!" * 100).code in ("truncated", "unreadable")


@pytest.mark.parametrize(("mark", "codec"), [(b"\x7fFLAC\x01\x00\x00", "FLAC"), (b"Speex   ", "Speex")])
def test_an_ogg_file_of_another_codec_is_named(mark: bytes, codec: str) -> None:
    data = encode(voice(1.0), SAMPLE_RATE, "ogg-opus")
    error = refusal(data.replace(b"OpusHead", mark, 1))
    assert (error.code, error.detail) == ("unsupported", f"this is {codec} in an OGG file; send {ACCEPTED}")
    assert refusal(data[:27]).code == "truncated"


def test_chained_ogg_streams_are_refused_not_cut() -> None:
    data = encode(voice(1.0), SAMPLE_RATE, "ogg-opus")
    assert refusal(data + data).code == "unsupported"


def test_limits_on_bytes_channels_and_rate() -> None:
    data = encode(voice(1.0, 48_000, 6), 48_000)
    assert (refusal(data, AudioLimits(max_bytes=1000)).code, refusal(data, AudioLimits(max_bytes=1000)).limit) == (
        "too_large",
        1000,
    )
    channels = refusal(data, AudioLimits(max_channels=2))
    assert (channels.code, channels.limit) == ("too_many_channels", 2)
    rate = refusal(data, AudioLimits(max_sample_rate=44_100))
    assert (rate.code, rate.limit) == ("sample_rate", 44_100)
    low = refusal(encode(voice(2.0, 2000), 2000))
    assert (low.code, low.limit) == ("sample_rate", 4000)


def test_too_short_is_told_with_its_limit() -> None:
    for seconds in (0.0, 0.1):
        error = refusal(encode(voice(seconds), SAMPLE_RATE))
        assert (error.code, error.limit) == ("too_short", 0.25)
    assert decode(encode(voice(0.25), SAMPLE_RATE), LIMITS).duration_s == 0.25


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers(bad: float) -> None:
    signal = voice(2.0, channels=2)
    signal[20_000, 1] = bad
    error = refusal(encode(signal, SAMPLE_RATE, "wav-float"))
    assert error.code == "not_finite"
    assert "1.25 s" in error.detail


def test_absurd_amplitudes_are_refused_and_16_bit_scale_is_not() -> None:
    assert refusal(encode(voice(1.0) * 1e30, SAMPLE_RATE, "wav-float")).code == "out_of_range"
    assert decode(encode(voice(1.0) * 32_768, SAMPLE_RATE, "wav-float"), LIMITS).duration_s == 1.0


def test_silence_is_refused_however_it_is_made() -> None:
    assert refusal(encode(np.zeros((SAMPLE_RATE, 1)), SAMPLE_RATE)).code == "silent"
    opposite = voice(1.0, channels=2) * [1.0, -1.0]
    assert refusal(encode(opposite, SAMPLE_RATE, "wav-float")).code == "silent"
    error = refusal(encode(voice(1.0) * 1e-5, SAMPLE_RATE, "wav-float"))
    assert (error.code, error.limit) == ("silent", -80.0)
    assert (
        decode(encode(voice(1.0) * 1e-5, SAMPLE_RATE, "wav-float"), AudioLimits(min_peak_dbfs=-120)).duration_s == 1.0
    )


def three_hours_of_silence(name: str) -> bytes:
    container, subtype = FORMATS[name]
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", 8000, 1, subtype=subtype, format=container) as file:
        for _ in range(180):
            file.write(np.zeros(8000 * 60, np.int16))
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["wav-u8", "flac-16"])
def test_three_hours_are_refused_at_once(name: str) -> None:
    data = three_hours_of_silence(name)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    error = refusal(data)
    assert (error.code, error.limit) == ("too_long", 3600.0)
    assert "10800.0 s" in error.detail
    assert time.perf_counter() - start < 1.0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024


def test_a_bomb_that_hides_its_length_stops_at_the_limit() -> None:
    """Three hours in a few KB of FLAC whose header says "unknown": reading stops, and memory with it."""
    data = bytearray(three_hours_of_silence("flac-16"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    assert len(data) < 400_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = refusal(bytes(data), AudioLimits(max_s=60.0))
    assert (error.code, error.limit) == ("too_long", 60.0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def test_a_header_that_claims_the_limit_costs_nothing() -> None:
    """An hour is reserved for what claims an hour; only the samples that are there are ever spent."""
    data = bytearray(encode(voice(2.0), SAMPLE_RATE, "flac-16"))
    data[22:26] = struct.pack(">I", 3600 * SAMPLE_RATE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(bytes(data)).code == "truncated"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024


def test_limits_come_from_the_settings() -> None:
    settings = Settings(max_audio_s=12.0, max_channels=2, min_peak_dbfs=-50.0, max_audio_bytes=9)
    limits = AudioLimits.from_settings(settings, min_s=0.5)
    assert limits == AudioLimits(max_s=12.0, max_channels=2, min_peak_dbfs=-50.0, max_bytes=9, min_s=0.5)
