"""Labels of corpora become facts and captions: bursts, listeners' words, ages, searches; silence stays unknown."""

import json
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from training.captions import lexicon
from training.captions.bursts import categories, write_bursts
from training.captions.lexicon import NEGATION
from training.captions.listeners import LEFT_OUT, listener_facts, write_listeners
from training.captions.prompts import prompts
from training.captions.queries import bank, write_queries
from training.captions.writer import Facts, write
from training.corpus.augment import opus
from training.corpus.build_data import Builder
from training.corpus.captions import recaption
from training.corpus.data import DataRecipe, read_manifest
from training.corpus.labels import accent_of, age_of
from training.corpus.sources import clips
from training.evaluation.phrases import phrase_accuracy, phrases
from training.objective.matches import known_of, truth_of
from training.objective.wordings import meaning, meanings, wording_loss

SR = 16_000


def test_every_burst_is_told_as_a_sound_and_never_as_speech() -> None:
    for category in categories():
        made = write_bursts(category, seed="1")
        assert len([c for c in made if c.kind == "burst"]) == 5
        for caption in made:
            if caption.kind == "burst":
                assert "speak" not in caption.text.lower() and "talk" not in caption.text.lower()
                assert caption.claims == {"burst": category}
    assert write_bursts("awe", seed="1") == write_bursts("awe", seed="1")


def test_a_burst_of_several_emotions_is_only_surely_the_first() -> None:
    assert [c.text for c in write_bursts("sadness", seed="3")].count("A speaker in a sad tone.") == 1
    assert not [c for c in write_bursts("pain", seed="3") if c.kind == "prompt"], "none is sure"
    fact = {"emotion": categories()["awe"].emotion}
    assert fact == {"emotion": "surprised|happy"}
    assert (truth_of(("emotion", "surprised"), fact), known_of(("emotion", "surprised"), fact)) == (1.0, 1.0)
    assert (truth_of(("emotion", "happy"), fact), known_of(("emotion", "happy"), fact)) == (0.0, 0.0), "may be"
    assert (truth_of(("emotion", "sad"), fact), known_of(("emotion", "sad"), fact)) == (0.0, 1.0), "is not"
    assert truth_of(("emotion", "?"), {}) == 0.0


def test_labels_of_bursts_are_labels_that_captions_have_words_for() -> None:
    told = {value for c in categories().values() for value in c.emotion.split("|")}
    assert told - {"?", "excited"} <= set(lexicon.emotion_words())


def test_two_listeners_who_agree_make_a_fact_and_silence_none() -> None:
    told = [["very calm", "raspy", "sexy"], ["slightly calm", "thick", "sexy"], ["thick", "halting", "thin"]]
    assert listener_facts(told) == {"heard.body": "thick", "heard.calm": "yes"}
    assert listener_facts([["thick", "thin"], ["thick", "thin"]]) == {}, "contradictions tell nothing"
    facts = listener_facts([["calm", "soft", "friendly"]] * 2)
    made = write_listeners(facts, "female", seed="5")
    assert {c.kind for c in made} == {"listener"}
    for caption in made:
        assert all(facts[k] == v for k, v in caption.claims.items() if k != "gender")
        assert caption.claims and not NEGATION.search(caption.text)
        assert not set(LEFT_OUT) & set(caption.text.lower().split())
    assert write_listeners({"child": "no"}, "female", seed="5") == []


def test_ages_and_accents_are_read_as_listeners_would_name_them() -> None:
    assert [age_of(x) for x in (6, "seventies", "50-70", "old", None)] == [6, 75, 60, None, None]
    told = ("English, Surrey", "Scottish, Fife", "NorthernIrish, Derry", "Irish, Cork", "Portuguese-accented", None)
    assert [accent_of(x) for x in told] == ["British", "Scottish", "Northern Irish", "Irish", None, None]


