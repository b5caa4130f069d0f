"""The ledger: what it acknowledged is there after a kill, it has one writer, and the first answer stands."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from training.captions.ledger import Ledger, LedgerLockedError, Question

QUESTION = Question("a", "p", "m", 1)


def put(ledger: Ledger, *pairs: tuple[Question, dict[str, object]]) -> None:
    async def run() -> None:
        await asyncio.gather(*(ledger.put(q, a) for q, a in pairs))

    asyncio.run(run())


def test_answers_are_found_by_all_four_parts_of_the_key(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x.sqlite")
    put(ledger, (QUESTION, {"text": "one"}))
    others = [
        Question("b", "p", "m", 1),
        Question("a", "q", "m", 1),
        Question("a", "p", "n", 1),
        Question("a", "p", "m", 2),
    ]
    assert ledger.get_many([QUESTION, *others]) == {QUESTION: {"text": "one"}}
    assert len({q.key() for q in [QUESTION, *others]}) == 5
    # Parts that run into each other are no excuse.
    assert Question("ab", "c", "m", 1).key() != Question("a", "bc", "m", 1).key()
    ledger.close()


def test_the_first_answer_stands(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x.sqlite")
    put(ledger, (QUESTION, {"text": "first"}))
    put(ledger, (QUESTION, {"text": "second"}))
    assert ledger.get_many([QUESTION])[QUESTION] == {"text": "first"}
    ledger.close()


def test_many_at_once_and_many_looked_up(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x.sqlite")
    questions = [Question(f"a{i}", "p", "m", i) for i in range(1700)]
    put(ledger, *((q, {"n": q.seed}) for q in questions))
    found = ledger.get_many(questions)
    assert [found[q]["n"] for q in questions] == list(range(1700))
    assert ledger.count() == 1700
    ledger.close()


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "x.sqlite")
    with pytest.raises(LedgerLockedError, match="in use"):
        Ledger(tmp_path / "x.sqlite")
    ledger.close()
    Ledger(tmp_path / "x.sqlite").close()


WRITER = """
import asyncio, sys
from pathlib import Path
from training.captions.ledger import Ledger, Question

async def run():
    ledger = Ledger(Path(sys.argv[1]))
    async def one(i):
        await ledger.put(Question(str(i), "p", "m", i), {"n": i})
        print(i, flush=True)
    for start in range(0, 100000, 5):
        await asyncio.gather(*(one(start + i) for i in range(5)))

asyncio.run(run())
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(120)]
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    ledger = Ledger(path)
    found = ledger.get_many([Question(str(i), "p", "m", i) for i in told])
    assert {q.seed for q in found} == set(told)
    ledger.close()
