"""What tells numbers apart: the embedding identity, under which vectors compare, and the scoring identity of scores."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version

from model_export.bundle import Bundle
from service.audio.decode import DOWNMIX, RESAMPLER

POOLING = "mean-of-windows"


def embedding_identity(bundle: Bundle) -> str:
    """`name-version-digest`; the digest covers whatever changes the numbers, and nothing that does not.

    That is the bundle's fingerprint (weights, tokenizer, precision, window policy), the resampler, the downmix and the
    pooling of windows. Hardware and library versions move vectors by rounding only and stay out.
    """
    parts = {"bundle": bundle.fingerprint(), "resampler": RESAMPLER, "downmix": DOWNMIX, "pooling": POOLING}
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{bundle.manifest.name}-{bundle.manifest.version}-{digest[:20]}"


def scoring_identity(bundle: Bundle) -> str:
    """A digest of what turns embeddings into scores: calibration, temperature, reference captions, and this release,
    which has the attributes' opposites and cuts captions into sentences."""
    told = bundle.manifest.model_dump(mode="json", include={"calibration", "logit_scale", "reference_captions"})
    parts = {**told, "service": version("clsp-service")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
