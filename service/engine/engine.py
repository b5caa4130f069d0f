"""The engine: an asyncio front over the worker threads that own the encoders. Clips and texts in, unit vectors out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import numpy as np

from model_export.bundle import Bundle, BundleManifest
from model_export.runtime import BundleRuntime
from model_export.windows import plan_windows, pool_windows
from service.engine.batcher import Batcher
from service.engine.errors import DeadlineExceeded, EngineFailed
from service.engine.identity import embedding_identity, scoring_identity
from service.engine.memory import c_library_trim
from service.engine.results import ClipResult, EngineStats, Samples, TextEmbedding, TextResult, Vectors
from service.engine.shared import Shared
from service.engine.supervisor import Supervisor
from service.engine.threads import available_cpus
from service.engine.waiting import BULK_SHARE, BatchPolicy
from service.engine.work import Call, Clock, WorkObserver
from service.settings import Settings

logger = logging.getLogger(__name__)

# Padding costs a speech batch as much as sound does, so that less than 5 % may be wasted on it; captions are short, and
# a call costs them more than padding.
_SPEECH_DENSITY = 0.95
_TEXT_DENSITY = 0.5
_MAX_TEXT_CHARS_PADDED = 64_000.0


class Engine:
    """Embeds texts and clips. Use it from one event loop, between `start` and `stop`.

    Every call may raise Overloaded (no room or no time, or the engine stops), DeadlineExceeded and EngineFailed. A
    `deadline` is a time on `time.monotonic()`'s clock. Cancelling a call withdraws what has not begun. `bulk` work lets
    interactive work go first; long clips and long lists of texts are bulk by themselves.

    Args:
        observer: is told of waits and batches.
        on_fatal: is called once, from a thread, when the encoders can't be brought back; the process should end.
    """

    def __init__(
        self,
        settings: Settings,
        bundle: Bundle | None = None,
        *,
        observer: WorkObserver | None = None,
        on_fatal: Callable[[str], None] = logger.critical,
    ) -> None:
        """Read the bundle. Raises BundleError, and ValueError when what one request may bring would not fit a queue."""
        self._settings, self._observer, self._on_fatal = settings, observer, on_fatal
        self.bundle = bundle or Bundle.load(settings.bundle, verify=settings.verify_bundle)
        self.identity = embedding_identity(self.bundle)
        self.scoring = scoring_identity(self.bundle)
        self.providers: list[str] = []
        self._speech: Batcher[Samples, Vectors] | None = None
        self._text: Batcher[str, TextEmbedding] | None = None
        self._supervisor: Supervisor | None = None
        cost = self.windowed_s(settings.max_audio_s)
        if cost > self.most_windowed_s:
            raise ValueError(
                f"a clip of max_audio_s = {settings.max_audio_s:g} s is {cost:g} s in windows; "
                f"{BULK_SHARE:.0%} of queue_audio_s = {settings.queue_audio_s:g} s must be at least that"
            )
        if settings.max_texts > self.most_texts:
            raise ValueError(
                f"{BULK_SHARE:.0%} of queue_texts = {settings.queue_texts} must be at least "
                f"max_texts = {settings.max_texts}"
            )

    @property
    def manifest(self) -> BundleManifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def most_windowed_s(self) -> float:
        """Most audio in windows that may wait where none waits yet, seconds."""
        return BULK_SHARE * self._settings.queue_audio_s

    @property
    def most_texts(self) -> int:
        """Most texts that may wait where none waits yet."""
        return int(BULK_SHARE * self._settings.queue_texts)

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
            # Where clips run alone, any more of a batch than run at one time would only keep the others waiting.
            max_pieces=self.runtime.clips_abreast or max(1, int(self._settings.batch_audio_s / self.manifest.min_s)),
            min_density=_SPEECH_DENSITY,
            capacity=self._settings.queue_audio_s,
        )
        text_policy = BatchPolicy(
            max_padded=_MAX_TEXT_CHARS_PADDED,
            max_pieces=self._settings.batch_texts,
            min_density=_TEXT_DENSITY,
            capacity=self._settings.queue_texts,
        )
        options: dict[str, Any] = {"max_wait_s": self._settings.max_wait_s, "observer": self._observer}
        speech = Batcher("speech", self._embed_windows, speech_policy, probe=Call([tone], [1.0]), **options)
        probe = Call[str, TextEmbedding](["a calm voice"], [12], cost=1.0)
        text = Batcher("text", self._embed_texts, text_policy, probe=probe, **options)
        for worker in (speech, text):
            await asyncio.to_thread(worker.start)
        self._speech, self._text = speech, text
        self._clips: Shared[Samples, Vectors] = Shared(speech.submit, cache_size=0)
        self._texts: Shared[str, TextEmbedding] = Shared(text.submit, cache_size=self._settings.text_cache_size)
        self._supervisor = Supervisor(
            (speech, text),
            lambda: self.ready,
            on_fatal=self._on_fatal,
            give_up_s=self._settings.unhealthy_exit_s,
            idle=lambda: not (speech.busy or text.busy),
            on_idle=c_library_trim(),
        )
        self._supervisor.start()

    async def stop(self) -> None:
        """Finish what was accepted, refuse what comes later, end the workers. Does nothing before `start`.

        What takes longer than a request may is given up: its callers have been answered by then.
        """
        if self._supervisor is not None:
            await asyncio.to_thread(self._supervisor.stop)
        for worker in (self._text, self._speech):
            if worker is not None:
                await asyncio.to_thread(worker.stop, self._settings.request_timeout_s)

    def check_speech(self, seconds: float = 0.0, *, deadline: Clock | None = None, bulk: bool = False) -> None:
        """Raise now what `embed_clip` would raise for a clip of so many seconds: ask before it is read and decoded."""
        if self._speech is None:
            raise EngineFailed("the engine has not started")
        _check_deadline(deadline)
        self._speech.check(seconds, deadline=deadline, bulk=bulk)

    async def embed_texts(
        self, texts: Sequence[str], *, deadline: Clock | None = None, bulk: bool = False, admitted: bool = False
    ) -> TextResult:
        """Texts -> [N, D]; a text that is known, repeated or in flight is computed once.

        `admitted` texts belong to a request that is under way: it may wait for them until its deadline.
        """
        if self._text is None:
            raise EngineFailed("the engine has not started")
        _check_deadline(deadline)
        keys = [_encodable(text) for text in texts]
        bulk = bulk or len(keys) > self._settings.batch_texts

        def call(text: str) -> Call[str, TextEmbedding]:
            return Call([text], [len(text)], cost=1.0, deadline=deadline, bulk=bulk)

        wanted: dict[Hashable, Callable[[], Call[str, TextEmbedding]]] = {text: partial(call, text) for text in keys}
        by_text = await self._texts.get(wanted, deadline=deadline, bulk=bulk, admitted=admitted)
        found = [by_text[text][0] for text in keys]
        vectors = np.stack([one.vector for one in found]) if found else np.zeros((0, self.manifest.embedding_dim))
        return TextResult(
            vectors.astype(np.float32, copy=False), [one.tokens for one in found], [one.truncated for one in found]
        )

    async def embed_clip(
        self,
        samples: Samples,
        *,
        key: str | None = None,
        deadline: Clock | None = None,
        bulk: bool = False,
        admitted: bool = False,
    ) -> ClipResult:
        """A decoded clip, float32 [n] at the bundle's rate, cut into the bundle's windows.

        `key` names the content: clips of one key that are in flight together are computed once. `admitted` clips
        belong to a request that is under way. Raises ValueError for no samples, or more of them than `max_audio_s`.
        """
        if samples.ndim != 1 or not len(samples):
            raise ValueError(f"a clip is a non-empty [n] array, not {samples.shape}")
        bulk = bulk or len(samples) > self._settings.bulk_audio_s * self.manifest.sample_rate
        ranges = self._plan(len(samples))
        return await self._embed_ranges(samples, ranges, key, deadline=deadline, bulk=bulk, admitted=admitted)

    async def embed_windows(
        self, samples: Samples, ranges: Sequence[tuple[int, int]], *, deadline: Clock | None = None
    ) -> ClipResult:
        """A clip of a request that is under way in windows of the caller's own, all of them or none.

        They are bulk where they come to more than `bulk_audio_s` together. Raises ValueError for more of them than
        `most_windowed_s`.
        """
        seconds = sum(stop - start for start, stop in ranges) / self.manifest.sample_rate
        bulk = seconds > self._settings.bulk_audio_s
        return await self._embed_ranges(samples, ranges, None, deadline=deadline, bulk=bulk, admitted=True)

    async def _embed_ranges(
        self,
        samples: Samples,
        ranges: Sequence[tuple[int, int]],
        key: str | None,
        *,
        deadline: Clock | None,
        bulk: bool,
        admitted: bool,
    ) -> ClipResult:
        if self._speech is None:
            raise EngineFailed("the engine has not started")
        _check_deadline(deadline)
        rate = self.manifest.sample_rate

        def call() -> Call[Samples, Vectors]:
            windows = [np.ascontiguousarray(samples[start:stop], dtype=np.float32) for start, stop in ranges]
            return Call(windows, [len(window) / rate for window in windows], deadline=deadline, bulk=bulk)

        unique: Hashable = key if key is not None else object()
        found = await self._clips.get({unique: call}, deadline=deadline, bulk=bulk, admitted=admitted)
        (rows,) = found.values()
        vectors = np.stack(rows)
        try:
            pooled = pool_windows(vectors)
        except ValueError as error:
            raise EngineFailed(f"the clip has no embedding: {error}") from error
        return ClipResult([(start / rate, stop / rate) for start, stop in ranges], vectors, pooled)

    def windowed_s(self, seconds: float) -> float:
        """What a clip of so many seconds comes to in the bundle's windows, which overlap."""
        rate = self.manifest.sample_rate
        return sum(stop - start for start, stop in self._plan(round(seconds * rate))) / rate

    def stats(self) -> EngineStats:
        """Counters, for metrics. Raises EngineFailed before `start`."""
        if self._speech is None or self._text is None:
            raise EngineFailed("the engine has not started")
        texts, shared = self._texts, self._texts.shared + self._clips.shared
        return EngineStats(self._speech.stats(), self._text.stats(), texts.hits, texts.misses, shared)

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
