"""What every protocol shares: the corpus as found, what of it is missing, and the paper's prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from training.evaluation.clips import EvaluationClip
from training.evaluation.labels import ClassTask

_POINTER = b"version https://git-lfs"


class ProtocolError(ValueError):
    """The folder is not the corpus, or not in its owners' layout; the message says what was looked for."""


@dataclass(frozen=True)
class Corpus:
    """The clips that are judged, files that the corpus has and the folder hasn't, and what was left out on purpose."""

    clips: list[EvaluationClip]
    missing: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Protocol:
    """A published test: how its folder is read, and what is asked of its clips."""

    name: str
    title: str
    layout: str
    tasks: Sequence[ClassTask]
    read: Callable[[Path], Corpus]


def emotion_prompts(*emotions: str) -> dict[str, list[str]]:
    """The paper's prompt for each emotion (arXiv 2601.03065)."""
    return {emotion: [f"A speaker in a {emotion} tone."] for emotion in emotions}


GENDER = ClassTask("gender", "gender", {"male": ["A male speaker."], "female": ["A female speaker."]}, fixed=True)
AGE = ClassTask(
    "age",
    "age",
    {
        "child": ["A child or young teenager speaker."],
        "adult": ["An adult speaker."],
        "middle-aged": ["A middle-aged speaker."],
        "older": ["An older or elder speaker."],
    },
    fixed=True,
)


def folder_of(root: Path, wanted: str, layout: str) -> Path:
    """A folder of the corpus below `root`, or `root` itself where it is that folder. Raises ProtocolError."""
    if not root.is_dir():
        raise ProtocolError(f"{root} is not a folder")
    if root.name == wanted:
        return root
    found = root / wanted
    if not found.is_dir():
        raise ProtocolError(f"{root} holds no {wanted}; expected is {layout}")
    return found


def refuse_pointer(path: Path) -> None:
    """Raise ProtocolError when a file is Git LFS's stand-in for audio: what a ZIP from GitHub holds."""
    with path.open("rb") as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ProtocolError(f"{path} is a Git LFS pointer, not audio; get the audio with `git lfs pull`")
