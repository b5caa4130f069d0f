"""POST /v1/score taken apart: finer windows, sentences over time, attributes against their opposites."""

import itertools
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.support.audio_files import encode, voice
from tests.support.http import clip, data_uri, refused
from tests.support.paths import LIBRARY
from tests.support.serving import Serve


def scored(client: httpx.Client, data: bytes, caption: str, **options: object) -> dict:
    body = {"pairs": [{"audio": data_uri(data), "caption": caption}], **options}
    response = client.post("/v1/score", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json()["results"][0])


def library(name: str) -> bytes:
    return (LIBRARY / name).read_bytes()


def test_a_curve_of_finer_windows_leaves_the_score_alone(client: httpx.Client) -> None:
    data = encode(voice(12, seed=3), 16_000)
    plain = scored(client, data, "a man")
    fine = scored(client, data, "a man", curve=True, window_s=2, hop_s=1)
    assert fine["cosine"] == pytest.approx(plain["cosine"], abs=1e-6)
    curve = fine["curve"]
    assert len(curve) == 11
    assert all(point["end_s"] - point["start_s"] == 2 for point in curve)
    assert all(b["start_s"] - a["start_s"] == 1 for a, b in itertools.pairwise(curve))
    alone = scored(client, encode(voice(12, seed=3)[: 2 * 16_000], 16_000), "a man")
    assert curve[0]["cosine"] == pytest.approx(alone["cosine"], abs=1e-3)


def test_the_form_takes_the_same_options(client: httpx.Client) -> None:
    data = encode(voice(6, seed=2), 16_000)
    options = {"sentences": True, "attributes": True, "window_s": 2.0, "hop_s": 1.0}
    caption = "A man whispers. Then he shouts."
    by_json = scored(client, data, caption, **options)
    form = {"caption": caption, **{name: json.dumps(value) for name, value in options.items()}}
    by_form = client.post("/v1/score", files=[("files", ("a.wav", data))], data=form).json()["results"][0]
    assert by_form.keys() == by_json.keys()
    assert [one["text"] for one in by_form["sentences"]] == ["A man whispers.", "Then he shouts."]
    assert len(by_form["curve"]) == 5 == len(by_form["sentences"][0]["curve"])
    for value in ("three", "[" * 200_000):
        bad = client.post("/v1/score", files=[("files", ("a.wav", data))], data={"caption": "a", "window_s": value})
        refused(bad, 422, "invalid-request", field="window_s")


def test_long_captions_are_taken_apart_as_short_ones(client: httpx.Client) -> None:
    caption = "not" + "-" * 8000 + " a b c d deep"
    result = scored(client, clip(1), caption, attributes=True, sentences=True)
    assert [(one["value"], one["negated"]) for one in result["attributes"]] == [("low", False)]
    assert len(result["sentences"]) == 1


def test_nothing_is_taken_apart_unasked(client: httpx.Client) -> None:
    result = scored(client, clip(1), "A man whispers. Then he shouts.")
    assert [result[name] for name in ("curve", "sentences", "turns", "attributes")] == [None] * 4


def test_attributes_are_weighed_against_their_opposites(client: httpx.Client) -> None:
    caption = "A woman with a very high-pitched voice, not whispering."
    result = scored(client, library("woman-us-high.ogg"), caption, attributes=True)
    found = {(one["family"], one["value"]): one for one in result["attributes"]}
    assert set(found) == {("gender", "female"), ("pitch", "high"), ("phonation", "whispering")}
    assert found["pitch", "high"]["phrase"] == "very high-pitched"
    assert found["phonation", "whispering"]["negated"]
    assert all(one["margin"] > 0 and one["probability"] > 0.5 for one in found.values()), found
    margins = [one["margin"] for one in result["attributes"]]
    assert margins == sorted(margins)
    assert found["pitch", "high"]["heard"] == "high"


