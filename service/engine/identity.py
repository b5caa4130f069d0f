"""What tells numbers apart: the embedding identity, under which vectors compare, and the scoring identity of scores."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version

from model_export.bundle import Bundle
from service.audio.decode import DECODERS, DOWNMIX, RESAMPLER

POOLING = "mean-of-windows"
_FIRST_DECODERS = {"wav": "libsndfile", "flac": "libsndfile", "ogg": "libsndfile", "mp3": "libsndfile"}
"""Of the containers that were not read by FFmpeg from the first release that read them."""


def embedding_identity(bundle: Bundle) -> str:
    """`name-version-digest`; the digest covers whatever changes the numbers, and nothing that does not.

    That is the bundle's fingerprint (weights, tokenizer, precision, window policy), the resampler, the downmix and the
    pooling of windows. A container's decoder counts from the day on which it is another than the first that read it: a
    format that is read for the first time has no vectors yet that could differ. Hardware and library versions move
    vectors by rounding only and stay out.
    """
    parts = {"bundle": bundle.fingerprint(), "resampler": RESAMPLER, "downmix": DOWNMIX, "pooling": POOLING}
    moved = {kind: name for kind, name in DECODERS.items() if name != _FIRST_DECODERS.get(kind, "ffmpeg")}
    if moved:
        parts["decoders"] = json.dumps(moved, sort_keys=True)
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{bundle.manifest.name}-{bundle.manifest.version}-{digest[:20]}"


def scoring_identity(bundle: Bundle) -> str:
    """A digest of what turns embeddings into scores: calibration, temperature, reference captions, and this release,
    which has the attributes' opposites and cuts captions into sentences."""
    told = bundle.manifest.model_dump(mode="json", include={"calibration", "logit_scale", "reference_captions"})
    parts = {**told, "service": version("clsp-service")}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
