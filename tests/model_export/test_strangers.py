"""Figures of what was left out: in the card and the provenance of an export, and of a bundle that is there already."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from model_export.bundle import CARD, Bundle
from model_export.cli import export_app
from model_export.holdout_report import KEY, TITLE, strangers_section
from model_export.model_card import model_card
from tests.support.paths import BUNDLE as SHIPPED
from training.model.checkpoint import Card

WA = {"value": 72.9, "low": 70.1, "high": 75.8, "chance": 16.67}
FOUND = {
    "recipe": "tiny",
    "version": "1",
    "steps": 1000,
    "recipe_steps": 4000,
    "left_out": {"source=emodb,gender=male": {"clips": 1100, "emotion": {"clips": 1029, "WA": WA}}},
}
ROW = "| source=emodb,gender=male | emotion | 1029 | WA | 72.9 | 70.1 to 75.8 | 16.67 |"


def write_card(bundle: Path, found: object, scratch: Path) -> Result:
    scratch.write_text(json.dumps(found))
    return CliRunner().invoke(export_app, ["card", str(bundle), "--left-out", str(scratch)])


def test_the_card_has_a_row_for_each_figure(card: Card) -> None:
    card.provenance[KEY] = FOUND
    text = model_card(card, "int8", 1.0)
    assert ROW in text and "in 1000 of its 4000 steps" in text
    assert text.index(TITLE) < text.index("## Calibration")
    full = strangers_section(FOUND | {"steps": 4000})
    assert any("in 4000 steps" in line for line in full)


def test_a_card_of_nobody_left_out_says_nothing(card: Card) -> None:
    assert TITLE not in model_card(card, "int8", 1.0)


def test_a_bundle_takes_figures_in_place(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED, bundle)
    before = Bundle.load(bundle)
    for version in ("1", "2"):
        done = write_card(bundle, FOUND | {"version": version}, tmp_path / "left.json")
        assert done.exit_code == 0, done.output
    after = Bundle.load(bundle)  # its hashes hold
    assert after.fingerprint() == before.fingerprint()
    assert after.manifest.provenance[KEY]["version"] == "2"
    assert after.manifest.calibration == before.manifest.calibration
    text = (bundle / CARD).read_text()
    assert text.count(TITLE) == 1 and ROW in text and "tiny 2" in text
    assert text.index("## Held-out figures, test") < text.index(TITLE) < text.index("## Calibration")
    assert "\n\n\n" not in text and text.endswith("\n")


@pytest.mark.parametrize("found", [{}, FOUND | {"steps": "many"}, FOUND | {"figures": {}}])
def test_another_file_is_refused_and_nothing_is_written(found: object, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(SHIPPED, bundle)
    done = write_card(bundle, found, tmp_path / "left.json")
    assert done.exit_code == 1 and Bundle.load(bundle).manifest == Bundle.load(SHIPPED).manifest
