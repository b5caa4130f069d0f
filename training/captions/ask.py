"""A question whose answer must be JSON of a known shape: paid for once, asked again only where it is malformed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import BaseModel

from training.captions import structured
from training.captions.annotator import AnnotatorError
from training.captions.endpoint import Answer, AnswerError, Chat, EndpointSettings, RequestRefusedError
from training.captions.ledger import Ledger, Question

T = TypeVar("T", bound=BaseModel)


class NoVerdictError(RuntimeError):
    """The model answered, but never in the wanted shape. This start asks no more; a later one does, and pays again."""


def sampling(options: EndpointSettings) -> tuple[float, float, int, str]:
    """The settings that decide an answer, in the order that prompts are hashed with."""
    return options.temperature, options.top_p, options.max_tokens, json.dumps(options.extra_body, sort_keys=True)


class Asker:
    """Asks one model, by way of one ledger; the same question from several at once is one request."""

    def __init__(self, chat: Chat, ledger: Ledger) -> None:
        self.settings = chat.settings
        self._chat, self._ledger = chat, ledger
        self._under_way: dict[Question, asyncio.Task[Any]] = {}

    async def ask(
        self, shape: type[T], messages: Sequence[Mapping[str, Any]], *, subject: str, prompt: str, seeds: Sequence[int]
    ) -> T:
        """The first of the seeds' answers that has the shape, from the ledger where it is there.

        Answers of an earlier start of which none has the shape count as none. `subject` and `prompt` are hashes of
        what is asked about and of how. Raises NoVerdictError, AnnotatorError or EndpointStoppedError.
        """
        questions = [Question(subject, prompt, self.settings.model, seed) for seed in seeds]
        task = self._under_way.get(questions[0])
        if task is None:
            task = asyncio.create_task(self._ask(shape, messages, questions))
            self._under_way[questions[0]] = task
            task.add_done_callback(lambda _: self._under_way.pop(questions[0]))
        answer: T = await asyncio.shield(task)
        return answer

    async def _ask(self, shape: type[T], messages: Sequence[Mapping[str, Any]], questions: Sequence[Question]) -> T:
        fault = ""
        known = await asyncio.to_thread(self._ledger.get_many, questions)
        for told in (known[question] for question in questions if question in known):
            try:
                return structured.read(shape, told["text"])
            except structured.ShapeError as error:
                fault = str(error)
        left = {question: question.key() for question in questions if question not in known}
        if not left:
            # What made them malformed may be mended by now. Those of this start would only be paid for again.
            gone = await asyncio.to_thread(self._ledger.forget_earlier, questions)
            # A gateway that has the malformed answer in its store must not take the question for a repeat.
            left = {question: uuid4().hex for question in questions if question in gone}
        more = structured.request_of(shape, self.settings)
        for question, key in left.items():
            keep = partial(_record, self._ledger, question)
            try:
                answer = await self._chat.ask(messages, seed=question.seed, key=key, keep=keep, **more)
                return structured.read(shape, answer.text)
            except (RequestRefusedError, AnswerError) as error:
                raise AnnotatorError(str(error)) from error
            except structured.ShapeError as error:
                fault = str(error)
        raise NoVerdictError(f"{len(questions)} answers without a verdict; the last: {fault}")


async def _record(ledger: Ledger, question: Question, answer: Answer) -> None:
    await ledger.put(question, {"text": answer.text, "finish": answer.finish})
