"""A worker that breaks: who is answered, what health says, how it comes back, and when the process gives up."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from service.engine.batcher import Batcher
from service.engine.errors import EngineFailed, WorkerDown
from service.engine.supervisor import Supervisor
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


def test_bad_inputs_alone_never_make_it_unhealthy(encoder: Encoder, worker: Batcher[float, float]) -> None:
    for _ in range(12):
        bad = call(666.0, size=5.0)
        worker.submit([bad])
        with pytest.raises(EngineFailed):
            bad.future.result(PATIENCE)
        assert worker.healthy(timeout_s=PATIENCE, max_failures=5)
    assert 1.0 in [batch[0] for batch in encoder.batches], "the probe tells bad inputs from a broken encoder"


def test_a_broken_encoder_is_not_tried_with_every_input(encoder: Encoder, worker: Batcher[float, float]) -> None:
    hold(encoder, worker)
    encoder.broken = True
    calls = [call(5.0) for _ in range(4)]
    worker.submit(calls)
    encoder.free.set()
    for one in calls:
        with pytest.raises(EngineFailed, match="OSError"):
            one.future.result(PATIENCE)
    assert [batch for batch in encoder.batches if 5.0 in batch][1:] == [[5.0]] * 3


def test_health_follows_failures_and_recovers_by_itself(encoder: Encoder, worker: Batcher[float, float]) -> None:
    encoder.broken = True
    for _ in range(3):
        one = call(2.0)
        worker.submit([one])
        with pytest.raises(EngineFailed):
            one.future.result(PATIENCE)
    assert not worker.healthy(timeout_s=PATIENCE, max_failures=3)
    encoder.broken = False
    until(lambda: worker.healthy(timeout_s=PATIENCE, max_failures=3))


def test_a_stuck_worker_is_not_healthy(encoder: Encoder, worker: Batcher[float, float]) -> None:
    assert worker.healthy(timeout_s=5.0, max_failures=1)
    hold(encoder, worker)
    time.sleep(0.2)
    assert not worker.healthy(timeout_s=0.1, max_failures=1)


def test_a_dead_worker_answers_for_what_it_held_and_the_next_one_does_the_rest(
    encoder: Encoder, worker: Batcher[float, float]
) -> None:
    hold(encoder, worker)
    killer, mate, waiting = call(999.0, size=5.0), call(5.0), call(20.0)
    worker.submit([killer, mate, waiting])
    encoder.free.set()
    for one in (killer, mate):
        with pytest.raises(EngineFailed, match="died"):
            one.future.result(PATIENCE)
    until(lambda: not worker.alive)
    assert not worker.healthy(timeout_s=PATIENCE, max_failures=5)
    with pytest.raises(WorkerDown, match="not running"):
        worker.submit([call(1.0)])
    with pytest.raises(WorkerDown):
        worker.check()
    encoder.broken = True
    worker.restart()
    time.sleep(0.1)
    assert not worker.healthy(timeout_s=PATIENCE, max_failures=5), "healthy only after a real inference"
    encoder.broken = False
    until(lambda: worker.healthy(timeout_s=PATIENCE, max_failures=5))
    after = call(3.0)
    worker.submit([after])
    assert after.future.result(PATIENCE) == [9.0]
    assert waiting.done
    assert worker.deaths == 1


def test_a_worker_given_up_answers_everybody(encoder: Encoder, worker: Batcher[float, float]) -> None:
    stuck = hold(encoder, worker)
    waiting = call(5.0)
    worker.submit([waiting])
    stopped = time.monotonic()
    worker.stop(timeout_s=0.1)
    assert time.monotonic() - stopped < 5
    for one in (stuck, waiting):
        with pytest.raises(EngineFailed, match="died"):
            one.future.result(0)


def test_a_supervisor_revives_the_dead_and_gives_up_on_the_hopeless(
    encoder: Encoder, worker: Batcher[float, float]
) -> None:
    reasons: list[str] = []

    def healthy() -> bool:
        return worker.healthy(timeout_s=PATIENCE, max_failures=1)

    supervisor = Supervisor([worker], healthy, on_fatal=reasons.append, give_up_s=1.0, pause_s=0.05)
    supervisor.start()
    for death in (1, 2):
        killer = call(999.0, size=5.0)
        worker.submit([killer])
        with pytest.raises(EngineFailed, match="died"):
            killer.future.result(PATIENCE)
        until(lambda: not healthy())
        until(healthy)
        assert worker.deaths == death
    assert not reasons
    encoder.free.clear()
    encoder.broken = True
    failing, left = call(5.0), call(20.0)
    worker.submit([failing, left])
    encoder.free.set()
    until(lambda: bool(reasons))
    supervisor.stop()
    assert "have not worked for 1 s" in reasons[0]
    assert failing.done and left.done


def test_a_supervisor_gives_up_on_a_worker_that_dies_every_time(
    encoder: Encoder, worker: Batcher[float, float]
) -> None:
    reasons: list[str] = []

    def healthy() -> bool:
        return worker.healthy(timeout_s=PATIENCE, max_failures=5)

    supervisor = Supervisor([worker], healthy, on_fatal=reasons.append, give_up_s=PATIENCE, pause_s=0.01)
    supervisor.start()
    for _ in range(6):
        until(healthy)
        killer = call(999.0, size=5.0)
        worker.submit([killer])
        until(lambda: killer.done)  # noqa: B023
        until(lambda: bool(reasons) or worker.alive)
    until(lambda: bool(reasons))
    supervisor.stop()
    assert "died 6 times" in reasons[0]


def test_a_worker_that_does_not_work_does_not_start() -> None:
    def broken(batch: Sequence[float]) -> list[float | EngineFailed]:
        raise OSError("no device")

    worker: Batcher[float, float] = Batcher("test", broken, POLICY, probe=call(1.0))
    with pytest.raises(OSError, match="no device"):
        worker.start()
    assert not worker.healthy(timeout_s=PATIENCE, max_failures=1)


def test_a_wrong_count_of_results_is_a_failure_of_the_batch() -> None:
    answers = iter([[1.0], [1.0], [1.0, 2.0], [4.0]])
    worker: Batcher[float, float] = Batcher("test", lambda _: next(answers), POLICY, probe=call(1.0))
    worker.start()
    first, second = call(1.0), call(2.0)
    worker.submit([first])
    with pytest.raises(EngineFailed, match="RuntimeError"):
        first.future.result(PATIENCE)
    worker.submit([second])
    assert second.future.result(PATIENCE) == [4.0]
    worker.stop()


def test_memory_is_given_back_once_after_each_burst(encoder: Encoder, worker: Batcher[float, float]) -> None:
    given_back: list[float] = []
    seen_busy = threading.Event()

    def idle() -> bool:
        if worker.busy:
            seen_busy.set()
        return not worker.busy

    supervisor = Supervisor(
        [worker],
        lambda: True,
        on_fatal=pytest.fail,
        give_up_s=PATIENCE,
        idle=idle,
        on_idle=lambda: given_back.append(time.monotonic()),
        idle_s=0.05,
    )
    supervisor.start()
    for _ in range(2):
        held = hold(encoder, worker)
        assert seen_busy.wait(PATIENCE)
        before = len(given_back)
        encoder.free.set()
        held.future.result(PATIENCE)
        until(lambda: len(given_back) > before)  # noqa: B023
        seen_busy.clear()
    time.sleep(0.5)
    supervisor.stop()
    assert len(given_back) == before + 1, "an idle service is left alone"
