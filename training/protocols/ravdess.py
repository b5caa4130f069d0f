"""RAVDESS, acted English speech: eight emotions and gender, from `Actor_XX/03-01-06-01-02-01-12.wav`.

Seven numbers of two digits make a name: modality (01 audio and video, 02 video, 03 audio), vocal channel (01 speech,
02 song), emotion (01 neutral, 02 calm, 03 happy, 04 sad, 05 angry, 06 fearful, 07 disgust, 08 surprised), intensity (01
normal, 02 strong; neutral has no strong one), statement (01, 02), repetition (01, 02) and actor (01 to 24; odd ones are
male, even ones female). Audio-only speech is 24 x 60 = 1440 files. Source: Livingstone and Russo, PLOS ONE 13(5),
e0196391 (2018), and the description of record 1188976 at Zenodo.
"""

import re
from functools import cache
from itertools import product
from pathlib import Path

from training.evaluation.clips import EvaluationClip
from training.evaluation.labels import ClassTask
from training.protocols.corpus import GENDER, Corpus, Protocol, ProtocolError, emotion_prompts

LAYOUT = "Actor_01 to Actor_24 with files like 03-01-06-01-02-01-12.wav"
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fear",
    "07": "disgust",
    "08": "surprised",
}
ACTORS = 24
_NAME = re.compile(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)", re.ASCII)


def labels_of(stem: str) -> dict[str, str]:
    """What a file's name says: emotion, intensity, statement, repetition, actor, gender.

    Raises ProtocolError when it isn't the name of an audio-only speech file of the corpus.
    """
    found = _NAME.fullmatch(stem)
    if found is None:
        raise ProtocolError(f"{stem} is not seven numbers of two digits")
    modality, channel, emotion, intensity, statement, repetition, actor = found.groups()
    if (modality, channel) != ("03", "01"):
        raise ProtocolError(f"{stem} is not audio-only speech (03-01-...)")
    if stem not in expected_names():
        raise ProtocolError(f"{stem} is not a recording that RAVDESS has")
    return {
        "emotion": EMOTIONS[emotion],
        "intensity": "strong" if intensity == "02" else "normal",
        "statement": statement,
        "repetition": repetition,
        "actor": actor,
        "gender": "male" if int(actor) % 2 else "female",
    }


@cache
def expected_names() -> dict[str, None]:
    """The names of all 1440 audio-only speech files, in order."""
    numbers = product(
        (f"{actor:02d}" for actor in range(1, ACTORS + 1)), EMOTIONS, ("01", "02"), ("01", "02"), ("01", "02")
    )
    return {
        f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor}": None
        for actor, emotion, intensity, statement, repetition in numbers
        if not (emotion == "01" and intensity == "02")
    }


def read(root: Path) -> Corpus:
    """The corpus below `root`, wherever its actors' folders are; songs and video are passed over.

    Some copies hold every file twice, in a folder within itself: each name counts once. Raises ProtocolError when there
    is nothing of it, or a file is named as none of the corpus is.
    """
    if not root.is_dir():
        raise ProtocolError(f"{root} is not a folder")
    found: dict[str, Path] = {}
    strange = []
    for path in sorted(root.rglob("*.wav"), key=lambda path: (len(path.parts), path)):
        if not re.fullmatch(r"Actor_\d\d", path.parent.name) or path.name.startswith("."):
            continue
        if path.stem.startswith(("03-02-", "01-", "02-")):
            continue
        try:
            actor = labels_of(path.stem)["actor"]
        except ProtocolError as error:
            strange.append(str(error))
            continue
        if path.parent.name != f"Actor_{actor}":
            strange.append(f"{path.stem} lies in {path.parent.name}")
        found.setdefault(path.stem, path)
    if strange:
        raise ProtocolError(f"{root}: {strange[0]}" + (f", and {len(strange) - 1} more" if len(strange) > 1 else ""))
    if not found:
        raise ProtocolError(f"{root} holds no RAVDESS speech; expected is {LAYOUT}")
    clips = []
    for name in expected_names():
        if name in found:
            labels = labels_of(name)
            clips.append(EvaluationClip(found[name], "ravdess", speaker=labels["actor"], labels=labels))
    missing = [f"Actor_{name[-2:]}/{name}.wav" for name in expected_names() if name not in found]
    return Corpus(clips, missing)


RAVDESS = Protocol(
    "ravdess",
    "RAVDESS, acted English speech",
    LAYOUT,
    (
        ClassTask(
            "emotion",
            "emotion",
            emotion_prompts("angry", "calm", "disgust", "fear", "happy", "sad", "surprised", "neutral"),
            fixed=True,
        ),
        GENDER,
    ),
    read,
)