def test_a_child_is_called_a_child_and_a_teenager_is_not() -> None:
    made = write(Facts({"rate": "high", "pitch": "high"}, age=8, minor="male"), seed="2")
    assert any(c.claims.get("child") == "yes" for c in made)
    assert not any(" man" in c.text.lower() or "gentleman" in c.text.lower() for c in made if "child" in c.claims)
    assert not any("child" in claims for _, claims in prompts("male", 16, None, random.Random(1)))


def test_a_meaning_is_one_claim_whatever_its_degree() -> None:
    assert meaning({"pitch": "very_low"}) == meaning({"pitch": "low"}) != meaning({"pitch": "high"})
    assert meaning({"emotion": "sad"}) == meaning({"burst": "sadness"}) == meaning({"profile.subdued": "yes"})
    assert meaning({"burst": "amusement"}) != meaning({"emotion": "happy"})
    assert meaning({"pitch": "low", "rate": "low"}) is meaning({"rate": "medium"}) is meaning({}) is None
    vectors = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    told = meanings(
        [{"emotion": "sad"}, {"burst": "sadness"}, {"rate": "low"}, {"rate": "very_low"}, {}, {"rate": "x"}]
    )
    assert told[0] == told[1] and told[2] == told[3] and told[4] == -1
    apart = wording_loss(vectors, told, torch.tensor(10.0))
    together = wording_loss(vectors[[0, 0, 2, 2, 4, 5]], told, torch.tensor(10.0))
    assert together < apart and wording_loss(vectors, torch.arange(6), torch.tensor(10.0)) == 0


def test_searches_are_true_of_the_clip_and_never_phrases_of_the_dev_set() -> None:
    facts = {"gender": "female", "emotion": "happy|excited", "rate": "very_high", "heard.calm": "yes"}
    asked = [c for seed in range(40) for c in write_queries(facts, seed=str(seed))]
    assert {c.kind for c in asked} == {"query"}
    for caption in asked:
        assert all(facts[k].partition("|")[0] == v for k, v in caption.claims.items())
    known = {
        text.lower() for values in bank().values() for forms in values.values() for f in forms.values() for text in f
    }
    assert not known & {phrase.lower() for phrase in phrases()[1]}
    assert write_queries({"heard.calm": "yes"}, seed="1") == []


def test_accuracy_of_phrases_counts_any_of_their_claims() -> None:
    claims, asked = phrases()
    assert len(asked) >= 150 and all(right <= set(claims) for right in asked.values())
    names = list(claims)
    vectors = np.eye(len(names), dtype=np.float32)
    place = {sentence: vectors[i] for i, sentence in enumerate(claims.values())}
    place |= {phrase: vectors[names.index(min(right))] for phrase, right in asked.items()}
    assert phrase_accuracy(lambda texts: np.stack([place[text] for text in texts]))["accuracy"] == 100.0
    place["furious"] = vectors[names.index("calm")]
    told = phrase_accuracy(lambda texts: np.stack([place[text] for text in texts]))
    assert told["wrong"] == {"furious": "calm"}


