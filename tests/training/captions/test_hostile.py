"""Manifests, endpoints and commands as one should never meet them: named in one line, or ridden out; never a crash."""

import json
import math
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from tests.support.captions_server import Asked, Raw, completion, serving
from tests.training.captions.test_annotate import job, run
from tests.training.captions.test_endpoint import ask
from training.captions.endpoint import EndpointSettings, EndpointStoppedError
from training.captions.filter_report import OTHER_REASONS, REASONS, Report
from training.captions.formats import FormatError, Row, read_rows, write_rows
from training.captions.pipeline import Plan
from training.captions.run_state import RunState
from training.captions.shards import keep_plan, plan_shards
from training.captions.utterance import AudioError, Utterance
from training.commands.annotate import app

CALM = "A calm man speaks in a slow, low voice."


def annotate(manifest: Path, out: Path, url: str, *more: str) -> Result:
    """`clsp annotate` with an endpoint; whatever it raises besides an exit code is the test's failure."""
    base = ["--annotator", "endpoint", "--base-url", url, "--model", "m", "--yes", "--short", "1", "--long", "0"]
    result = CliRunner().invoke(app, ["annotate", str(manifest), "--out", str(out), *base, *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    return result


WRONG: list[tuple[str, Any]] = [
    ("text", ["a", "b"]),
    ("captions", ["a calm voice"]),
    ("captions", "a calm voice"),
    ("captions", [{"text": "no kind"}]),
    ("captions", [{"text": "low", "kind": "global", "claims": "low"}]),
    ("captions", [{"text": "low", "kind": "global", "claims": {"pitch": ["low"]}}]),
    ("short_captions", 5),
    ("long_captions", [{"a": 1}]),
    ("long_captions", [None]),
    ("duration_s", "long"),
    ("duration_s", -3),
    ("duration_s", [1]),
    ("start_s", math.inf),
    ("start_s", "x"),
    ("channel", -1),
    ("rejected", "x"),
    ("rejected", [{"a": 1}]),
    ("failed", [5]),
    ("emotion", {"a": 1}),
    ("speaker", ["x"]),
]


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_wrong_field_is_named_with_its_line_before_anything_is_asked(
    field: str, value: Any, clips: list[Row], tmp_path: Path
) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in [clips[0], {**clips[1], field: value}]))
    with serving() as server:
        result = annotate(manifest, tmp_path / "out.jsonl", server.url)
    assert result.exit_code == 2
    assert f"{manifest}:2: {field}:" in result.output.replace("\n", "")
    assert not server.asked


def test_what_can_be_read_in_one_way_only_is_read_so(clips: list[Row], tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    odd = {"text": 5, "short_captions": "One caption.", "duration_s": math.nan, "start_s": "0.1"}
    manifest.write_text(json.dumps(clips[0] | odd) + "\n")
    (row,) = read_rows(manifest)
    assert (row["text"], row["short_captions"], row["duration_s"], row["start_s"]) == ("5", ["One caption."], None, 0.1)


def test_half_a_character_ends_no_run(clips: list[Row], tmp_path: Path) -> None:
    """Lone surrogates, in a manifest's labels or in an answer that was cut in the middle of a character."""
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps(clips[0] | {"id": "a\ud800", "accent": "\udfff", "extra": {"\ud800": 1}}) + "\n")
    with serving(behave=lambda asked: completion(f"{CALM[:-1]}\ud83d.")) as server:
        result = annotate(manifest, tmp_path / "out.jsonl", server.url)
        assert result.exit_code == 0, result.output
        annotate(manifest, tmp_path / "again.jsonl", server.url, "--ledger", str(tmp_path / "out.jsonl.ledger.sqlite"))
    assert len(server.asked) == 1
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert row["id"] == "a\ufffd"
    assert row["short_captions"] == [f"{CALM[:-1]}\ufffd."]


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "many"},
        {"prompt_tokens": 1e999},
        {"prompt_tokens": -5, "completion_tokens": None},
        {"prompt_tokens_details": "none"},
        {"prompt_tokens_details": [1]},
        [1],
        "none",
    ],
)
def test_a_count_that_makes_no_sense_costs_no_answer(usage: Any, manifest: Path, tmp_path: Path) -> None:
    with serving(behave=lambda asked: completion(CALM) | {"usage": usage}) as server:
        assert annotate(manifest, tmp_path / "out.jsonl", server.url).exit_code == 0
    assert len(server.asked) == 12


