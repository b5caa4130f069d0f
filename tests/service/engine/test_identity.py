"""The identity that vectors are compared under, and that serving needs no training framework."""

import subprocess
import sys

import pytest

from model_export.bundle import Bundle
from service.audio.decode import DECODERS
from service.engine import Engine
from service.engine.identity import embedding_identity, scoring_identity
from service.settings import Settings

SETTINGS = Settings(threads=1)


def test_identity_is_stable_and_follows_what_changes_the_numbers() -> None:
    bundle = Bundle.load(SETTINGS.bundle)
    identity = embedding_identity(bundle)
    assert identity == Engine(SETTINGS).identity == Engine(SETTINGS, bundle).identity
    assert identity.startswith(f"{bundle.manifest.name}-")
    for change in ({"hop_s": 2.5}, {"precision": "fp16"}):
        changed = Bundle(bundle.path, bundle.manifest.model_copy(update=change))
        assert embedding_identity(changed) != identity
    described = Bundle(bundle.path, bundle.manifest.model_copy(update={"licence": "another"}))
    assert embedding_identity(described) == identity


def test_a_format_that_is_new_keeps_the_identity_and_another_decoder_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.load(SETTINGS.bundle)
    identity = embedding_identity(bundle)
    monkeypatch.setitem(DECODERS, "newkind", "ffmpeg")
    assert embedding_identity(bundle) == identity
    monkeypatch.setitem(DECODERS, "mp3", "ffmpeg")
    assert embedding_identity(bundle) != identity


def test_scoring_follows_what_makes_scores_of_embeddings() -> None:
    bundle = Bundle.load(SETTINGS.bundle)
    scoring = scoring_identity(bundle)
    assert scoring == Engine(SETTINGS, bundle).scoring
    fitted = bundle.manifest.calibration.model_copy(update={"bias": -6.0})
    for change in ({"calibration": fitted}, {"logit_scale": 9.0}, {"reference_captions": ["A voice."]}):
        assert scoring_identity(Bundle(bundle.path, bundle.manifest.model_copy(update=change))) != scoring
    described = Bundle(bundle.path, bundle.manifest.model_copy(update={"licence": "another"}))
    assert scoring_identity(described) == scoring


def test_serving_imports_no_training_framework() -> None:
    code = (
        "import sys, service.engine, service.audio.decode, service.usecases.scoring;"
        "print([name for name in ('torch', 'transformers', 'onnx', 'training') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
