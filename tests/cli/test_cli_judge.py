"""`clsp classify`, `score` and `embed` against a real server."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clsp_script import LIBRARY, Run

CLIP = LIBRARY / "man-us-low.ogg"


def test_labels_of_ones_own(online: Run) -> None:
    answer = online("classify", CLIP, "--label", "deep=a deep voice", "--label", "high", "--json").json()
    probabilities = answer["results"][0]["probabilities"]
    assert probabilities.keys() == {"deep", "high"}
    assert sum(probabilities.values()) == pytest.approx(1)
    assert answer["results"][0]["label"] == max(probabilities, key=probabilities.get)


def test_more_clips_than_one_request_takes_keep_their_order(online: Run) -> None:
    clips = sorted(LIBRARY.glob("*us-*.ogg"))[:18]
    answer = online("classify", *clips, "--preset", "gender", "--json").json()
    assert len(answer["results"]) == 18
    alone = online("classify", clips[17], "--preset", "gender", "--json").json()["results"][0]
    assert answer["results"][17]["cosines"] == pytest.approx(alone["cosines"], abs=1e-5)


def test_a_preset_the_model_lacks_is_refused(online: Run) -> None:
    done = online("classify", CLIP, "--preset", "star-sign")
    assert done.status == 1
    assert "preset" in done.err
    assert online("classify", CLIP).status == 1, "neither a preset nor labels"


def test_a_score_is_the_same_each_time(online: Run) -> None:
    first, second = (online("score", CLIP, "A man with a deep voice.", "--curve", "--json").json() for _ in range(2))
    assert first == second
    result = first["results"][0]
    assert -1 <= result["cosine"] <= 1
    assert 0 <= result["match_probability"] <= 1
    assert len(result["curve"]) == 1


def test_pairs_from_a_file_and_a_gate_for_ci(online: Run, tmp_path: Path) -> None:
    rows = [{"file": str(CLIP), "caption": caption} for caption in ("a deep voice", "a woman whispers")]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(online("score", "--pairs", "pairs.jsonl", "--json").json()["results"]) == 2
    assert online("score", "--pairs", "pairs.jsonl", "--min-match", 0).status == 0
    gated = online("score", "--pairs", "pairs.jsonl", "--min-match", 1)
    assert gated.status == 3
    assert "2 of 2 below 1.0" in gated.err
    (tmp_path / "bad.jsonl").write_text('{"file": "a.wav"}\n')
    assert "needs `file` and `caption`" in online("score", "--pairs", "bad.jsonl").err


def test_vectors_as_json_and_as_npy_are_the_same(online: Run, tmp_path: Path) -> None:
    texts = [f"a voice, number {number}" for number in range(18)]
    answer = online("embed", *texts).json()
    assert [row["index"] for row in answer["data"]] == list(range(18))
    assert online("embed", *texts, "--out", "v.npy").status == 0
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [row["embedding"] for row in answer["data"]], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


def test_clips_have_vectors_too(online: Run) -> None:
    answer = online("embed", "--audio", CLIP).json()
    assert np.linalg.norm(answer["data"][0]["embedding"]) == pytest.approx(1, abs=1e-4)
    missing = online("embed", "--audio", "nowhere.wav")
    assert missing.status == 1
    assert "nowhere.wav: No such file" in missing.err
