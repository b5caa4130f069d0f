"""`clsp judge` against an endpoint: blind, in both orders, paid for once; a judge's habits come out in its report."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.captions_server import Asked, completion, serving
from training.captions.formats import read_rows, write_rows
from training.commands.annotate import app

GOOD = "A warm, low voice speaks slowly, then grows livelier and louder, and ends in a soft and breathy tone."
POOR = "Someone talks in some way for a while."


@pytest.fixture
def sets(manifest: Path, tmp_path: Path) -> tuple[Path, Path]:
    rows = list(read_rows(manifest))
    a, b = tmp_path / "end.jsonl", tmp_path / "cascade.jsonl"
    write_rows(a, [{**row, "long_captions": [f"{GOOD} {row['id']}"]} for row in rows])
    write_rows(b, [{**row, "long_captions": [f"{POOR} {row['id']}"]} for row in reversed(rows)])
    return a, b


def judge(server_url: str, out: Path, *more: str) -> tuple[int, str]:
    result = CliRunner().invoke(
        app, ["judge", *more, "--out", str(out), "--base-url", server_url, "--model", "ears", "--concurrency", "4"]
    )
    return result.exit_code, result.output + (result.stderr if result.stderr_bytes else "")


def habits(asked: Asked) -> dict[str, object]:
    """Knows good from poor, grades with a spread, and picks the first place in a third of the comparisons."""
    spread = asked.draw % 2
    if '"correctness"' in asked.text:
        grade = (4 if GOOD in asked.text else 2) + spread
        return completion(json.dumps({"correctness": grade, "coverage": grade, "naturalness": 5 - spread, "why": "w"}))
    first_is_good = asked.text.index(GOOD) < asked.text.index(POOR)
    better = 1 if asked.draw % 3 == 0 else (1 if first_is_good else 2)
    return completion("Let me listen. " + json.dumps({"better": better, "why": "w"}))


def test_a_table_like_the_papers(sets: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = map(str, sets)
    with serving(behave=habits) as server:
        code, told = judge(server.url, tmp_path / "j", a, b, "--clips", "10", "--repeats", "2")
        assert code == 0, told
        assert len(server.asked) == 10 * (2 * 2 + 2)
        # Blind: neither the sets' names nor the files' are told, and the clip is heard every time.
        assert all("end.jsonl" not in json.dumps(x.body) and "cascade" not in json.dumps(x.body) for x in server.asked)
        assert all(x.body["messages"][1]["content"][0]["type"] == "input_audio" for x in server.asked)
        orders = [x.text.index(GOOD) < x.text.index(POOR) for x in server.asked if '"better"' in x.text]
        assert sum(orders) == 10
        assert len(orders) == 20
        # Again: from the ledger.
        assert judge(server.url, tmp_path / "j", a, b, "--clips", "10", "--repeats", "2")[0] == 0
        assert len(server.asked) == 60
    report = json.loads((tmp_path / "j" / "report.json").read_text())
    assert report["clips"] == 10
    assert report["grades"]["end"]["coverage"]["mean"] - report["grades"]["cascade"]["coverage"]["mean"] > 1
    assert report["pairs"]["end - cascade"]["comparison"]["win_rate"]["mean"] > 0.6
    assert report["pairs"]["end - cascade"]["comparison"]["first_rate"]["mean"] > 0.5
    assert "| end |" in told
    rows = [json.loads(line) for line in (tmp_path / "j" / "judgements.jsonl").read_text().splitlines()]
    assert len(rows) == 60
    assert {row["better"] for row in rows if row["task"] == "compare"} <= {"end", "cascade", ""}


def test_one_set_needs_no_other_and_failures_are_counted(sets: tuple[Path, Path], tmp_path: Path) -> None:
    def behave(asked: Asked) -> dict[str, object] | str | None:
        if "clip03" in asked.text:
            return "400"
        return completion("five stars!") if "clip04" in asked.text else None

    with serving(behave=behave) as server:
        code, told = judge(server.url, tmp_path / "j", str(sets[0]), "--clips", "12", "--name", "ours")
    assert code == 3, told
    assert "10 clips; 20 of 24 judgements came back, 2 clips left out" in told
    assert "answers without a verdict" in told
    assert "HTTP 400" in told


def test_judgements_that_were_none_are_tried_again_as_it_says(sets: tuple[Path, Path], tmp_path: Path) -> None:
    with serving() as server:
        server.behave = lambda asked: completion("five stars!") if "clip04" in asked.text else None
        code, told = judge(server.url, tmp_path / "j", str(sets[0]))
        assert code == 3
        assert "2 judgements failed: the same command tries those again" in told
        assert judge(server.url, tmp_path / "j", str(sets[0]))[0] == 3
        server.behave = lambda asked: None
        before = len(server.asked)
        assert judge(server.url, tmp_path / "j", str(sets[0]))[0] == 0
        assert len(server.asked) == before + 2
        assert judge(server.url, tmp_path / "j", str(sets[0]))[0] == 0
        assert len(server.asked) == before + 2
    # Under keys of their own: a gateway that keeps answers by key would give the old ones.
    assert max(server.attempts.values()) == 1


def test_what_cannot_be_judged_is_said_before_anything_is_asked(sets: tuple[Path, Path], tmp_path: Path) -> None:
    with serving() as server:
        code, told = judge(server.url, tmp_path / "j", str(sets[0]), str(sets[0]))
        assert code == 2
        assert "called the same" in told
        code, told = judge(server.url, tmp_path / "j", str(sets[0]), "--kind", "short")
        assert code == 2
        assert "no clip has short captions" in told
        code, told = judge(server.url, tmp_path / "j", *map(str, sets), "--estimate")
        assert code == 0
        assert "requests, at most" in told
        assert not server.asked


def test_sets_that_say_the_same_are_judged_by_one_request(sets: tuple[Path, Path], tmp_path: Path) -> None:
    a, _ = sets
    with serving(behave=alike, delay_s=0.05) as server:
        code, told = judge(server.url, tmp_path / "j", str(a), str(a), "--name", "x", "--name", "y", "--clips", "3")
        assert code == 0, told
        assert len(server.asked) == 3 * (2 + 1)  # two gradings, and both orders are one question
        assert set(server.paid.values()) == {1}


def test_a_report_of_one_grading_is_json(sets: tuple[Path, Path], tmp_path: Path) -> None:
    """How far the judge agrees with itself is unknown then: null, which every reader of JSON takes."""
    with serving(behave=habits) as server:
        assert judge(server.url, tmp_path / "j", str(sets[0]), "--repeats", "1")[0] == 0
        assert judge(server.url, tmp_path / "j", str(sets[0]), "--repeats", "0")[0] == 2
    told = json.loads((tmp_path / "j" / "report.json").read_text(), parse_constant=pytest.fail)
    assert told["agreement"]["correctness"] == {"alpha": None, "exact": None}
    assert "| correctness | - | - |" in (tmp_path / "j" / "report.md").read_text()


def alike(asked: Asked) -> dict[str, object]:
    """Finds no difference."""
    if '"correctness"' in asked.text:
        return completion(json.dumps({"correctness": 3, "coverage": 3, "naturalness": 3, "why": "w"}))
    return completion(json.dumps({"better": 0, "why": "w"}))
