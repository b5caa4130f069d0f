"""Evaluation on vectors that are known, so that every figure can be worked out by hand."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support.tiny_corpora import write_voice
from training.evaluation.clips import EvaluationClip, ManifestError, Rating, read_manifest
from training.evaluation.evaluate import (
    embed_clips,
    evaluate_classes,
    evaluate_ratings,
    evaluate_retrieval,
    evaluate_sources,
)
from training.evaluation.labels import ClassTask, read_prompts, tasks_of
from training.evaluation.plots import confusion_plot, write_plots
from training.evaluation.tables import figure_rows, markdown
from training.objective.examples import TrainCaption


class Words:
    """A space of words: a text's vector marks its known words; a clip's is given by its peak, in steps of a tenth."""

    def __init__(self, *words: str, clips: Sequence[str] = ()) -> None:
        self.words = words
        self.clips = clips

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.array(
            [[word in text.lower().rstrip(".").split() for word in self.words] for text in texts], np.float32
        )
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    def embed_clip(self, samples: np.ndarray) -> np.ndarray:
        return self.embed_text([self.clips[round(float(np.abs(samples).max()) * 10)]])[0]


def clip(name: str, *captions: str, kind: str = "global", source: str = "s", **labels: object) -> EvaluationClip:
    told = tuple(TrainCaption(text, kind, {}) for text in captions)
    return EvaluationClip(Path(name), source, captions=told, labels=labels)


def test_retrieval_by_hand() -> None:
    space = Words("low", "high", "slow", "fast")
    clips = [clip("a", "low slow"), clip("b", "low fast"), clip("c", "high slow"), clip("d", "high fast")]
    # a and b are heard as they are; c is heard as "high fast", d as "low fast".
    vectors = space.embed_text(["low slow", "low fast", "high fast", "low fast"])
    found = evaluate_retrieval(space, vectors, clips, "global")
    assert (found["clips"], found["captions"]) == (4, 4)
    # Speech to text: a and b first. c's caption ties with b's, below d's: third. d's ties with a's, below b's: third.
    assert found["speech_to_text"]["R@1"]["value"] == 50
    assert found["speech_to_text"]["mAP@10"]["value"] == pytest.approx(100 * (1 + 1 + 1 / 3 + 1 / 3) / 4, abs=0.01)
    assert found["text_to_speech"]["R@5"]["value"] == 100
    assert found["text_to_speech"]["R@1"]["chance"] == 25
    assert evaluate_retrieval(space, vectors, clips, "fine") == {}


def test_captions_that_read_alike_are_one() -> None:
    space = Words("low", "high")
    clips = [clip("a", "Low."), clip("b", "low"), clip("c", "high")]
    vectors = space.embed_text(["low", "low", "high"])
    found = evaluate_retrieval(space, vectors, clips, "global")
    assert (found["clips"], found["captions"]) == (3, 2)
    for direction in ("text_to_speech", "speech_to_text"):
        assert found[direction]["R@1"]["value"] == found[direction]["mAP@10"]["value"] == 100
    # By chance the first of three clips is one of the two that are low in 2 of 3 orders, and the high one in 1 of 3.
    assert found["text_to_speech"]["R@1"]["chance"] == 50
    assert found["speech_to_text"]["R@1"]["chance"] == 50
    same = [clip("a", "low"), clip("b", "low"), clip("c")]
    assert evaluate_retrieval(space, vectors, same, "global") == {}


def test_fine_captions_are_asked_apart() -> None:
    space = Words("low", "high", "slow", "fast")
    clips = [
        EvaluationClip(Path(name), "s", captions=(TrainCaption(short, "global", {}), TrainCaption(long, "fine", {})))
        for name, short, long in (("a", "low", "fast"), ("b", "high", "slow"))
    ]
    vectors = space.embed_text(["low slow", "high fast"])
    assert evaluate_retrieval(space, vectors, clips, "global")["speech_to_text"]["R@1"]["value"] == 100
    assert evaluate_retrieval(space, vectors, clips, "fine")["speech_to_text"]["R@1"]["value"] == 0


EMOTION = ClassTask("emotion", "emotion", {e: [f"a {e} voice"] for e in ("happy", "sad", "angry", "calm")})


def test_classes_by_hand() -> None:
    space = Words("happy", "sad", "angry", "calm", "excited")
    said = ["happy", "happiness", "sad", "Anger", "bored"]
    clips = [clip(str(i), emotion=emotion) for i, emotion in enumerate(said)]
    vectors = space.embed_text(["happy", "sad", "sad", "angry", "happy"])
    found = evaluate_classes(space, vectors, clips, EMOTION)
    assert found["labels"] == ["happy", "sad", "angry"]  # calm does not occur
    assert found["confusion"] == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert (found["clips"], found["without_label"]) == (4, 1)
    assert found["WA"]["value"] == 75
    assert found["UAR"]["value"] == pytest.approx(100 * (0.5 + 1 + 1) / 3, abs=0.01)
    fixed = ClassTask("emotion", "emotion", EMOTION.prompts, fixed=True)
    assert evaluate_classes(space, vectors, clips, fixed)["WA"]["chance"] == 25
    assert evaluate_classes(space, vectors[:1], clips[:1], EMOTION) == {}


def test_the_nearest_prompt_stands_for_a_merged_class() -> None:
    space = Words("happy", "sad", "excited", "loud")
    prompts = {"happy": ["happy", "excited"], "sad": ["sad loud"]}
    clips = [clip("a", emotion="happy"), clip("b", emotion="sad")]
    vectors = space.embed_text(["excited loud", "sad"])
    nearest = ClassTask("emotion", "emotion", prompts, pool="nearest", fixed=True)
    # To the mean of happy and excited the first clip has 0.5, as to "sad loud"; to excited alone 0.71.
    assert evaluate_classes(space, vectors, clips, nearest)["confusion"] == [[1, 0], [0, 1]]


def test_ratings_by_hand() -> None:
    space = Words("low", "high", "slow")
    rated = [("low", 5.0), ("high", 1.0), ("low slow", 3.0), ("high", 2.0)]
    clips = [
        EvaluationClip(
            Path(str(i)), "s", ratings=(Rating(text, value, "intrinsic"), Rating("low", value, "situational"))
        )
        for i, (text, value) in enumerate(rated)
    ]
    vectors = space.embed_text(["low"] * 4)
    found = evaluate_ratings(space, vectors, clips)
    cosines = [1, 0, 2**-0.5, 0]
    expected = float(np.corrcoef(cosines, [value for _, value in rated])[0, 1])
    assert found["similarity_intrinsic"]["r"]["value"] == pytest.approx(expected, abs=1e-3)
    assert found["similarity_situational"]["r"]["value"] == 0  # always the same cosine
    assert found["similarity_intrinsic"]["clips"] == 4


def test_sources_are_never_averaged(tmp_path: Path) -> None:
    space = Words("happy", "sad")
    clips = [clip(str(i), emotion="happy" if i % 2 else "sad", source="right" if i < 4 else "wrong") for i in range(8)]
    vectors = space.embed_text(["sad", "happy"] * 2 + ["happy", "sad"] * 2)
    sources = evaluate_sources(space, vectors, clips, [EMOTION], calibrations={"captions": (10.0, -3.0)})
    assert list(sources) == ["right", "wrong"]
    assert [sources[name]["emotion"]["WA"]["value"] for name in sources] == [100, 0]
    report = {
        "bundle": {"name": "n", "version": "1", "precision": "fp32", "fingerprint": "0" * 64},
        "data": "d",
        "coverage": {"judged": 8, "of": 9, "refused": ["x"], "missing": []},
        "notes": [],
        "resampled": "clips",
        "sources": sources,
    }
    assert ("emotion WA", "4", "100", "100 to 100", "50") in list(figure_rows(sources["right"]))
    assert "## wrong: 4 clips" in markdown(report) and "| emotion UAR | 4 | 0 | 0 to 0 | 50 |" in markdown(report)
    assert "8 of 9 clips" in markdown(report) and "Not judged: 1" in markdown(report)
    plots = {path.name for path in write_plots(report, tmp_path)}
    assert plots == {f"{kind}-{name}.svg" for kind, name in [
        ("confusion", "right-emotion"), ("confusion", "wrong-emotion"), ("figures", "right"), ("figures", "wrong")
    ]}  # fmt: skip


def test_no_source_draws_over_anothers_plots(tmp_path: Path) -> None:
    sources = {name: {"clips": 2, "gender": {"labels": [], "confusion": []}} for name in ("a b", "a/b", "..", "")}
    plots = write_plots({"sources": sources}, tmp_path)
    assert len({path for path in plots if path.is_file() and path.parent == tmp_path}) == 8
    assert {path.name for path in plots if path.name.startswith("figures")} == {
        f"figures-{name}.svg" for name in ("a-b", "a-b-2", "source", "source-2")
    }


def test_a_confusion_picture_holds_its_counts() -> None:
    import xml.etree.ElementTree as ElementTree

    picture = ElementTree.fromstring(confusion_plot("a < b", ["x", "y & z"], [[3, 1], [0, 0]]))
    told = [element.text for element in picture.iter() if element.tag.endswith("}title")]
    assert told == [
        "x heard as x: 3 of 4",
        "x heard as y & z: 1 of 4",
        "y & z heard as x: 0 of 0",
        "y & z heard as y & z: 0 of 0",
    ]


def test_manifest_rows(tmp_path: Path) -> None:
    rows = [
        {"path": "a.wav", "caption": "low", "emotion": "sad", "source": "x", "attributes": {"pitch": "low"}},
        {"path": "a.wav", "captions": [{"text": "first low, then high", "kind": "fine"}, "low"]},
        {"file": "b.wav", "short_captions": ["high"], "long_captions": ["high all along"], "metadata": {"age": 31}},
        {"file": "c.wav", "caption": "high", "rating": 2, "rating_kind": "intrinsic"},
        {"file": "d.wav", "start_s": 1.5, "duration_s": 2, "ratings": [{"caption": "low", "rating": 4.5}]},
    ]
    path = tmp_path / "clips.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    a, b, c, d = read_manifest(path)
    assert a.path == tmp_path / "a.wav" and (a.source, b.source) == ("x", "clips")
    assert (a.caption("global"), a.caption("fine")) == ("low", "first low, then high") and len(a.captions) == 2
    assert (b.caption("global"), b.caption("fine"), b.labels["age"]) == ("high", "high all along", 31)
    assert a.labels["pitch"] == "low"
    # What people rated may not fit: it is no caption to be found.
    assert c.captions == () and c.ratings == (Rating("high", 2.0, "intrinsic"),)
    assert (d.start_s, d.duration_s, d.ratings[0].rating) == (1.5, 2.0, 4.5)
    assert [one.path.name for one in read_manifest(path, where={"emotion": "sad"})] == ["a.wav"]
    with pytest.raises(ManifestError, match="--where"):
        read_manifest(path, where={"emotion": "bored"})


def test_a_single_caption_needs_no_list(tmp_path: Path) -> None:
    path = tmp_path / "clips.jsonl"
    fields = ("caption", "captions", "short_captions", "global_captions", "long_captions", "fine_captions")
    kinds = ("global",) * 4 + ("fine",) * 2
    for name, kind in zip(fields, kinds, strict=True):
        for told in ("A calm man.", ["A calm man.", " "], {"text": "A calm man."}):
            path.write_text(json.dumps({"path": "a.wav", name: told}) + "\n")
            assert read_manifest(path)[0].captions == (TrainCaption("A calm man.", kind, {}),), (name, told)


def test_a_manifests_lines_end_at_newlines_alone(tmp_path: Path) -> None:
    path = tmp_path / "clips.jsonl"
    text = "Low,\u2028then\u0085high."
    path.write_text(json.dumps({"path": "a.wav", "caption": text}, ensure_ascii=False) + "\n", "utf-8-sig")
    (clip,) = read_manifest(path)
    assert clip.caption("global") == text
    with pytest.raises(ValueError, match=r"absent\.jsonl"):
        read_manifest(tmp_path / "absent.jsonl")


def test_stretches_that_end_elsewhere_are_others(tmp_path: Path) -> None:
    stretches = [("low", 1.0), ("low, then high", 2.0), ("deep", 1.0)]
    rows = [{"path": "a.wav", "start_s": 0, "duration_s": end, "caption": text} for text, end in stretches]
    path = tmp_path / "clips.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = [(one.duration_s, [caption.text for caption in one.captions]) for one in read_manifest(path)]
    assert found == [(1.0, ["low", "deep"]), (2.0, ["low, then high"])]


def test_nan_is_what_tables_write_where_nothing_is_known(tmp_path: Path) -> None:
    names = ("caption", "captions", "short_captions", "ratings", "age", "emotion", "speaker", "source", "start_s")
    nothing = dict.fromkeys(names, float("nan"))
    path = tmp_path / "clips.jsonl"
    path.write_text(json.dumps({"path": "a.wav", **nothing, "metadata": {"gender": float("nan"), "stars": 5.0}}) + "\n")
    (clip,) = read_manifest(path)
    assert (clip.captions, clip.ratings, clip.speaker, clip.source, clip.start_s) == ((), (), "", "clips", None)
    assert "age" not in clip.labels and "gender" not in clip.labels


def test_labels_that_are_numbers() -> None:
    age = ClassTask("age", "age", {"child": ["c"], "older": ["o"], "adult": ["a"]})
    told = {7: "child", 30.5: "adult", 70.0: "older", -1: None, float("nan"): None, float("inf"): None, True: None}
    assert {years: age.label(clip("a", age=years)) for years in told} == told
    # A column of whole numbers with a gap holds fractions.
    assert ClassTask("stars", "stars", {"1": ["x"], "5": ["y"]}).label(clip("a", stars=5.0)) == "5"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: not a JSON object"),
        ("[]", "line 2: not a JSON object"),
        ('{"caption": "no file"}', "`path` or `file`"),
        ('{"path": "a", "captions": [3]}', "3 is neither a text"),
        ('{"path": "a", "captions": {"text": "low", "claims": "low"}}', "claims are an object of texts, not 'low'"),
        ('{"path": "a", "captions": 3}', "captions: 3 is neither a text"),
        ('{"path": "a", "long_captions": [null]}', "long_captions: None is neither a text"),
        ('{"path": "a", "caption": true}', "caption: True is neither a text"),
        ('{"path": "a", "ratings": [{"caption": "x"}]}', "no `caption` with a `rating`"),
        ('{"path": "a", "start_s": "soon"}', "start_s: seconds are wanted, not 'soon'"),
        ('{"path": "a", "start_s": Infinity}', "start_s: seconds from 0 are wanted, not inf"),
        ('{"path": "a", "rating": 3}', "no `caption` with a `rating`"),
        ('{"path": "a", "caption": "x", "rating": NaN}', "not a finite number"),
        ('{"path": "a", "caption": "x", "rating": true}', "that is a number"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "clips.jsonl"
    path.write_text('{"path": "fine.wav"}\n' + line + "\n")
    with pytest.raises(ManifestError, match="line 2") as raised:
        read_manifest(path)
    assert told in str(raised.value)


def test_clips_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    good = write_voice(tmp_path / "good.wav")
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    space = Words("low", clips=["low"] * 11)
    clips = [EvaluationClip(tmp_path / name, "s") for name in ("good.wav", "bad.wav", "absent.wav")]
    clips += [EvaluationClip(good, "s", start_s=0.1, duration_s=0.2), EvaluationClip(good, "s", start_s=9.0)]
    vectors, kept, refused = embed_clips(space, clips)
    assert vectors.shape == (2, 1) and [one.start_s for one in kept] == [None, 0.1]
    assert [any(name in line for line in refused) for name in ("bad.wav", "absent.wav", "9 s")] == [True] * 3


def test_tasks_and_prompts() -> None:
    presets = {"emotion": {"happy": ["h"], "sad": ["s"]}, "age": {"child": ["c"], "older": ["o"]}}
    clips = [clip("a", emotion="joy", age=70), clip("b", emotion="sadness", age=71)]
    assert [task.name for task in tasks_of({}, presets, clips)] == ["emotion"]  # all are older: nothing to tell apart
    assert tasks_of({"mood": "emotion"}, presets, clips)[0].field == "mood"
    with pytest.raises(ValueError, match=r"no preset 'mood'; there are emotion, age"):
        tasks_of({"mood": "mood"}, presets, clips)
    assert read_prompts({"stars": {1: "bad", 5: ["good", "great"]}}) == {
        "stars": {"1": ["bad"], "5": ["good", "great"]}
    }
    assert ClassTask("stars", "stars", {"1": ["x"], "5": ["y"]}).label(clip("a", stars=5)) == "5"
    for wrong in ([], {"a": []}, {"a": {"x": "one"}}, {"a": {"x": [], "y": "z"}}):
        with pytest.raises(ValueError, match="prompts"):
            read_prompts(wrong)
