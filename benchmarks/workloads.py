"""What the load benchmarks send, and what the encoders do with the same inputs when nothing is around them."""

from __future__ import annotations

import base64
import io
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
import soxr
from http_load import NextRequest, post
from results import BUNDLE, LIBRARY

from model_export.bundle import Bundle
from model_export.runtime import BundleRuntime
from service.engine.threads import available_cpus

COLLECTION = "bench"
DISTINCT = 512
"""Clips that differ: more than callers at any time, so that nothing is shared in flight."""
_WORDS = ("calm", "angry", "slow", "fast", "deep", "bright", "creaky", "soft", "loud", "tired", "cheerful", "tense")


@dataclass(frozen=True)
class Measured:
    """Units of work a second, and seconds of processor time for each."""

    per_second: float
    cpu_s: float


@dataclass(frozen=True)
class Workload:
    """A kind of request; `units` of work (texts, clips) are in one."""

    name: str
    next_request: NextRequest
    units: int = 1


def texts() -> Iterator[str]:
    """Captions that never repeat, so that no cache helps."""
    for number in itertools.count():
        first, second = _WORDS[number % 12], _WORDS[number // 12 % 12]
        yield f"A {first} voice, number {number}, speaking in a {second} tone about the weather."


def waves() -> list[np.ndarray]:
    """The example library's clips as 16 kHz mono float32, those that one window holds."""
    found = []
    for path in sorted(LIBRARY.glob("*.ogg")):
        wave, rate = soundfile.read(path, dtype="float32")
        if len(wave) / rate <= 10.0:
            found.append(np.asarray(soxr.resample(wave, rate, 16_000), np.float32))
    return found


def clip_files() -> list[bytes]:
    """DISTINCT files of 16-bit WAV; each has a sample of its own, so that no two are the same clip."""
    base = waves()
    files = []
    for number in range(DISTINCT):
        wave = np.clip(base[number % len(base)], -1, 1).copy()
        wave[number] += 0.001
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, 16_000, format="WAV", subtype="PCM_16")
        files.append(buffer.getvalue())
    return files


def prepare(url: str) -> None:
    """A collection to search, made of the example library."""
    with httpx.Client(base_url=url, timeout=120) as client:
        client.put(f"/v1/collections/{COLLECTION}").raise_for_status()
        for paths in (
            itertools.batched(sorted(LIBRARY.glob("*.ogg")), 16) if hasattr(itertools, "batched") else _by_16()
        ):
            files = [("files", (path.name, path.read_bytes())) for path in paths]
            client.post(f"/v1/collections/{COLLECTION}/items", files=files).raise_for_status()


def _by_16() -> Iterator[Sequence[Path]]:
    paths = sorted(LIBRARY.glob("*.ogg"))
    yield from (paths[i : i + 16] for i in range(0, len(paths), 16))


def workloads(url: str) -> dict[str, Workload]:
    """All kinds of request, by name."""
    words, files = texts(), clip_files()
    uris = ["data:audio/wav;base64," + base64.b64encode(data).decode() for data in files]
    turn = itertools.count()
    embed, search = f"{url}/v1/embeddings", f"{url}/v1/collections/{COLLECTION}/search"

    def made(address: str, **members: object) -> bytes:
        return post(address, json.dumps(members).encode())

    clips = [made(embed, input=uri, modality="audio", encoding_format="base64") for uri in uris]

    def clip() -> bytes:
        return clips[next(turn) % DISTINCT]

    def text() -> bytes:
        return made(embed, input=next(words), encoding_format="base64")

    def many_texts() -> bytes:
        return made(embed, input=[next(words) for _ in range(32)], encoding_format="base64")

    def text_search() -> bytes:
        return made(search, query=next(words), top_k=10)

    def clip_search() -> bytes:
        return made(search, query=[{"audio": uris[next(turn) % DISTINCT]}], top_k=10)

    def score() -> bytes:
        return made(f"{url}/v1/score", pairs=[{"audio": uris[next(turn) % DISTINCT], "caption": next(words)}])

    mix = itertools.cycle([text_search] * 6 + [clip] * 2 + [score, clip_search])
    kinds = [
        Workload("embed: 1 clip", clip),
        Workload("embed: 1 text", text),
        Workload("embed: 32 texts", many_texts, units=32),
        Workload("search by text", text_search),
        Workload("search by clip", clip_search),
        Workload("score: 1 pair", score),
        Workload("mixed", lambda: next(mix)()),
    ]
    return {one.name: one for one in kinds}


class Bare:
    """The session alone: full batches of similar lengths, no HTTP, no decoding, nothing around it."""

    def __init__(self, *, batch_s: float = 30.0, batch_texts: int = 32) -> None:
        self._runtime = BundleRuntime(Bundle.load(BUNDLE), threads=available_cpus())
        self._batches: list[list[np.ndarray]] = [[]]
        for wave in sorted(waves() * 4, key=len):
            if (len(self._batches[-1]) + 1) * len(wave) > batch_s * 16_000:
                self._batches.append([])
            self._batches[-1].append(wave)
        random.Random(0).shuffle(self._batches)  # so that a short run meets all lengths
        self.mean_clip_s = sum(map(len, waves())) / len(waves()) / 16_000
        words = texts()
        self._texts = [[next(words) for _ in range(batch_texts)] for _ in range(20)]

    def clips(self, seconds: float) -> Measured:
        """Seconds of audio a second, and the processor's seconds for each."""
        return _rate(self._runtime.embed_speech, self._batches, seconds, lambda wave: len(wave) / 16_000)

    def texts(self, seconds: float) -> Measured:
        """Texts a second, tokenizing included, and the processor's seconds for each."""
        return _rate(self._runtime.embed_text, self._texts, seconds, lambda text: 1.0)


def _rate(
    run: Callable[[Any], object],
    batches: Sequence[Sequence[Any]],
    seconds: float,
    size: Callable[[Any], float],
) -> Measured:
    run(batches[0])
    began, cpu, done = time.perf_counter(), time.process_time(), 0.0
    for batch in itertools.cycle(batches):
        run(batch)
        done += sum(map(size, batch))
        if time.perf_counter() - began > seconds:
            break
    return Measured(done / (time.perf_counter() - began), (time.process_time() - cpu) / done)
