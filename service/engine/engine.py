"""The engine: an asyncio front over the worker threads that own the encoders. Clips and texts in, unit vectors out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_export.bundle import Bundle, BundleManifest
from model_export.runtime import BundleRuntime
from model_export.windows import plan_windows, pool_windows
from service.engine.batcher import Batcher, BatcherStats, BatchPolicy
from service.engine.errors import DeadlineExceeded, EngineFailed
from service.engine.identity import embedding_identity
from service.engine.texts import SharedTexts, TextEmbedding
from service.engine.threads import available_cpus
from service.engine.work import Call, Clock
from service.settings import Settings

Vectors = NDArray[np.float32]
Samples = NDArray[np.float32]

# Padding costs a speech batch as much as sound does; captions are short, and a call costs them more than padding.
_SPEECH_DENSITY = 0.9
_TEXT_DENSITY = 0.5
_MAX_TEXT_CHARS_PADDED = 64_000.0


@dataclass(frozen=True)
class TextResult:
    """Embedded texts: `vectors` float32 [N, D], unit; `tokens` before truncation; `truncated` says which were cut."""

    vectors: Vectors
    tokens: list[int]
    truncated: list[bool]


@dataclass(frozen=True)
class ClipResult:
    """An embedded clip: `windows` in seconds, their `vectors` float32 [n, D], unit, and the clip's `pooled` [D]."""

    windows: list[tuple[float, float]]
    vectors: Vectors
    pooled: Vectors


@dataclass(frozen=True)
class EngineStats:
    """Counters since the start. Speech costs and sizes are seconds of audio; text costs are texts, sizes characters."""

    speech: BatcherStats
    text: BatcherStats
    cache_hits: int
    cache_misses: int
    shared_in_flight: int


