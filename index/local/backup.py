"""Copy a data folder while a service writes to it, and make a data folder of such a copy.

The catalog is copied in one read transaction of SQLite's backup API, which holds up no writer; what it refers to is
gathered around it. Media never change once named, so on one file system they are linked, not copied. Databases that
others keep in folders of their own beside the catalog, such as the ingest jobs, are copied the same way, and before it:
what they take for done is then in the catalog, and what they take for undone and is there is done twice, to no harm.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from index.errors import StorageFailed
from index.local import catalog
from index.local.database import storage_errors
from index.local.vector_source import open_catalog
from index.storage.atomic_folder import whole_folder
from index.storage.durable_files import checksums, link_or_copy, sha256_of

FORMAT = 1
MARK = "backup.json"
# Rounds of copying the catalog again because media it refers to went away in between.
_ROUNDS = 5


@dataclass(frozen=True)
class BackupReport:
    """What a backup holds: bytes of the catalog, index snapshots and other databases; audio files and their bytes."""

    created_at: str
    collections: int
    items: int
    segments: int
    catalog_bytes: int
    index_bytes: int
    media: int
    media_bytes: int
    other_bytes: int = 0


def backup(folder: Path, target: Path) -> BackupReport:
    """Write a backup of the data folder `folder`; `target` is one only when it is complete and on the disk.

    Raises:
        StorageFailed: no catalog in `folder`, something already at `target`, or the disk refused.
    """
    if not (folder / catalog.FILE).is_file():
        raise StorageFailed(f"{folder} holds no {catalog.FILE}")
    with storage_errors(), whole_folder(target, MARK) as partial:
        # Snapshots first: an index older than the catalog catches up from it, a newer one would be refused.
        _copy_snapshots(folder / "index", partial / "index")
        _gather_media(folder / "media", partial / "media")
        for file in _others(folder):
            _copy_database(file, partial / file.relative_to(folder))
        report = _copy_catalog(folder, partial)
        files = {str(path.relative_to(partial)): checksums(path) for path in _summed(partial)}
        (partial / MARK).write_text(json.dumps({"format": FORMAT, "report": asdict(report), "files": files}), "utf-8")
        return report


def restore(source: Path, folder: Path) -> BackupReport:
    """Make the data folder `folder`, which must be missing or empty, of a backup, after checking every byte of it.

    Raises:
        StorageFailed: not a backup, damaged, of a newer version, `folder` is in use, or the disk refused.
    """
    report, files = _read_mark(source)
    with storage_errors(), whole_folder(folder, catalog.FILE) as partial:
        for name, sums in files.items():
            if checksums(source / name) != sums:
                raise StorageFailed(f"{source / name} is damaged")
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, partial / name)
        (partial / "media").mkdir(exist_ok=True)
        for sha256 in _media_of(partial / catalog.FILE):
            kept = source / "media" / sha256[:2] / sha256
            if not kept.is_file() or sha256_of(kept) != sha256:
                raise StorageFailed(f"{kept} is damaged or missing")
            link_or_copy(kept, partial / "media" / sha256[:2] / sha256)
    return report


def _copy_snapshots(source: Path, target: Path) -> None:
    target.mkdir()
    for manifest in source.glob("*.json"):
        # A snapshot that is replaced right now can be left out: it is a cache.
        with suppress(FileNotFoundError, ValueError, KeyError):
            body = manifest.read_bytes()
            name = str(json.loads(body.partition(b" ")[2])["file"])
            link_or_copy(source / name, target / name)
            (target / manifest.name).write_bytes(body)


def _gather_media(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for file in source.glob("??/*"):
        with suppress(FileNotFoundError):
            link_or_copy(file, target / file.parent.name / file.name)


def _others(folder: Path) -> list[Path]:
    # A folder with a catalog is another library, or a backup that somebody keeps here.
    return sorted(file for file in folder.glob("*/*.sqlite") if not (file.parent / catalog.FILE).exists())


def _copy_database(source: Path, copy: Path) -> None:
    copy.parent.mkdir(exist_ok=True)
    try:
        with closing(open_catalog(source)) as live, closing(sqlite3.connect(copy)) as target:
            live.backup(target)
    except sqlite3.DatabaseError as error:
        raise StorageFailed(f"{source} cannot be copied: {error}") from error


def _copy_catalog(folder: Path, partial: Path) -> BackupReport:
    """Copy the catalog, then the media that came since they were gathered; again if one of them went as well."""
    copy = partial / catalog.FILE
    for _ in range(_ROUNDS):
        copy.unlink(missing_ok=True)
        _copy_database(folder / catalog.FILE, copy)
        wanted = _media_of(copy)
        missing = [one for one in wanted if not (partial / "media" / one[:2] / one).is_file()]
        try:
            for sha256 in missing:
                link_or_copy(folder / "media" / sha256[:2] / sha256, partial / "media" / sha256[:2] / sha256)
        except FileNotFoundError:
            _gather_media(folder / "media", partial / "media")
            continue
        break
    else:
        raise StorageFailed(f"audio kept vanishing while {folder} was copied")
    for file in (partial / "media").glob("??/*"):
        if file.name not in wanted:
            file.unlink()
    return _report(copy, partial)


def _report(copy: Path, partial: Path) -> BackupReport:
    with closing(_open_copy(copy)) as connection:
        infos = [catalog.collection_info(connection, row.name) for row in catalog.collection_rows(connection)]
    media = [file.stat().st_size for file in (partial / "media").glob("??/*")]
    return BackupReport(
        created_at=catalog.now(),
        collections=len(infos),
        items=sum(info.items for info in infos),
        segments=sum(info.segments for info in infos),
        catalog_bytes=copy.stat().st_size,
        index_bytes=sum(file.stat().st_size for file in (partial / "index").iterdir()),
        media=len(media),
        media_bytes=sum(media),
        other_bytes=sum(file.stat().st_size for file in _others(partial)),
    )


def _media_of(catalog_file: Path) -> set[str]:
    with closing(_open_copy(catalog_file)) as connection:
        return catalog.all_media(connection)


def _open_copy(path: Path) -> sqlite3.Connection:
    """For reading what nobody writes any more: without the files that SQLite puts beside a database in use."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)


def _summed(partial: Path) -> list[Path]:
    return [partial / catalog.FILE, *_others(partial), *sorted((partial / "index").iterdir())]


def _read_mark(source: Path) -> tuple[BackupReport, dict[str, list[int]]]:
    """What a backup says of itself, and the checksums of its files by their names."""
    try:
        told = json.loads((source / MARK).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StorageFailed(f"{source} is not a complete backup: {error}") from error
    if not isinstance(told, dict) or "format" not in told:
        raise StorageFailed(f"{source} is not a complete backup: {MARK} does not say of which format")
    if told["format"] != FORMAT:
        raise StorageFailed(f"{source} is a backup of format {told['format']}; this version knows {FORMAT}")
    try:
        report, files = BackupReport(**told["report"]), dict(told["files"])
    except (KeyError, TypeError, ValueError) as error:
        raise StorageFailed(f"{source} is not a complete backup: {MARK} does not say what is in it") from error
    if catalog.FILE not in files or any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        raise StorageFailed(f"{source} is not a backup of a library: {MARK} names other files")
    return report, files
