"""From an embedded clip to the item that a collection stores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.types import MediaBlob, NewItem, NewSegment


def clip_item(
    item_id: str,
    windows: Iterable[tuple[float, float]],
    vectors: Iterable[NDArray[np.float32]],
    *,
    metadata: Mapping[str, Any] | None,
    duration_s: float,
    content_sha256: str,
    filename: str | None,
    media: MediaBlob | None = None,
) -> NewItem:
    """An item of a clip's windows (start_s, end_s) and their unit vectors [D], one a window."""
    segments = [
        NewSegment(start_s, end_s, np.asarray(vector, np.float32))
        for (start_s, end_s), vector in zip(windows, vectors, strict=True)
    ]
    return NewItem(item_id, segments, metadata or {}, duration_s, content_sha256, filename, media)
