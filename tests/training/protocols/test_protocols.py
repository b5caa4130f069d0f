"""Corpora in exactly their owners' layouts: every label read, what is missing named, wrong folders refused."""

import itertools
from pathlib import Path

import pytest

from tests.support.tiny_corpora import CREMAD_NAMES, write_cremad, write_iemocap, write_ravdess, write_voice
from training.evaluation.labels import age_band
from training.protocols import PROTOCOLS, ProtocolError, cremad, iemocap, ravdess


def test_ravdess_names_are_the_1440_of_the_corpus() -> None:
    names = list(ravdess.expected_names())
    assert len(names) == len(set(names)) == 24 * 60
    assert "03-01-06-01-02-01-12" in names and "03-01-01-02-01-01-01" not in names
    labels = [ravdess.labels_of(name) for name in names]
    by_emotion = {
        emotion: [one for one in labels if one["emotion"] == emotion] for emotion in ravdess.EMOTIONS.values()
    }
    assert {emotion: len(rows) for emotion, rows in by_emotion.items()} == {
        emotion: 96 if emotion == "neutral" else 192 for emotion in ravdess.EMOTIONS.values()
    }
    assert sum(one["gender"] == "male" for one in labels) == 720


EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fear", "disgust", "surprised"]


@pytest.mark.parametrize(("code", "emotion"), [(f"{i:02d}", emotion) for i, emotion in enumerate(EMOTIONS, 1)])
def test_ravdess_emotions(code: str, emotion: str) -> None:
    assert ravdess.labels_of(f"03-01-{code}-01-02-01-12") == {
        "emotion": emotion,
        "intensity": "normal",
        "statement": "02",
        "repetition": "01",
        "actor": "12",
        "gender": "female",
    }
    assert ravdess.labels_of(f"03-01-{code}-01-01-02-07")["gender"] == "male"


@pytest.mark.parametrize(
    "name",
    [
        "03-01-09-01-01-01-01",
        "03-01-01-02-01-01-01",
        "03-02-03-01-01-01-01",
        "03-01-03-01-01-01-25",
        "03-01-03",
        "tone",
    ],
)
def test_ravdess_refuses_other_names(name: str) -> None:
    with pytest.raises(ProtocolError, match=name):
        ravdess.labels_of(name)


def test_ravdess_folder(tmp_path: Path) -> None:
    names = write_ravdess(tmp_path / "Audio_Speech_Actors_01-24", (1, 2), every=4)
    write_voice(tmp_path / "Audio_Song_Actors_01-24" / "Actor_01" / "03-02-03-01-01-01-01.wav")
    write_voice(tmp_path / "nested" / "copy" / "Actor_01" / f"{names[0]}.wav")  # a copy within itself
    corpus = ravdess.read(tmp_path)
    assert [clip.path.stem for clip in corpus.clips] == sorted(names, key=lambda name: (name[-2:], name))
    assert len(corpus.missing) == 1440 - len(names)
    assert {clip.speaker for clip in corpus.clips} == {"01", "02"}
    assert {clip.labels["gender"] for clip in corpus.clips if clip.speaker == "02"} == {"female"}
    assert all("nested" not in str(clip.path) for clip in corpus.clips)


def test_ravdess_refuses_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="not a folder"):
        ravdess.read(tmp_path / "absent")
    write_voice(tmp_path / "Actor_01" / "song" / "a.wav")
    with pytest.raises(ProtocolError, match="holds no RAVDESS speech"):
        ravdess.read(tmp_path)
    write_voice(tmp_path / "Actor_02" / "03-01-03-01-01-01-01.wav")
    with pytest.raises(ProtocolError, match="lies in Actor_02"):
        ravdess.read(tmp_path)


def test_cremad_labels() -> None:
    for (code, emotion), sentence, level in itertools.product(
        cremad.EMOTIONS.items(), cremad.SENTENCES, ("LO", "MD", "HI", "XX")
    ):
        assert cremad.labels_of(f"1091_{sentence}_{code}_{level}") == {
            "actor": "1091",
            "sentence": sentence,
            "emotion": emotion,
            "level": level,
        }
    for name in ("1001_DFA_JOY_XX", "1001_ABC_ANG_XX", "DFA_ANG_XX", "1001_DFA_ANG"):
        with pytest.raises(ProtocolError, match=name):
            cremad.labels_of(name)


def test_cremad_folder(tmp_path: Path) -> None:
    write_cremad(tmp_path, (*CREMAD_NAMES, cremad.SILENT.replace("1076", "1002"), "1001_ITH_SAD_XX"))
    corpus = cremad.read(tmp_path)
    found = {clip.path.stem: clip for clip in corpus.clips}
    assert corpus.missing == [] and len(found) == len(CREMAD_NAMES) + 2
    assert found["1001_DFA_ANG_XX"].labels["gender"] == "male" and found["1002_TIE_SAD_XX"].labels["gender"] == "female"
    assert [found[name].labels["age"] for name in ("1001_DFA_ANG_XX", "1002_IEO_FEA_LO", "1034_MTI_DIS_XX")] == [
        51,
        21,
        74,
    ]
    age = next(task for task in cremad.CREMAD.tasks if task.name == "age")
    assert [age.label(found[name]) for name in ("1001_DFA_ANG_XX", "1002_IEO_FEA_LO", "1034_MTI_DIS_XX")] == [
        "middle-aged",
        "adult",
        "older",
    ]
    heard = {name: clip.labels.get("emotion_heard") for name, clip in found.items()}
    assert (heard["1001_DFA_ANG_XX"], heard["1001_IEO_HAP_HI"], heard["1002_TIE_SAD_XX"]) == ("neutral", None, "sad")
    assert cremad.read(tmp_path / "AudioWAV").clips == corpus.clips


