"""One model, one bundle: export both towers, verify them, write the manifest last."""

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_export.bundle import (
    CARD,
    FORMAT_VERSION,
    SPEECH,
    TEXT,
    TOKENIZER,
    Bundle,
    BundleManifest,
    Calibration,
    file_entries,
    write_manifest,
)
from model_export.model_card import model_card
from model_export.onnx_rewrites import raised_inputs
from model_export.presets import PRESETS, REFERENCE_CAPTIONS
from model_export.quantize import Form, Precision, export_tower
from model_export.replace_bundle import check_place, replace_bundle, settle
from model_export.rounding import Rounding, measure_rounding, stays_float
from model_export.runtime import BundleRuntime, load_tokenizer
from model_export.verify import EVERYTHING, Scope, verify, voiced_sound
from model_export.windows import check_windows
from training.model import Clsp
from training.model.checkpoint import Card

MEASURED = 8  # clips


def export_bundle(
    model: Clsp,
    tokenizer: Path,
    card: Card,
    out: Path,
    *,
    precision: Precision = "int8",
    arithmetic: Precision = "fp32",
    text_arithmetic: Precision | None = None,
    speech: Sequence[NDArray[np.float32]] = (),
    scope: Scope = EVERYTHING,
    say: Callable[[str], None] = print,
) -> Bundle:
    """Write a bundle to `out`, in place of an older one, once it has passed verification.

    `precision` is how weights are stored, `arithmetic` what sums are made in: fp32, or the precision's own (fp16 for a
    GPU, int8 for a CPU); `text_arithmetic` is the text tower's, where it is another. `speech` are real clips (16 kHz)
    to verify with, besides synthetic ones, and `scope` says how many of those. Raises VerificationError when the
    graphs are not the model, BundleError where `out` holds anything but a bundle, ValueError where precision and
    arithmetic do not go together, or the card's windows do not cover a clip; `out` is then as before.
    """
    check_place(out)
    check_windows(window_s=card.window_s, hop_s=card.hop_s)
    calibration = Calibration.model_validate(card.calibration)
    form = Form(precision, arithmetic)
    text_form = Form(precision, text_arithmetic or arithmetic)
    place = out.resolve()  # of a link, the folder that it names: the link stays
    place.parent.mkdir(parents=True, exist_ok=True)
    settle(place)
    staged = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        rounding = {}
        if "int8" in (form.arithmetic, text_form.arithmetic):
            say("measuring what 8 bits do to each layer")
            rounding = _measured(model, tokenizer, form.arithmetic == "int8", text_form.arithmetic == "int8")
            kept = [key for key, found in rounding.items() if stays_float(key, found)]
            say(f"{len(kept)} of {len(rounding)} layers stay float32")
        say(f"exporting {SPEECH}, {precision} weights, {arithmetic} arithmetic")
        export_tower(model, "speech", staged / SPEECH, form, rounding=rounding)
        say(f"exporting {TEXT}")
        export_tower(model, "text", staged / TEXT, text_form, rounding=rounding)
        shutil.copyfile(tokenizer, staged / TOKENIZER)
        size_mb = sum(file.stat().st_size for file in staged.iterdir()) / 1e6
        (staged / CARD).write_text(model_card(card, precision, size_mb))
        draft = BundleManifest(
            format_version=FORMAT_VERSION,
            name=card.name,
            version=card.version,
            licence=card.licence,
            provenance=card.provenance
            | {
                "export": {
                    "arithmetic": arithmetic,
                    "text_arithmetic": text_form.arithmetic,
                    "versions": versions(),
                }
            },
            embedding_dim=model.config.joint_dim,
            window_s=card.window_s,
            hop_s=card.hop_s,
            min_s=card.min_s,
            max_tokens=model.config.text.max_tokens,
            precision=precision,
            logit_scale=math.exp(model.logit_scale.item()),
            calibration=calibration,
            presets=card.presets or PRESETS,
            reference_captions=REFERENCE_CAPTIONS,
            files=file_entries(staged),
            verification={},
        )
        say("verifying against torch")
        runtime = BundleRuntime(write_manifest(staged, draft))
        report = verify(model, runtime, precision, speech, scope=scope)
        if rounding:
            report["float32_layers"] = kept
        write_manifest(staged, draft.model_copy(update={"verification": report}))
        staged.chmod(0o755)
        replace_bundle(staged, place)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return Bundle.load(out)


def _measured(model: Clsp, tokenizer: Path, of_speech: bool, of_text: bool) -> dict[str, Rounding]:
    """On sounds that verification does not hear again, and the captions that a bundle ships: the towers in 8 bits."""
    words = load_tokenizer(tokenizer)
    clips = [voiced_sound(1 + i % 3 / 2, 900 + i) for i in range(MEASURED)] if of_speech else []
    captions = REFERENCE_CAPTIONS[::7] if of_text else []
    texts = [words.encode(text).ids[: model.config.text.max_tokens] for text in captions]
    return measure_rounding(model, raised_inputs(model), clips, texts)


def versions() -> dict[str, str]:
    """What made the graphs, and what they were verified with."""
    return {package: version(package) for package in ("torch", "transformers", "onnx-ir", "onnxruntime")}
