"""What a run leaves behind: rows that come back as they were, JUnit that CI systems read, one page without requests."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from service.cli.score_report import summary
from service.gates.report.headline import headlines
from service.gates.report.junit import junit
from service.gates.report.page import page
from service.gates.report.selection import worst_rows
from service.gates.report.sound import Sound, read_sound
from service.gates.rows import RowsError, Run, Unjudged, dump, lines_of, load_row, read_rows, write_rows
from service.gates.verdict import Gates, Verdict, judge
from tests.support.gate_rows import attribute, row, two_sentences
from tests.support.paths import LIBRARY

SOUND = Sound("data:audio/mpeg;base64,AAAA", [0.1, 1.0, 0.4], 5.0, False)
NASTY = "</script><img src=x onerror=alert(1)> & “quotes” \x00\x1f ünïcödé"


def failing_run() -> tuple[Run, Verdict]:
    rows = [
        row("anna-1"),
        row("anna-2", match_probability=0.1, attributes=(attribute("rate", "fast", -2.0, heard="slow"),)),
        two_sentences(),
        row(NASTY.replace("\x00\x1f ", ""), group=NASTY, caption=NASTY, match_probability=0.2),
    ]
    run = Run(rows, [Unjudged("ben-1", "ben", NASTY, "ben-1.wav", NASTY)])
    return run, judge(run, Gates(min_match=0.5, min_group_match=0.6), [row(f"anna-{i}") for i in (1, 2)])


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [row("a-1"), two_sentences(), row("a-2", percentile=None, attributes=())]
    write_rows(tmp_path / "scores.jsonl", rows)
    assert read_rows(tmp_path / "scores.jsonl") == rows
    text = (tmp_path / "scores.jsonl").read_text("utf-8")
    assert len(text.splitlines()) == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "scores.jsonl"]
    write_rows(tmp_path / "again.jsonl", rows)
    assert (tmp_path / "again.jsonl").read_text("utf-8") == text


@given(st.text(min_size=1), st.text(), st.floats(-1, 1))
@example("a", "a line\u2028and another\x85", 0.5)
def test_any_text_survives_a_row(id: str, caption: str, cosine: float) -> None:
    made = row(id, caption=caption, cosine=round(cosine, 6))
    lines = [line for line in lines_of(f"{dump(made)}\n") if line]
    assert [load_row(line) for line in lines] == [made]


def test_a_file_that_is_no_run_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(dump(row("a")) + '\n{"id": "b"}\n')
    with pytest.raises(RowsError, match="line 2"):
        read_rows(path)
    for wrong in ("NaN", "Infinity", '"high"', "null"):
        path.write_text("\n" + dump(row("a", cosine=0.1234)).replace("0.1234", wrong))
        with pytest.raises(RowsError, match=r"line 2: .*cosine"):
            read_rows(path)
    path.write_text(f"{dump(row('a'))}\n{dump(row('b'))}\n{dump(row('a'))}\n")
    with pytest.raises(RowsError, match="line 3: the id 'a' appears twice"):
        read_rows(path)
    with pytest.raises(RowsError, match="No such file"):
        read_rows(tmp_path / "nowhere.jsonl")


def test_junit_has_a_case_a_clip_and_one_a_gate() -> None:
    run, verdict = failing_run()
    root = ElementTree.fromstring(junit(run, verdict, name=NASTY))
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert cases["anna-1"].find("failure") is None
    failure = cases["anna-2"].find("failure")
    assert failure is not None
    assert failure.get("message") == "min-match: 0.100 is below 0.5"
    assert "misses rate: fast" in str(failure.text)
    error = cases["ben-1"].find("error")
    assert error is not None
    assert error.get("type") == "unjudged"
    assert int(str(root.get("tests"))) == len(cases) == len(list(root.iter("testcase")))
    assert int(str(root.get("failures"))) == len(list(root.iter("failure")))
    assert int(str(root.get("errors"))) == len(list(root.iter("error"))) == 1 + len(verdict.undecided)
    for suite in root.findall("testsuite"):
        assert int(str(suite.get("tests"))) == len(suite.findall("testcase"))


class Page(HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "action") and value:
                self.loads.append(value)
            if name.startswith("on"):
                self.handlers.append(name)


def test_the_page_stands_alone_and_nothing_breaks_out_of_it() -> None:
    run, verdict = failing_run()
    html = page(run, verdict, name=NASTY, shown=worst_rows(run, verdict, 9), sounds=lambda row: SOUND, gates="<b>")
    seen = Page(html)
    assert all(load.startswith("data:") for load in seen.loads)
    assert seen.handlers == []
    assert "img" not in seen.tags
    assert seen.tags.count("script") == 1
    assert seen.tags.count("audio") == len(run.rows)
    assert not re.search(r"\$\w", html.replace("$$", "")), "a placeholder was left"


def test_the_page_says_what_failed_and_where() -> None:
    run, verdict = failing_run()
    shown = worst_rows(run, verdict, 2)
    assert shown[0].id == "anna-2"
    html = page(run, verdict, name="set", shown=[*shown, two_sentences()], sounds=lambda row: SOUND, gates="g")
    assert "could not be judged" in html
    assert "sounds more slow" in html
    assert html.count('class="lane') == 2, "one lane a sentence of the clip that changes"
    assert html.count('class="turn"') == 1
    assert "ben-1.wav" in html


def test_a_run_without_rows_has_a_page_too() -> None:
    run = Run([], [Unjudged("a", "all", "c", "a.wav", "gone")])
    verdict = judge(run, Gates())
    assert "gone" in page(run, verdict, name="set", shown=[], sounds=lambda row: None, gates="g")
    assert ElementTree.fromstring(junit(run, verdict, name="set")).get("errors") == "2"


def test_worst_clips_come_by_turns_from_failed_groups() -> None:
    before = [row(f"{name}-{i}", cosine=0.5, attributes=()) for name in "abc" for i in range(6)]
    after = [
        row(f"{name}-{i}", cosine=0.5 - (0.1 + i / 100 if name != "a" else i / 1000 - 0.002), attributes=())
        for name in "abc"
        for i in range(6)
    ]
    verdict = judge(Run(after), Gates(resamples=2000), before)
    groups = [one.group for one in worst_rows(Run(after), verdict, 4)]
    assert {"b", "c"} == set(groups)


def test_sounds_are_small_and_playable(tmp_path: Path) -> None:
    source = LIBRARY / "man-gb-slow.flac"
    sound = read_sound(source)
    assert sound is not None
    assert sound.uri.startswith("data:audio/mpeg;base64,")
    assert len(sound.uri) < source.stat().st_size
    assert max(sound.peaks) == 1.0
    assert not sound.cut
    (tmp_path / "bad.wav").write_text("no audio")
    assert read_sound(tmp_path / "bad.wav") is None
    assert read_sound(tmp_path / "nowhere.wav") is None


def drifted() -> tuple[Run, Verdict]:
    """Three voices told to talk fast; one of them is slow since the baseline, and one clip breaks a gate of its own."""
    before, after = [], []
    for name in ("anna", "ben", "cora"):
        for i in range(8):
            fall = 0.1 + i / 1000 if name == "cora" else i / 1000 - 0.004
            before.append(row(f"{name}-{i}", cosine=0.4, attributes=(attribute("rate", "fast", 2.0),)))
            slow = attribute("rate", "fast", 2.0 - 30 * fall, heard="slow" if name == "cora" else "fast")
            after.append(row(f"{name}-{i}", cosine=0.4 - fall, attributes=(slow,)))
    after[0] = row("anna-0", cosine=0.404, match_probability=0.1, attributes=(attribute("rate", "fast", 2.1),))
    run = Run(after)
    return run, judge(run, Gates(min_match=0.5, resamples=2000), before)


def test_a_report_begins_with_which_voice_failed_in_what() -> None:
    run, verdict = drifted()
    told = dict(headlines(run, verdict))
    assert list(told) == ["cora", "all clips", "1 clip"]
    assert told["cora"].startswith("rate should be fast, 8 of 8 clips sound more slow; cosine -0.10")
    assert told["all clips"].startswith("captions fit less well, cosine -0.0")
    assert told["1 clip"] == "below match threshold"
    html = page(run, verdict, name="set", shown=[], sounds=lambda row: None, gates="g")
    assert html.index("should be fast, 8 of 8") < html.index("<main>")
    assert html.index("<td>cora</td>") < html.index("<td>anna</td>"), "what failed comes first"
    console = Console(width=200, record=True, file=io.StringIO())
    for part in summary(run, verdict):
        console.print(part)
    assert "cora: rate should be fast, 8 of 8 clips sound more slow" in console.export_text()


def test_captions_that_were_cut_are_named() -> None:
    run = Run([row("anna-1"), row("ben-1", truncated=True), row("ben-2", truncated=True)])
    verdict = judge(run, Gates())
    words = "2 clips judged by the beginning of a caption that is longer than the model reads: ben-1, ben-2"
    assert words in page(run, verdict, name="set", shown=[], sounds=lambda row: None, gates="g")
    assert any(words in str(part) for part in summary(run, verdict))
    assert verdict.outcome == 0


def test_a_refusal_that_is_broken_is_said_as_one() -> None:
    before = [row(f"a-{i}", attributes=(attribute("phonation", "whispering", 2.0, negated=True),)) for i in range(8)]
    after = [
        row(f"a-{i}", attributes=(attribute("phonation", "whispering", -1.0 - i / 10, negated=True),)) for i in range(8)
    ]
    told = headlines(Run(after), judge(Run(after), Gates(resamples=2000), before))
    assert told == [("a", "phonation should be not whispering, 8 of 8 clips sound more whispering")]
