"""Rows in, annotated rows out, in order: looks up what is paid for, asks for the rest, checks what came back.

A bounded window of clips is in work at a time, so that memory is flat whatever the manifest's length.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from training.captions.annotator import KINDS, TRAINER_KIND, Annotator, AnnotatorError, Kind, Reply
from training.captions.ask import NoVerdictError
from training.captions.endpoint import EndpointStoppedError, Usage
from training.captions.filters import RULES, Said, check, tidy
from training.captions.ledger import Ledger, Question
from training.captions.utterance import AudioError, Utterance
from training.captions.verifier import Verifier

T = TypeVar("T")
Row = dict[str, Any]
Slot = tuple[Kind, int]
Claim = asyncio.Future[Reply | Exception]  # what became of a question that a row of the window asks


@dataclass(frozen=True)
class Plan:
    """How many captions of each kind a clip gets, and what they have to keep to."""

    counts: Mapping[Kind, int]
    lengths: Mapping[Kind, tuple[int, int]]
    seed: int = 0
    rules: tuple[str, ...] = tuple(RULES)
    replace: bool = False  # forget captions that a row already has

    def __post_init__(self) -> None:
        """Raises ValueError for a plan that nothing can come of: it would be paid for all the same."""
        if not any(self.counts.values()):
            raise ValueError("no captions are wanted: ask for a short or a long one")
        for kind, (low, high) in self.lengths.items():
            if not 0 <= low <= high:
                raise ValueError(f"{kind} captions of {low} to {high} characters: least first, then most")

    def slots(self) -> list[Slot]:
        """(kind, seed) of every caption of a clip."""
        return [(kind, self.seed + i) for kind in KINDS for i in range(self.counts.get(kind, 0))]


@dataclass
class Tally:
    """What happened so far, for the progress line."""

    clips: int = 0
    asked: int = 0
    from_ledger: int = 0
    kept: int = 0
    rejected: int = 0
    failed: int = 0


@dataclass
class _Work:
    row: Row
    clip: Utterance | None = None
    audio: str = ""
    replies: dict[Slot, Reply] = field(default_factory=dict)
    failures: dict[Slot, str] = field(default_factory=dict)
    missing: dict[Slot, Question] = field(default_factory=dict)  # what the ledger did not have
    claims: dict[Slot, Claim] = field(default_factory=dict)  # the same, asked by this row or by another


class Pipeline:
    """One run's workings. `stop()` lets the clips under way finish and takes nothing new."""

    def __init__(self, annotator: Annotator, ledger: Ledger, plan: Plan, verifier: Verifier | None = None) -> None:
        self.annotator, self.ledger, self.plan, self.verifier = annotator, ledger, plan, verifier
        self.tally = Tally()
        self.stopped = False
        self._claims: dict[Question, Claim] = {}
        self._slots = plan.slots()
        # A clip is worked on as a whole: enough clips to keep every request slot busy, twice over.
        self._clips = 2 * -(-annotator.concurrency // max(1, len(self._slots))) + 8
        self._chunk = max(1, min(64, self._clips))

    def stop(self) -> None:
        """Takes no further rows."""
        self.stopped = True

    async def run(self, rows: Iterator[Row]) -> AsyncGenerator[Row, None]:
        """Annotated rows in the order of `rows`. Raises EndpointStoppedError after what was under way is recorded."""
        window: deque[tuple[_Work, asyncio.Task[Row]]] = deque()
        try:
            more = True
            while more and not self.stopped:
                chunk = await asyncio.to_thread(lambda: self._look_up(list(islice(rows, self._chunk))))
                more = len(chunk) == self._chunk
                for work in chunk:
                    self._claim(work)
                    window.append((work, asyncio.create_task(self._finish(work))))
                while window and (len(window) > self._clips or window[0][1].done() or not more):
                    yield await window[0][1]
                    self._release(window.popleft()[0])
            while window:
                yield await window[0][1]
                self._release(window.popleft()[0])
        except EndpointStoppedError:
            # Whatever the others under way still bring is paid for: let it reach the ledger.
            await asyncio.gather(*(task for _, task in window), return_exceptions=True)
            raise
        finally:
            for _, task in window:
                task.cancel()
            await asyncio.gather(*(task for _, task in window), return_exceptions=True)

    def _look_up(self, rows: list[Row]) -> list[_Work]:
        """Hashes the audio of some rows and takes from the ledger what it has of them."""
        works = []
        wanted: list[Question] = []
        for row in rows:
            work = _Work(row)
            works.append(work)
            try:
                work.clip = Utterance.of(row)
                work.audio = work.clip.hash()
            except (AudioError, ValueError) as error:
                work.failures = dict.fromkeys(self._slots, str(error))
                continue
            identities = {kind: self.annotator.identity(work.clip, kind) for kind, _ in self._slots}
            for kind, seed in self._slots:
                who = identities[kind]
                work.missing[kind, seed] = Question(work.audio, who.prompt, who.model, seed)
            wanted += work.missing.values()
        found = self.ledger.get_many(wanted)
        for work in works:
            for slot, question in list(work.missing.items()):
                if question in found:
                    work.replies[slot] = read_reply(found[question])
                    del work.missing[slot]
            self.tally.from_ledger += len(work.replies)
        return works

    def _claim(self, work: _Work) -> None:
        """Leaves to a row only the questions that no other row of the window asks: copies of a clip share answers.

        A claim stands until its row has left the window. What is looked up after that finds the answer in the ledger.
        """
        for slot, question in list(work.missing.items()):
            claim = self._claims.get(question)
            if claim is None:
                claim = self._claims[question] = asyncio.get_running_loop().create_future()
            else:
                del work.missing[slot]
            work.claims[slot] = claim

    def _release(self, work: _Work) -> None:
        for question in work.missing.values():
            del self._claims[question]

    async def _finish(self, work: _Work) -> Row:
        if work.missing and work.clip is not None:
            await self._ask(work, work.clip)
        for slot, claim in work.claims.items():
            outcome = await asyncio.shield(claim)
            if isinstance(outcome, Reply):
                work.replies[slot] = outcome
            elif isinstance(outcome, AnnotatorError | AudioError):
                work.failures[slot] = str(outcome)
            else:
                raise outcome
        transcript = work.row.get("text")
        row = _Row(work.row, replace=self.plan.replace)
        told = [slot for slot in self._slots if slot in work.replies]
        checked = await _together([self._check(slot, work.replies[slot], transcript) for slot in told])
        for slot, reply, rule, detail in checked:
            if rule == "failed":
                work.failures[slot] = detail
            elif rule:
                row.reject(slot, reply, rule, detail)
            else:
                row.keep(slot, reply)
        for slot in self._slots:
            if slot in work.failures:
                row.fail(slot, work.failures[slot])
        done = row.done()
        self.tally.clips += 1
        self.tally.kept += row.kept
        self.tally.rejected += row.rejected
        self.tally.failed += len(done["failed"])
        return done

    async def _ask(self, work: _Work, clip: Utterance) -> None:
        """Settles every claim that is this row's to settle, with a reply or with what went wrong."""
        try:
            prepared = await self.annotator.prepare(clip)
        except Exception as error:
            for question in work.missing.values():
                self._claims[question].set_result(error)
            return

        async def one(kind: Kind, question: Question) -> None:
            told: Reply | Exception
            try:
                # Durable before it is used: a kill from here on costs nothing.
                told = await self.annotator.caption(
                    prepared, clip, kind, question, lambda reply: self.ledger.put(question, told_of(reply))
                )
                self.tally.asked += 1
            except Exception as error:
                told = error
            self._claims[question].set_result(told)

        # All are awaited even when one says stop: the others' answers are paid for.
        await _together([one(kind, question) for (kind, _), question in work.missing.items()])

    async def _check(self, slot: Slot, reply: Reply, transcript: Any) -> tuple[Slot, Reply, str, str]:
        """(slot, reply with tidied text, rule that it breaks or '', detail)."""
        text = tidy(reply.text)
        reply = Reply(text, reply.finish, reply.refused, reply.usage, reply.claims, reply.facts)
        said = Said(text, self.plan.lengths[slot[0]], reply.finish, reply.refused, transcript)
        fault = check(said, self.plan.rules)
        if fault is not None:
            return slot, reply, fault.rule, fault.detail
        if self.verifier is not None:
            try:
                verdict = await self.verifier.verdict(text)
            except AnnotatorError as error:
                return slot, reply, "failed", str(error)
            except NoVerdictError as error:
                return slot, reply, "unverified", str(error)
            if verdict.broken_rule is not None:
                return slot, reply, f"verifier: {verdict.broken_rule}", verdict.why
        return slot, reply, "", ""


class _Row:
    """An output row while it is filled: the input's fields, then captions by slot."""

    def __init__(self, row: Row, *, replace: bool) -> None:
        self._row = dict(row)
        self._replace = replace
        # A label stands, whatever an annotator has no word for and estimates.
        labelled = row.get("gender") is not None and row.get("gender_from") != "estimate"
        self._label = {"gender": row["gender"], "gender_from": "label"} if labelled else {}
        for name in ("short_captions", "long_captions", "captions", "rejected"):
            self._row[name] = [] if replace else list(row.get(name) or [])
        self._row["failed"] = []
        self.kept = self.rejected = 0  # of this run; the input may have some of both

    def keep(self, slot: Slot, reply: Reply) -> None:
        kind, seed = slot
        texts = self._row[f"{kind}_captions"]
        if reply.text in texts:
            return self.reject(slot, reply, "duplicate", "said before of this clip")
        self.kept += 1
        texts.append(reply.text)
        told = {"text": reply.text, "kind": TRAINER_KIND[kind], "claims": dict(reply.claims), "seed": seed}
        self._row["captions"].append(told)
        return self._learn(reply)

    def reject(self, slot: Slot, reply: Reply, rule: str, detail: str) -> None:
        caption = {"text": reply.text, "kind": slot[0], "seed": slot[1], "rule": rule, "detail": detail}
        # A run over its own output meets what it rejected before.
        if caption not in self._row["rejected"]:
            self.rejected += 1
            self._row["rejected"].append(caption)
        self._learn(reply)

    def fail(self, slot: Slot, reason: str) -> None:
        self._row["failed"].append({"kind": slot[0], "seed": slot[1], "reason": reason})

    def _learn(self, reply: Reply) -> None:
        # Facts of an earlier run are of other bands, as its captions were: captions in their place bring their own.
        facts = {**reply.facts, **(self._label if "gender" in reply.facts else {})}
        for name, value in facts.items():
            if self._replace or self._row.get(name) is None:
                self._row[name] = value

    def done(self) -> Row:
        return self._row


async def _together(work: list[Coroutine[Any, Any, T]]) -> list[T]:
    """What all of them return; one alone needs no task of its own."""
    return [await work[0]] if len(work) == 1 else await asyncio.gather(*work)


def told_of(reply: Reply) -> dict[str, Any]:
    """A reply for the ledger; `dataclasses.asdict` would copy every measure one by one."""
    return {**vars(reply), "usage": vars(reply.usage)}


def read_reply(told: Mapping[str, Any]) -> Reply:
    """A reply as the ledger keeps it."""
    return Reply(**{**told, "usage": Usage(**told["usage"])})
