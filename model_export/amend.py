"""Changes to a bundle that is there already: its manifest and card change, its weights do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from model_export.bundle import CARD, Bundle, BundleError, FileEntry, hash_file, write_manifest


def load_to_amend(path: Path) -> Bundle:
    """A bundle whose files are the exported ones, but for the card, which an earlier change may have left half-done.

    Raises BundleError as `Bundle.load` does.
    """
    bundle = Bundle.load(path, verify=False)
    problems = [line for line in bundle.damage() if not line.startswith(str(bundle.path / CARD))]
    if problems:
        raise BundleError("; ".join(problems))
    return bundle


def amend(bundle: Bundle, card: Callable[[str], str], **fields: Any) -> Bundle:
    """Write `card` of the card's text, where the bundle has one, and fields of the manifest. Raises OSError.

    Killed between the two, the bundle says that its card was changed; a second run repairs it.
    """
    file = bundle.path / CARD
    files = dict(bundle.manifest.files)
    if CARD in files:
        partial = file.with_suffix(".partial")
        partial.write_text(card(file.read_text(encoding="utf-8")), encoding="utf-8")
        partial.replace(file)
        files[CARD] = FileEntry(sha256=hash_file(file), bytes=file.stat().st_size)
    return write_manifest(bundle.path, bundle.manifest.model_copy(update={**fields, "files": files}))
