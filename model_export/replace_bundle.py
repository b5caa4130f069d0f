"""Where a bundle may be written, and how it takes an older one's place: nothing but a bundle is ever replaced."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from model_export.bundle import MANIFEST, BundleError


def check_place(target: Path, sources: Iterable[Path | None] = ()) -> None:
    """Refuse a folder that a bundle would take something else away from; `sources` are what the export reads.

    Raises BundleError when the target exists and is neither empty nor a bundle, or when it and a source are one place
    or one lies in the other.
    """
    place = target.resolve()
    for source in sources:
        kept = source.resolve() if source else None
        if kept and (kept.is_relative_to(place) or place.is_relative_to(kept)):
            how = "holds" if kept.is_relative_to(place) else "lies in"
            which = "is itself" if kept == place else f"{how} {source}, which is"
            raise BundleError(f"{target} {which} read for the bundle: name another folder for it")
    if not place.exists():
        return
    if not place.is_dir():
        raise BundleError(f"{target} is a file: a bundle is a folder")
    if not (place / MANIFEST).is_file() and any(place.iterdir()):
        raise BundleError(f"{target} holds files and no {MANIFEST}: only a bundle is replaced, name another folder")


def replace_bundle(staged: Path, target: Path) -> None:
    """Put a finished bundle in place of an older one, which stays until the new one is there.

    Killed in between, one of them is whole, and `settle` tells which. Raises BundleError as `check_place` does.
    """
    check_place(target)
    settle(target)
    aside = _aside(target)
    if target.exists():
        target.replace(aside)
    try:
        staged.replace(target)
    except OSError:
        settle(target)
        raise
    settle(target)


def settle(target: Path) -> None:
    """Clear away what a replacement that was ended left: an older bundle goes back where no new one came."""
    aside = _aside(target)
    if not aside.exists():
        return
    if target.exists():
        shutil.rmtree(aside)
    else:
        aside.replace(target)


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")
