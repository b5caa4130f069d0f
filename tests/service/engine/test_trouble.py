"""The engine in trouble: late, left alone, overfull, failing, killed, stopped; and short work beside long work."""

import asyncio
import time
from collections.abc import Sequence

import numpy as np
import pytest

from service.engine import DeadlineExceeded, Engine, EngineFailed, Overloaded
from service.settings import Settings
from tests.support.engine import SETTINGS, clip, kill_speech_worker, pause_worker, run


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


def test_who_asks_for_what_bulk_waits_for_does_not_wait_with_it() -> None:
    async def scenario(engine: Engine) -> None:
        begun, go = pause_worker(engine, "embed_speech")
        first = asyncio.create_task(engine.embed_clip(clip(1.0)))
        await asyncio.to_thread(begun.wait, 20)
        done: list[str] = []

        async def embed(name: str, samples: np.ndarray, *, bulk: bool) -> None:
            await engine.embed_clip(samples, key=name[0], bulk=bulk)
            done.append(name)

        names = {"long": clip(30.0), "wanted by bulk": clip(3.0, 1), "wanted by bulk too": clip(3.0, 1)}
        waiting = [asyncio.create_task(embed(name, samples, bulk=True)) for name, samples in names.items()]
        await asyncio.sleep(0.05)
        waiting += [asyncio.create_task(embed(name, clip(3.0, 1), bulk=False)) for name in ("wanted now", "w. also")]
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.gather(first, *waiting)
        assert done[:2] == ["wanted now", "w. also"]
        assert engine.stats().shared_in_flight == 2, "bulk joined bulk, and the second of the others the first"

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


def test_a_killed_worker_turns_readiness_answers_everybody_and_comes_back() -> None:
    async def scenario(engine: Engine) -> None:
        begun, go = pause_worker(engine, "embed_speech")
        held = asyncio.create_task(engine.embed_clip(clip(1.0)))
        await asyncio.to_thread(begun.wait, 20)
        waiting = asyncio.create_task(engine.embed_clip(clip(3.0)))
        while engine.stats().speech.waiting < 3.0:
            await asyncio.sleep(0.01)
        kill_speech_worker(engine)
        go.set()
        with pytest.raises(EngineFailed, match="died"):
            await held
        assert not engine.ready
        with pytest.raises(EngineFailed, match="not running"):
            await engine.embed_clip(clip(1.0, 1))
        with pytest.raises(EngineFailed, match="not running"):
            engine.check_speech()
        assert len((await engine.embed_texts(["the text worker lives"])).vectors) == 1
        assert (await waiting).vectors.shape[0] == 1
        assert engine.ready
        assert engine.stats().speech.deaths == 1

    run(scenario)


def test_identical_clips_in_flight_are_computed_once() -> None:
    async def scenario(engine: Engine) -> None:
        same = clip(3.0)
        results = await asyncio.gather(*(engine.embed_clip(same, key="sha") for _ in range(5)))
        assert engine.stats().speech.pieces == 1
        assert engine.stats().shared_in_flight == 4
        assert all(np.array_equal(one.pooled, results[0].pooled) for one in results)
        await engine.embed_clip(same, key="sha")
        assert engine.stats().speech.pieces == 2, "clips are shared in flight, not kept"

    run(scenario)


def test_short_clips_pass_an_hour_of_audio() -> None:
    async def scenario(engine: Engine) -> None:
        long = asyncio.create_task(engine.embed_clip(clip(120.0)))
        await asyncio.sleep(0.05)
        short = await engine.embed_clip(clip(1.0))
        assert short.vectors.shape[0] == 1
        assert not long.done()
        assert (await long).vectors.shape[0] == 23

    run(scenario, Settings(threads=1, bulk_audio_s=30.0, batch_audio_s=10.0))


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
