"""CREMA-D, acted English sentences: six emotions, gender and age, from `AudioWAV` and `VideoDemographics.csv`.

A name such as `1001_DFA_ANG_XX` is actor, sentence, emotion (ANG, DIS, FEA, HAP, NEU, SAD) and level (LO, MD, HI, XX
where none was asked for). `VideoDemographics.csv` has ActorID, Age and Sex (Male, Female) of the 91 actors, 20 to 74
years old; `SentenceFilenames.csv` lists the 7442 recordings; `processedResults/summaryTable.csv` has in VoiceVote what
most raters heard from the audio alone (A, D, F, H, N, S; a tie is written A:D). The audio is kept in Git LFS.
Source: Cao et al., IEEE Transactions on Affective Computing 5(4), 377-390 (2014), and the repository
CheyneyComputerScience/CREMA-D.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from training.evaluation.clips import EvaluationClip
from training.evaluation.labels import ClassTask
from training.protocols.corpus import (
    AGE,
    GENDER,
    Corpus,
    Protocol,
    ProtocolError,
    emotion_prompts,
    folder_of,
    refuse_pointer,
)

LAYOUT = "AudioWAV/1001_DFA_ANG_XX.wav ... and VideoDemographics.csv beside AudioWAV"
SENTENCES = ("IEO", "TIE", "IOM", "IWW", "TAI", "MTI", "IWL", "ITH", "DFA", "ITS", "TSI", "WSI")
EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
VOTES = {"A": "angry", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"}
RECORDINGS = 7442
# Holds no speech: its users' best-known defect.
SILENT = "1076_MTI_SAD_XX"
# Files whose name differs from the one that the lists give them.
ALIASES = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}
_NAME = re.compile(rf"(1\d\d\d)_({'|'.join(SENTENCES)})_({'|'.join(EMOTIONS)})_(LO|MD|HI|XX)", re.ASCII)


def labels_of(stem: str) -> dict[str, str]:
    """What a file's name says: actor, sentence, emotion, level. Raises ProtocolError for any other name."""
    found = _NAME.fullmatch(stem)
    if found is None:
        raise ProtocolError(f"{stem} is not named as 1001_DFA_ANG_XX is")
    actor, sentence, emotion, level = found.groups()
    return {"actor": actor, "sentence": sentence, "emotion": EMOTIONS[emotion], "level": level}


def read_demographics(path: Path) -> dict[str, dict[str, str | int]]:
    """Age (years) and gender by actor. Raises ProtocolError naming the line that can't be read."""
    people: dict[str, dict[str, str | int]] = {}
    for number, row in enumerate(_rows(path, "ActorID", "Age", "Sex"), 2):
        gender = row["Sex"].strip().lower()
        if gender not in ("male", "female") or not row["Age"].strip().isdigit():
            raise ProtocolError(f"{path}, line {number}: Sex is Male or Female and Age a number of years")
        people[row["ActorID"].strip()] = {"gender": gender, "age": int(row["Age"])}
    return people


def read_votes(path: Path) -> dict[str, str]:
    """What most raters heard from the audio alone, by recording; ties are left out."""
    rows = _rows(path, "FileName", "VoiceVote")
    return {row["FileName"]: VOTES[row["VoiceVote"]] for row in rows if row["VoiceVote"] in VOTES}


def _rows(path: Path, *columns: str) -> Iterator[Mapping[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        lacking = [name for name in columns if name not in (table.fieldnames or ())]
        if lacking:
            raise ProtocolError(f"{path} has no column {lacking[0]}")
        for number, row in enumerate(table, 2):
            if any(row[name] is None for name in columns):
                raise ProtocolError(f"{path}, line {number}: too few columns")
            yield row


def read(root: Path) -> Corpus:
    """The corpus at `root` (or whose AudioWAV `root` is). Raises ProtocolError when it is not there.

    Missing are the recordings of `SentenceFilenames.csv` that have no file; without that list, only their number tells.
    """
    audio = folder_of(root, "AudioWAV", LAYOUT)
    base = audio.parent
    demographics = base / "VideoDemographics.csv"
    if not demographics.is_file():
        raise ProtocolError(f"{base} holds no VideoDemographics.csv: gender and age are only there")
    people = read_demographics(demographics)
    votes_file = base / "processedResults" / "summaryTable.csv"
    votes = read_votes(votes_file) if votes_file.is_file() else {}
    found = {
        ALIASES.get(path.stem, path.stem): path for path in sorted(audio.glob("*.wav")) if not path.name.startswith(".")
    }
    if not found:
        raise ProtocolError(f"{audio} holds no WAV files; expected is {LAYOUT}")
    refuse_pointer(next(iter(found.values())))
    clips = []
    for name, path in found.items():
        told = labels_of(name)
        if told["actor"] not in people:
            raise ProtocolError(f"{demographics} does not list actor {told['actor']} of {name}.wav")
        if name == SILENT:
            continue
        labels = {**told, **people[told["actor"]], **({"emotion_heard": votes[name]} if name in votes else {})}
        clips.append(EvaluationClip(path, "crema-d", speaker=told["actor"], labels=labels))
    listed = base / "SentenceFilenames.csv"
    missing: list[str] = []
    if listed.is_file():
        names = [row["Filename"] for row in _rows(listed, "Filename")]
        missing = [f"AudioWAV/{name}.wav" for name in names if name not in found]
    elif len(found) < RECORDINGS:
        missing = [f"{RECORDINGS - len(found)} of {RECORDINGS} recordings (SentenceFilenames.csv would name them)"]
    notes = [f"{SILENT}.wav holds no speech and is left out"] if SILENT in found else []
    if votes:
        notes.append("emotion is what the actor was asked for, emotion_heard what most raters heard in the audio")
    return Corpus(clips, missing, notes)


_SIX = emotion_prompts("happy", "sad", "angry", "fear", "disgust", "neutral")

CREMAD = Protocol(
    "crema-d",
    "CREMA-D, acted English sentences",
    LAYOUT,
    (
        ClassTask("emotion", "emotion", _SIX, fixed=True),
        ClassTask("emotion_heard", "emotion_heard", _SIX, fixed=True),
        GENDER,
        AGE,
    ),
    read,
)