def test_what_a_clip_misses_comes_first(client: httpx.Client) -> None:
    result = scored(client, library("man-us-low.ogg"), "A man with a very high-pitched voice.", attributes=True)
    first = result["attributes"][0]
    assert (first["family"], first["heard"]) == ("pitch", "low")
    assert first["margin"] < 0
    assert result["attributes"][-1]["family"] == "gender"
    assert result["attributes"][-1]["margin"] > 0


@pytest.mark.parametrize(
    ("file", "caption", "change_s"),
    [
        ("woman-slow-then-fast.ogg", "A woman speaks very slowly at first and then very fast.", 10.8),
        ("man-whisper-then-loud.ogg", "A man whispers, and then suddenly speaks loudly.", 11.0),
        ("dialogue-woman-man.ogg", "A British woman speaks first, then a man with a deep voice answers slowly.", 9.8),
    ],
)
def test_the_moment_of_a_change_is_found(client: httpx.Client, file: str, caption: str, change_s: float) -> None:
    result = scored(client, library(file), caption, sentences=True)
    (turn,) = result["turns"]
    assert turn["at_s"] == pytest.approx(change_s, abs=1.5)
    assert turn["strength"] > 1
    first, second = result["sentences"]
    assert first["holds"][0]["start_s"] == 0.0
    assert second["holds"][-1]["end_s"] == pytest.approx(result["duration_s"], abs=0.01)
    curves = np.array([first["curve"], second["curve"]])
    assert curves.shape == (2, len(result["curve"]))


@pytest.mark.parametrize(
    ("options", "slug", "field"),
    [
        ({"window_s": 0}, "invalid-request", "window_s"),
        ({"window_s": 11}, "limit-exceeded", "window_s"),
        ({"window_s": 0.1}, "limit-exceeded", "window_s"),
        ({"hop_s": 1}, "invalid-request", ""),
        ({"window_s": 1, "hop_s": 2}, "invalid-request", ""),
        ({"window_s": 1, "hop_s": 0.001}, "limit-exceeded", "hop_s"),
    ],
)
def test_windows_that_cannot_be_are_refused(client: httpx.Client, options: dict, slug: str, field: str) -> None:
    body = {"pairs": [{"audio": data_uri(clip(3)), "caption": "a"}], "curve": True, **options}
    problem = refused(client.post("/v1/score", json=body), 422, slug)
    assert problem.get("field", "") == field


def test_curves_that_could_never_wait_together_are_refused_for_good(serve: Serve, data_dir: Path) -> None:
    """A curve of 11 s in windows fits; three of them do not fit the queue, empty as it is: no time would help."""
    with serve(data_dir=data_dir, max_audio_s=5, queue_audio_s=20) as own:
        fine = {"curve": True, "window_s": 1, "hop_s": 0.2}
        pairs = [{"audio": data_uri(clip(3, seed=seed)), "caption": "a"} for seed in range(3)]
        answer = own.client.post("/v1/score", json={"pairs": pairs, **fine})
        assert refused(answer, 422, "limit-exceeded", field="hop_s")["limit"] == 18
        answer = own.client.post("/v1/score", json={"pairs": pairs[:1], **fine})
        assert len(answer.json()["results"][0]["curve"]) == 11


def test_a_long_curve_lets_others_go_first(serve: Serve, data_dir: Path) -> None:
    with serve(data_dir=data_dir, bulk_audio_s=5) as own:
        assert len(scored(own.client, clip(3), "a", curve=True, window_s=1, hop_s=1)["curve"]) == 3
        assert 'clsp_queue_wait_seconds_count{encoder="speech",kind="bulk"}' not in own.client.get("/metrics").text
        assert len(scored(own.client, clip(3), "a", curve=True, window_s=1, hop_s=0.2)["curve"]) == 11
        waits = own.client.get("/metrics").text
        assert 'clsp_queue_wait_seconds_count{encoder="speech",kind="bulk"} 11.0' in waits
