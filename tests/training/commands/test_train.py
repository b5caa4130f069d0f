"""`clsp train` reads every caption format, and gives the same checkpoint for the same clips."""

import json
import math
from pathlib import Path

import pytest
import torch
import typer
import yaml
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.support.training_stages import ZIPFORMER, stage_recipe, write_manifest, write_tokenizer
from training.captions.formats import read_rows, write_rows
from training.commands.train import train
from training.objective.examples import facts_of

HEADS = {
    "name": "heads",
    "version": "1",
    "licence": "Apache-2.0",
    "model": {
        **ZIPFORMER,
        "speech": {"kind": "whisper", "dim": 32, "heads": 2, "feedforward_dim": 32, "layers": 1, "pool_layers": [1]},
        "speech_head": {"kind": "residual", "hidden": 16},
        "text_head": {"kind": "residual", "hidden": 16},
    },
    "train": {"steps": 5, "batch": 12, "warmup": 1},
}


def run(tmp_path: Path, manifest: Path, *more: str) -> typer.testing.Result:
    plan = {**HEADS, "start": {"tokenizer": str(write_tokenizer(tmp_path / "words"))}}
    (tmp_path / "heads.yaml").write_text(yaml.safe_dump(plan))
    app = typer.Typer()
    app.command()(train)
    options = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    return CliRunner().invoke(app, [str(tmp_path / "heads.yaml"), "--manifest", str(manifest), *options, *more])


def test_every_format_trains_the_same_heads(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "clips", 24)
    names = ["plain.jsonl", "made_cuts.jsonl.gz", "made.parquet"]
    found = []
    for name in names:
        path = tmp_path / "clips" / name
        write_rows(path, read_rows(manifest))
        result = run(tmp_path, path)
        assert result.exit_code == 0, result.output
        found.append(load_file(tmp_path / "out" / "model.safetensors"))
    for other in found[1:]:
        assert all(torch.equal(found[0][key], other[key]) for key in found[0])
    assert json.loads((tmp_path / "out" / "card.json").read_text())["provenance"]["clips"] == {"buzz": 16}


def test_paths_may_start_elsewhere(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "clips", 24)
    (tmp_path / "list.jsonl").write_text(manifest.read_text())
    result = run(tmp_path, tmp_path / "list.jsonl", "--audio-root", str(tmp_path / "clips"))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("kept", [0, 1])
def test_too_few_clips_are_told_before_weights_are_read(tmp_path: Path, kept: int) -> None:
    manifest = write_manifest(tmp_path / "clips", 24)
    manifest.write_text("".join(line + "\n" for line in manifest.read_text().splitlines()[:kept]))
    result = run(tmp_path, manifest)
    assert result.exit_code == 2
    assert f"manifest.jsonl has {kept} training clips" in result.output.replace("\n", "")


@pytest.mark.parametrize("text", [b"stage: [1\nname: x", b"name: \xff", b"name: \x01", b"- a recipe", b""])
def test_a_recipe_that_is_none_is_told(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "broken.yaml").write_bytes(text)
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, [str(tmp_path / "broken.yaml"), "--manifest", "m.jsonl", "--out", str(tmp_path)])
    assert result.exit_code == 2 and "Error" in result.output
    if text and not text.startswith(b"-"):
        assert "broken.yaml" in result.output.replace("\n", "") and "not YAML" in " ".join(result.output.split())


@pytest.mark.parametrize("age", [math.nan, math.inf, 250, "thirties"])
def test_what_tables_and_corpora_write_for_unknown_is_unknown(tmp_path: Path, age: object) -> None:
    manifest = write_manifest(tmp_path / "clips", 24)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    unknown = {"age": age, "gender": math.nan, "emotion": math.nan, "short_captions": math.nan, "parts": None}
    for row in rows[::2]:
        row |= unknown | {"attributes": None}
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(tmp_path, manifest)
    assert result.exit_code == 0, result.output
    for row in rows[::2]:
        assert facts_of(row) == {}


def test_sources_may_be_numbers(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "clips", 24)
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    manifest.write_text(
        "".join(json.dumps(row | ({"source": 7} if i % 2 else {})) + "\n" for i, row in enumerate(rows))
    )
    result = run(tmp_path, manifest)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out" / "card.json").read_text())["provenance"]["clips"] == {"7": 8, "buzz": 8}


@pytest.mark.parametrize("trainer", ["heads", "stage"])
def test_audio_that_cannot_be_read_is_named(tmp_path: Path, trainer: str) -> None:
    manifest = write_manifest(tmp_path / "clips", 24)
    (tmp_path / "clips" / "3.wav").write_bytes(b"no audio")
    if trainer == "heads":
        result = run(tmp_path, manifest)
    else:
        plan = stage_recipe(write_tokenizer(tmp_path / "words")).model_dump(mode="json")
        (tmp_path / "stage.yaml").write_text(yaml.safe_dump(plan))
        app = typer.Typer()
        app.command()(train)
        options = ["--manifest", str(manifest), "--out", str(tmp_path / "out"), "--cpu"]
        result = CliRunner().invoke(app, [str(tmp_path / "stage.yaml"), *options, "--cache", str(tmp_path / "cache")])
    assert result.exit_code == 2
    assert "clips/3.wav" in result.output.replace("\n", "")


def test_a_report_without_a_calibration_is_json(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "clips", 24)
    rows = [json.loads(line) | {"split": "train"} for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(tmp_path, manifest).exit_code == 0
    for name in ("report.json", "card.json"):
        assert "NaN" not in (tmp_path / "out" / name).read_text()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["calibration"]["expected_calibration_error"] is None


@pytest.mark.parametrize("line", ["not json", '{"id": "no audio"}'])
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    manifest = write_manifest(tmp_path / "clips", 24)
    with manifest.open("a") as file:
        file.write(line + "\n")
    result = run(tmp_path, manifest)
    assert result.exit_code == 2
    assert "25" in result.output.replace("\n", "")
