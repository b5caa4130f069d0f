"""The checklist as a reasoning model's structured answer: does a caption pass, which rule does it break, and why."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from training.captions import ask as asking
from training.captions.annotator import AnnotatorError
from training.captions.book import Prompt
from training.captions.endpoint import Chat
from training.captions.ledger import Ledger

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


class Verifier:
    """Asks about each distinct caption once; a malformed verdict is asked for again with another seed."""

    def __init__(
        self, chat: Chat, ledger: Ledger, *, prompts: Path | None = None, seed: int = 0, attempts: int = 3
    ) -> None:
        self._asker = asking.Asker(chat, ledger)
        self._prompt = Prompt.load("verify", prompts)
        self._seed, self._attempts = seed, attempts

    def identity(self) -> str:
        """Model, prompt and settings: part of a run's fingerprint."""
        settings = self._asker.settings
        # How the form is asked for decides which answers have it, though not what is paid for again.
        return self._prompt.hash(settings.model, *asking.sampling(settings), settings.structured, self._seed)

    async def verdict(self, caption: str) -> Verdict:
        """The verdict on one caption, from the ledger where it has one. Raises AnnotatorError or NoVerdictError."""
        prompt = self._prompt.fill(caption=caption)
        try:
            return await self._asker.ask(
                Verdict,
                [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}],
                subject=hashlib.sha256(caption.encode()).hexdigest(),
                prompt=self._prompt.hash(*asking.sampling(self._asker.settings)),
                seeds=range(self._seed, self._seed + self._attempts),
            )
        except AnnotatorError as error:
            raise AnnotatorError(f"verifier: {error}") from error
