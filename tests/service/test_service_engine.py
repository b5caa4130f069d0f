"""The engine on the bundle that ships: real inference, the same vectors in any company, honest under failure."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from audio_files import voice

from model_export.bundle import BundleError
from model_export.windows import pool_windows
from service.engine import DeadlineExceeded, Engine, EngineFailed, Overloaded
from service.settings import Settings

SETTINGS = Settings(threads=1)
Scenario = Callable[[Engine], Awaitable[None]]


@asynccontextmanager
async def running(settings: Settings = SETTINGS) -> AsyncIterator[Engine]:
    engine = Engine(settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


def run(scenario: Scenario, settings: Settings = SETTINGS) -> None:
    async def main() -> None:
        async with running(settings) as engine:
            await scenario(engine)

    asyncio.run(main())


def clip(seconds: float, seed: int = 0) -> np.ndarray:
    return voice(seconds, seed=seed)[:, 0].astype(np.float32)


def pause_worker(engine: Engine, name: str) -> tuple[threading.Event, threading.Event]:
    """Make the next call of the runtime's `name` wait: (it has begun, let it go on)."""
    begun, go = threading.Event(), threading.Event()
    original = getattr(engine.runtime, name)

    def paused(batch: Sequence[object]) -> object:
        begun.set()
        assert go.wait(20)
        return original(batch)

    setattr(engine.runtime, name, paused)
    return begun, go


def test_a_clips_vectors_do_not_depend_on_its_company() -> None:
    async def scenario(engine: Engine) -> None:
        clips = [clip(seconds, seed) for seed, seconds in enumerate((0.3, 1.0, 3.0, 3.1, 3.25, 9.5, 10.0, 12.0))]
        alone = [await engine.embed_clip(samples) for samples in clips]
        twice = [await engine.embed_clip(samples) for samples in clips]
        assert all(np.array_equal(one.vectors, other.vectors) for one, other in zip(alone, twice, strict=True))
        before = engine.stats().speech
        mixed = await asyncio.gather(*(engine.embed_clip(samples) for samples in clips))
        after = engine.stats().speech
        assert after.batches - before.batches < after.pieces - before.pieces, "nothing was batched together"
        for one, other in zip(alone, mixed, strict=True):
            assert (one.vectors * other.vectors).sum(axis=1).min() >= 0.99999
            assert one.pooled @ other.pooled >= 0.99999

    run(scenario)


def test_padding_of_any_amount_does_not_leak() -> None:
    """Straight into the runtime, past the batcher that keeps unlike lengths apart."""

    async def scenario(engine: Engine) -> None:
        short, long = clip(0.4, 1), clip(10.0, 2)
        alone = engine.runtime.embed_speech([short])[0]
        padded = engine.runtime.embed_speech([long, short])[1]
        assert alone @ padded >= 0.99999
        text_alone = engine.runtime.embed_text(["calm"])[0]
        text_padded = engine.runtime.embed_text(["a long caption about " * 20, "calm"])[1]
        assert text_alone @ text_padded >= 0.99999

    run(scenario)


def test_long_clips_are_cut_by_the_bundles_policy() -> None:
    async def scenario(engine: Engine) -> None:
        policy = engine.manifest
        result = await engine.embed_clip(clip(policy.window_s + 2.0))
        assert result.windows == [(0.0, policy.window_s), (policy.hop_s, policy.window_s + 2.0)]
        assert result.vectors.shape == (2, policy.embedding_dim)
        assert result.vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(result.vectors, axis=1), 1.0, atol=1e-5)
        np.testing.assert_array_equal(result.pooled, pool_windows(result.vectors))

    run(scenario)


def test_texts_repeated_in_flight_or_known_are_computed_once() -> None:
    async def scenario(engine: Engine) -> None:
        texts = ["a calm voice", "an angry man", "a calm voice"]
        first, second = await asyncio.gather(engine.embed_texts(texts), engine.embed_texts(texts))
        np.testing.assert_array_equal(first.vectors, second.vectors)
        np.testing.assert_array_equal(first.vectors[0], first.vectors[2])
        np.testing.assert_allclose(np.linalg.norm(first.vectors, axis=1), 1.0, atol=1e-5)
        third = await engine.embed_texts(texts)
        np.testing.assert_array_equal(first.vectors, third.vectors)
        stats = engine.stats()
        assert (stats.text.pieces, stats.cache_misses, stats.cache_hits, stats.shared_in_flight) == (2, 2, 2, 2)

    run(scenario)


def test_the_cache_forgets_the_least_recent_and_can_be_off() -> None:
    async def small(engine: Engine) -> None:
        for text in ("one", "two", "one", "three", "one"):
            await engine.embed_texts([text])
        assert engine.stats().cache_misses == 3
        await engine.embed_texts(["two"])
        assert engine.stats().cache_misses == 4

    async def off(engine: Engine) -> None:
        await engine.embed_texts(["one"])
        await engine.embed_texts(["one"])
        assert engine.stats().text.pieces == 2

    run(small, Settings(threads=1, text_cache_size=2))
    run(off, Settings(threads=1, text_cache_size=0))


def test_tokens_are_counted_and_truncation_is_told() -> None:
    async def scenario(engine: Engine) -> None:
        long = "a slow deep voice " * 400
        result = await engine.embed_texts(["calm", long])
        assert result.truncated == [False, True]
        assert result.tokens[1] > engine.manifest.max_tokens > result.tokens[0] > 0
        assert (await engine.embed_texts([])).vectors.shape == (0, engine.manifest.embedding_dim)
        assert np.isfinite((await engine.embed_texts(["\ud800 broken", ""])).vectors).all()

    run(scenario)


