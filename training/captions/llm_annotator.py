"""Captions by an audio model behind an endpoint: it hears the clip itself, with our rules and one seed a caption."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.captions.annotator import KINDS, AnnotatorError, Identity, Keep, Kind, Reply
from training.captions.ask import sampling
from training.captions.book import Prompt
from training.captions.endpoint import Answer, AnswerError, EndpointPool, EndpointSettings, RequestRefusedError
from training.captions.ledger import Question
from training.captions.utterance import Utterance, wav_base64

# What a manifest may know and a caption may say. Words of the transcript are never told: they would be quoted.
KNOWN: Mapping[str, str] = {
    "gender": "gender",
    "age": "age",
    "accent": "accent",
    "emotion": "emotion",
    "speaking_rate": "pace",
    "intrinsic_tags": "voice",
    "situational_tags": "manner",
}


class LlmAnnotator:
    """Any endpoint that speaks the OpenAI chat API with audio input."""

    lengths: Mapping[Kind, tuple[int, int]] = {"short": (16, 240), "long": (128, 768)}

    def __init__(self, pool: EndpointPool, *, prompts: Path | None = None, tell: Sequence[str] = tuple(KNOWN)) -> None:
        """`prompts`: a folder whose short.md and long.md replace ours. `tell`: labels that the model may be told."""
        self.pool = pool
        self.concurrency = pool.concurrency
        self._prompts = {kind: Prompt.load(kind, prompts) for kind in KINDS}
        self._tell = tell

    def identity(self, clip: Utterance, kind: Kind) -> Identity:
        """The model, and a hash over the filled-in prompt and the sampling settings."""
        options = self.pool.settings
        return Identity(options.model, self._filled(clip, kind).hash(*sampling(options), options.max_audio_s))

    async def prepare(self, clip: Utterance) -> str:
        """The clip as base64 WAV, 16 kHz mono, at most `max_audio_s` of it."""
        return await asyncio.to_thread(lambda: wav_base64(clip.load(self.pool.settings.max_audio_s)))

    async def caption(self, prepared: str, clip: Utterance, kind: Kind, question: Question, keep: Keep) -> Reply:
        """One caption, as the model said it."""
        messages = with_audio(self._filled(clip, kind), prepared, self.pool.settings)
        try:
            answer = await self.pool.ask(
                messages, seed=question.seed, key=question.key(), keep=lambda answer: keep(_reply(answer))
            )
        except (RequestRefusedError, AnswerError) as error:
            raise AnnotatorError(str(error)) from error
        return _reply(answer)

    def _filled(self, clip: Utterance, kind: Kind) -> Prompt:
        told = {name: clip.label(name) for name in self._tell}
        lines = [f"- {KNOWN.get(name, name)}: {_plain(value)}" for name, value in told.items() if value]
        known = "These facts are known; use them where you hear them:\n" + "\n".join(lines) if lines else ""
        return self._prompts[kind].fill(known=known)


def with_audio(prompt: Prompt, wav: str, options: EndpointSettings) -> list[dict[str, Any]]:
    """Chat messages of a prompt about a clip, the audio first."""
    audio: dict[str, Any] = {"type": "input_audio", "input_audio": {"data": wav, "format": "wav"}}
    if options.audio_part == "audio_url":
        audio = {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{wav}"}}
    return [
        {"role": "system", "content": prompt.system},
        {"role": "user", "content": [audio, {"type": "text", "text": prompt.user}]},
    ]


def _reply(answer: Answer) -> Reply:
    return Reply(answer.text, answer.finish, answer.refused, answer.usage)


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