def test_cremad_known_defects_and_gaps(tmp_path: Path) -> None:
    write_cremad(tmp_path)
    people = (tmp_path / "VideoDemographics.csv").read_text()
    (tmp_path / "VideoDemographics.csv").write_text(people + '1076,25,"Female","",""\n1040,42,"Male","",""\n')
    write_voice(tmp_path / "AudioWAV" / f"{cremad.SILENT}.wav")
    write_voice(tmp_path / "AudioWAV" / "1040_ITH_SAD_X.wav")
    (tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav").unlink()
    corpus = cremad.read(tmp_path)
    assert corpus.missing == ["AudioWAV/1001_DFA_ANG_XX.wav"]
    assert any(cremad.SILENT in note for note in corpus.notes)
    stems = {clip.path.stem for clip in corpus.clips}
    assert "1040_ITH_SAD_X" in stems and cremad.SILENT not in stems
    (tmp_path / "SentenceFilenames.csv").unlink()
    assert "of 7442 recordings" in cremad.read(tmp_path).missing[0]


def test_cremad_refuses_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="holds no AudioWAV"):
        cremad.read(tmp_path)
    (tmp_path / "AudioWAV").mkdir()
    with pytest.raises(ProtocolError, match=r"holds no VideoDemographics\.csv"):
        cremad.read(tmp_path)
    write_cremad(tmp_path, ())
    with pytest.raises(ProtocolError, match="holds no WAV files"):
        cremad.read(tmp_path)
    pointer = tmp_path / "AudioWAV" / "1001_DFA_ANG_XX.wav"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ProtocolError, match="git lfs pull"):
        cremad.read(tmp_path)
    write_voice(pointer)
    write_voice(tmp_path / "AudioWAV" / "1090_DFA_ANG_XX.wav")
    with pytest.raises(ProtocolError, match="does not list actor 1090"):
        cremad.read(tmp_path)
    (tmp_path / "VideoDemographics.csv").write_text("ActorID,Age\n1001,51\n")
    with pytest.raises(ProtocolError, match="no column Sex"):
        cremad.read(tmp_path)
    (tmp_path / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,old,Male\n")
    with pytest.raises(ProtocolError, match="line 2"):
        cremad.read(tmp_path)


def test_iemocap_folder(tmp_path: Path) -> None:
    write_iemocap(tmp_path / "IEMOCAP_full_release")
    corpus = iemocap.read(tmp_path)
    told = {clip.path.stem: (clip.labels["emotion"], clip.labels["gender"], clip.speaker) for clip in corpus.clips}
    assert {name: one for name, one in told.items() if name.startswith("Ses01")} == {
        "Ses01F_impro01_F000": ("neutral", "female", "1F"),
        "Ses01F_impro01_M000": ("happy", "male", "1M"),
        "Ses01F_impro01_M001": ("happy", "male", "1M"),
        "Ses01M_script01_1b_F000": ("angry", "female", "1F"),
        "Ses01M_script01_1b_MXX0": ("sad", "male", "1M"),
    }
    assert corpus.missing == [] and "2 turns of other emotions" in corpus.notes[0]
    assert iemocap.read(tmp_path / "IEMOCAP_full_release") == corpus


def test_iemocap_gaps_and_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="holds no Session1 to Session5"):
        iemocap.read(tmp_path)
    write_iemocap(tmp_path)
    wav = tmp_path / "Session1" / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F000.wav"
    wav.unlink()
    corpus = iemocap.read(tmp_path)
    assert corpus.missing == ["Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"]
    labels = tmp_path / "Session1" / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt"
    labels.write_text("[1.0 - 2.0]\tSes01F_impro01_F000\tjoy\t[2.5, 2.5, 2.5]\n")
    with pytest.raises(ProtocolError, match=r"Ses01F_impro01\.txt, line 1: .*'joy'"):
        iemocap.read(tmp_path)
    labels.write_text("[1.0 - 2.0]\tF000\tneu\t[2.5, 2.5, 2.5]\n")
    with pytest.raises(ProtocolError, match="not named as"):
        iemocap.read(tmp_path)
    labels.write_text("[1.0 - 2.0] Ses01F_impro01_F000\n")
    with pytest.raises(ProtocolError, match="line 1"):
        iemocap.read(tmp_path)
    labels.unlink()
    for file in (tmp_path / "Session2" / "dialog" / "EmoEvaluation").iterdir():
        file.unlink()
    with pytest.raises(ProtocolError, match="Session2 holds no dialog/EmoEvaluation"):
        iemocap.read(tmp_path)


def test_prompts_are_the_papers() -> None:
    asked = {
        (name, task.name): [prompt for texts in task.prompts.values() for prompt in texts]
        for name, protocol in PROTOCOLS.items()
        for task in protocol.tasks
    }
    assert len(asked["ravdess", "emotion"]) == 8 and len(asked["crema-d", "emotion"]) == 6
    assert "A speaker in a fear tone." in asked["ravdess", "emotion"]
    assert asked["ravdess", "gender"] == ["A male speaker.", "A female speaker."]
    assert asked["crema-d", "age"] == [
        "A child or young teenager speaker.",
        "An adult speaker.",
        "A middle-aged speaker.",
        "An older or elder speaker.",
    ]
    assert len(asked["iemocap", "emotion"]) == 5
    assert list(PROTOCOLS["iemocap"].tasks[0].prompts) == ["happy", "angry", "sad", "neutral"]


@pytest.mark.parametrize(
    ("years", "band"),
    [
        (19, "child"),
        (20, "adult"),
        (39, "adult"),
        (40, "middle-aged"),
        (59, "middle-aged"),
        (60, "older"),
        (74, "older"),
    ],
)
def test_age_bands(years: int, band: str) -> None:
    assert age_band(years) == band