def test_a_deadline_that_has_passed_costs_nothing() -> None:
    async def scenario(engine: Engine) -> None:
        before = engine.stats()
        past = time.monotonic() - 1
        with pytest.raises(DeadlineExceeded):
            await engine.embed_clip(clip(1.0), deadline=past)
        with pytest.raises(DeadlineExceeded):
            await engine.embed_texts(["late"], deadline=past)
        after = engine.stats()
        assert (after.speech.pieces, after.text.pieces) == (before.speech.pieces, before.text.pieces)

    run(scenario)


def test_a_deadline_that_passes_in_the_queue_answers_at_once_and_drops_the_work() -> None:
    async def scenario(engine: Engine) -> None:
        begun, go = pause_worker(engine, "embed_speech")
        running_clip = asyncio.create_task(engine.embed_clip(clip(1.0)))
        await asyncio.to_thread(begun.wait, 20)
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await engine.embed_clip(clip(5.0), deadline=start + 0.1)
        assert time.monotonic() - start < 2.0
        go.set()
        await running_clip
        await engine.embed_clip(clip(1.0))
        assert engine.stats().speech.pieces == 2

    run(scenario)


def test_cancelled_callers_cost_nothing_and_take_no_shared_text_along() -> None:
    async def scenario(engine: Engine) -> None:
        begun, go = pause_worker(engine, "tokenize")
        first = asyncio.create_task(engine.embed_texts(["running"]))
        await asyncio.to_thread(begun.wait, 20)
        leaver = asyncio.create_task(engine.embed_texts(["shared", "only the leaver's"]))
        stayer = asyncio.create_task(engine.embed_texts(["shared"]))
        await asyncio.sleep(0.05)
        leaver.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaver
        go.set()
        assert len((await stayer).vectors) == 1
        await first
        assert engine.stats().text.pieces == 2

    run(scenario)


def test_a_full_queue_is_told_with_a_time_and_empties_again() -> None:
    async def scenario(engine: Engine) -> None:
        begun, go = pause_worker(engine, "embed_speech")
        first = asyncio.create_task(engine.embed_clip(clip(1.0)))
        await asyncio.to_thread(begun.wait, 20)
        waiting = [asyncio.create_task(engine.embed_clip(clip(9.0, seed))) for seed in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded) as caught:
            await engine.embed_clip(clip(3.0))
        assert caught.value.retry_after_s >= 1.0
        go.set()
        results = await asyncio.gather(first, *waiting)
        assert len(results) == 3
        await engine.embed_clip(clip(3.0))

    run(scenario, Settings(threads=1, max_audio_s=10.0, queue_audio_s=20.0))


def test_a_failing_encoder_fails_its_batch_and_the_engine_goes_on() -> None:
    async def scenario(engine: Engine) -> None:
        original = engine.runtime.embed_speech

        def failing(waves: Sequence[np.ndarray]) -> np.ndarray:
            if any(len(wave) == 16_001 for wave in waves):
                raise MemoryError("out of memory")
            out = original(waves)
            out[[len(wave) == 16_002 for wave in waves]] = np.nan
            return out

        engine.runtime.embed_speech = failing  # type: ignore[method-assign]
        with pytest.raises(EngineFailed, match="MemoryError"):
            await engine.embed_clip(clip(2.0)[:16_001])
        with pytest.raises(EngineFailed, match="not finite"):
            await engine.embed_clip(clip(2.0)[:16_002])
        assert (await engine.embed_clip(clip(1.0))).vectors.shape[0] == 1
        assert engine.ready

    run(scenario)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_readiness_turns_when_a_worker_dies() -> None:
    async def scenario(engine: Engine) -> None:
        assert engine.ready

        def die(waves: Sequence[np.ndarray]) -> np.ndarray:
            raise SystemExit

        engine.runtime.embed_speech = die  # type: ignore[method-assign]
        with pytest.raises(EngineFailed, match="died"):
            await engine.embed_clip(clip(1.0))
        for _ in range(200):
            if not engine.ready:
                break
            await asyncio.sleep(0.01)
        assert not engine.ready
        with pytest.raises(EngineFailed):
            await engine.embed_clip(clip(1.0))
        assert len((await engine.embed_texts(["the text worker lives"])).vectors) == 1

    run(scenario)


def test_stopping_answers_what_was_accepted() -> None:
    async def main() -> None:
        engine = Engine(SETTINGS)
        await engine.start()
        tasks = [asyncio.create_task(engine.embed_clip(clip(2.0, seed))) for seed in range(3)]
        await asyncio.sleep(0)
        await engine.stop()
        assert len(await asyncio.gather(*tasks)) == 3
        assert not engine.ready
        with pytest.raises(Overloaded):
            await engine.embed_clip(clip(1.0))

    asyncio.run(main())


def test_misuse_is_told() -> None:
    async def scenario(engine: Engine) -> None:
        for wrong in (np.zeros(0, np.float32), np.zeros((2, 100), np.float32)):
            with pytest.raises(ValueError, match="non-empty"):
                await engine.embed_clip(wrong)
        with pytest.raises(RuntimeError, match="started before"):
            await engine.start()

    run(scenario)
    idle = Engine(SETTINGS)
    assert not idle.ready
    with pytest.raises(EngineFailed, match="not started"):
        asyncio.run(idle.embed_texts(["a"]))
    with pytest.raises(ValueError, match="queue_audio_s"):
        Engine(Settings(max_audio_s=3600, queue_audio_s=3600))
    with pytest.raises(BundleError):
        Engine(Settings(bundle="no/such/bundle"))
