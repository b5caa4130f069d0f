"""Judging a set on the real service: resumable, in order, and without losing the clip that cannot be judged."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clsp_client import AsyncClient, ProblemError, RetryPolicy, UnreachableError
from service.gates.rows import Case, Row, Run, Unjudged, dump, load_row, read_rows
from service.gates.runner import Earlier, judge_set, read_earlier
from service.gates.scorer import Detail, RemoteScorer, in_process
from tests.support.paths import LIBRARY

PLAIN = Detail(attributes=False, sentences=False)


def case(name: str, caption: str = "A deep voice.", group: str = "all") -> Case:
    return Case(name, LIBRARY / name, caption, group, name)


def judged(
    url: str, cases: list[Case], detail: Detail = PLAIN, *, earlier: Earlier | None = None, journal: Path | None = None
) -> tuple[Run, list[Row | Unjudged]]:
    done: list[Row | Unjudged] = []

    async def work() -> Run:
        async with AsyncClient(url, retry=RetryPolicy(patience_s=5, connection_retries=0)) as client:
            return await judge_set(
                cases,
                RemoteScorer(client, dict((await client.models())[0])),
                detail,
                earlier=earlier or Earlier({}),
                journal=journal,
                in_flight=3,
                on_done=done.append,
            )

    return asyncio.run(work()), done


def test_rows_come_in_the_order_of_the_set(server: Any, tmp_path: Path) -> None:
    names = ["woman-us-very-slow.ogg", "man-us-low.ogg", "woman-us-plain.ogg", "man-gb-slow.flac", "man-gb-low.mp3"]
    run, done = judged(server.url, [case(name) for name in names], journal=tmp_path / "journal.jsonl")
    assert [row.id for row in run.rows] == names
    assert sorted(one.id for one in done) == sorted(names)
    assert {row.id: row for row in read_rows(tmp_path / "journal.jsonl")} == {row.id: row for row in run.rows}
    assert run.coverage == 1.0
    again, _ = judged(server.url, [case(name) for name in names])
    assert again.rows == run.rows, "the same clip scores the same, and its row reads the same"


def test_details_are_kept(server: Any) -> None:
    caption = "A man whispers, and then suddenly speaks loudly."
    run, _ = judged(server.url, [case("man-whisper-then-loud.ogg", caption)], Detail(window_s=5.0, hop_s=2.5))
    (row,) = run.rows
    assert [one.value for one in row.attributes if one.family == "loudness"] == ["loud"]
    assert len(row.sentences) == 2
    assert len(row.sentences[0].curve) == len(row.curve) == 8
    assert row.turns[0][0] == pytest.approx(11, abs=3)


def test_a_caption_that_was_cut_is_marked(server: Any) -> None:
    cases = [case("man-us-low.ogg"), replace(case("man-us-low.ogg", "A deep voice. " * 200), id="long")]
    run, _ = judged(server.url, cases)
    assert [(row.id, row.truncated) for row in run.rows] == [("man-us-low.ogg", False), ("long", True)]
    assert [load_row(dump(row)) for row in run.rows] == run.rows
    assert "truncated" not in dump(run.rows[0])


def test_each_clip_that_cannot_be_judged_is_named_with_its_reason(server: Any, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("these are not samples\n" * 50)
    cases = [
        case("man-us-low.ogg"),
        Case("text", tmp_path / "text.wav", "A deep voice.", "all", "text.wav"),
        Case("gone", tmp_path / "gone.wav", "A deep voice.", "all", "gone.wav"),
        Case("nul", Path("a\0.wav"), "A deep voice.", "all", "a\0.wav"),
        Case("mute", LIBRARY / "man-us-low.ogg", " ", "all", "man-us-low.ogg"),
    ]
    run, done = judged(server.url, cases)
    assert [row.id for row in run.rows] == ["man-us-low.ogg"]
    reasons = {one.id: one.reason for one in run.unjudged}
    assert reasons["gone"] == "No such file or directory"
    assert "text file" in reasons["text"]
    assert "empty" in reasons["mute"]
    assert "null" in reasons["nul"]
    assert run.coverage == 0.2
    assert len(done) == 5


def test_what_has_not_changed_is_not_judged_again(server: Any, tmp_path: Path) -> None:
    cases = [case("man-us-low.ogg"), case("woman-us-plain.ogg"), case("man-gb-low.mp3")]
    run, _ = judged(server.url, cases)
    marked = [replace(row, cosine=0.1234) for row in run.rows]
    journal = tmp_path / "partial.jsonl"
    # As a kill leaves it: two whole lines and half of a third.
    journal.write_text("".join(f"{dump(row)}\n" for row in marked[:2]) + dump(marked[2])[:40])
    earlier = read_earlier([tmp_path / "nowhere.jsonl", journal])
    assert earlier.rows.keys() == {"man-us-low.ogg", "woman-us-plain.ogg"}
    changed = [replace(cases[0], group="bass"), replace(cases[1], caption="A high voice."), cases[2]]
    again, _ = judged(server.url, changed, earlier=earlier)
    assert again.rows[0].cosine == 0.1234
    assert again.rows[0].group == "bass", "the set decides about groups"
    assert again.rows[1].cosine != 0.1234
    assert again.rows[2].cosine == run.rows[2].cosine


def test_another_model_or_other_audio_is_judged_again(server: Any) -> None:
    path = LIBRARY / "man-us-low.ogg"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    run, _ = judged(server.url, [case("man-us-low.ogg")])
    (row,) = run.rows
    assert row.sha256 == sha256
    for other in (replace(row, identity="model-0"), replace(row, sha256="0" * 16)):
        earlier = Earlier({row.id: replace(other, cosine=0.1234)})
        assert judged(server.url, [case("man-us-low.ogg")], earlier=earlier)[0].rows == [row]


def test_a_service_that_goes_away_ends_the_run(free_port: int) -> None:
    with pytest.raises(UnreachableError):
        judged(f"http://127.0.0.1:{free_port}", [case("man-us-low.ogg")])


def test_a_refusal_of_every_clip_ends_the_run(serve: Any, data_dir: Path) -> None:
    from service.settings import ApiKey

    key = ApiKey.model_validate(f"me:read:{hashlib.sha256(b'secret').hexdigest()}")
    with serve(data_dir=data_dir, api_keys=[key]) as own, pytest.raises(ProblemError) as refused:
        judged(own.url, [case("man-us-low.ogg")])
    assert refused.value.status == 401


def test_scores_without_a_service_are_the_same_to_the_bit(server: Any) -> None:
    cases = [case(name, "A man whispers, and then suddenly speaks loudly.") for name in NAMES]
    detail = Detail(window_s=4.0)

    async def here() -> Run:
        async with in_process() as scorer:
            return await judge_set(
                cases, scorer, detail, earlier=Earlier({}), journal=None, in_flight=3, on_done=lambda _: None
            )

    alone, (there, _) = asyncio.run(here()), judged(server.url, cases, detail)
    assert alone.rows == there.rows
    assert alone.unjudged == there.unjudged and len(alone.unjudged) == 1


NAMES = ["man-whisper-then-loud.ogg", "man-gb-low.mp3", "woman-us-plain.ogg", "README.md"]
