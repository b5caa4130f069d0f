"""`clsp score`: one clip, and sets through the gates, with the exit statuses that CI builds on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tests.support.clsp_script import CLSP, LIBRARY, ROOT, Run
from tests.support.serving import heed_interrupts

BUNDLE = ROOT / "models" / "clsp-small"
CLIP = LIBRARY / "man-us-low.ogg"
DEEP = "A man with a very deep voice."


NAN_ROW = (
    '{"id": "a", "group": "a", "caption": "calm", "audio": "a.wav", "sha256": "0", "duration_s": 1.0, "cosine": NaN, '
    '"match_probability": 0.5, "percentile": null, "identity": "m"}\n'
)


def write_set(path: Path, *rows: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def pairs(*names: str) -> list[dict[str, str]]:
    """Clips of the library with their own captions."""
    captions = {}
    for line in (LIBRARY / "manifest.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        captions[row["id"]] = (row["file"], row["caption"])
    return [
        {"id": name, "audio": str(LIBRARY / captions[name][0]), "caption": captions[name][1], "group": name[:3]}
        for name in names
    ]


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "scores.jsonl").read_text("utf-8").splitlines()]


def test_one_clip_needs_no_server_and_no_files(clsp: Run, tmp_path: Path) -> None:
    done = clsp("score", CLIP, "A man with a very deep voice, not whispering.")
    assert done.status == 0, done.err
    assert "pitch: low" in done.out
    assert "phonation: not whispering" in done.out
    assert "passed" in done.out
    assert list(tmp_path.iterdir()) == []


def test_a_score_is_the_same_each_time_and_everywhere(clsp: Run, online: Run) -> None:
    first, second = (online("score", CLIP, DEEP, "--json").json() for _ in range(2))
    assert first == second
    (here,) = clsp("score", CLIP, DEEP, "--json").json()
    (there,) = first
    assert here["identity"] == there["identity"]
    assert here["cosine"] == pytest.approx(there["cosine"], abs=1e-5)
    assert here["attributes"][0]["family"] == there["attributes"][0]["family"]


def test_gates_decide_the_exit_status(online: Run) -> None:
    assert online("score", CLIP, DEEP, "--min-match", 0.5).status == 0
    failed = online("score", CLIP, "A woman speaks in a very high voice.", "--min-match", 0.5)
    assert failed.status == 1
    assert "min-match" in failed.out
    assert "pitch: high" in failed.out


def test_a_set_leaves_rows_junit_and_a_report(online: Run, tmp_path: Path) -> None:
    write_set(tmp_path / "set.jsonl", *pairs("man-us-low", "woman-us-high", "woman-us-whisper", "man-us-very-slow"))
    done = online("score", "set.jsonl", "--min-match", 0.5, "--out", "run")
    assert done.status == 0, done.out + done.err
    assert "4 of 4 clips judged (100.0%)" in done.out
    assert [row["id"] for row in rows_of(tmp_path / "run")] == [
        "man-us-low",
        "woman-us-high",
        "woman-us-whisper",
        "man-us-very-slow",
    ]
    junit = ElementTree.parse(tmp_path / "run" / "junit.xml").getroot()
    assert (junit.get("tests"), junit.get("failures"), junit.get("errors")) == ("4", "0", "0")
    html = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert html.count("<audio") == 4
    assert json.loads((tmp_path / "run" / "run.json").read_text())["outcome"] == "passed"
    assert not (tmp_path / "run" / "scores.partial.jsonl").exists()
    before = (tmp_path / "run" / "scores.jsonl").read_bytes()
    assert online("score", "set.jsonl", "--min-match", 0.5, "--out", "run", "--fresh").status == 0
    assert (tmp_path / "run" / "scores.jsonl").read_bytes() == before, "rows diff well: nothing changed"


def test_missing_and_unreadable_clips_are_never_passed_over(online: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("these are not samples\n" * 50)
    lost = [
        {"id": "gone", "audio": "gone.wav", "caption": "calm"},
        {"id": "notes", "audio": "notes.wav", "caption": "calm"},
    ]
    write_set(tmp_path / "set.jsonl", *pairs("man-us-low"), *lost)
    done = online("score", "set.jsonl")
    assert done.status == 2
    assert "1 of 3 clips judged (33.3%)" in done.out
    assert "No such file" in done.out
    unjudged = (tmp_path / "clsp-score" / "unjudged.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["id"] for line in unjudged] == ["gone", "notes"]
    assert ElementTree.parse(tmp_path / "clsp-score" / "junit.xml").getroot().get("errors") == "3"
    assert online("score", "set.jsonl", "--min-coverage", 0.3).status == 0
    shutil.copy(CLIP, tmp_path / "gone.wav")
    shutil.copy(CLIP, tmp_path / "notes.wav")
    assert online("score", "set.jsonl").status == 0, "only successes are skipped: failures are tried again"
    assert not (tmp_path / "clsp-score" / "unjudged.jsonl").exists()


def test_a_baseline_of_the_same_clips_passes(online: Run, tmp_path: Path) -> None:
    names = ("man-us-low", "man-us-high", "man-us-fast", "man-us-plain", "man-us-whisper", "man-us-loud")
    write_set(tmp_path / "set.jsonl", *pairs(*names))
    assert online("score", "set.jsonl", "--out", "before", "--no-details").status == 0
    same = online("score", "set.jsonl", "--out", "after", "--no-details", "--baseline", "before")
    assert same.status == 0, same.out
    others = [{**row, "audio": str(LIBRARY / "woman-us-plain.ogg")} for row in pairs(*names)]
    write_set(tmp_path / "other.jsonl", *others)
    fell = online("score", "other.jsonl", "--out", "other", "--no-details", "--baseline", "before/scores.jsonl")
    assert fell.status == 1
    assert "no-regression" in fell.out
    fewer = write_set(tmp_path / "fewer.jsonl", *pairs(*names[1:]))
    removed = online("score", fewer, "--out", "fewer", "--no-details", "--baseline", "before")
    assert removed.status == 2
    assert "man-us-low" in removed.out


def test_a_killed_run_goes_on_where_it_was(cli_server_url: str, online: Run, tmp_path: Path) -> None:
    library = sorted(path for path in LIBRARY.iterdir() if path.suffix in (".ogg", ".flac", ".mp3"))
    rows = [{"id": path.stem, "audio": str(path), "caption": DEEP} for path in library]
    write_set(tmp_path / "set.jsonl", *rows)
    command = [str(CLSP), "score", "set.jsonl", "--no-details", "--in-flight", "1", "--url", cli_server_url]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = tmp_path / "clsp-score" / "scores.partial.jsonl"
    deadline = time.monotonic() + 60
    while not partial.exists() or len(partial.read_text("utf-8").splitlines()) < 3:
        assert process.poll() is None, "it was done before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = [json.loads(line) for line in partial.read_text("utf-8").splitlines() if line.endswith("}")]
    assert len(kept) < len(rows)
    marked = [{**row, "cosine": 0.1234} for row in kept]
    partial.write_text("".join(json.dumps(row) + "\n" for row in marked))
    assert online("score", "set.jsonl", "--no-details").status == 0
    finished = {row["id"]: row["cosine"] for row in rows_of(tmp_path / "clsp-score")}
    assert len(finished) == len(rows)
    assert {id for id, cosine in finished.items() if cosine == 0.1234} == {row["id"] for row in kept}


def test_a_bundle_that_was_calibrated_anew_judges_anew(clsp: Run, tmp_path: Path) -> None:
    bundle = shutil.copytree(BUNDLE, tmp_path / "bundle")
    write_set(tmp_path / "set.jsonl", *pairs("man-us-low"))
    command = ("score", "set.jsonl", "--bundle", bundle, "--min-match", 0.5)
    assert clsp(*command).status == 0
    told = json.loads((bundle / "bundle.json").read_text("utf-8"))
    told["calibration"]["bias"] = -60.0
    (bundle / "bundle.json").write_text(json.dumps(told), "utf-8")
    assert clsp(*command).status == 1
    assert rows_of(tmp_path / "clsp-score")[0]["match_probability"] == 0.0


@pytest.mark.parametrize(
    "arguments",
    [
        ["nowhere.jsonl"],
        ["nan.jsonl"],
        ["set.jsonl", "--baseline", "nan-rows.jsonl"],
        ["set.jsonl", "--bundle", "nowhere"],
        ["set.jsonl", "--url", "http://127.0.0.1:9"],
    ],
)
def test_a_run_that_cannot_start_leaves_no_earlier_verdict(clsp: Run, tmp_path: Path, arguments: list[object]) -> None:
    write_set(tmp_path / "set.jsonl", *pairs("man-us-low"))
    (tmp_path / "nan.jsonl").write_text('{"audio": "a.wav", "caption": NaN}\n')
    (tmp_path / "nan-rows.jsonl").write_text(NAN_ROW)
    out = tmp_path / "clsp-score"
    out.mkdir()
    made_with = {"detail": {"attributes": True}, "scoring": "x"}
    (out / "run.json").write_text(json.dumps({"outcome": "passed", **made_with}))
    for name in ("junit.xml", "report.html", "scores.jsonl"):
        (out / name).write_text("")
    assert clsp("score", *arguments).status == 2
    assert {path.name for path in out.iterdir()} == {"run.json", "scores.jsonl"}
    assert json.loads((out / "run.json").read_text()) == {"outcome": "unfinished", **made_with}, "rows may be reused"


def test_an_interrupted_run_leaves_no_rows_of_other_details(online: Run, cli_server_url: str, tmp_path: Path) -> None:
    write_set(tmp_path / "set.jsonl", *pairs("man-us-low"))
    assert online("score", "set.jsonl", "--no-details").status == 0
    os.mkfifo(tmp_path / "held.wav")
    write_set(tmp_path / "held.jsonl", {"id": "held", "audio": "held.wav", "caption": DEEP})
    process = subprocess.Popen([str(CLSP), "score", "held.jsonl", "--url", cli_server_url], cwd=tmp_path)
    os.close(os.open(tmp_path / "held.wav", os.O_WRONLY))  # opens once the run reads it
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert online("score", "set.jsonl").status == 0
    assert rows_of(tmp_path / "clsp-score")[0]["attributes"]


@pytest.mark.parametrize(
    ("number", "status", "here"),
    [
        (signal.SIGINT, 130, False),
        (signal.SIGINT, 130, True),
        (signal.SIGTERM, 143, False),
        (signal.SIGTERM, 143, True),
    ],
)
def test_an_interrupt_is_no_verdict(
    cli_server_url: str, tmp_path: Path, number: signal.Signals, status: int, here: bool
) -> None:
    os.mkfifo(tmp_path / "held.wav")  # whoever reads it waits: the run cannot be over before it is interrupted
    held = {"id": "held", "audio": "held.wav", "caption": DEEP}
    write_set(tmp_path / "set.jsonl", *pairs("man-us-low"), held)
    command = [str(CLSP), "score", "set.jsonl", "--no-details", "--in-flight", "1"]
    partial = tmp_path / "clsp-score" / "scores.partial.jsonl"
    partial.parent.mkdir()
    for name in ("junit.xml", "report.html", "unjudged.jsonl"):
        (partial.parent / name).write_text("of an earlier run")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        command if here else [*command, "--url", cli_server_url],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    while not partial.exists() or not partial.read_text("utf-8").endswith("\n"):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    while process.poll() is None:
        with contextlib.suppress(OSError):  # nobody reads it, or no longer
            os.close(os.open(tmp_path / "held.wav", os.O_WRONLY | os.O_NONBLOCK))
        time.sleep(0.01)
    assert process.stderr is not None
    assert "Run the same command again" in process.stderr.read()
    assert process.returncode == status
    assert {path.name for path in partial.parent.iterdir()} == {"run.json", partial.name}
    assert json.loads((partial.parent / "run.json").read_text())["outcome"] == "unfinished"
    assert len(partial.read_text("utf-8").splitlines()) == 1, "what was judged is kept"
    assert list(scratch.glob("clsp-*")) == []


@pytest.mark.parametrize("extra", [(), ("--json",), ("--min-match", "1")])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("target", ["full", "closed"])
def test_an_output_that_takes_nothing_is_no_verdict(
    cli_server_url: str, tmp_path: Path, target: str, both: bool, extra: tuple[str, ...]
) -> None:
    command = [str(CLSP), "score", str(CLIP), DEEP, "--url", cli_server_url, "--out", "run", *extra]
    if target == "full":
        end = os.open("/dev/full", os.O_WRONLY)
    else:
        read_end, end = os.pipe()
        os.close(read_end)
    try:
        stderr = end if both else subprocess.PIPE
        done = subprocess.run(command, cwd=tmp_path, stdout=end, stderr=stderr, text=True, check=False)
    finally:
        os.close(end)
    assert done.returncode == 2, done.stderr
    if not both:
        assert ("No space left" if target == "full" else "Nobody reads") in done.stderr
        assert "Traceback" not in done.stderr
    assert (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.jsonl"], "no such file"),
        ([CLIP], "give its caption"),
        (["set.jsonl", "--baseline", "nowhere"], "nowhere"),
        (["set.jsonl", "--url", "http://127.0.0.1:9"], "No clsp service answers"),
        (["set.jsonl", "--bundle", "nowhere"], "no bundle at"),
        (["set.jsonl", "--window", "99"], "window_s"),
        (["set.jsonl", "--max-drop", "inf"], "not a finite number"),
        (["set.jsonl", "--out", "kept", "--baseline", "kept"], "would be overwritten"),
        (["set.jsonl", "--out", "kept", "--baseline", "kept/scores.jsonl"], "would be overwritten"),
        (["nan.jsonl"], "`caption` is not text"),
        (["set.jsonl", "--baseline", "nan-rows.jsonl"], "cosine"),
    ],
)
def test_what_cannot_be_judged_at_all_is_status_2(
    clsp: Run, tmp_path: Path, arguments: list[object], words: str
) -> None:
    write_set(tmp_path / "set.jsonl", *pairs("man-us-low"))
    (tmp_path / "nan.jsonl").write_text('{"audio": "a.wav", "caption": NaN}\n')
    (tmp_path / "nan-rows.jsonl").write_text(NAN_ROW)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "scores.jsonl").write_text("")
    done = clsp("score", *arguments)
    assert done.status == 2, done.out + done.err
    assert words in done.out + done.err
    assert "Traceback" not in done.err