def test_a_pass_through_opus_keeps_length_and_changes_samples() -> None:
    wave = (0.3 * np.sin(2 * np.pi * 220 * np.arange(SR) / SR)).astype(np.float32)
    coded, done = opus(wave, np.random.default_rng(0))
    assert len(coded) == len(wave) and not np.array_equal(coded, wave)
    assert 18 <= int(done["kbps"]) <= 44
    assert np.corrcoef(coded[2000:-2000], wave[2000:-2000])[0, 1] > 0.9


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """A reading corpus and a corpus of bursts in a second manifest, with listeners' words for one reader."""
    rng = np.random.default_rng(1)
    time = np.arange(int(1.6 * SR)) / SR
    plain: dict[str, object] = dict.fromkeys(("gender", "age", "emotion", "accent", "text"))

    def add(source: str, speaker: str, seconds: float, **facts: object) -> dict[str, object]:
        path = f"{source}-{speaker}.flac"
        pitch = 115 if facts.get("gender") == "male" else 215
        voice = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 20))
        wave = 0.1 * voice * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)) + 0.002 * rng.standard_normal(len(time))
        soundfile.write(tmp_path / path, wave[: int(seconds * SR)].astype(np.float32), SR)
        row = {"path": path, "duration_s": seconds, "source": source, "speaker": speaker, "licence": "CC0"}
        return {**row, **plain, "language": "en", **facts}

    readings = [add("read", f"r{i}", 1.6, gender=("male", "female")[i % 2]) for i in range(4)]
    bursts = [add("burst", f"b{i}", 0.6, emotion=("amusement", "pain")[i % 2]) for i in range(4)]
    bursts.append(add("kids", "k0", 1.6, gender="female", age=7))
    bursts.append({**bursts[-1], "speaker": "r0", "source": "kids", "age": 30, "gender": "male"})
    for name, rows in (("manifest.jsonl", readings), ("manifest_more.jsonl", bursts)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = {"speaker": "r1", "gender": "female", "gender_heard": "female", "excluded_by_authors": False}
    words = [["calm", "soft"], ["calm"], ["soft"]]
    (tmp_path / "heard.jsonl").write_text(json.dumps(told | {"words_by_annotator": words}) + "\n")
    return tmp_path


RECIPE = {
    "queries": 2,
    "opus": 1.0,
    "sources": {
        "read": {"dev": 0, "test": 1, "styles": 1, "adults": True, "listeners": "heard.jsonl"},
        "burst": {"dev": 0, "test": 0, "styles": 0, "copies": 1.0, "bursts": True, "min_s": 0.3, "natural": False},
        "kids": {"dev": 0, "test": 0, "styles": 0, "copies": 0.0, "natural": False},
    },
}


def test_both_manifests_are_built_and_what_is_known_is_kept(corpora: Path, tmp_path: Path) -> None:
    recipe = DataRecipe.model_validate(RECIPE)
    out = tmp_path / "built"
    Builder(corpora, out, recipe).run()
    rows = {row.id: row for row in read_manifest(out / "manifest.jsonl")}
    laugh = rows["burst-b0"]
    assert (laugh.facts["burst"], laugh.facts["emotion"], laugh.attributes) == ("amusement", "happy", {})
    assert {c["kind"] for c in laugh.captions} == {"burst", "prompt", "query"} and "burst-b0__c" in rows
    kid = rows["kids-k0"]
    assert (kid.gender, kid.facts) == (None, {"child": "yes", "minor": "female"}), "a girl is no woman"
    reader = next(row for row in rows.values() if row.speaker == "r1" and row.kind == "source")
    assert reader.facts == {"child": "no", "heard.calm": "yes", "heard.touch": "soft"}
    restyled = [row for row in rows.values() if row.speaker == "r1" and row.kind != "source"]
    assert all(set(row.facts) == {"child"} for row in restyled), "listeners heard the voice as it was"
    trained = [row for row in rows.values() if row.split == "train"]
    assert trained and all((row.channel or {}).get("opus") for row in trained)
    splits: dict[str, set[str]] = {}
    for clip in clips(corpora, recipe):
        splits.setdefault(clip.speaker, set()).add(clip.split)
    assert all(len(found) == 1 for found in splits.values()), "a speaker of two corpora lies in one split"


def test_captions_are_written_anew_without_the_audio(corpora: Path, tmp_path: Path) -> None:
    out = tmp_path / "built"
    recipe = DataRecipe.model_validate(RECIPE)
    Builder(corpora, out, recipe).run()
    before = [asdict(row) for row in read_manifest(out / "manifest.jsonl")]
    assert recaption(out, recipe) == len(before)
    assert [asdict(row) for row in read_manifest(out / "manifest.jsonl")] == before, "the same words, the same captions"
    recaption(out, recipe.model_copy(update={"queries": 0}))
    after = list(read_manifest(out / "manifest.jsonl"))
    assert not [c for row in after for c in row.captions if c["kind"] == "query"]
