"""An audio model as judge: it hears the clip and grades a caption, or compares two, blind to where they come from."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from training.captions import ask as asking
from training.captions.book import Prompt
from training.captions.endpoint import Chat
from training.captions.ledger import Ledger
from training.captions.llm_annotator import with_audio
from training.captions.utterance import Utterance, wav_base64

CRITERIA = ("correctness", "coverage", "naturalness")
ATTEMPTS = 3  # answers without a verdict, each with a seed of its own


class Grade(BaseModel):
    """Whole numbers from 1 to 5."""

    model_config = ConfigDict(frozen=True)

    correctness: int = Field(ge=1, le=5)
    coverage: int = Field(ge=1, le=5)
    naturalness: int = Field(ge=1, le=5)
    why: str


class Preference(BaseModel):
    """Which of two descriptions is better: 1, 2, or 0 for neither."""

    model_config = ConfigDict(frozen=True)

    better: Literal[0, 1, 2]
    why: str


@dataclass(frozen=True)
class Heard:
    """A clip ready for the judge."""

    clip: Utterance
    audio: str  # its hash
    wav: str  # base64


class Judge:
    """Asks each question once; every repeat has a seed of its own."""

    def __init__(self, chat: Chat, ledger: Ledger, *, prompts: Path | None = None, seed: int = 0) -> None:
        self._asker, self._seed = asking.Asker(chat, ledger), seed
        self._grade, self._compare = Prompt.load("judge", prompts), Prompt.load("compare", prompts)

    async def hear(self, clip: Utterance) -> Heard:
        """Reads a clip. Raises AudioError."""

        def read() -> Heard:
            return Heard(clip, clip.hash(), wav_base64(clip.load(self._asker.settings.max_audio_s)))

        return await asyncio.to_thread(read)

    async def grade(self, heard: Heard, caption: str, repeat: int = 0) -> Grade:
        """A caption's grades. Raises AnnotatorError, NoVerdictError, EndpointStoppedError."""
        return await self._ask(Grade, self._grade, heard, repeat, caption=caption)

    async def prefer(self, heard: Heard, first: str, second: str, repeat: int = 0) -> Preference:
        """Which of two captions is better, in this order. Raises as `grade` does."""
        return await self._ask(Preference, self._compare, heard, repeat, first=first, second=second)

    async def _ask(self, shape: type[asking.T], prompt: Prompt, heard: Heard, repeat: int, **texts: str) -> asking.T:
        options = self._asker.settings
        subject = "\x1f".join([heard.audio, *texts.values()])
        begin = self._seed + repeat * ATTEMPTS
        return await self._asker.ask(
            shape,
            with_audio(prompt.fill(**texts), heard.wav, options),
            subject=hashlib.sha256(subject.encode()).hexdigest(),
            prompt=prompt.hash(*asking.sampling(options), options.max_audio_s),
            seeds=range(begin, begin + ATTEMPTS),
        )
