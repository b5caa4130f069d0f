"""What becomes of a clip that may be in the collection already: one rule for every way in. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["added", "replaced", "relabelled", "unchanged"]


@dataclass(frozen=True)
class Decision:
    """`outcome` of a clip, and the metadata that its item is to have."""

    outcome: Outcome
    metadata: Mapping[str, Any]

    @property
    def new_content(self) -> bool:
        """Whether its audio must be read and embedded."""
        return self.outcome in ("added", "replaced")


def reconcile(
    stored: tuple[str, Mapping[str, Any]] | None, content_sha256: str, metadata: Mapping[str, Any] | None
) -> Decision:
    """Compare a clip with what the collection has under its id.

    Args:
        stored: SHA-256 and metadata of the item of that id; None where there is none.
        content_sha256: of the clip's bytes now.
        metadata: what the source says of the clip; None where it says nothing, and what was said before stays.
    """
    if stored is None:
        return Decision("added", metadata or {})
    old_sha256, old = stored
    wanted = old if metadata is None else metadata
    if old_sha256 != content_sha256:
        return Decision("replaced", wanted)
    return Decision("unchanged" if wanted == old else "relabelled", wanted)


def metadata_patch(old: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The patch (RFC 7396) that makes `wanted` of `old`: its fields, and null for those that it lacks."""
    return {**dict.fromkeys(old.keys() - wanted.keys()), **wanted}
