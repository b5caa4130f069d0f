"""Audio files made on the spot, for the tests that need bytes of every format."""

import io

import av
import numpy as np
import soundfile as sf
from numpy.typing import NDArray

FORMATS = {
    "wav-u8": ("WAV", "PCM_U8"),
    "wav-16": ("WAV", "PCM_16"),
    "wav-24": ("WAV", "PCM_24"),
    "wav-32": ("WAV", "PCM_32"),
    "wav-float": ("WAV", "FLOAT"),
    "wav-double": ("WAV", "DOUBLE"),
    "wav-ulaw": ("WAV", "ULAW"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "flac-16": ("FLAC", "PCM_16"),
    "flac-24": ("FLAC", "PCM_24"),
    "ogg-vorbis": ("OGG", "VORBIS"),
    "ogg-opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
FFMPEG_FORMATS = {
    "m4a-aac": ("ipod", "aac", 44_100),
    "m4a-alac": ("ipod", "alac", 44_100),
    "mp4-aac": ("mp4", "aac", 48_000),
    "mov-pcm": ("mov", "pcm_s16le", 16_000),
    "3gp-amr": ("3gp", "libopencore_amrnb", 8000),
    "webm-opus": ("webm", "libopus", 48_000),
    "mka-pcm": ("matroska", "pcm_s16le", 16_000),
    "aac-adts": ("adts", "aac", 16_000),
    "amr": ("amr", "libopencore_amrnb", 8000),
    "wma": ("asf", "wmav2", 44_100),
    "aiff": ("aiff", "pcm_s16be", 16_000),
    "au": ("au", "pcm_mulaw", 8000),
    "caf": ("caf", "pcm_s16le", 16_000),
    "w64": ("w64", "pcm_s16le", 16_000),
    "avi-pcm": ("avi", "pcm_s16le", 16_000),
}
"""Of PyAV: container, codec, and a sample rate in Hz that the codec takes."""
LOSSY = {"ogg-vorbis", "ogg-opus", "mp3", "wav-u8", "wav-ulaw"}


def voice(seconds: float, rate: int = 16_000, channels: int = 1, *, seed: int = 0) -> NDArray[np.float64]:
    """Something with the spectrum of a voice: harmonics with vibrato and syllables, [samples, channels]."""
    time = np.arange(round(seconds * rate)) / rate
    generator = np.random.default_rng(seed)
    pitch = generator.uniform(90, 240)
    phase = 2 * np.pi * pitch * (time + 0.002 * np.sin(2 * np.pi * 5 * time))
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 8) if k * pitch < rate / 2 * 0.8)
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * generator.uniform(2, 5) * time)
    return np.repeat((0.2 * harmonics * syllables)[:, None], channels, axis=1)


def encode(samples: NDArray[np.float64], rate: int, name: str = "wav-16") -> bytes:
    """A file of one of FORMATS. Written in blocks: libsndfile's Vorbis writer overflows its stack on long arrays."""
    container, subtype = FORMATS[name]
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", rate, samples.shape[1], subtype=subtype, format=container) as file:
        for start in range(0, len(samples), 4096):
            file.write(samples[start : start + 4096])
    return buffer.getvalue()


def encode_av(samples: NDArray[np.float64], name: str) -> bytes:
    """A file of one of FFMPEG_FORMATS, of samples [n, channels] at its rate."""
    container, codec, rate = FFMPEG_FORMATS[name]
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T, np.float32), format="fltp", layout=layout)
    frame.sample_rate = rate
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as file:
        stream = file.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        if codec.startswith("wma"):
            stream.bit_rate = 96_000
        formats = stream.codec_context.codec.audio_formats
        assert formats
        resampler = av.AudioResampler(format=formats[0].name, layout=layout, rate=rate)
        for part in resampler.resample(frame):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return buffer.getvalue()
