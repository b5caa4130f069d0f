"""The first things a newcomer touches: the example library, the demo, and the commands in the documentation."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import soundfile

from tests.support.clsp_script import LIBRARY, ROOT

MANIFEST = [json.loads(line) for line in (LIBRARY / "manifest.jsonl").read_text("utf-8").splitlines()]


def _run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


def _styles() -> dict[str, Any]:
    spec = importlib.util.spec_from_file_location("library_styles", ROOT / "examples" / "library_styles.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return {style.id: style for style in module.STYLES}


def test_the_library_is_what_its_manifest_says() -> None:
    assert {path.name for path in LIBRARY.iterdir()} == {row["file"] for row in MANIFEST} | {
        "manifest.jsonl",
        "README.md",
    }
    assert sum(path.stat().st_size for path in LIBRARY.iterdir()) < 6_000_000
    for row in MANIFEST:
        info = soundfile.info(LIBRARY / row["file"])
        assert abs(info.duration - row["duration_s"]) < 0.1, row["id"]
        assert info.channels == 1
        assert all(part["end_s"] <= row["duration_s"] + 0.01 for part in row.get("parts", []))


def test_the_library_is_what_the_script_would_make() -> None:
    styles = _styles()
    assert [row["id"] for row in MANIFEST] == list(styles)
    for row in MANIFEST:
        style = styles[row["id"]]
        assert row["caption"] == style.caption
        assert row["metadata"].items() >= style.metadata.items()
        assert row["text"] == " ".join(part.text for part in style.parts)


def test_the_demo_works_and_works_again(tmp_path: Path) -> None:
    first = _run("examples/demo.py", "--data-dir", tmp_path / "demo")
    assert first.returncode == 0, first.stdout + first.stderr
    assert f"{len(MANIFEST)} added, 0 there already" in first.stdout
    second = _run("examples/demo.py", "--data-dir", tmp_path / "demo")
    assert second.returncode == 0, second.stdout + second.stderr
    assert f"0 added, {len(MANIFEST)} there already" in second.stdout


def test_the_commands_in_the_documentation_work() -> None:
    done = _run("docs/readme_examples.py", "--check")
    assert done.returncode == 0, done.stderr


def test_the_settings_table_is_up_to_date() -> None:
    assert _run("docs/settings_table.py", "--check").returncode == 0, "run python docs/settings_table.py"
