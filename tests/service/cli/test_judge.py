"""`clsp classify` and `embed` against a real server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.clsp_script import LIBRARY, Run

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
