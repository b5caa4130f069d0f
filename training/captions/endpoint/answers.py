"""A chat completion as we use it, and the one place that reads its JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from training.captions.endpoint.errors import TransientError
from training.captions.unicode import scrubbed


@dataclass(frozen=True)
class Usage:
    """Tokens that an answer was billed for; zeros where the endpoint does not tell."""

    text_in: int = 0
    audio_in: int = 0
    out: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.text_in + other.text_in, self.audio_in + other.audio_in, self.out + other.out)


@dataclass(frozen=True)
class Answer:
    """What a model said. `finish` is stop, length, content_filter ...; a refusal has its text in `text`."""

    text: str
    finish: str
    refused: bool
    usage: Usage


def read_answer(raw: bytes) -> Answer:
    """A response body -> Answer. Raises TransientError for one that is cut off or is no chat completion."""
    try:
        body = json.loads(raw)
        choice = body["choices"][0]
        message = choice["message"]
        refusal = message.get("refusal")
        text = str(refusal) if refusal else _text(message.get("content"))
        finish = str(choice.get("finish_reason") or "stop")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise TransientError("the answer is no whole chat completion") from error
    # Half a character, as a token limit may leave it, can be neither recorded nor written.
    text = scrubbed(text.strip())
    return Answer(text, finish, bool(refusal) or finish == "content_filter", _usage(body.get("usage")))


def _text(content: Any) -> str:
    """Plain text, also where the content comes in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)


def _usage(usage: Any) -> Usage:
    """What is told of it: an answer that is there is not thrown away for a count that makes no sense."""
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    audio = _count(details.get("audio_tokens")) if isinstance(details, dict) else 0
    return Usage(max(0, _count(usage.get("prompt_tokens")) - audio), audio, _count(usage.get("completion_tokens")))


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e15 else 0
