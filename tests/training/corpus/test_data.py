"""The training set: splits share no speaker or voice, builds repeat and resume, rows say what they are."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from tests.support.paths import SHARED
from training.captions import lexicon
from training.captions.acoustic import measure
from training.captions.gender import estimate_gender
from training.captions.profiles import profile_facts
from training.corpus import build_data
from training.corpus.build_data import Builder, RecipeChangedError, ToolMissingError
from training.corpus.data import DataRecipe, ManifestWriter, Row, read_manifest, split_of, split_units, stable_seed
from training.corpus.sources import clips, load

SHARED_DATA = SHARED / "data"

SR = 16_000
RECIPE = Path(build_data.__file__).parents[1] / "recipes" / "data_small.yaml"


def speechlike(f0: float, seconds: float, seed: int) -> np.ndarray:
    """Pulses through resonances, four syllables a second."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * SR)) / SR
    pitch = f0 * 2 ** (rng.uniform(1, 4) / 12 * np.sin(2 * np.pi * 0.6 * t + rng.uniform(0, 6)))
    wave = np.diff(np.floor(np.cumsum(pitch) / SR), prepend=0) + 0.003 * rng.standard_normal(len(t))
    scale = 1.0 if f0 < 160 else 1.12
    for hertz, width in ((500, 80), (1500, 120), (2500, 180), (3500, 250), (4500, 300)):
        radius, angle = np.exp(-np.pi * width / SR), 2 * np.pi * hertz * scale / SR
        wave = lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], wave)
    wave *= 0.03 + np.sin(np.pi * rng.uniform(3, 5) * t) ** 2
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small corpora in the shared manifest's form: readings, acted emotion, single words."""
    folder = tmp_path_factory.mktemp("corpora")
    rows = []

    def add(source: str, speaker: str, number: int, f0: float, seconds: float, **facts: object) -> None:
        path = f"{source}/{speaker}_{number}.flac"
        (folder / source).mkdir(exist_ok=True)
        wave = speechlike(f0, seconds, stable_seed(path) % 2**32)
        soundfile.write(folder / path, wave, SR)
        row = {"path": path, "duration_s": len(wave) / SR, "source": source, "speaker": f"{source}-{speaker}"}
        row |= {
            "licence": "CC0",
            "gender": None,
            "age": None,
            "emotion": None,
            "accent": None,
            "language": "en",
            "text": None,
        }
        rows.append(row | facts)

    for number in range(6):
        add("readings", f"r{number}", 0, (110, 210)[number % 2], 2.6, gender=("male", "female")[number % 2])
    add("readings", "r0", 1, 110, 11.0, gender="male")
    for number in range(4):
        gender = ("male", "female")[number % 2]
        add(
            "acted", f"a{number}", 0, (120, 220)[number % 2], 1.6, gender=gender, emotion="angry", age=30, language="de"
        )
    for number in range(5):
        add("words", "w0", number, 115, 0.5, gender="male")
    (folder / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return folder


@pytest.fixture
def recipe() -> DataRecipe:
    return DataRecipe.model_validate(
        {
            "seed": 3,
            "fit_clips": 50,
            "sources": {
                "readings": {"dev": 1, "test": 1, "styles": 2},
                "acted": {"dev": 0, "test": 2, "styles": 3, "style_set": "keep_emotion", "copies": 0.0},
                "words": {"dev": 0, "test": 0, "join_s": 1.6, "styles": 0, "natural": False},
            },
        }
    )


@pytest.fixture(scope="module")
def built(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    out = tmp_path_factory.mktemp("built")
    Builder(corpora, out, recipe.__wrapped__()).run()  # type: ignore[attr-defined]
    return out, list(read_manifest(out / "manifest.jsonl"))


def test_units_are_split_by_gender_in_proportion_and_by_seed() -> None:
    units = {f"s{i}": ("female" if i % 3 else "male") for i in range(60)}
    splits = split_units(units, dev=0.1, test=0.2, seed=1)
    assert Counter(splits.values()) == {"train": 42, "dev": 6, "test": 12}
    assert sum(units[u] == "male" for u, s in splits.items() if s == "test") == 4
    assert splits == split_units(dict(reversed(units.items())), dev=0.1, test=0.2, seed=1)
    assert splits != split_units(units, dev=0.1, test=0.2, seed=2)
    two = split_units({"a": "female", "b": "female", "c": "male", "d": "male"}, dev=0, test=2, seed=9)
    assert len({u for u, s in two.items() if s == "test"} & {"a", "b"}) == 1, "one of each gender is held out"


def test_a_blend_across_splits_belongs_to_none() -> None:
    splits = {"x": "train", "y": "train", "z": "test"}
    assert split_of(["x", "y"], splits) == "train"
    assert split_of(["x", "z"], splits) is None


def test_manifest_forgets_half_a_line_and_keeps_the_rest(tmp_path: Path, built: tuple[Path, list[Row]]) -> None:
    rows = built[1][:2]
    path = tmp_path / "manifest.jsonl"
    with ManifestWriter(path) as manifest:
        for row in rows:
            manifest.add(row)
    with path.open("a") as torn:
        torn.write('{"id": "half a li')
    with ManifestWriter(path) as manifest:
        assert manifest.done == {row.id for row in rows}
    assert list(read_manifest(path)) == rows


def test_a_line_that_does_not_parse_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"id": 3}\n')
    with pytest.raises(ValueError, match=r"manifest\.jsonl:1: not a manifest row"):
        list(read_manifest(path))


def test_speakers_are_in_one_split_only(built: tuple[Path, list[Row]]) -> None:
    splits: dict[str, set[str]] = {}
    for row in built[1]:
        splits.setdefault(row.speaker, set()).add(row.split)
    assert all(len(s) == 1 for s in splits.values())
    assert {s for found in splits.values() for s in found} == {"train", "dev", "test"}


def test_held_out_clips_are_as_they_were_recorded(built: tuple[Path, list[Row]], corpora: Path) -> None:
    held = [r for r in built[1] if r.split != "train"]
    assert held
    for row in held:
        assert (row.kind, row.edit, row.channel) == ("source", None, None)
        assert row.id == row.group


def test_audio_is_what_the_row_says(built: tuple[Path, list[Row]]) -> None:
    out, rows = built
    for row in rows:
        info = soundfile.info(out / row.path)
        assert (info.samplerate, info.channels, info.format) == (SR, 1, "FLAC")
        assert info.frames / SR == pytest.approx(row.duration_s, abs=0.001)
        assert 0.9 <= row.duration_s <= 16
    assert len({r.id for r in rows}) == len(rows) == len({r.path for r in rows})


def test_long_readings_are_cut_and_words_are_joined(built: tuple[Path, list[Row]]) -> None:
    pieces = [r for r in built[1] if r.group.startswith("readings-r0_1-p") and r.id == r.group]
    assert len(pieces) == 2
    assert sum(r.duration_s for r in pieces) == pytest.approx(11.0, abs=0.05)
    joined = [r for r in built[1] if r.source == "words" and r.id == r.group]
    assert joined and all(r.provenance.count(".flac") >= 2 for r in joined)
    assert all("pauses" not in r.attributes for r in joined)


def test_emotion_clips_are_changed_mildly_and_through_other_channels(built: tuple[Path, list[Row]]) -> None:
    rows = [r for r in built[1] if r.source == "acted" and r.split == "train"]
    base = [r for r in rows if r.id == r.group]
    assert len(rows) == 4 * len(base) > 0
    for row in rows:
        assert row.emotion == "angry"
        assert any(c["text"] == "A speaker in an angry tone." for c in row.captions)
        if row.id != row.group:
            assert row.channel
            assert set(row.edit or {}) <= {"pitch_st", "tempo", "formant"}


def test_captions_follow_the_row_and_say_nothing_of_absence(built: tuple[Path, list[Row]]) -> None:
    for row in built[1]:
        changed = (row.parts or {}).get("change", {})
        for caption in row.captions:
            assert not lexicon.NEGATION.search(caption["text"])
            for name, value in caption["claims"].items():
                if name in lexicon.attribute_words():
                    assert row.attributes[name] == value and name not in changed
                elif name == "gender":
                    assert row.gender == value
                elif name.startswith("profile."):
                    whole = {a: v for a, v in row.attributes.items() if a not in changed}
                    assert caption["kind"] == "hedged" and profile_facts(whole, row.emotion)[name] == value
                elif "." in name:
                    part, attribute = name.split(".")
                    assert row.parts is not None and row.parts[part][attribute] == value
        if row.kind in ("source", "restyled") and row.attributes:
            assert {"global", "fine"} & {c["kind"] for c in row.captions}


def test_a_build_over_two_processes_is_the_same_to_the_sample(
    corpora: Path, tmp_path: Path, built: tuple[Path, list[Row]], recipe: DataRecipe
) -> None:
    first, rows = built
    Builder(corpora, tmp_path / "again", recipe, workers=2).run()
    assert list(read_manifest(tmp_path / "again" / "manifest.jsonl")) == rows
    for row in rows:
        assert (first / row.path).read_bytes() == (tmp_path / "again" / row.path).read_bytes()


def test_a_stopped_build_goes_on_and_ends_with_the_same_rows(
    corpora: Path, tmp_path: Path, built: tuple[Path, list[Row]], recipe: DataRecipe
) -> None:
    whole = {r.id: r for r in built[1]}
    out = tmp_path / "stopped"
    shutil.copytree(built[0], out)
    lines = (out / "manifest.jsonl").read_text().splitlines()
    groups = list(dict.fromkeys(json.loads(line)["group"] for line in lines))
    lines = [line for line in lines if json.loads(line)["group"] in groups[:4]]
    # As if killed in the middle of the fourth clip: one row short, its last line torn, and the clip not yet finished.
    (out / "manifest.jsonl").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:40])
    journal = (out / "finished.txt").read_text().splitlines()
    (out / "finished.txt").write_text("".join(f"{line}\n" for line in journal[: journal.index(groups[3])]))
    made = Builder(corpora, out, recipe).run()
    assert {r.id: r for r in read_manifest(out / "manifest.jsonl")} == whole
    assert sum(n for name, n in made.items() if "too short" not in name) == len(whole) - len(lines) + 1
    assert sum(Builder(corpora, out, recipe).run().values()) == 0


