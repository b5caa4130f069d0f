"""`clsp score` with voices that have several styles: one style lost in all voices is found, and named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.clsp_script import ROOT, Run

GATES = ROOT / "examples" / "gates"
WHISPERING, PLAIN = "eve", "anna"
LINES = 12


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    """`before.jsonl`, `same.jsonl` and `lost.jsonl`: three groups of 24 clips, four of each of six styles.

    `lost` has plain takes in place of all whispered ones.
    """
    captions = {
        row["id"]: row["caption"] for row in map(json.loads, (GATES / "baseline.jsonl").read_text("utf-8").splitlines())
    }

    def write(name: str, takes: str, spoken_by: dict[str, str]) -> None:
        rows = []
        for id, caption in captions.items():
            who, _, line = id.partition("-")
            audio = GATES / takes / f"{spoken_by.get(who, who)}-{line}.ogg"
            voice = f"voice{int(line) % 3}"
            rows.append({"id": id, "audio": str(audio), "caption": caption, "voice": voice, "style": who})
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    write("before.jsonl", "baseline", {})
    write("same.jsonl", "good", {})
    write("lost.jsonl", "good", {WHISPERING: PLAIN})
    return tmp_path


def test_a_style_lost_in_all_voices_is_found_and_named(online: Run, sets: Path) -> None:
    by_voice = ("--no-details", "--group", "voice", "--players", 0)
    assert online("score", "before.jsonl", "--out", "before", *by_voice).status == 0
    same = online("score", "same.jsonl", "--out", "same", "--baseline", "before", *by_voice)
    assert same.status == 0, same.out
    lost = online("score", "lost.jsonl", "--out", "lost", "--baseline", "before", *by_voice)
    assert lost.status == 1, lost.out
    breaches = json.loads((sets / "lost" / "run.json").read_text("utf-8"))["breaches"]
    named = {one["subset"] for one in breaches if one["group"] is None and one["subset"]}
    assert "phonation: whispering" in named
    assert not any("fast" in one or "slow" in one or "lively" in one for one in named), named
    assert "phonation: whispering" in lost.out


def test_labels_are_asked_about_and_a_missing_column_is_named(online: Run, sets: Path) -> None:
    columns = ("--no-details", "--group", "voice", "--group", "style", "--players", 0)
    assert online("score", "before.jsonl", "--out", "before", *columns).status == 0
    lost = online("score", "lost.jsonl", "--out", "lost", "--baseline", "before", *columns)
    assert lost.status == 1
    assert f"style={WHISPERING}" in lost.out
    absent = online("score", "before.jsonl", "--group", "speaker")
    assert absent.status == 2
    assert "speaker" in absent.err
