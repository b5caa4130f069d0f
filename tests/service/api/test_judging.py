"""POST /v1/classify and /v1/score: forms and JSON agree, and the same clip always scores the same."""

import itertools
import json
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.settings import Settings
from tests.support.audio_files import encode, voice
from tests.support.http import clip, data_uri, refused
from tests.support.serving import Serve


def embedded(client: httpx.Client, inputs: list[str], modality: str = "text") -> np.ndarray:
    answer = client.post("/v1/embeddings", json={"input": inputs, "modality": modality}).json()
    return np.array([row["embedding"] for row in answer["data"]])


def test_presets_give_probabilities(client: httpx.Client) -> None:
    model = client.get("/v1/models").json()["data"][0]
    assert {"emotion", "gender", "age"} <= set(model["presets"])
    for preset, labels in model["presets"].items():
        answer = client.post("/v1/classify", json={"audio": data_uri(clip(1)), "preset": preset}).json()
        (result,) = answer["results"]
        assert sorted(result["probabilities"]) == labels
        assert sum(result["probabilities"].values()) == pytest.approx(1)
        assert result["label"] == max(result["probabilities"], key=result["probabilities"].__getitem__)
        assert result["duration_s"] == 1
        assert answer["identity"] == model["identity"]


def test_own_labels_are_the_models_arithmetic(client: httpx.Client) -> None:
    labels = {"low": ["a low voice", "a deep voice"], "high": "a high voice"}
    uris = [data_uri(clip(1, seed=i)) for i in (1, 2)]
    answer = client.post("/v1/classify", json={"inputs": uris, "labels": labels}).json()
    texts = embedded(client, ["a low voice", "a deep voice", "a high voice"])
    low = texts[:2].sum(0) / np.linalg.norm(texts[:2].sum(0))
    cosines = embedded(client, uris, "audio") @ np.stack([low, texts[2]]).T
    logits = client.get("/v1/models").json()["data"][0]["logit_scale"] * cosines
    odds = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for result, row, share in zip(answer["results"], cosines, odds, strict=True):
        assert [result["cosines"]["low"], result["cosines"]["high"]] == pytest.approx(row.tolist(), abs=1e-4)
        assert result["probabilities"]["low"] == pytest.approx(share[0], abs=1e-3)


def test_forms_and_json_agree(client: httpx.Client) -> None:
    data = clip(1, seed=7)
    labels = ["whispering", "shouting"]
    by_json = client.post("/v1/classify", json={"audio": data_uri(data), "labels": labels}).json()
    files = [("files", ("a.wav", data))]
    assert client.post("/v1/classify", files=files, data={"labels": json.dumps(labels)}).json() == by_json
    pairs = [{"audio": data_uri(data), "caption": "a man"}]
    by_json = client.post("/v1/score", json={"pairs": pairs, "curve": True}).json()
    form = client.post("/v1/score", files=files, data={"caption": "a man", "curve": "true"})
    assert form.json() == by_json


def test_scores_never_change(client: httpx.Client) -> None:
    body = {"pairs": [{"audio": data_uri(clip(2, seed=3)), "caption": "an old man whispers"}]}
    first = client.post("/v1/score", json=body).json()
    (result,) = first["results"]
    assert -1 <= result["cosine"] <= 1
    assert 0 <= result["match_probability"] <= 1
    assert 0 <= result["percentile"] <= 100
    assert "curve" not in result or result["curve"] is None
    for _ in range(3):
        assert client.post("/v1/score", json=body).json() == first
    others = [{"audio": data_uri(clip(1, seed=i)), "caption": f"voice {i}"} for i in range(5)]
    together = client.post("/v1/score", json={"pairs": [*others, *body["pairs"]]}).json()["results"][-1]
    assert together["cosine"] == pytest.approx(result["cosine"], abs=1e-5)


def test_the_curve_covers_the_clip(client: httpx.Client) -> None:
    files = [("files", ("long.wav", encode(voice(23, seed=2), 16_000)))]
    (result,) = client.post("/v1/score", files=files, data={"caption": "a calm voice", "curve": "true"}).json()[
        "results"
    ]
    curve = result["curve"]
    assert (curve[0]["start_s"], curve[-1]["end_s"]) == (0, 23)
    assert all(b["start_s"] < a["end_s"] for a, b in itertools.pairwise(curve))
    assert min(p["cosine"] for p in curve) - 0.05 <= result["cosine"] <= max(p["cosine"] for p in curve) + 0.05