@pytest.mark.parametrize("status", ["301", "307 1", "405", "410"])
def test_a_wrong_address_stops_the_run(status: str, manifest: Path, tmp_path: Path) -> None:
    with serving(behave=lambda asked: status) as server:
        result = annotate(manifest, tmp_path / "out.jsonl", server.url, "--concurrency", "2")
    assert result.exit_code == 4
    assert f"HTTP {status[:3]}" in result.output
    assert len(server.asked) <= 2


def test_a_model_that_refuses_everything_stops_the_run(manifest: Path, tmp_path: Path, quick) -> None:
    """One that takes no audio answers 400 to each clip: nobody wants that ten million times."""
    with serving(behave=lambda asked: "400") as server:
        task = job(quick(server.url, failures_in_a_row=6))
        with pytest.raises(EndpointStoppedError, match=r"first \d+ requests were refused: HTTP 400"):
            run(task, manifest, tmp_path / "out.jsonl")
        assert len(server.asked) <= 6 + 4
        # Once something was answered, refusals are the clips' own.
        server.behave = lambda asked: "400" if len(server.asked) > 12 else None
        assert run(task, manifest, tmp_path / "out.jsonl").failed > 6


def test_a_rate_limit_without_a_time_is_met_with_doubling_pauses(quick) -> None:
    with serving(behave=lambda asked: "429") as server:
        ask(quick(server.url, concurrency=4, backoff_s=0.01, backoff_max_s=10, patience_s=1.5), 4)
    assert len(server.asked) < 80  # pauses that never grow let some hundreds through


def test_a_stop_waits_out_no_pause(manifest: Path, tmp_path: Path, quick) -> None:
    """One request is sent away for an hour, then another's key is refused: the run ends now."""
    sent_away = threading.Event()

    def behave(asked: Asked) -> str:
        if not sent_away.is_set():
            sent_away.set()
            return "503 3600"
        time.sleep(0.3)  # the first answer is on its way before this one
        return "401"

    with serving(behave=behave) as server:
        task = job(quick(server.url, concurrency=2, patience_s=7200))
        with pytest.raises(EndpointStoppedError, match="401"):
            run(task, manifest, tmp_path / "out.jsonl")


def test_an_address_where_nobody_listens_is_told_soon(manifest: Path, tmp_path: Path, quick) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        # The limits of a real run would go on for hours.
        task = job(quick(url, attempts=100_000, connect_timeout_s=0.3))
        with pytest.raises(EndpointStoppedError, match=f"nothing answers at {url}"):
            run(task, manifest, tmp_path / "out.jsonl")
    # One of two that is not there is left to the other.
    with serving() as server:
        task = job(quick(url, server.url, attempts=1000, connect_timeout_s=0.3))
        assert run(task, manifest, tmp_path / "out.jsonl").failed == 0


def test_a_budget_holds_back_what_waits_for_its_turn(manifest: Path, tmp_path: Path, quick) -> None:
    with serving() as server:
        task = job(quick(server.url, concurrency=2, output_price=1000.0, max_cost=0.2))  # four answers of 50 tokens
        with pytest.raises(EndpointStoppedError, match=r"budget of 0\.2"):
            run(task, manifest, tmp_path / "out.jsonl")
    assert 4 <= len(server.asked) <= 5  # one was under way when the fourth came


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 300}, {"completion_tokens": 50}, {"prompt_tokens": 0}])
def test_a_budget_holds_where_the_endpoint_counts_no_tokens(usage: Any, manifest: Path, tmp_path: Path, quick) -> None:
    with serving(behave=lambda asked: completion(CALM, usage=False) | {"usage": usage}) as server:
        prices = {"input_price": 1000.0, "audio_price": 1000.0, "output_price": 1000.0}
        task = job(quick(server.url, concurrency=1, answer_tokens=50, max_cost=0.2, **prices))
        with pytest.raises(EndpointStoppedError, match=r"budget of 0\.2 .* are estimated"):
            run(task, manifest, tmp_path / "out.jsonl")
    assert 1 <= len(server.asked) <= 3


def test_audio_that_is_counted_among_the_text_has_its_own_price(manifest: Path, tmp_path: Path, quick) -> None:
    usage = {"prompt_tokens": 300, "completion_tokens": 9}
    with serving(behave=lambda asked: completion(CALM) | {"usage": usage}) as server:
        # Five tokens a clip of 0.4 s: the second answer reaches the budget.
        task = job(quick(server.url, concurrency=1, audio_price=1e6, max_cost=10))
        with pytest.raises(EndpointStoppedError, match="budget of 10"):
            run(task, manifest, tmp_path / "out.jsonl")
    assert len(server.asked) == 2


