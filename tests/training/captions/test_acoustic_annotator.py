"""The acoustic annotator behind the common interface, on real speech: bands are fitted, captions made, claims kept."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.paths import SHARED
from training.captions.attributes import BANDED
from training.captions.formats import read_rows
from training.commands.annotate import app

SHARED_DATA = SHARED / "data"


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of real speech."""
    if not (SHARED_DATA / "manifest.jsonl").exists():
        pytest.skip(f"there is no speech at {SHARED_DATA}")
    folder = tmp_path_factory.mktemp("speech")
    lines = [json.loads(line) for line in (SHARED_DATA / "manifest.jsonl").read_text().splitlines()]
    chosen = [row for row in lines if row["source"] in ("vctk", "emodb", "kokoro") and 2 < row["duration_s"] < 4]
    rows = [{**row, "path": str(SHARED_DATA / row["path"])} for row in chosen[:: len(chosen) // 10][:10]]
    (folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "in.jsonl"


def annotate(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["annotate", *arguments])
    return result.exit_code, result.output


def test_speech_gets_captions_that_keep_the_rules(speech: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    code, told = annotate(str(speech), "--out", str(out), "--short", "2", "--long", "3")
    assert code == 0, told
    rows = list(read_rows(out))
    assert len(rows) == 10
    assert sum(len(row["short_captions"]) for row in rows) >= 15
    assert sum(len(row["long_captions"]) for row in rows) >= 18
    for row in rows:
        assert row["gender_from"] in ("label", "estimate", None)
        for caption in row["captions"]:
            assert caption["claims"], caption
            # What a caption claims is what the row knows: nothing is made up.
            for name, value in caption["claims"].items():
                if name in row["attributes"]:
                    assert row["attributes"][name] == value
                elif name == "gender":
                    assert row["gender"] == value
    fitted = tmp_path / "out.jsonl.bands.json"
    assert set(json.loads(fitted.read_text())) == {"thresholds", "offsets", "change"}
    # Given the same bands, another machine writes the same captions.
    code, told = annotate(
        str(speech), "--out", str(tmp_path / "b.jsonl"), "--short", "2", "--long", "3", "--bands", str(fitted)
    )
    assert code == 0, told
    assert (tmp_path / "b.jsonl").read_bytes() == out.read_bytes()


def test_what_replaces_captions_replaces_what_they_were_made_from(speech: Path, tmp_path: Path) -> None:
    lines = [json.loads(line) for line in speech.read_text().splitlines()]
    for number, line in enumerate(lines):
        line["gender"] = "nonbinary" if number == 0 else None
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = []
    for source, out, *more in (("in", "a"), ("a", "b", "--bands", str(bands(tmp_path)), "--replace"), ("b", "c")):
        code, told = annotate(str(tmp_path / f"{source}.jsonl"), "--out", str(tmp_path / f"{out}.jsonl"), *more)
        assert code == 0, told
        made.append(list(read_rows(tmp_path / f"{out}.jsonl")))
    first, second, third = made
    assert [row["attributes"] for row in first] != [row["attributes"] for row in second]
    for row in second:
        for name, value in ((n, v) for caption in row["captions"] for n, v in caption["claims"].items()):
            assert row["attributes"].get(name, value) == value
    # An estimate stays one, however often a run reads what another wrote; a label without a word for it stays, too.
    for rows in made:
        assert [row["gender_from"] for row in rows] == [row["gender_from"] for row in first]
        assert (rows[0]["gender"], rows[0]["gender_from"]) == ("nonbinary", "label")
    assert "estimate" in {row["gender_from"] for row in third}


def test_clips_that_cannot_be_measured_fail_and_say_so(speech: Path, tmp_path: Path) -> None:
    import numpy as np
    import soundfile

    soundfile.write(tmp_path / "short.wav", np.full(1000, 0.1), 16000)
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    lines = speech.read_text().splitlines(keepends=True)[:1]
    lines += [json.dumps({"path": str(tmp_path / name)}) + "\n" for name in ("short.wav", "broken.wav")]
    (tmp_path / "in.jsonl").write_text("".join(lines))
    code, told = annotate(
        str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl"), "--bands", str(bands(tmp_path))
    )
    assert code == 3, told
    failures = [json.loads(line) for line in (tmp_path / "out.jsonl-failures.jsonl").read_text().splitlines()]
    assert {Path(f["path"]).name for f in failures} == {"short.wav", "broken.wav"}
    assert any("0.15 s" in f["reason"] for f in failures)
    assert len(list(read_rows(tmp_path / "out.jsonl"))) == 3


def bands(folder: Path) -> Path:
    """Bands with the thresholds in round numbers."""
    everyone = {group: [1.0, 2.0, 3.0, 4.0] for group in ("any", "female", "male")}
    path = folder / "bands.json"
    path.write_text(json.dumps({"thresholds": dict.fromkeys(BANDED, everyone), "offsets": {}, "change": {}}))
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"thresholds": {}, "offsets": {}}, "thresholds.pitch.any: a list of 4 numbers"),
        ({"thresholds": {"pitch": [1.0]}}, "thresholds.pitch: an object"),
        ({"thresholds": None}, "thresholds: an object"),
        ({"offsets": {"effort": {"t": "loud"}}}, "offsets.effort.t: a number"),
        ({"offsets": {"effort": 1.0}}, "offsets.effort: an object"),
        ({"change": {"pitch_st": 4.0}}, "change.rate_ratio: a number"),
        ([], "thresholds: an object"),
    ],
)
def test_bands_that_are_none_are_told_by_name(change: object, said: str, manifest: Path, tmp_path: Path) -> None:
    path = bands(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change} if isinstance(change, dict) else change))
    code, told = annotate(str(manifest), "--out", str(tmp_path / "out.jsonl"), "--bands", str(path))
    assert code == 2, told
    assert f"{path} holds no bands: {said}" in told


def test_one_gender_alone_cannot_say_what_is_high(tmp_path: Path, manifest: Path) -> None:
    code, told = annotate(str(manifest), "--out", str(tmp_path / "out.jsonl"))  # tones, no voices
    assert code == 2
    assert "--bands" in told
