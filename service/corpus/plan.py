"""What is left to do of a corpus: contents that no shard holds, each once, cut into shards of a bounded size."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from index.errors import IdentityMismatch, InvalidInput
from index.exchange import parquet
from index.types import Limits
from index.validate import check_item_id, check_metadata
from service.core.clip_sources import Source, is_text

SHARD_NAME = "part-{}.parquet"


class CorpusError(ValueError):
    """The job cannot run as asked; the message says why."""


@dataclass(frozen=True)
class Named:
    """A name that a content has in the manifest, with what is known of it."""

    id: str
    filename: str
    metadata: dict[str, Any]


@dataclass(frozen=True)
class Content:
    """Audio to embed once: where its bytes are, their SHA-256, and every clip of the manifest that is these bytes."""

    sha256: str
    path: str
    clips: list[Named]


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """One job a folder. Raises CorpusError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CorpusError(f"another job writes to {folder}") from error
        yield


def shards(folder: Path) -> list[Path]:
    """The finished shards, by name."""
    return sorted(folder.glob(SHARD_NAME.format("*")))


def sort_out(clips: Iterable[Source]) -> tuple[list[Source], list[dict[str, Any]]]:
    """The clips that an index could hold, and why not the others: a row of failures each."""
    usable: list[Source] = []
    refused: list[dict[str, Any]] = []
    for clip in clips:
        why = clip.refused or _fault(clip)
        if why is None:
            usable.append(clip)
        else:
            refused.append({"file": str(clip.path.absolute()), "id": clip.id, "detail": why})
    return usable, refused


def _fault(clip: Source) -> str | None:
    if not is_text(str(clip.path.absolute())):
        return "its path is not valid UTF-8"
    try:
        check_item_id(clip.id)
        check_metadata(clip.metadata or {}, Limits())
    except InvalidInput as error:
        return str(error)
    return None


def settle(
    folder: Path, clips: Iterable[Source], hashes: dict[str, str], *, dim: int, identity: str
) -> tuple[dict[str, str], set[str]]:
    """SHA-256 by id of what is done, and the ids among them whose rows got the metadata that the manifest has now.

    A row whose clip has changed since, or is in an earlier shard too, is taken out. `hashes` is the present SHA-256 by
    id. Clips that are no longer in the manifest stay, as does metadata of which it says nothing.

    Raises:
        IdentityMismatch: the folder holds shards of another identity.
    """
    labels = {clip.id: clip.metadata for clip in clips if clip.metadata is not None and clip.id in hashes}
    done: dict[str, str] = {}
    relabelled: set[str] = set()
    for path in shards(folder):
        found = parquet.facts(path).identity
        if found != identity:
            raise IdentityMismatch(identity, found)
        rows = parquet.names(path)
        kept = {name: sha for name, sha, _ in rows if hashes.get(name, sha) == sha and name not in done}
        other = {name for name, _, metadata in rows if name in kept and labels.get(name, metadata) != metadata}
        if len(kept) < len(rows) or other:
            batches = parquet.read(path, dim=dim, identity=identity)
            items = [
                replace(item, metadata=labels[item.id]) if item.id in other else item
                for batch in batches
                for item in batch
                if kept.get(item.id) == item.content_sha256
            ]
            if items:
                parquet.write(path, items, dim=dim, identity=identity)
            else:
                path.unlink()
        done |= kept
        relabelled |= other
    return done, relabelled


def contents(clips: Iterable[Source], hashes: dict[str, str], done: dict[str, str]) -> list[Content]:
    """What is to be embedded, each content once, in the order of the manifest. Clips without a hash are left out."""
    found: dict[str, Content] = {}
    for clip in clips:
        sha256 = hashes.get(clip.id)
        if sha256 is None or done.get(clip.id) == sha256:
            continue
        content = found.setdefault(sha256, Content(sha256, str(clip.path.absolute()), []))
        content.clips.append(Named(clip.id, clip.path.name, clip.metadata or {}))
    return list(found.values())


def write_plan(folder: Path, left: Sequence[Content], per_shard: int) -> list[Path]:
    """One file a shard to be, named after what it will hold: doing one twice writes the same shard twice."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.json"):
        old.unlink()
    paths = []
    for start in range(0, len(left), per_shard):
        part = left[start : start + per_shard]
        named = [[one.sha256, *(clip.id for clip in one.clips)] for one in part]
        digest = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:24]
        path = folder / f"{digest}.json"
        path.write_text(json.dumps([asdict(one) for one in part]), "utf-8")
        paths.append(path)
    return paths


def read_plan(path: Path) -> list[Content]:
    """The contents of one shard to be."""
    rows = json.loads(path.read_text("utf-8"))
    return [Content(row["sha256"], row["path"], [Named(**clip) for clip in row["clips"]]) for row in rows]
