"""Annotation from end to end against a misbehaving endpoint: nothing lost, nothing paid twice, every fault named."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.captions_server import Asked, caption_of, completion, described, serving
from tests.training.captions.test_filters import BROKEN
from training.captions.endpoint import EndpointSettings, EndpointStoppedError
from training.captions.formats import Row, read_rows, write_rows
from training.captions.job import Job, lengths_of
from training.captions.ledger import Ledger
from training.captions.pipeline import Plan
from training.captions.run import Outcome, Source
from training.captions.run_state import RunLockedError
from training.captions.utterance import Utterance, wav_base64

FAULTS = ["429 0.05", "500", "hang 1.5", "half json", "cut body", "drop", "no choices", "wrapped 502", "503"]


def job(options: EndpointSettings, *, short: int = 1, long: int = 2, **more: object) -> Job:
    return Job(Plan({"short": short, "long": long}, lengths_of(False)), annotator=options, **more)  # type: ignore[arg-type]


def run(task: Job, manifest: Path, out: Path, ledger: Path | None = None) -> Outcome:
    return asyncio.run(task.run(Source.of(manifest), out, ledger or out.with_name("ledger.sqlite")))


def ledger_count(path: Path) -> int:
    book = Ledger(path)
    try:
        return book.count()
    finally:
        book.close()


def heard_as(rows: Iterable[Row]) -> dict[str, str]:
    """Audio as a server hears it -> id of the row."""
    return {wav_base64(Utterance.of(row).load()): row["id"] for row in rows}


def test_a_run_through_every_fault(manifest: Path, tmp_path: Path, quick) -> None:
    """Every request meets one or two faults before it is answered; all captions arrive and each is paid for once."""

    def behave(asked: Asked) -> str | None:
        if asked.attempt <= 1 + asked.draw % 2:
            return FAULTS[(asked.draw // 3 + asked.attempt) % len(FAULTS)]
        return None

    out = tmp_path / "out.jsonl"
    with serving(behave=behave) as server:
        done = run(job(quick(server.url, timeout_s=1.0, concurrency=8)), manifest, out)
    rows = list(read_rows(out))
    assert [row["id"] for row in rows] == [f"clip{i:02d}" for i in range(12)]  # in the manifest's order
    assert done.failed == 0
    assert done.tally.kept == 36
    assert all(len(row["short_captions"]) == 1 and len(row["long_captions"]) == 2 for row in rows)
    assert len(server.paid) == 36
    assert set(server.paid.values()) == {1}
    assert sum(server.attempts.values()) > 36 * 2
    # The trainer's view of the same captions.
    assert all({c["kind"] for c in row["captions"]} == {"global", "fine"} and row["split"] for row in rows)
    # Again: complete, nothing is asked.
    before = len(server.asked)
    assert run(job(quick(server.url, timeout_s=1.0, concurrency=8)), manifest, out).untouched
    assert len(server.asked) == before


def test_every_broken_caption_is_caught_and_named(manifest: Path, tmp_path: Path, quick) -> None:
    """The endpoint breaks each rule in turn; each caption is thrown out under the right name, good ones stay."""
    cases = [(rule, text) for rule, texts in BROKEN.items() for text in texts]

    def behave(asked: Asked) -> dict[str, object] | None:
        rule, text = cases[asked.body["seed"] % len(cases)]
        if asked.body["seed"] >= len(cases):
            return None
        if rule == "refusal" and "As an AI" in text:
            return completion(text, refusal=text)
        return completion(text, finish="length" if rule == "truncated" else "stop")

    one = tmp_path / "one.jsonl"
    write_rows(one, [next(read_rows(manifest))])
    out = tmp_path / "out.jsonl"
    with serving(behave=behave) as server:
        done = run(job(quick(server.url), short=0, long=len(cases) + 2), one, out)
    (row,) = read_rows(out)
    named = {caption["seed"]: caption["rule"] for caption in row["rejected"]}
    assert named == {seed: rule for seed, (rule, _) in enumerate(cases)}
    assert len(row["long_captions"]) == 2
    report = json.loads((tmp_path / "out.jsonl.report.json").read_text())
    assert set(report["dropped"]) == set(BROKEN)
    assert done.report is not None
    text = (tmp_path / "out.jsonl.report.md").read_text()
    assert "## background" in text
    assert sum(broken in text for broken in BROKEN["background"]) == 5  # samples to read


def test_the_verifier_throws_out_what_filters_cannot_see(manifest: Path, tmp_path: Path, quick) -> None:
    def behave(asked: Asked) -> dict[str, object] | None:
        if '"passes"' not in asked.text:
            return None
        if "husky" in described(asked):
            return completion(json.dumps({"passes": False, "broken_rule": "contradiction", "why": "husky and bright"}))
        return completion("no verdict, ever") if "nasal" in described(asked) else None

    out = tmp_path / "out.jsonl"
    with serving(behave=behave) as server:
        options = quick(server.url)
        done = run(job(options, verifier=options.model_copy(update={"model": "checker"})), manifest, out)
        again = len(server.asked)
        run(job(options, verifier=options.model_copy(update={"model": "checker"})), manifest, tmp_path / "b.jsonl")
        # Another output, the same ledger: verdicts too are paid for once, and only what was none is asked for again.
        assert all('"passes"' in asked.text and "nasal" in described(asked) for asked in server.asked[again:])
    rules = Counter(c["rule"] for row in read_rows(out) for c in row["rejected"])
    assert rules["verifier: contradiction"] > 0
    assert rules["unverified"] > 0
    assert not any("husky" in text for row in read_rows(out) for text in row["long_captions"])
    assert done.failed == 0


def test_another_way_of_asking_for_the_form_asks_again_for_what_was_no_verdict(
    manifest: Path, tmp_path: Path, quick
) -> None:
    def behave(asked: Asked) -> dict[str, object] | None:
        form = asked.body.get("response_format", {}).get("type")
        return completion("It seems fine.") if '"passes"' in asked.text and form != "json_object" else None

    out = tmp_path / "out.jsonl"
    with serving(behave=behave) as server:
        options = quick(server.url)
        task = job(options, long=0, verifier=options.model_copy(update={"model": "checker"}))
        assert run(task, manifest, out).tally.kept == 0
        assert run(task, manifest, out).untouched
        before = len(server.asked)
        checker = options.model_copy(update={"model": "checker", "structured": "json_object"})
        assert run(replace(task, verifier=checker), manifest, out).tally.kept == 12
    assert len(server.asked) - before == len({described(asked) for asked in server.asked[before:]})  # no caption anew


def test_what_fails_is_listed_and_tried_again_alone(manifest: Path, tmp_path: Path, quick) -> None:
    bad = {"clip03", "clip07"}
    rows = list(read_rows(manifest))
    missing = tmp_path / "gone.wav"
    write_rows(manifest, [*rows, {"id": "gone", "path": str(missing), "duration_s": 1.0}])
    out = tmp_path / "out.jsonl"
    with serving() as server:
        names = heard_as(rows)
        server.behave = lambda asked: "400" if names[asked.heard] in bad else None
        task = job(quick(server.url))
        done = run(task, manifest, out)
        assert done.failed == 9  # three captions of three clips
        listed = [json.loads(line) for line in (tmp_path / "out.jsonl-failures.jsonl").read_text().splitlines()]
        assert Counter(row["id"] for row in listed) == {"clip03": 3, "clip07": 3, "gone": 3}
        assert {row["reason"] for row in listed if row["id"] != "gone"} == {"HTTP 400: told to answer 400"}
        assert "No such file" in next(row["reason"] for row in listed if row["id"] == "gone")
        # The endpoint mends its ways and the file is found: only what was missing is asked for.
        server.behave = lambda asked: None
        tone = 0.3 * np.sin(np.arange(6400) * 0.2)
        soundfile.write(missing, tone, 16000)
        names |= heard_as([{"id": "gone", "path": str(missing)}])
        before = len(server.asked)
        done = run(task, manifest, out)
    assert done.failed == 0
    assert not (tmp_path / "out.jsonl-failures.jsonl").exists()
    assert Counter(names[asked.heard] for asked in server.asked[before:]) == {"clip03": 3, "clip07": 3, "gone": 3}
    assert all(len(row["long_captions"]) == 2 for row in read_rows(out))


def test_an_endpoint_that_ends_the_run_loses_nothing(manifest: Path, tmp_path: Path, quick) -> None:
    out = tmp_path / "out.jsonl"
    with serving(delay_s=0.02) as server:
        task = job(quick(server.url))
        server.behave = lambda asked: "401" if len(server.asked) > 20 else None
        with pytest.raises(EndpointStoppedError, match="401"):
            run(task, manifest, out)
        assert not out.exists()
        paid = set(server.paid)
        # Whatever was answered, requests under way at the end included, is in the ledger.
        assert ledger_count(tmp_path / "ledger.sqlite") == len(paid) > 10
        server.behave = lambda asked: None
        done = run(task, manifest, out)
    assert done.failed == 0
    assert set(server.paid.values()) == {1}
    assert len(server.paid) == 36


def test_another_plan_pays_only_for_what_is_new(manifest: Path, tmp_path: Path, quick) -> None:
    with serving() as server:
        options = quick(server.url)
        run(job(options, long=2), manifest, tmp_path / "out.jsonl")
        assert len(server.asked) == 36
        run(job(options, long=3), manifest, tmp_path / "out.jsonl")
        assert len(server.asked) == 48  # one more seed
        # A copy of a clip under another name is the same audio.
        rows = list(read_rows(manifest))
        write_rows(tmp_path / "copy.jsonl", [{**row, "id": f"again-{row['id']}"} for row in rows])
        run(job(options, long=3), tmp_path / "copy.jsonl", tmp_path / "copied.jsonl")
        assert len(server.asked) == 48
        # Another temperature is another question.
        run(job(quick(server.url, temperature=0.1), long=3), manifest, tmp_path / "out.jsonl")
        assert len(server.asked) == 96


def test_labels_are_told_and_words_are_not(manifest: Path, tmp_path: Path, quick) -> None:
    row = next(read_rows(manifest)) | {"gender": "female", "accent": "Scottish", "text": "the secret words"}
    write_rows(tmp_path / "one.jsonl", [row])
    with serving() as server:
        run(job(quick(server.url), long=1), tmp_path / "one.jsonl", tmp_path / "a.jsonl")
        assert all("- gender: female" in a.text and "- accent: Scottish" in a.text for a in server.asked)
        assert all("secret" not in a.text for a in server.asked)
        assert all(a.body["messages"][1]["content"][0]["type"] == "input_audio" for a in server.asked)
        run(
            job(quick(server.url, audio_part="audio_url"), tell=(), long=1),
            tmp_path / "one.jsonl",
            tmp_path / "a.jsonl",
        )
        assert len(server.asked) == 4  # told less, it is another run of the same output
        last = server.asked[-1]
        assert "gender: female" not in last.text
        assert last.body["messages"][1]["content"][0]["audio_url"]["url"].startswith("data:audio/wav;base64,UklGR")
        # What was only estimated from pitch is no fact that a model should be told.
        write_rows(tmp_path / "one.jsonl", [{**row, "gender_from": "estimate"}])
        run(job(quick(server.url), long=1), tmp_path / "one.jsonl", tmp_path / "c.jsonl")
        assert len(server.asked) == 6
        assert all("gender: female" not in a.text and "- accent: Scottish" in a.text for a in server.asked[-2:])


def test_captions_add_up_or_are_replaced(manifest: Path, tmp_path: Path, quick) -> None:
    write_rows(tmp_path / "old.jsonl", [{**row, "short_captions": ["An old one."]} for row in read_rows(manifest)])
    with serving() as server:
        task = job(quick(server.url), long=0)
        run(task, tmp_path / "old.jsonl", tmp_path / "a.jsonl")
        fresh = replace(task, plan=replace(task.plan, replace=True))
        run(fresh, tmp_path / "old.jsonl", tmp_path / "b.jsonl")
    added = [row["short_captions"] for row in read_rows(tmp_path / "a.jsonl")]
    assert all(texts[0] == "An old one." and len(texts) == 2 for texts in added)
    assert {c["text"] for row in read_rows(tmp_path / "a.jsonl") for c in row["captions"]} > {"An old one."}
    assert all(len(row["short_captions"]) == 1 for row in read_rows(tmp_path / "b.jsonl"))


def test_what_the_input_had_is_not_counted_again(manifest: Path, tmp_path: Path, quick) -> None:
    before = [{"text": f"Old {n}.", "kind": "short", "seed": n, "rule": "guess", "detail": ""} for n in range(4)]
    write_rows(tmp_path / "old.jsonl", [{**row, "rejected": before} for row in read_rows(manifest)])
    with serving() as server:
        done = run(job(quick(server.url), long=0), tmp_path / "old.jsonl", tmp_path / "a.jsonl")
        assert (done.tally.kept, done.tally.rejected) == (12, 0)
        server.behave = lambda asked: completion("As an AI, I cannot hear.") if asked.body["seed"] else None
        done = run(job(quick(server.url), short=2, long=0), tmp_path / "old.jsonl", tmp_path / "b.jsonl")
        assert (done.tally.kept, done.tally.rejected) == (12, 12)
    assert all(len(row["rejected"]) == 5 for row in read_rows(tmp_path / "b.jsonl"))


def test_two_runs_of_one_output_are_refused(manifest: Path, tmp_path: Path, quick) -> None:
    out = tmp_path / "out.jsonl"
    with serving() as server:
        task = job(quick(server.url))

        async def both() -> list[object]:
            runs = (task.run(Source.of(manifest), out, tmp_path / f"{n}.sqlite") for n in "ab")
            return list(await asyncio.gather(*runs, return_exceptions=True))

        results = asyncio.run(both())
    assert sum(isinstance(r, RunLockedError) for r in results) == 1


def test_the_same_caption_twice_is_kept_once(manifest: Path, tmp_path: Path, quick) -> None:
    with serving(behave=lambda asked: completion(caption_of(replace(asked, body={**asked.body, "seed": 0})))) as server:
        run(job(quick(server.url), short=0, long=3), manifest, tmp_path / "out.jsonl")
    for row in read_rows(tmp_path / "out.jsonl"):
        assert len(row["long_captions"]) == 1
        assert [c["rule"] for c in row["rejected"]] == ["duplicate", "duplicate"]
