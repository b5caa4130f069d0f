"""Reads the set to judge: JSONL, CSV, a folder with sidecar captions, or InstructTTSEval's result files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from clsp_client import AUDIO_SUFFIXES
from service.core.manifest import is_clutter
from service.gates.rows import Case, lines_of
from service.gates.tables import SourceError as SourceError
from service.gates.tables import decode_table, separator_of

ONE_GROUP = "all"
SIDECARS = (".txt", ".json")
_NOT_CAPTIONS = ("readme", "licence", "license")
_AUDIO = ("audio", "file", "path", "wav", "gen_path")
_CAPTION = ("caption", "instruction", "style", "prompt")
_TASKS = ("APS", "DSD", "RP")
"""InstructTTSEval's tasks: acoustic parameters, descriptive style, role play (Huang et al., 2025, arXiv 2506.16381)."""


def read_cases(source: Path, *, audio_root: Path | None = None, group_by: Sequence[str] = ()) -> list[Case]:
    """The clips of a set, in its order.

    A JSONL or CSV row has `audio` (or file, path, wav, gen_path), `caption` (or instruction, style, prompt), and
    optionally `id` and `group`; paths are relative to `audio_root`, or else to the file. A row of InstructTTSEval's
    results gives one case for each of its tasks, with the task as its group. In a folder every audio file has its
    caption in a file of the same name ending in .txt, or .json with `caption`; its group is the folder it lies in. A
    caption without audio is a clip that is missing, save for readme and licence files.

    `group_by` names the columns that group a JSONL or CSV set; without it that is `group`. The first is the clip's
    group, and the others are asked about too, by themselves and within it.

    Raises SourceError: nothing there, a row without audio, caption or one of those columns, an id that appears twice,
    audio without a caption, a folder that cannot be listed, a link to nothing. Whether the audio itself can be read
    shows when it is judged.
    """
    if group_by and (source.is_dir() or not source.is_file()):
        raise SourceError(f"{source}: only the columns of a JSONL or CSV set can group it")
    if source.is_dir():
        cases = list(_folder(source))
    elif not source.is_file():
        raise SourceError(f"{source}: no such file or folder")
    elif source.suffix.lower() in (".csv", ".tsv"):
        cases = list(_csv(source, audio_root or source.parent, group_by))
    else:
        cases = list(_jsonl(source, audio_root or source.parent, group_by))
    if not cases:
        raise SourceError(f"{source} holds no clips to judge")
    return _distinct(cases, source)


def _distinct(cases: list[Case], source: Path) -> list[Case]:
    """The cases, with a number behind the id of an audio file that is judged against several captions."""
    seen: set[str] = set()
    heard: set[str] = set()
    for place, case in enumerate(cases):
        id, number = case.id, 1
        while id in seen and case.shown in heard and case.id == Path(case.shown).with_suffix("").as_posix():
            number += 1
            id = f"{case.id} ({number})"
        if id in seen:
            raise SourceError(f"{source}: the id {id!r} appears twice")
        seen.add(id)
        heard.add(case.shown)
        cases[place] = case if id == case.id else replace(case, id=id)
    return cases


def _bytes(source: Path) -> bytes:
    try:
        return source.read_bytes()
    except OSError as error:
        raise SourceError(f"{source}: {error.strerror or error}") from error


def _text(source: Path) -> str:
    try:
        return _bytes(source).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{source}: {getattr(error, 'strerror', None) or error}") from error


def _jsonl(source: Path, root: Path, group_by: Sequence[str]) -> Iterator[Case]:
    for where, row in _rows(source):
        if not isinstance(row, dict):
            raise SourceError(f"{where}: a row is a JSON object")
        tasks = [task for task in _TASKS if task in row]
        if any(isinstance(row[task], dict) for task in tasks) or (tasks and not row.keys() & {*_AUDIO}):
            yield from _instruct_tts_eval(row, tasks, root, where)
        else:
            yield _case(row, root, where, group_by)


def _rows(source: Path) -> Iterator[tuple[str, Any]]:
    """(where, row): a line each, or the members of one JSON array."""
    text = _text(source)
    if text.lstrip().startswith("[") and source.suffix.lower() == ".json":
        yield from ((f"{source}, row {number}", row) for number, row in enumerate(_json(text, str(source)), 1))
        return
    for number, line in enumerate(lines_of(text), 1):
        if line.strip():
            where = f"{source}, line {number}"
            yield where, _json(line, where)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise SourceError(f"{where}: not JSON ({error})") from error


def _csv(source: Path, root: Path, group_by: Sequence[str]) -> Iterator[Case]:
    text = decode_table(_bytes(source), source)
    separator = separator_of(text, "\t" if source.suffix.lower() == ".tsv" else ",")
    # Strict, or a quote that is never closed makes one caption of all that follows.
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    began = 1
    try:
        for row in reader:
            began = reader.line_num + 1
            where = f"{source}, line {reader.line_num}"
            if any(cell.strip() for cell in row.pop(None, [])):
                raise SourceError(f"{where}: more cells than the header has: put captions with commas into quotes")
            named = {name.strip().lower(): value for name, value in row.items() if value and value.strip()}
            if named:
                yield _case(named, root, where, [column.lower() for column in group_by])
    except csv.Error as error:
        raise SourceError(
            f"{source}, line {began}: not a table ({error}); is a quote not closed, or not doubled inside quotes?"
        ) from error