class Engine:
    """Embeds texts and clips. Use it from one event loop, between `start` and `stop`.

    Every call may raise Overloaded (the queue is full, or the engine stops), DeadlineExceeded and EngineFailed. A
    `deadline` is a time on `time.monotonic()`'s clock. Cancelling a call withdraws what has not begun.
    """

    def __init__(self, settings: Settings, bundle: Bundle | None = None) -> None:
        """Read the bundle. Raises BundleError, and ValueError when the longest clip allowed would not fit the queue."""
        self._settings = settings
        self.bundle = bundle or Bundle.load(settings.bundle, verify=settings.verify_bundle)
        self.identity = embedding_identity(self.bundle)
        self.providers: list[str] = []
        self._speech: Batcher[Samples, Vectors] | None = None
        self._text: Batcher[str, TextEmbedding] | None = None
        self._texts: SharedTexts | None = None
        longest = self._plan(round(settings.max_audio_s * self.manifest.sample_rate))
        cost = sum(stop - start for start, stop in longest) / self.manifest.sample_rate
        if cost > settings.queue_audio_s:
            raise ValueError(
                f"a clip of max_audio_s = {settings.max_audio_s:g} s is {cost:g} s in windows; "
                f"queue_audio_s = {settings.queue_audio_s:g} s must be at least that"
            )

    @property
    def manifest(self) -> BundleManifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def ready(self) -> bool:
        """Both workers are alive, not stuck in a batch, and their last inferences did not all fail."""
        timeout, failures = self._settings.heartbeat_timeout_s, self._settings.max_failed_batches
        return all(
            worker is not None and worker.healthy(timeout_s=timeout, max_failures=failures)
            for worker in (self._speech, self._text)
        )

    async def start(self) -> None:
        """Open the encoders, prove with a real inference that they work, and start the workers.

        Raises BundleError when the encoders cannot be opened, and what they raise when they do not work.
        """
        if self._speech is not None:
            raise RuntimeError("the engine was started before")
        threads = self._settings.threads or available_cpus()
        self.runtime = await asyncio.to_thread(BundleRuntime, self.bundle, threads=threads)
        self.providers = list(self.runtime.providers)
        rate = self.manifest.sample_rate
        tone = (0.1 * np.sin(2 * np.pi * 220 * np.arange(rate) / rate)).astype(np.float32)
        speech_policy = BatchPolicy(
            max_padded=self._settings.batch_audio_s,
            max_pieces=max(1, int(self._settings.batch_audio_s / self.manifest.min_s)),
            min_density=_SPEECH_DENSITY,
            capacity=self._settings.queue_audio_s,
        )
        text_policy = BatchPolicy(
            max_padded=_MAX_TEXT_CHARS_PADDED,
            max_pieces=self._settings.batch_texts,
            min_density=_TEXT_DENSITY,
            capacity=self._settings.queue_texts,
        )
        speech = Batcher("speech", self._embed_windows, speech_policy, probe=Call([tone], [1.0]))
        probe = Call[str, TextEmbedding](["a calm voice"], [12], cost=1.0)
        text = Batcher("text", self._embed_texts, text_policy, probe=probe)
        for worker in (speech, text):
            await asyncio.to_thread(worker.start)
        self._speech, self._text = speech, text
        self._texts = SharedTexts(text.submit, cache_size=self._settings.text_cache_size)

    async def stop(self) -> None:
        """Finish what was accepted, refuse what comes later, and end the workers. Does nothing before `start`."""
        for worker in (self._text, self._speech):
            if worker is not None:
                await asyncio.to_thread(worker.stop)

    async def embed_texts(self, texts: Sequence[str], *, deadline: Clock | None = None) -> TextResult:
        """Texts -> [N, D]; a text that is known, repeated or in flight is computed once."""
        if self._texts is None:
            raise EngineFailed("the engine has not started")
        _check_deadline(deadline)
        found = await self._texts.get([_encodable(text) for text in texts], deadline=deadline)
        vectors = np.stack([one.vector for one in found]) if found else np.zeros((0, self.manifest.embedding_dim))
        return TextResult(
            vectors.astype(np.float32, copy=False), [one.tokens for one in found], [one.truncated for one in found]
        )

    async def embed_clip(self, samples: Samples, *, deadline: Clock | None = None) -> ClipResult:
        """A decoded clip, float32 [n] at the bundle's rate, cut into the bundle's windows.

        Raises ValueError for anything but one channel of samples, or more of them than `max_audio_s`.
        """
        if self._speech is None:
            raise EngineFailed("the engine has not started")
        if samples.ndim != 1 or not len(samples):
            raise ValueError(f"a clip is a non-empty [n] array, not {samples.shape}")
        _check_deadline(deadline)
        rate = self.manifest.sample_rate
        ranges = self._plan(len(samples))
        windows = [np.ascontiguousarray(samples[start:stop], dtype=np.float32) for start, stop in ranges]
        call = Call[Samples, Vectors](windows, [len(window) / rate for window in windows], deadline=deadline)
        self._speech.submit([call])
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            rows: list[Vectors] = await asyncio.wait_for(asyncio.wrap_future(call.future), timeout)
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed while the clip was being embedded") from error
        vectors = np.stack(rows)
        try:
            pooled = pool_windows(vectors)
        except ValueError as error:
            raise EngineFailed(f"the clip has no embedding: {error}") from error
        return ClipResult([(start / rate, stop / rate) for start, stop in ranges], vectors, pooled)

    def stats(self) -> EngineStats:
        """Counters, for metrics. Raises EngineFailed before `start`."""
        if self._speech is None or self._text is None or self._texts is None:
            raise EngineFailed("the engine has not started")
        texts = self._texts
        return EngineStats(self._speech.stats(), self._text.stats(), texts.hits, texts.misses, texts.shared)

    def _plan(self, samples: int) -> list[tuple[int, int]]:
        policy = self.manifest
        return plan_windows(
            samples, sample_rate=policy.sample_rate, window_s=policy.window_s, hop_s=policy.hop_s, min_s=policy.min_s
        )

    def _embed_windows(self, windows: Sequence[Samples]) -> list[Vectors | EngineFailed]:
        return _finite(self.runtime.embed_speech(windows))

    def _embed_texts(self, texts: Sequence[str]) -> list[TextEmbedding | EngineFailed]:
        rows = self.runtime.tokenize(texts)
        vectors = _finite(self.runtime.embed_tokens(rows))
        # Copied, because a row that the cache keeps would keep the whole batch.
        return [
            vector if isinstance(vector, EngineFailed) else TextEmbedding(vector.copy(), row.tokens, row.truncated)
            for vector, row in zip(vectors, rows, strict=True)
        ]


def _finite(vectors: Vectors) -> list[Vectors | EngineFailed]:
    """Rows, with an error in place of each that is not numbers: NaN compares with nothing and would sort anywhere."""
    good = np.asarray(np.isfinite(vectors).all(axis=1))
    return [
        row if ok else EngineFailed("the encoder gave a vector that is not finite")
        for row, ok in zip(vectors, good, strict=True)
    ]


def _check_deadline(deadline: Clock | None) -> None:
    if deadline is not None and time.monotonic() > deadline:
        raise DeadlineExceeded("the deadline had passed before the request reached the encoder")


def _encodable(text: str) -> str:
    """Lone surrogates are not text: one would fail the tokenizer, and with it the batch of others."""
    return text.encode("utf-8", "replace").decode("utf-8")
