"""Reads the set to judge: JSONL, CSV, a folder with sidecar captions, or InstructTTSEval's result files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from clsp_client import AUDIO_SUFFIXES
from service.gates.rows import Case

ONE_GROUP = "all"
SIDECARS = (".txt", ".json")
_NOT_CAPTIONS = ("readme", "licence", "license")
_AUDIO = ("audio", "file", "path", "wav", "gen_path")
_CAPTION = ("caption", "instruction", "style", "prompt")
_TASKS = ("APS", "DSD", "RP")
"""InstructTTSEval's tasks: acoustic parameters, descriptive style, role play (Huang et al., 2025, arXiv 2506.16381)."""


class SourceError(ValueError):
    """A set cannot be read; the message names the file and the line."""


def read_cases(source: Path, *, audio_root: Path | None = None) -> list[Case]:
    """The clips of a set, in its order.

    A JSONL or CSV row has `audio` (or file, path, wav, gen_path), `caption` (or instruction, style, prompt), and
    optionally `id` and `group`; paths are relative to `audio_root`, or else to the file. A row of InstructTTSEval's
    results gives one case for each of its tasks, with the task as its group. In a folder every audio file has its
    caption in a file of the same name ending in .txt, or .json with `caption`; its group is the folder it lies in. A
    .txt without audio is a clip that is missing, save for readme and licence files.

    Raises SourceError: nothing there, a row without audio or caption, an id that appears twice, audio without a
    caption. Whether the audio itself can be read shows when it is judged.
    """
    if source.is_dir():
        cases = list(_folder(source))
    elif not source.is_file():
        raise SourceError(f"{source}: no such file or folder")
    elif source.suffix.lower() in (".csv", ".tsv"):
        cases = list(_csv(source, audio_root or source.parent))
    else:
        cases = list(_jsonl(source, audio_root or source.parent))
    if not cases:
        raise SourceError(f"{source} holds no clips to judge")
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise SourceError(f"{source}: the id {case.id!r} appears twice")
        seen.add(case.id)
    return cases


def _lines(source: Path) -> list[str]:
    try:
        return source.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{source}: {getattr(error, 'strerror', None) or error}") from error


def _jsonl(source: Path, root: Path) -> Iterator[Case]:
    for number, line in enumerate(_lines(source), 1):
        if not line.strip():
            continue
        where = f"{source}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SourceError(f"{where}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise SourceError(f"{where}: a row is a JSON object")
        tasks = [task for task in _TASKS if isinstance(row.get(task), dict)]
        if tasks:
            yield from _instruct_tts_eval(row, tasks, root, where)
        else:
            yield _case(row, root, where)


def _csv(source: Path, root: Path) -> Iterator[Case]:
    dialect = csv.excel_tab if source.suffix.lower() == ".tsv" else csv.excel
    reader = csv.DictReader(_lines(source), dialect=dialect)
    for row in reader:
        named = {name.strip().lower(): value for name, value in row.items() if name and value}
        yield _case(named, root, f"{source}, line {reader.line_num}")


def _case(row: Mapping[str, Any], root: Path, where: str) -> Case:
    metadata = row.get("metadata") if isinstance(row.get("metadata"), dict) else {}
    audio, caption = _first(row, _AUDIO), _first(row, _CAPTION)
    if not audio or not caption:
        raise SourceError(f"{where}: a row needs `audio` and `caption`")
    group = row.get("group") or (metadata or {}).get("group") or ONE_GROUP
    return Case(str(row.get("id") or Path(audio).with_suffix("")), root / audio, caption, str(group), audio)


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((str(row[name]).strip() for name in names if row.get(name)), "")


def _instruct_tts_eval(row: Mapping[str, Any], tasks: list[str], root: Path, where: str) -> Iterator[Case]:
    """`{"id", "text", "APS": {"instruction", "gen_path"}, "DSD": ..., "RP": ...}`, as its evaluation takes them."""
    for task in tasks:
        part = row[task]
        instruction = str(part.get("instruction") or "").strip()
        if not instruction or not row.get("id"):
            raise SourceError(f"{where}: {task} needs `instruction`, and the row an `id`")
        # A generation that failed has no path; it is judged like any other clip that is not there.
        path = str(part.get("gen_path") or f"{row['id']}-{task}-not-generated")
        yield Case(f"{row['id']}-{task}", root / path, instruction, task, path)


def _folder(source: Path) -> Iterator[Case]:
    audio = {path.with_suffix(""): path for path in sorted(source.rglob("*")) if _is_audio(path)}
    for stem in sorted(audio.keys() | {path.with_suffix("") for path in source.rglob("*.txt") if _is_sidecar(path)}):
        relative = stem.relative_to(source)
        group = relative.parent.as_posix() if relative.parent != Path() else ONE_GROUP
        # A caption whose audio was never made is a clip that is missing.
        path = audio.get(stem, stem.with_name(f"{stem.name}.wav"))
        yield Case(relative.as_posix(), path, _sidecar(stem), group, path.relative_to(source).as_posix())


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()


def _is_sidecar(path: Path) -> bool:
    return path.is_file() and not path.name.lower().startswith(_NOT_CAPTIONS)


def _sidecar(stem: Path) -> str:
    for suffix in SIDECARS:
        path = stem.with_name(f"{stem.name}{suffix}")
        if not path.is_file():
            continue
        text = "\n".join(_lines(path)).strip()
        if suffix == ".json":
            try:
                text = str(json.loads(text)["caption"]).strip()
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(f'{path}: a sidecar is JSON like {{"caption": "..."}}') from error
        if text:
            return text
    raise SourceError(f"{stem} has no caption: put it into {stem.name}.txt beside it")
