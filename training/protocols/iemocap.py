"""IEMOCAP, two English actors in dialogue: four emotions and gender, from its five sessions.

`SessionN/dialog/EmoEvaluation/Ses01F_impro01.txt` has a line for each turn: `[start - end]`, turn name, emotion and
`[valence, activation, dominance]`, apart by tabs; lines of single raters (C-, A-) follow it. The turn's audio is
`SessionN/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav`: the letter before the turn's number is who speaks, the
one after the session who wears the markers. Emotions: ang, hap, exc, sad, neu, fru, fea, sur, dis, oth, and xxx where
raters disagreed. Judged are, as usual, the four classes angry, happy with excited, sad and neutral: 5531 turns. Source:
Busso et al., Language Resources and Evaluation 42(4), 335-359 (2008), and the release's README.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from training.evaluation.clips import EvaluationClip
from training.evaluation.labels import ClassTask
from training.protocols.corpus import GENDER, Corpus, Protocol, ProtocolError

LAYOUT = "Session1 to Session5, each with dialog/EmoEvaluation/*.txt and sentences/wav/DIALOG/TURN.wav"
EMOTIONS = {"ang": "angry", "hap": "happy", "exc": "happy", "sad": "sad", "neu": "neutral"}
OTHERS = {"fru", "fea", "sur", "dis", "oth", "xxx"}
SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
_LINE = re.compile(r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\w+)\s+\[.*\]", re.ASCII)
_TURN = re.compile(r"(Ses(0[1-5])[FM]_(?:impro|script)\w+)_([FM])\w+", re.ASCII)


@dataclass(frozen=True)
class Turn:
    """One turn: its name, its dialogue's, the session's number, who speaks, and the emotion's code."""

    name: str
    dialogue: str
    session: int
    gender: str
    code: str


def turn_of(line: str) -> Turn | None:
    """A line of an evaluation file as a turn, None for any other. Raises ProtocolError for a turn it can't read."""
    found = _LINE.match(line)
    if found is None:
        if line.startswith("["):
            raise ProtocolError(f"{line.strip()!r} is not [start - end], turn, emotion, [V, A, D]")
        return None
    name, code = found.group(3), found.group(4)
    named = _TURN.fullmatch(name)
    if named is None:
        raise ProtocolError(f"{name!r} is not named as Ses01F_impro01_F000 is")
    if code not in EMOTIONS and code not in OTHERS:
        raise ProtocolError(f"{name} has the emotion {code!r}, which IEMOCAP hasn't")
    return Turn(name, named.group(1), int(named.group(2)), "female" if named.group(3) == "F" else "male", code)


def read(root: Path) -> Corpus:
    """The corpus at `root`, or in `root/IEMOCAP_full_release`. Raises ProtocolError naming what isn't there."""
    if not root.is_dir():
        raise ProtocolError(f"{root} is not a folder")
    base = root / "IEMOCAP_full_release" if (root / "IEMOCAP_full_release").is_dir() else root
    sessions = [base / name for name in SESSIONS if (base / name).is_dir()]
    if not sessions:
        raise ProtocolError(f"{base} holds no Session1 to Session5; expected is {LAYOUT}")
    clips, missing, other = [], [f"{name}/" for name in SESSIONS if not (base / name).is_dir()], 0
    for session in sessions:
        for turn in _turns(session):
            if turn.code not in EMOTIONS:
                other += 1
                continue
            wav = session / "sentences" / "wav" / turn.dialogue / f"{turn.name}.wav"
            if not wav.is_file():
                missing.append(str(wav.relative_to(base)))
                continue
            speaker = f"{turn.session}{turn.gender[0].upper()}"
            labels = {"emotion": EMOTIONS[turn.code], "code": turn.code, "gender": turn.gender, "session": turn.session}
            clips.append(EvaluationClip(wav, "iemocap", speaker=speaker, labels=labels))
    if not clips:
        raise ProtocolError(f"{base}: none of the turns of four emotions has its audio; expected is {LAYOUT}")
    return Corpus(clips, missing, [f"{other} turns of other emotions, or without agreement, are left out"])


def _turns(session: Path) -> Iterator[Turn]:
    folder = session / "dialog" / "EmoEvaluation"
    files = sorted(path for path in folder.glob("Ses*.txt")) if folder.is_dir() else []
    if not files:
        raise ProtocolError(f"{session} holds no dialog/EmoEvaluation/Ses*.txt; expected is {LAYOUT}")
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                turn = turn_of(line)
            except ProtocolError as error:
                raise ProtocolError(f"{file}, line {number}: {error}") from error
            if turn is not None:
                yield turn


# As the authors: five prompts, and the nearer of happy and excited stands for both.
_FOUR = {
    "happy": ["A speaker in a happy tone.", "A speaker in a excited tone."],
    "angry": ["A speaker in a angry tone."],
    "sad": ["A speaker in a sad tone."],
    "neutral": ["A speaker in a neutral tone."],
}

IEMOCAP = Protocol(
    "iemocap",
    "IEMOCAP, dialogue of English actors",
    LAYOUT,
    (ClassTask("emotion", "emotion", _FOUR, pool="nearest", fixed=True), GENDER),
    read,
)
