"""The checklist as a reasoning model's structured answer: does a caption pass, which rule does it break, and why."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from training.captions import structured
from training.captions.annotator import AnnotatorError
from training.captions.book import Prompt
from training.captions.endpoint import AnswerError, Chat, RequestRefusedError
from training.captions.ledger import Ledger, Question
from training.captions.llm_annotator import sampling

CheckRule = Literal["background", "absence", "content", "speakers", "guess", "contradiction", "form"]


class Verdict(BaseModel):
    """A verifier's answer. `broken_rule` is named exactly when the caption does not pass."""

    model_config = ConfigDict(frozen=True)

    passes: bool
    broken_rule: CheckRule | None
    why: str

    @model_validator(mode="after")
    def _agrees(self) -> Verdict:
        if self.passes == (self.broken_rule is not None):
            raise ValueError("passes and broken_rule contradict each other")
        return self


class NoVerdictError(RuntimeError):
    """The model answered, but never with a verdict: the caption is held back, asking again would bring the same."""


class Verifier:
    """Asks about each distinct caption once; a malformed verdict is asked for again with another seed."""

    def __init__(
        self, chat: Chat, ledger: Ledger, *, prompts: Path | None = None, seed: int = 0, attempts: int = 3
    ) -> None:
        self._chat, self._ledger = chat, ledger
        self._prompt = Prompt.load("verify", prompts)
        self._seed, self._attempts = seed, attempts
        self._under_way: dict[str, asyncio.Task[Verdict]] = {}

    def identity(self) -> str:
        """Model, prompt and settings: part of a run's fingerprint."""
        return self._prompt.hash(self._chat.settings.model, *sampling(self._chat.settings), self._seed)

    async def verdict(self, caption: str) -> Verdict:
        """The verdict on one caption, from the ledger where it has one. Raises AnnotatorError or NoVerdictError."""
        # The same caption of several clips at once is one question.
        task = self._under_way.get(caption)
        if task is None:
            task = asyncio.create_task(self._verdict(caption))
            self._under_way[caption] = task
            task.add_done_callback(lambda _: self._under_way.pop(caption, None))
        return await asyncio.shield(task)

    async def _verdict(self, caption: str) -> Verdict:
        prompt = self._prompt.fill(caption=caption)
        options = self._chat.settings
        subject = hashlib.sha256(caption.encode()).hexdigest()
        fault = ""
        for seed in range(self._seed, self._seed + self._attempts):
            question = Question(subject, self._prompt.hash(*sampling(options)), options.model, seed)
            told = (await asyncio.to_thread(self._ledger.get_many, [question])).get(question)
            if told is None:
                try:
                    answer = await self._chat.ask(
                        [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}],
                        seed=seed,
                        key=question.key(),
                        **structured.request_of(Verdict, options),
                    )
                except (RequestRefusedError, AnswerError) as error:
                    raise AnnotatorError(f"verifier: {error}") from error
                told = {"text": answer.text, "finish": answer.finish}
                await self._ledger.put(question, told)
            try:
                return structured.read(Verdict, told["text"])
            except structured.ShapeError as error:
                fault = str(error)
        raise NoVerdictError(f"{self._attempts} answers without a verdict; the last: {fault}")
