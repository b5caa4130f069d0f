"""`clsp search` as people mean it: refusals, weights, style, diversity."""

from __future__ import annotations

from pathlib import Path

from tests.support.clsp_script import Run


def test_what_is_refused_is_said(online: Run, small_library: Path) -> None:
    online("ingest", "refusing", small_library)
    by_text = online("search", "refusing", "a man, not whispering", "--json").json()
    assert [(part["text"], part["weight"]) for part in by_text["query"]] == [("a man", 1.0), ("whispering", -0.5)]
    assert by_text["hits"][0]["id"] == "man-us-low"
    by_option = online("search", "refusing", "a man", "--not", "whispering", "--json").json()
    assert by_option["hits"] == by_text["hits"]
    shown = online("search", "refusing", "a man, not whispering")
    assert "a man, not whispering" in shown.out


def test_an_item_with_words_and_its_style_alone(online: Run, small_library: Path) -> None:
    online("ingest", "mixing", small_library)
    mixed = online("search", "mixing", "a man whispers", "--item", "man-us-low", "--json").json()
    assert mixed["hits"][0]["id"] == "man-us-whisper"
    assert [part["weight"] for part in mixed["query"]] == [3.0, 1.0]
    away = online("search", "mixing", "a man", "--item", "man-us-low", "--item-weight", -1, "--json").json()
    assert away["query"][1]["weight"] == -1
    style = online("search", "mixing", "--item", "man-us-low", "--style", "--diversity", 0.5, "--json").json()
    assert len(style["hits"]) == 3


def test_what_no_request_can_hold_is_said_in_words(online: Run, small_library: Path) -> None:
    online("ingest", "unsendable", small_library)
    assert online("search", "unsendable", "calm", "--where", "pitch=NaN", "--json").json()["hits"] == []
    for arguments, said in (
        (("calm", "--min-score", "nan"), "not JSON compliant"),
        (("calm", "--where", "age=1e999"), "not JSON compliant"),
        (("calm", "--filter", '{"age": NaN}'), "NaN is not a number"),
        (("calm \udcff",), "is not valid Unicode"),
        (("calm", "--item", "a\udcff"), "is not valid Unicode"),
        (("calm", "--clip", "a\udcff.wav"), "No such file"),
    ):
        done = online("search", "unsendable", *arguments)
        assert (done.status, said in done.err, "Traceback" in done.err) == (1, True, False), done.err
    assert "not the name of a collection" in online("search", "a\udcff", "calm").err
