"""The documented CI jobs, run as they are written: good takes pass, drifted voices fail by name and attribute."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.support.clsp_script import CLSP, ROOT, Done, Run

GATES = ROOT / "examples" / "gates"
CI = ROOT / "docs" / "ci"


def github_command() -> list[str]:
    steps = yaml.safe_load((CI / "github-actions.yml").read_text("utf-8"))["jobs"]["style"]["steps"]
    (command,) = [step["run"] for step in steps if step.get("name") == "Style gate"]
    return shlex.split(command)


def gitlab_command() -> list[str]:
    (command,) = yaml.safe_load((CI / "gitlab-ci.yml").read_text("utf-8"))["style"]["script"]
    return shlex.split(command)


@pytest.mark.parametrize("command", [github_command, gitlab_command])
def test_the_documented_commands_are_ones_that_the_command_knows(clsp: Run, command: Callable[[], list[str]]) -> None:
    words = command()
    assert words[:2] == ["clsp", "score"]
    known = set(re.findall(r"--[a-z-]+", clsp("score", "--help").out))
    assert {word for word in words if word.startswith("--")} <= known


def test_both_jobs_are_alike() -> None:
    assert github_command() == gitlab_command()


def repository(folder: Path, takes: str) -> None:
    """A TTS repository as the jobs find it: style/set.jsonl and the takes that the branch speaks."""
    shutil.rmtree(folder / "takes", ignore_errors=True)
    (folder / "takes").mkdir()
    (folder / "style").mkdir(exist_ok=True)
    rows = [json.loads(line) for line in (GATES / f"{takes}.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        shutil.copy(GATES / row["audio"], folder / "takes" / f"{row['id']}.ogg")
        row["audio"] = f"{row['id']}.ogg"
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "style" / "set.jsonl").write_text(text, "utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("command", [github_command, gitlab_command])
def test_good_takes_pass_and_drifted_voices_fail_by_name(
    clsp: Run, online: Run, tmp_path: Path, command: Callable[[], list[str]]
) -> None:
    run: Callable[..., Done] = clsp if command is github_command else online
    repository(tmp_path, "baseline")
    accepted = run("score", "style/set.jsonl", "--audio-root", "takes", "--out", "style/baseline")
    assert accepted.status == 0, accepted.out + accepted.err

    repository(tmp_path, "good")
    good = run(*command()[1:])
    assert good.status == 0, good.out + good.err

    repository(tmp_path, "drifted")
    drifted = run(*command()[1:])
    assert drifted.status == 1, drifted.out + drifted.err
    breaches = json.loads((tmp_path / "style-report" / "run.json").read_text())["breaches"]
    named = {breach["group"] for breach in breaches if breach["group"]}
    assert named == {"ben", "cora"}
    attributes = {(breach["group"], name) for breach in breaches for name in breach["attributes"] if breach["group"]}
    assert {("ben", "pitch"), ("cora", "rate")} <= attributes
    clips = {clip for breach in breaches if breach["group"] for clip in breach["clips"]}
    assert {clip.split("-")[0] for clip in clips} == {"ben", "cora"}
    junit = ElementTree.parse(tmp_path / "style-report" / "junit.xml").getroot()
    failures = " ".join(str(failure.text) for failure in junit.iter("failure"))
    assert "ben-1" in failures
    assert "cora-1" in failures
    html = (tmp_path / "style-report" / "report.html").read_text("utf-8")
    assert all(words in html for words in ("group ben, attribute pitch fell", "group cora, attribute rate fell"))


def test_the_action_judges_what_its_inputs_name(cli_server_url: str, tmp_path: Path) -> None:
    step = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))["runs"]["steps"][1]
    row = {"audio": "anna-1.ogg", "caption": "A woman speaks.", "voice": "$(touch broken)"}
    (tmp_path / "my set.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    inputs = {"SET": "my set.jsonl", "AUDIO_ROOT": str(GATES / "baseline"), "BASELINE": "", "OUT": "out dir"}
    inputs["OPTIONS"] = "--group voice --no-details"
    step_summary = tmp_path / "step.md"
    environment = {**os.environ, **inputs, "CLSP_URL": cli_server_url, "GITHUB_STEP_SUMMARY": str(step_summary)}
    environment["PATH"] = f"{CLSP.parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert step_summary.read_text("utf-8") == (tmp_path / "out dir" / "summary.md").read_text("utf-8")
    assert "Style gate passed" in step_summary.read_text("utf-8")
    assert not (tmp_path / "broken").exists()


def test_the_gitlab_component_is_valid_and_knows_its_options(clsp: Run) -> None:
    _, jobs = yaml.safe_load_all((ROOT / "templates" / "style-gate.yml").read_text("utf-8"))
    (command,) = jobs["style-gate"]["script"]
    known = set(re.findall(r"--[a-z-]+", clsp("score", "--help").out))
    assert set(re.findall(r" (--[a-z-]+)", command)) <= known
