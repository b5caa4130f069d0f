"""The engine on the bundle that ships: real inference, the same vectors in any company, honest under failure."""

import asyncio

import numpy as np
import pytest

from model_export.bundle import BundleError
from model_export.windows import pool_windows
from service.engine import Engine, EngineFailed
from service.settings import Settings
from tests.support.engine import SETTINGS, clip, run


def test_a_clips_vectors_do_not_depend_on_its_company() -> None:
    async def scenario(engine: Engine) -> None:
        clips = [clip(seconds, seed) for seed, seconds in enumerate((0.3, 1.0, 3.0, 3.1, 3.25, 9.5, 10.0, 12.0))]
        alone = [await engine.embed_clip(samples) for samples in clips]
        twice = [await engine.embed_clip(samples) for samples in clips]
        assert all(np.array_equal(one.vectors, other.vectors) for one, other in zip(alone, twice, strict=True))
        before = engine.stats().speech
        mixed = await asyncio.gather(*(engine.embed_clip(samples) for samples in clips))
        after = engine.stats().speech
        assert engine.runtime.clips_abreast == 1, "the bundle that ships is in 8 bits"
        assert after.batches - before.batches == after.pieces - before.pieces == 9, "a clip waited for another's end"
        for one, other in zip(alone, mixed, strict=True):
            assert (one.vectors * other.vectors).sum(axis=1).min() >= 0.99999
            assert one.pooled @ other.pooled >= 0.99999

    run(scenario)


def test_clips_that_run_abreast_are_as_they_are_alone() -> None:
    async def scenario(engine: Engine) -> None:
        assert engine.runtime.clips_abreast == 2
        clips = [clip(seconds, seed) for seed, seconds in enumerate((3.0, 3.05, 3.1, 9.9, 10.0))]
        alone = [engine.runtime.embed_speech([samples])[0] for samples in clips]
        before = engine.stats().speech
        together = await asyncio.gather(*(engine.embed_clip(samples) for samples in clips))
        after = engine.stats().speech
        assert 3 <= after.batches - before.batches < after.pieces - before.pieces == 5
        for one, other in zip(alone, together, strict=True):
            assert one @ other.pooled >= 0.99999

    run(scenario, Settings(threads=2))


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
    with pytest.raises(ValueError, match="queue_texts"):
        Engine(Settings(max_texts=256, queue_texts=256))
    with pytest.raises(BundleError):
        Engine(Settings(bundle="no/such/bundle"))