def test_a_budget_without_prices_is_named(monkeypatch: pytest.MonkeyPatch, manifest: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("CLSP_ANNOTATOR_MAX_COST", "2")
    with serving() as server:
        result = annotate(manifest, tmp_path / "out.jsonl", server.url)
    assert result.exit_code == 2
    assert "CLSP_ANNOTATOR_MAX_COST needs a price" in result.output
    assert not server.asked


@pytest.mark.parametrize(
    "url", ["localhost:8000", "http://", "http:///v1", "http://[::1", "http://h:99999/v1", "ftp://h/v1", "http://h:x/"]
)
def test_an_address_that_is_none_is_named(url: str, manifest: Path, tmp_path: Path) -> None:
    result = annotate(manifest, tmp_path / "out.jsonl", url)
    assert result.exit_code == 2
    assert "base_url" in result.output


def test_keys_are_trimmed_and_never_told(monkeypatch: pytest.MonkeyPatch, manifest: Path, tmp_path: Path) -> None:
    monkeypatch.setenv("CLSP_ANNOTATOR_API_KEY", " sk-secret\n")
    assert EndpointSettings.of("annotator").api_key.get_secret_value() == "sk-secret"  # type: ignore[union-attr]
    monkeypatch.setenv("CLSP_ANNOTATOR_API_KEY", "sk-sécret")
    result = annotate(manifest, tmp_path / "out.jsonl", "http://127.0.0.1:9/v1")
    assert result.exit_code == 2
    assert "api_key" in result.output
    assert "cret" not in result.output


@pytest.mark.parametrize("body", ['{{"error": {{"message": "{}"}}}}', "{}", '{{"error": {{"wrong": ["{}"]}}}}'])
@pytest.mark.parametrize("status", [400, 401, 500, 200])
def test_what_a_server_echoes_of_a_key_is_told_nowhere(
    body: str, status: int, monkeypatch: pytest.MonkeyPatch, clips: list[Row], tmp_path: Path
) -> None:
    """Neither on the terminal nor in a file, a key that stands where the words are cut off included."""
    write_rows(tmp_path / "in.jsonl", clips[:2])
    key = "sk-very-secret"
    monkeypatch.setenv("CLSP_ANNOTATOR_API_KEY", key)
    monkeypatch.setenv("CLSP_ANNOTATOR_ATTEMPTS", "1")
    for padding in (0, 70, 190):
        out = tmp_path / f"{padding}" / "out.jsonl"
        said = body.format("x" * padding + f" {key} user:hunter2 aHVudGVyMg and dXNlcjpodW50ZXIy")
        with serving(behave=lambda asked, said=said: Raw(said.encode(), status)) as server:
            result = annotate(tmp_path / "in.jsonl", out, server.url.replace("//", "//user:hunter2@"))
        assert result.exit_code in (3, 4), result.output
        written = [path.read_bytes() for path in out.parent.iterdir()]
        for told in [result.output.encode(), *written]:
            assert not any(secret in told for secret in (b"sk-very", b"hunter2", b"dXNlcjpodW50"))


@pytest.mark.parametrize(
    "url",
    ["http://u:hunter2@127.0.0.1:9/v1", "http://u:hunter2@[::1", "ftp://u:hunter2@h", "http://u:hunter2#/?@h:x/v1"],
)
def test_the_password_of_an_address_is_not_told(url: str, monkeypatch: pytest.MonkeyPatch, manifest, tmp_path) -> None:
    monkeypatch.setenv("CLSP_ANNOTATOR_CONNECT_TIMEOUT_S", "0.2")
    result = annotate(manifest, tmp_path / "out.jsonl", url)
    assert result.exit_code in (2, 4)
    assert "hunter2" not in result.output


def test_commands_that_cannot_be_meant(manifest: Path, tmp_path: Path) -> None:
    with serving() as server:
        told = {
            "holds none of": annotate(manifest, tmp_path / "a.jsonl", server.url, "--prompts", str(tmp_path / "typo")),
            "least first": annotate(manifest, tmp_path / "b.jsonl", server.url, "--short-chars", "200", "100"),
            "no captions are wanted": annotate(manifest, tmp_path / "c.jsonl", server.url, "--short", "0"),
            "is the manifest itself": annotate(manifest, manifest, server.url),
            "left to train on": annotate(manifest, tmp_path / "d.jsonl", server.url, "--dev", "0.9", "--test", "0.9"),
            "-0.1 for dev": annotate(manifest, tmp_path / "e.jsonl", server.url, "--dev", "-0.1"),
        }
    for words, result in told.items():
        assert result.exit_code == 2, words
        assert words in result.output.replace("\n", " ")
    assert not server.asked
    with pytest.raises(ValueError, match="no captions"):
        Plan({}, {})


def test_a_folder_is_estimated_before_anything_is_asked(clips: list[Row], tmp_path: Path) -> None:
    folder = tmp_path / "many"
    for number, name in enumerate(["a.jsonl", "b.jsonl.gz"]):
        write_rows(folder / name, clips[number * 4 : number * 4 + 4])
    (folder / "read.me").write_text("no manifest")
    with serving() as server:
        told = annotate(folder, tmp_path / "out", server.url, "--ray-workers", "2", "--estimate")
        assert told.exit_code == 0
        assert "8 (0.00 h of audio)" in told.output
        told = annotate(folder, tmp_path / "out.jsonl", server.url)
        assert told.exit_code == 2
        assert "only a job with --ray-workers takes one" in told.output.replace("\n", " ")
    assert not server.asked


def test_a_damaged_memory_of_the_last_run_is_no_obstacle(manifest: Path, tmp_path: Path, quick) -> None:
    out = tmp_path / "out.jsonl"
    with serving() as server:
        run(job(quick(server.url)), manifest, out)
        for damage in ("{", "", "[1]", '{"fingerprint": 3}'):
            (tmp_path / "out.jsonl.run.json").write_text(damage)
            assert run(job(quick(server.url)), manifest, out).failed == 0
    assert len(server.asked) == 36
    RunState(out, {}).close()


def test_cuts_are_written_whatever_a_clip_lacks(clips: list[Row], tmp_path: Path, quick) -> None:
    write_rows(tmp_path / "in.jsonl", [clips[0], {"id": "gone", "path": str(tmp_path / "gone.wav")}, clips[1]])
    with serving() as server:
        done = run(job(quick(server.url)), tmp_path / "in.jsonl", tmp_path / "out_cuts.jsonl.gz")
    assert (done.rows, done.left_out, done.failed) == (2, 1, 3)
    assert [row["id"] for row in read_rows(tmp_path / "out_cuts.jsonl.gz")] == ["clip00", "clip01"]
    assert (tmp_path / "out_cuts.jsonl.gz-failures.jsonl").read_text().count('"gone"') == 3


def test_a_report_does_not_grow_with_its_reasons() -> None:
    report = Report.of({"id": f"{i}", "failed": [{"kind": "short", "reason": f"{i}.wav: gone"}]} for i in range(5000))
    assert sum(report.failed.values()) == 5000
    assert len(report.failed) == REASONS + 1
    assert report.failed[OTHER_REASONS] == 5000 - REASONS


def test_audio_of_no_numbers_is_named(tmp_path: Path) -> None:
    for name, value in (("nan", np.nan), ("inf", np.inf)):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.full(8000, value, np.float32), 16000, subtype="FLOAT")
        with pytest.raises(AudioError, match="no numbers"):
            Utterance("x", path).load()


def longer(path: Path) -> None:
    rows = list(read_rows(path))
    write_rows(path, [*rows, *({**row, "id": f"{row['id']}-more"} for row in rows)])


@pytest.mark.parametrize("name", ["m.jsonl", "m.parquet"])
@pytest.mark.parametrize("change", [longer, Path.unlink])
def test_a_folder_of_shards_knows_a_manifest_that_changed(
    name: str, change: Callable[[Path], None], clips: list[Row], tmp_path: Path
) -> None:
    """Rows that came later would belong to no shard and be left out without a word."""
    manifest = tmp_path / name
    write_rows(manifest, clips)
    keep_plan(tmp_path / "out", plan_shards(manifest, 4))
    assert len(keep_plan(tmp_path / "out", plan_shards(manifest, 3))) == 4  # another number of pieces is no change
    change(manifest)
    with pytest.raises((FormatError, OSError)):
        keep_plan(tmp_path / "out", plan_shards(manifest, 4))
