"""A new calibration for a bundle that is there already: its manifest and card change, its weights do not."""

import re
from pathlib import Path

from model_export.bundle import CARD, Bundle, BundleError, Calibration, FileEntry, hash_file, write_manifest
from model_export.model_card import calibration_section


def load_for_calibration(path: Path) -> Bundle:
    """A bundle whose files are the exported ones, but for the card, which a calibration may have left half-done.

    Raises BundleError as `Bundle.load` does.
    """
    bundle = Bundle.load(path, verify=False)
    problems = [line for line in bundle.damage() if not line.startswith(str(bundle.path / CARD))]
    if problems:
        raise BundleError("; ".join(problems))
    return bundle


def recalibrate(bundle: Bundle, fitted: Calibration) -> Bundle:
    """Write a calibration into a bundle on disk, and its error into the card. Raises OSError where that can't be done.

    Killed between card and manifest, the bundle says that its card was changed; a second run repairs it.
    """
    card = bundle.path / CARD
    files = dict(bundle.manifest.files)
    if CARD in files:
        text = card.read_text(encoding="utf-8")
        kept = re.sub(
            r"\n*(## Calibration\n.*?(?=\n## |\Z)|Expected calibration error of[^\n]*\n?)", "\n", text, flags=re.S
        )
        partial = card.with_suffix(".partial")
        partial.write_text(kept.rstrip("\n") + "\n" + "\n".join(calibration_section(fitted)) + "\n", encoding="utf-8")
        partial.replace(card)
        files[CARD] = FileEntry(sha256=hash_file(card), bytes=card.stat().st_size)
    return write_manifest(bundle.path, bundle.manifest.model_copy(update={"calibration": fitted, "files": files}))
