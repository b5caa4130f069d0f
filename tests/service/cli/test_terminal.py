"""Terminals that are not UTF-8: what cannot be printed is replaced, and the exit status stays the verdict's."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.clsp_script import CLSP, LIBRARY

CLIP = LIBRARY / "man-us-low.ogg"


def printed(encoding: str, *arguments: object, cwd: Path) -> tuple[int, bytes, bytes]:
    """Status, stdout and stderr of a command in a terminal of an encoding."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CLSP_", "PYTHON"))}
    done = subprocess.run(
        [str(CLSP), *map(str, arguments)],
        capture_output=True,
        cwd=cwd,
        env={**clean, "PYTHONIOENCODING": encoding, "COLUMNS": "120", "NO_COLOR": "1"},
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252"])
def test_the_verdict_stands_whatever_the_terminal(encoding: str, tmp_path: Path) -> None:
    status, out, err = printed(encoding, "score", CLIP, "A man speaks — 静か ✓.", "--min-match", "0.0001", cwd=tmp_path)
    assert (status, b"Traceback" in err) == (0, False), err.decode(encoding, "replace")
    assert b"A man speaks" in out and b"?" in out
    status, _, err = printed(encoding, "score", CLIP, "A child shouts — 静か.", "--min-match", "0.9999", cwd=tmp_path)
    assert (status, b"Traceback" in err) == (1, False)


def test_json_is_json_in_any_encoding(tmp_path: Path) -> None:
    status, out, err = printed("ascii", "score", CLIP, "Zoë — 静か.", "--json", cwd=tmp_path)
    assert status == 0, err.decode("ascii", "replace")
    assert "Zoë — 静か." in json.dumps(json.loads(out.decode("ascii")), ensure_ascii=False)


def test_an_error_with_a_strange_name_is_an_error(tmp_path: Path) -> None:
    status, _, err = printed("ascii", "score", tmp_path / "nichts-für-静か.jsonl", cwd=tmp_path)
    assert (status, b"Traceback" in err) == (2, False)
    assert b"no such file" in err
