"""The queue's promises: bounded, no wait, similar lengths together, nothing done for nobody, failures kept apart."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError

import pytest

from service.engine.batcher import Batcher
from service.engine.errors import DeadlineExceeded, EngineFailed, Overloaded
from service.engine.work import Call
from tests.support.batcher import PATIENCE, POLICY, Encoder, call, hold, until


@pytest.fixture
def encoder() -> Encoder:
    return Encoder()


@pytest.fixture
def worker(encoder: Encoder) -> Iterator[Batcher[float, float]]:
    batcher = Batcher("test", encoder, POLICY, probe=call(1.0))
    batcher.start()
    encoder.batches.clear()
    yield batcher
    encoder.free.set()
    batcher.stop()


def test_results_come_in_order(worker: Batcher[float, float]) -> None:
    mixed = call(10.0, 1.0, 7.0, 2.0, 10.0)
    worker.submit([mixed])
    assert mixed.future.result(PATIENCE) == [100.0, 1.0, 49.0, 4.0, 100.0]


def test_similar_lengths_run_together_and_the_oldest_goes_first(
    encoder: Encoder, worker: Batcher[float, float]
) -> None:
    hold(encoder, worker)
    calls = [call(value) for value in (3.0, 10.0, 3.1, 9.8, 3.2, 10.0, 10.0, 9.9)]
    worker.submit(calls)
    encoder.free.set()
    for one in calls:
        one.future.result(PATIENCE)
    assert encoder.batches[1] == [3.0, 3.1, 3.2]
    assert encoder.batches[2] == [10.0, 9.8, 10.0, 10.0], "what is alike runs in the order it came in"
    assert encoder.batches[3] == [9.9]
    stats = worker.stats()
    assert stats.useful / stats.padded > 0.9


def test_a_batch_is_bounded_by_its_padded_size_and_a_giant_runs_alone(
    encoder: Encoder, worker: Batcher[float, float]
) -> None:
    hold(encoder, worker)
    calls = [call(50.0), call(19.0), call(19.0), call(1.0)]
    worker.submit(calls)
    encoder.free.set()
    for one in calls:
        one.future.result(PATIENCE)
    assert [sorted(batch) for batch in encoder.batches[1:]] == [[50.0], [19.0, 19.0], [1.0]]


def test_a_full_queue_refuses_all_of_a_request_and_says_when(encoder: Encoder, worker: Batcher[float, float]) -> None:
    for _ in range(3):
        warm = call(10.0)
        worker.submit([warm])
        warm.future.result(PATIENCE)
    held = hold(encoder, worker)
    waiting = [call(10.0) for _ in range(9)]
    worker.submit(waiting)
    refused = [call(10.0), call(10.0)]
    with pytest.raises(Overloaded) as caught:
        worker.submit(refused)
    assert 1.0 <= caught.value.retry_after_s <= 600.0
    assert worker.stats().waiting == 90.0
    worker.submit([call(10.0)])
    encoder.free.set()
    assert held.future.result(PATIENCE) == [1.0]
    assert [one.future.result(PATIENCE) for one in waiting] == [[100.0]] * 9
    assert not any(one.done for one in refused)


def test_retry_after_is_the_measured_time_to_make_room(encoder: Encoder) -> None:
    def slow(batch: Sequence[float]) -> list[float | EngineFailed]:
        time.sleep(0.1 * sum(batch))
        return encoder(batch)

    worker: Batcher[float, float] = Batcher("slow", slow, POLICY, probe=call(1.0))
    worker.start()
    hold(encoder, worker)
    until(lambda: encoder.busy.is_set())
    waiting = call(90.0, size=90.0)
    worker.submit([waiting])
    with pytest.raises(Overloaded) as caught:
        worker.submit([call(60.0)])
    assert 5.0 <= caught.value.retry_after_s <= 12.0  # 50 over capacity at 10 a second, or less on a busy machine
    waiting.future.cancel()
    encoder.free.set()
    worker.stop()


def test_more_than_the_queue_could_ever_hold_is_not_called_overload(worker: Batcher[float, float]) -> None:
    with pytest.raises(ValueError, match="100 may wait"):
        worker.submit([call(60.0), call(60.0)])


def test_bulk_leaves_room_for_interactive_work(encoder: Encoder, worker: Batcher[float, float]) -> None:
    hold(encoder, worker)
    bulk = [Call[float, float]([float(size)], [float(size)], bulk=True) for size in (40, 45, 10)]
    worker.submit(bulk[:2])
    with pytest.raises(Overloaded):
        worker.submit(bulk[2:])
    interactive = call(10.0)
    worker.submit([interactive])
    with pytest.raises(ValueError, match="90 may wait"):
        worker.submit([Call[float, float]([91.0], [91.0], bulk=True)])
    encoder.free.set()
    assert interactive.future.result(PATIENCE) == [100.0]


def test_late_work_is_dropped_before_it_runs(encoder: Encoder, worker: Batcher[float, float]) -> None:
    hold(encoder, worker)
    late, punctual = call(5.0, 5.0, deadline=time.monotonic() + 0.05), call(5.0, deadline=time.monotonic() + PATIENCE)
    worker.submit([late, punctual])
    time.sleep(0.1)
    encoder.free.set()
    with pytest.raises(DeadlineExceeded):
        late.future.result(PATIENCE)
    assert punctual.future.result(PATIENCE) == [25.0]
    assert encoder.batches[1:] == [[5.0]]
    assert worker.stats().waiting == 0


def test_abandoned_work_is_dropped_before_it_runs(encoder: Encoder, worker: Batcher[float, float]) -> None:
    hold(encoder, worker)
    abandoned, wanted = call(5.0), call(5.0)
    worker.submit([abandoned, wanted])
    assert abandoned.future.cancel()
    encoder.free.set()
    assert wanted.future.result(PATIENCE) == [25.0]
    assert encoder.batches[1:] == [[5.0]]
    with pytest.raises(CancelledError):
        abandoned.future.result()


def test_abandoning_work_that_runs_hurts_nobody(encoder: Encoder, worker: Batcher[float, float]) -> None:
    running = hold(encoder, worker)
    running.future.cancel()
    encoder.free.set()
    after = call(3.0)
    worker.submit([after])
    assert after.future.result(PATIENCE) == [9.0]


def test_one_bad_input_fails_alone(encoder: Encoder, worker: Batcher[float, float]) -> None:
    held = hold(encoder, worker)
    poisoned, mates, other = call(666.0, size=5.0), [call(5.0), call(5.0), call(5.0)], call(20.0)
    worker.submit([mates[0], poisoned, *mates[1:], other])
    encoder.free.set()
    assert held.future.result(PATIENCE) == [1.0]
    assert [one.future.result(PATIENCE) for one in mates] == [[25.0]] * 3
    with pytest.raises(EngineFailed, match="ArithmeticError"):
        poisoned.future.result(PATIENCE)
    assert other.future.result(PATIENCE) == [400.0]
    assert worker.stats().failed_batches == 1
    assert worker.healthy(timeout_s=PATIENCE, max_failures=1)


def test_a_bad_result_fails_its_call_and_not_its_batch(encoder: Encoder, worker: Batcher[float, float]) -> None:
    hold(encoder, worker)
    bad, mate = call(13.0, size=5.0), call(5.0)
    worker.submit([bad, mate])
    encoder.free.set()
    with pytest.raises(EngineFailed, match="not a number"):
        bad.future.result(PATIENCE)
    assert mate.future.result(PATIENCE) == [25.0]


def test_the_rest_of_a_failed_call_is_not_run(encoder: Encoder, worker: Batcher[float, float]) -> None:
    hold(encoder, worker)
    failing = Call([666.0, 20.0], [2.0, 20.0])
    worker.submit([failing])
    encoder.free.set()
    with pytest.raises(EngineFailed):
        failing.future.result(PATIENCE)
    after = call(3.0)
    worker.submit([after])
    assert after.future.result(PATIENCE) == [9.0]
    assert [20.0] not in encoder.batches


def test_interactive_work_goes_first_and_bulk_goes_on(encoder: Encoder, worker: Batcher[float, float]) -> None:
    hold(encoder, worker)
    bulk = [Call[float, float]([float(size)], [float(size)], bulk=True) for size in (21, 22)]
    interactive = [call(float(size)) for size in (2, 4, 6, 8, 11, 15)]
    worker.submit(bulk)
    worker.submit(interactive)
    encoder.free.set()
    for one in [*bulk, *interactive]:
        one.future.result(PATIENCE)
    order = [batch[0] for batch in encoder.batches[1:]]
    assert order == [2.0, 4.0, 6.0, 8.0, 21.0, 11.0, 15.0, 22.0]


def test_what_would_be_late_is_refused_on_arrival(encoder: Encoder) -> None:
    def slow(batch: Sequence[float]) -> list[float | EngineFailed]:
        time.sleep(0.01 * sum(batch))  # 100 a second
        return encoder(batch)

    worker: Batcher[float, float] = Batcher("slow", slow, POLICY, probe=call(10.0), max_wait_s=0.7)
    worker.start()
    held = hold(encoder, worker)
    now = time.monotonic()
    worker.submit([call(50.0, deadline=now + PATIENCE)])
    with pytest.raises(Overloaded, match="can wait for") as caught:
        worker.submit([call(20.0, deadline=now + 0.3)])
    assert caught.value.retry_after_s == 1.0
    with pytest.raises(DeadlineExceeded, match="takes about"):
        worker.submit([call(40.0, deadline=now + 0.1)])
    worker.submit([call(30.0, deadline=now + PATIENCE)])
    with pytest.raises(Overloaded):  # 0.8 s of work are in front, however far the deadline is
        worker.submit([call(1.0, deadline=now + PATIENCE)])
    with pytest.raises(Overloaded):
        worker.check()
    worker.check(bulk=True)
    worker.check(admitted=True)
    encoder.free.set()
    assert held.future.result(PATIENCE) == [1.0]
    worker.stop()


def test_stopping_finishes_what_was_accepted(encoder: Encoder) -> None:
    worker: Batcher[float, float] = Batcher("test", encoder, POLICY, probe=call(1.0))
    worker.start()
    held = hold(encoder, worker)
    accepted = [call(value) for value in (5.0, 10.0, 20.0)]
    worker.submit(accepted)
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    until(lambda: worker._stopping)
    with pytest.raises(Overloaded, match="shutting down"):
        worker.submit([call(1.0)])
    encoder.free.set()
    stopper.join(PATIENCE)
    assert held.future.result(0) == [1.0]
    assert [one.future.result(0) for one in accepted] == [[25.0], [100.0], [400.0]]
