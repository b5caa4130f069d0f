"""A question whose answer must be JSON of a known shape: paid for once, asked again only while it is malformed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from training.captions import structured
from training.captions.annotator import AnnotatorError
from training.captions.endpoint import Answer, AnswerError, Chat, EndpointSettings, RequestRefusedError
from training.captions.ledger import Ledger, Question

T = TypeVar("T", bound=BaseModel)


class NoVerdictError(RuntimeError):
    """The model answered, but never in the wanted shape: asking again would bring the same answers from the ledger."""


def sampling(options: EndpointSettings) -> tuple[float, float, int, str]:
    """The settings that decide an answer, in the order that prompts are hashed with."""
    return options.temperature, options.top_p, options.max_tokens, json.dumps(options.extra_body, sort_keys=True)


async def ask(
    shape: type[T],
    chat: Chat,
    ledger: Ledger,
    messages: Sequence[Mapping[str, Any]],
    *,
    subject: str,
    prompt: str,
    seeds: Sequence[int],
) -> T:
    """The first of the seeds' answers that has the shape, from the ledger where it is there.

    `subject` and `prompt` are hashes of what is asked about and of how. Raises NoVerdictError, AnnotatorError or
    EndpointStoppedError.
    """
    fault = ""
    for seed in seeds:
        question = Question(subject, prompt, chat.settings.model, seed)
        told = (await asyncio.to_thread(ledger.get_many, [question])).get(question)
        if told is None:
            more = structured.request_of(shape, chat.settings)
            keep = partial(_record, ledger, question)
            try:
                answer = await chat.ask(messages, seed=seed, key=question.key(), keep=keep, **more)
            except (RequestRefusedError, AnswerError) as error:
                raise AnnotatorError(str(error)) from error
            told = _told(answer)
        try:
            return structured.read(shape, told["text"])
        except structured.ShapeError as error:
            fault = str(error)
    raise NoVerdictError(f"{len(seeds)} answers without a verdict; the last: {fault}")


def _told(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "finish": answer.finish}


async def _record(ledger: Ledger, question: Question, answer: Answer) -> None:
    await ledger.put(question, _told(answer))
