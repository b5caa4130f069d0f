"""Tiny corpora in their owners' layouts: a buzz for speech, a pitch for a person."""

import itertools
from pathlib import Path

import numpy as np
import soundfile


def write_voice(path: Path, pitch_hz: float = 150.0, seconds: float = 0.4, rate: int = 16_000) -> Path:
    """A buzz of falling harmonics with a syllable's rise and fall, 16-bit WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate)) / rate
    tone = sum(np.sin(2 * np.pi * pitch_hz * k * t) / k for k in range(1, 12))
    soundfile.write(path, 0.2 * tone * np.sin(np.pi * t / seconds) ** 2, rate, subtype="PCM_16")
    return path


def write_ravdess(root: Path, actors: tuple[int, ...] = (1, 2), *, every: int = 1) -> list[str]:
    """Actors' folders with all their speech files, or every so many of them; the names written."""
    numbers = itertools.product(actors, range(1, 9), (1, 2), (1, 2), (1, 2))
    names = [
        f"03-01-{emotion:02d}-{intensity:02d}-{statement:02d}-{repetition:02d}-{actor:02d}"
        for actor, emotion, intensity, statement, repetition in numbers
        if emotion > 1 or intensity == 1
    ]
    for name in names[::every]:
        pitch = 110.0 if int(name[-2:]) % 2 else 210.0
        write_voice(root / f"Actor_{name[-2:]}" / f"{name}.wav", pitch + 5 * int(name[6:8]))
    return names[::every]


DEMOGRAPHICS = """"ActorID","Age","Sex","Race","Ethnicity"
1001,51,"Male","Caucasian","Not Hispanic"
1002,21,"Female","Caucasian","Not Hispanic"
1034,74,"Male","Caucasian","Not Hispanic"
"""
CREMAD_NAMES = (
    "1001_DFA_ANG_XX",
    "1001_IEO_HAP_HI",
    "1002_TIE_SAD_XX",
    "1002_IEO_FEA_LO",
    "1034_MTI_DIS_XX",
    "1034_WSI_NEU_XX",
)


def write_cremad(root: Path, names: tuple[str, ...] = CREMAD_NAMES) -> None:
    """AudioWAV, demographics, the list of recordings and raters' votes."""
    for name in names:
        write_voice(root / "AudioWAV" / f"{name}.wav", 210.0 if name.startswith("1002") else 110.0)
    (root / "VideoDemographics.csv").write_text(DEMOGRAPHICS)
    rows = "".join(f'{i},"{name}"\n' for i, name in enumerate(names, 1))
    (root / "SentenceFilenames.csv").write_text('"Stimulus_Number","Filename"\n' + rows)
    (root / "processedResults").mkdir(exist_ok=True)
    (root / "processedResults" / "summaryTable.csv").write_text(
        '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
        '"1","1001_DFA_ANG_XX","N","60","A","70","A","80"\n'
        '"2","1001_IEO_HAP_HI","H:N","60:50","H","70","H","80"\n'
        '"3","1002_TIE_SAD_XX","S","60","S","70","S","80"\n'
    )


IMPROVISED = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()
C-F1:\tNeutral;\t(curious)

[10.0100 - 11.3925]\tSes01F_impro01_M000\texc\t[2.5000, 2.5000, 2.5000]
C-E2:\tExcited;\t()

[14.8872 - 18.0175]\tSes01F_impro01_F001\tfru\t[2.5000, 3.5000, 3.5000]
C-E2:\tFrustration;\t()

[19.2900 - 20.7875]\tSes01F_impro01_M001\thap\t[4.0000, 3.5000, 3.5000]

[21.3257 - 24.7400]\tSes01F_impro01_F002\txxx\t[2.5000, 3.5000, 3.5000]
"""
SCRIPTED = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[1.0000 - 2.0000]\tSes01M_script01_1b_F000\tang\t[1.5000, 4.0000, 4.5000]
[2.0000 - 3.0000]\tSes01M_script01_1b_MXX0\tsad\t[1.5000, 2.0000, 2.5000]
"""


def write_iemocap(root: Path) -> None:
    """Session 1 with an improvised and a scripted dialogue, and empty sessions 2 to 5."""
    labels = root / "Session1" / "dialog" / "EmoEvaluation"
    (labels / "Categorical").mkdir(parents=True)
    (labels / "Ses01F_impro01.txt").write_text(IMPROVISED)
    (labels / "Ses01M_script01_1b.txt").write_text(SCRIPTED)
    (labels / "._Ses01F_impro01.txt").write_bytes(b"\x00\x05\x16\x07")
    turns = [word for text in (IMPROVISED, SCRIPTED) for word in text.split() if word.startswith("Ses01")]
    for turn in turns:
        folder = root / "Session1" / "sentences" / "wav" / turn.rpartition("_")[0]
        write_voice(folder / f"{turn}.wav", 210.0 if turn.rpartition("_")[2].startswith("F") else 110.0)
    for session in range(2, 6):
        other = root / f"Session{session}" / "dialog" / "EmoEvaluation"
        other.mkdir(parents=True)
        name = f"Ses0{session}F_impro01"
        (other / f"{name}.txt").write_text(f"[1.0 - 2.0]\t{name}_F000\tneu\t[2.5, 2.5, 2.5]\n")
        write_voice(root / f"Session{session}" / "sentences" / "wav" / name / f"{name}_F000.wav", 200.0)