def test_a_recipe_with_espeak_says_at_once_that_it_is_not_installed(
    corpora: Path, tmp_path: Path, recipe: DataRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    espeak = recipe.espeak.model_copy(update={"clips": 4, "female": ["f1"], "male": ["m1"], "languages": ["en-us"]})
    corpora = shutil.copytree(corpora, tmp_path / "corpora")
    rows = [json.loads(line) for line in (corpora / "manifest.jsonl").read_text().splitlines()]
    (corpora / "manifest.jsonl").write_text(
        "".join(json.dumps({**row, "text": "Something long enough to be read aloud."}) + "\n" for row in rows)
    )
    with pytest.raises(ToolMissingError, match=r"espeak-ng.*not installed"):
        Builder(corpora, tmp_path / "out", recipe.model_copy(update={"espeak": espeak}))


def test_another_recipe_is_refused_in_the_same_folder(corpora: Path, tmp_path: Path, recipe: DataRecipe) -> None:
    Builder(corpora, tmp_path, recipe)
    with pytest.raises(RecipeChangedError, match="another recipe"):
        Builder(corpora, tmp_path, recipe.model_copy(update={"seed": 4}))


def test_recipes_refuse_unknown_fields() -> None:
    with pytest.raises(ValueError, match="stile"):
        DataRecipe.model_validate({"sources": {"a": {"stile": 1}}})


@pytest.mark.skipif(not (SHARED_DATA / "manifest.jsonl").exists(), reason=f"the corpora are not at {SHARED_DATA}")
def test_the_shipped_recipe_shares_no_speaker_and_no_component_voice_between_splits() -> None:
    found = clips(SHARED_DATA, DataRecipe.load(RECIPE))
    for members in (lambda c: [c.speaker], lambda c: list(c.voices)):
        splits: dict[str, set[str]] = {}
        for clip in found:
            for member in members(clip):
                splits.setdefault(member, set()).add(clip.split)
        assert [m for m, s in splits.items() if len(s) > 1] == []
    held = {(c.source, c.gender) for c in found if c.split == "test"}
    assert {("emodb", "female"), ("emodb", "male"), ("kokoro", "female"), ("kokoro", "male")} <= held
    assert sum(c.source == "espeak" for c in found) < 0.2 * len(found)
    assert found == clips(SHARED_DATA, DataRecipe.load(RECIPE))


@pytest.mark.skipif(not (SHARED_DATA / "manifest.jsonl").exists(), reason=f"the corpora are not at {SHARED_DATA}")
def test_gender_estimates_on_labelled_voices_are_nearly_always_right() -> None:
    found = [c for c in clips(SHARED_DATA, DataRecipe.load(RECIPE)) if c.source in ("vctk", "kokoro")]
    told = [(c.gender, estimate_gender(measure(load(c, SHARED_DATA)))) for c in found[:40]]
    sure = [(label, guess) for label, guess in told if guess is not None]
    assert len(sure) > 0.5 * len(told)
    assert sum(label == guess for label, guess in sure) >= 0.97 * len(sure)