def _case(row: Mapping[str, Any], root: Path, where: str, group_by: Sequence[str]) -> Case:
    metadata = row.get("metadata") if isinstance(row.get("metadata"), dict) else {}
    audio, caption = _first(row, _AUDIO, where), _first(row, _CAPTION, where)
    if not audio or not caption:
        raise SourceError(f"{where}: a row needs `audio` and `caption`")
    named = Path(audio).with_suffix("").as_posix() if Path(audio).name else audio
    found = {
        column: _name(row, column, where) or _name(metadata or {}, column, where) for column in group_by or ("group",)
    }
    absent = [column for column in group_by if not found[column]]
    if absent:
        raise SourceError(f"{where}: no `{absent[0]}` to group by")
    first, *others = found
    labels = tuple(f"{column}={found[column]}" for column in others)
    return Case(_name(row, "id", where) or named, root / audio, caption, found[first] or ONE_GROUP, audio, labels)


def _first(row: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise SourceError(f"{where}: `{name}` is not text")
        if value and value.strip():
            return value.strip()
    return ""


def _name(row: Mapping[str, Any], member: str, where: str) -> str:
    """A text or a whole number, as text; "" where there is none."""
    value = row.get(member)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise SourceError(f"{where}: `{member}` is neither text nor a whole number")
    return str(value).strip()


def _instruct_tts_eval(row: Mapping[str, Any], tasks: list[str], root: Path, where: str) -> Iterator[Case]:
    """`{"id", "text", "APS": {"instruction", "gen_path"}, "DSD": ..., "RP": ...}`, as its evaluation takes them."""
    for task in tasks:
        part, id = row[task], _name(row, "id", where)
        failed = part is None or isinstance(part, str)
        if not failed and not isinstance(part, dict):
            raise SourceError(f"{where}: {task} is neither an object nor the error of a generation that failed")
        instruction = "" if failed else _first(part, ("instruction",), where)
        if not id or not (instruction or failed):
            raise SourceError(f"{where}: {task} needs `instruction`, and the row an `id`")
        # A generation that failed has no path; it is judged like any other clip that is not there.
        path = "" if failed else _first(part, ("gen_path",), where)
        path = path or f"{id}-{task}-not-generated"
        yield Case(f"{id}-{task}", root / path, instruction, task, path)


def _folder(source: Path) -> Iterator[Case]:
    audio: dict[Path, Path] = {}
    captions: set[Path] = set()
    for path in sorted(_files(source)):
        stem = path.with_suffix("")
        if _is_audio(path):
            other = audio.setdefault(stem, path)
            if other != path:
                raise SourceError(f"{other} and {path.name} share one caption: which of them is the clip?")
        elif _is_sidecar(path):
            captions.add(stem)
    for stem in sorted(audio.keys() | captions):
        relative = stem.relative_to(source)
        group = relative.parent.as_posix() if relative.parent != Path() else ONE_GROUP
        # A caption whose audio was never made is a clip that is missing.
        path = audio.get(stem, stem.with_name(f"{stem.name}.wav"))
        yield Case(relative.as_posix(), path, _sidecar(stem), group, path.relative_to(source).as_posix())


def _files(folder: Path, above: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """What lies in a folder, save for what operating systems leave there. Links are followed: caches of CI put them in
    a folder's place. One to a folder that it lies in is not, for what is there is listed already."""
    here = folder.resolve()
    if here in above:
        return
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise SourceError(f"{folder}: {error.strerror or error}") from error
    for path in entries:
        if is_clutter(path.name):
            continue
        if path.is_dir():
            yield from _files(path, above | {here})
        elif path.exists() or path.suffix.lower() in AUDIO_SUFFIXES:
            yield path
        else:
            raise SourceError(f"{path} is a link to nothing: a voice or a caption may be missing")


def _is_audio(path: Path) -> bool:
    """A link to nothing is a clip that cannot be read."""
    return path.suffix.lower() in AUDIO_SUFFIXES and (path.is_file() or not path.exists())


def _is_sidecar(path: Path) -> bool:
    """A folder may hold other texts, and JSON of many kinds."""
    if path.suffix not in SIDECARS or path.stem.lower() in _NOT_CAPTIONS or not path.is_file():
        return False
    if path.suffix != ".json":
        return True
    try:
        return isinstance(json.loads(_text(path))["caption"], str)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _sidecar(stem: Path) -> str:
    for suffix in SIDECARS:
        path = stem.with_name(f"{stem.name}{suffix}")
        if not path.is_file():
            continue
        text = _text(path).strip()
        if suffix == ".json":
            try:
                text = str(json.loads(text)["caption"]).strip()
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(f'{path}: a sidecar is JSON like {{"caption": "..."}}') from error
        if text:
            return text
    raise SourceError(f"{stem} has no caption: put it into {stem.name}.txt beside it")
