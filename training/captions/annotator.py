"""The one interface of annotators: a clip and a seed in, a caption out, whoever hears the clip."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from training.captions.endpoint.answers import Usage
from training.captions.ledger import Question
from training.captions.utterance import Utterance

Kind = Literal["short", "long"]
KINDS: tuple[Kind, ...] = ("short", "long")
# The trainer's names of the two kinds.
TRAINER_KIND: Mapping[Kind, str] = {"short": "global", "long": "fine"}


@dataclass(frozen=True)
class Identity:
    """What decides a caption besides the audio and the seed: it keys the ledger."""

    model: str
    prompt: str  # sha256 hex of everything that is asked


@dataclass(frozen=True)
class Reply:
    """What an annotator said, kept as it was said; filters judge it later. `facts` join the clip's row."""

    text: str
    finish: str = "stop"
    refused: bool = False
    usage: Usage = field(default_factory=Usage)
    claims: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


Keep = Callable[[Reply], Awaitable[None]]


class AnnotatorError(RuntimeError):
    """This caption could not be made, others can: it is listed as failed and asked for again by the next run."""


class Annotator(Protocol):
    """Makes captions. Implementations: AcousticAnnotator (measures, offline) and LlmAnnotator (an endpoint)."""

    # Characters that a caption of each kind has, least and most.
    lengths: Mapping[Kind, tuple[int, int]]
    # Captions that may be in work at once.
    concurrency: int

    def identity(self, clip: Utterance, kind: Kind) -> Identity:
        """What this annotator would be asked about the clip. Cheap: no audio is read."""
        ...

    async def prepare(self, clip: Utterance) -> Any:
        """Work that all captions of a clip share: decoding, measuring. Raises AudioError or AnnotatorError."""
        ...

    async def caption(self, prepared: Any, clip: Utterance, kind: Kind, question: Question, keep: Keep) -> Reply:
        """One caption; `question` is its place in the ledger, its seed among it.

        `keep` records the reply, and is awaited before another request takes this one's place: at no time are more
        than `concurrency` paid replies unrecorded. Raises AnnotatorError for this caption, EndpointStoppedError when
        no other can succeed.
        """
        ...