def test_one_caption_for_all_files_or_one_each(client: httpx.Client) -> None:
    files = [("files", (f"{i}.wav", clip(1, seed=i))) for i in range(3)]
    same = client.post("/v1/score", files=files, data={"caption": "a man"}).json()["results"]
    each = client.post("/v1/score", files=files, data={"caption": ["a man", "a man", "a woman"]}).json()["results"]
    assert [one["cosine"] for one in each[:2]] == pytest.approx([one["cosine"] for one in same[:2]], abs=1e-6)
    assert each[2] != same[2]
    problem = refused(
        client.post("/v1/score", files=files, data={"caption": ["a", "b"]}), 422, "invalid-request", field="caption"
    )
    assert problem["limit"] == 3


URI = data_uri(clip(0.5))


@pytest.mark.parametrize(
    ("path", "body", "slug", "field"),
    [
        ("classify", {"audio": URI}, "invalid-request", None),
        ("classify", {"preset": "gender"}, "invalid-request", None),
        ("classify", {"audio": URI, "preset": "gender", "labels": ["a", "b"]}, "invalid-request", None),
        ("classify", {"audio": URI, "preset": "mood"}, "invalid-request", "preset"),
        ("classify", {"audio": URI, "labels": ["only one"]}, "invalid-request", "labels"),
        ("classify", {"audio": URI, "labels": ["same", "same"]}, "invalid-request", "labels"),
        ("classify", {"audio": URI, "labels": {"a": [], "b": "x"}}, "invalid-request", "labels.a"),
        ("classify", {"audio": URI, "labels": [f"label {i}" for i in range(257)]}, "limit-exceeded", "labels"),
        ("classify", {"audio": URI, "labels": {"a": ["x"] * 2000, "b": ["y"] * 2000}}, "limit-exceeded", "labels"),
        ("classify", {"inputs": [URI, "nothing"], "preset": "gender"}, "invalid-audio", "inputs[1]"),
        ("score", {"pairs": []}, "invalid-request", "pairs"),
        ("score", {"pairs": [{"audio": URI}]}, "invalid-request", "pairs[0].caption"),
        ("score", {"pairs": [{"audio": URI, "caption": " "}]}, "invalid-request", "pairs[0].caption"),
        ("score", {"pairs": [{"audio": "", "caption": "a"}]}, "invalid-audio", "pairs[0].audio"),
        ("score", {"pairs": [{"audio": URI, "caption": "a"}], "curves": True}, "invalid-request", "curves"),
    ],
)
def test_refusals_name_the_field(client: httpx.Client, path: str, body: dict, slug: str, field: str | None) -> None:
    refused(client.post(f"/v1/{path}", json=body), 422, slug, field=field)


def test_a_fitted_bundle_judges_labels_and_percentiles(client: httpx.Client, serve: Serve, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for file in Path(Settings().bundle).iterdir():
        if file.name != "bundle.json":
            (bundle / file.name).symlink_to(file.resolve())
    told = json.loads((Path(Settings().bundle) / "bundle.json").read_text())
    told["calibration"]["mismatched_percentiles"] = np.linspace(-1, 1, 101).tolist()
    told["calibration"]["labels"] = {"scale": 20.0, "bias": -8.0}
    (bundle / "bundle.json").write_text(json.dumps(told))
    uri = data_uri(clip(1, seed=3))
    pair = {"pairs": [{"audio": uri, "caption": "an old man whispers"}]}
    labels = {"audio": uri, "labels": ["whispering", "shouting"]}
    (before,) = client.post("/v1/score", json=pair).json()["results"]
    with serve(data_dir=tmp_path / "data", bundle=bundle) as own:
        (after,) = own.client.post("/v1/score", json=pair).json()["results"]
        (judged,) = own.client.post("/v1/classify", json=labels).json()["results"]
    assert after["cosine"] == before["cosine"]
    assert after["percentile"] == pytest.approx(50 * (1 + after["cosine"]), abs=1e-3)
    assert judged["match_probabilities"] == {
        label: pytest.approx(1 / (1 + np.exp(8 - 20 * value)), abs=1e-6) for label, value in judged["cosines"].items()
    }
