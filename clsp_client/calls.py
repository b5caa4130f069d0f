"""Every call of the API, once: what is sent for it and what comes back. The clients differ only in how they send."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Generic, Literal, TypedDict, TypeVar, cast
from urllib.parse import quote

from clsp_client import answers
from clsp_client.audio import Audio, data_uri, media_type
from clsp_client.errors import InvalidRequestError

T = TypeVar("T")
Metadata = Mapping[str, Any]
Filter = Mapping[str, Any]
SourceKind = Literal["folder", "manifest", "parquet"]


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request. `options` are httpx's (`json`, `params`, `files`, `data`, `headers`).

    `decode` turns the body's bytes into the answer; None means JSON.
    """

    method: str
    path: str
    options: Mapping[str, Any] = field(default_factory=dict)
    decode: Callable[[bytes], T] | None = None


class QueryPart(TypedDict, total=False):
    """One thing that hits should sound like, or with a negative weight should not: one of the first four."""

    text: str
    audio: str
    item_id: str
    vector: Sequence[float]
    weight: float
    aspect: Literal["all", "style"]


@dataclass(frozen=True)
class NewClip:
    """A clip to add. `filename` is shown with hits, and is the id where none is given: needed with bytes, and the
    file's own name with a path.
    """

    audio: Path | bytes
    id: str | None = None
    metadata: Metadata = field(default_factory=dict)
    filename: str | None = None

    def named(self, position: int) -> str:
        """The name under which it is stored."""
        own = self.audio.name if isinstance(self.audio, Path) else f"clip-{position}"
        return self.filename or own


def models() -> Call[list[answers.Model]]:
    """The served model, in a list of one."""
    return Call("GET", "/v1/models", decode=_member("data"))


def ready() -> Call[dict[str, str]]:
    """Whether the service can serve: raises ProblemError with status 503 while it cannot."""
    return Call("GET", "/readyz")


def collections() -> Call[list[answers.Collection]]:
    """All collections, by name."""
    return Call("GET", "/v1/collections", decode=_member("data"))


def collection(name: str) -> Call[answers.Collection]:
    """One collection."""
    return Call("GET", _collection(name))


def create_collection(name: str, *, description: str = "") -> Call[answers.Collection]:
    """Make a collection, unless it is there."""
    return Call("PUT", _collection(name), {"json": {"description": description} if description else {}})


def delete_collection(name: str) -> Call[None]:
    """Drop a collection with all its clips."""
    return Call("DELETE", _collection(name), decode=_nothing)


def add_items(collection: str, clips: Sequence[NewClip]) -> Call[answers.AddedItems]:
    """Add or replace clips, all of them or none; they are on disk when this returns. Raises OSError for a bad path."""
    files = []
    about = []
    for position, clip in enumerate(clips):
        name = clip.named(position)
        data = clip.audio.read_bytes() if isinstance(clip.audio, Path) else clip.audio
        # Two clips may have one name, and no form can carry quotes or line feeds in one: parts are only numbered.
        part = f"clip-{position}"
        files.append(("files", (part, data, media_type(Path(name)))))
        about.append({"file": part, "filename": name, "metadata": dict(clip.metadata), **_given(id=clip.id)})
    form = {"metadata": json.dumps({"items": about}, ensure_ascii=False)}
    return Call("POST", f"{_collection(collection)}/items", {"files": files, "data": form})


def items_page(
    collection: str, *, cursor: str | None = None, limit: int = 100, filter: Filter | None = None
) -> Call[answers.ItemPage]:
    """One page of items, by id."""
    wanted = _given(cursor=cursor, limit=limit, filter=json.dumps(filter) if filter is not None else None)
    return Call("GET", f"{_collection(collection)}/items", {"params": wanted})


def item(collection: str, id: str) -> Call[answers.Item]:
    """One item."""
    return Call("GET", _item(collection, id))


def patch_item(collection: str, id: str, metadata: Metadata) -> Call[answers.Item]:
    """Edit metadata (RFC 7396): members replace those of the same name, None removes one."""
    return Call("PATCH", _item(collection, id), {"json": {"metadata": dict(metadata)}})


def delete_item(collection: str, id: str) -> Call[None]:
    """Drop one item."""
    return Call("DELETE", _item(collection, id), decode=_nothing)


def item_audio(collection: str, id: str) -> Call[bytes]:
    """The kept audio, as it was uploaded."""
    return Call("GET", f"{_item(collection, id)}/audio", decode=_bytes)


def ingest_roots() -> Call[list[str]]:
    """Names of the server's folders that jobs may read; none where its operator allows none."""
    return Call("GET", "/v1/ingest-roots", decode=lambda body: [one["name"] for one in json.loads(body)["data"]])


def start_ingest(collection: str, path: str, *, kind: SourceKind | None = None) -> Call[answers.Job]:
    """Ingest what lies on the server as a job: `path` begins with the name of a root.

    `kind` left out: a manifest is `.jsonl`, embeddings are `.parquet`, all else is a folder of audio. A folder of
    embeddings looks like one of audio from here: its kind is `parquet`.
    """
    kinds = {".jsonl": "manifest", ".ndjson": "manifest", ".parquet": "parquet"}
    known = kind or kinds.get(PurePosixPath(path).suffix.lower(), "folder")
    return Call("POST", f"{_collection(collection)}/ingest", {"json": {"kind": known, "path": path}})


def job(id: str) -> Call[answers.Job]:
    """One job, and how far it is."""
    return Call("GET", _job(id))


def jobs_page(
    *, cursor: str | None = None, limit: int = 20, collection: str | None = None, state: str | None = None
) -> Call[answers.JobPage]:
    """One page of jobs, latest first."""
    return Call("GET", "/v1/jobs", {"params": _given(cursor=cursor, limit=limit, collection=collection, state=state)})


def cancel_job(id: str) -> Call[answers.Job]:
    """Stop a job; what it stored stays."""
    return Call("POST", f"{_job(id)}/cancel")


def resume_job(id: str) -> Call[answers.Job]:
    """Go on with a job that failed or was cancelled, or try again what one refused."""
    return Call("POST", f"{_job(id)}/resume")


def refused(id: str, *, after: int = 0, limit: int | None = None) -> Call[list[answers.RefusedClip]]:
    """What a job refused and why, in the order of its source."""
    return Call("GET", f"{_job(id)}/refused", {"params": _given(after=after, limit=limit)}, decode=_lines)


def search(
    collection: str,
    query: str | Sequence[str | QueryPart],
    *,
    top_k: int = 10,
    filter: Filter | None = None,
    min_score: float | None = None,
    diversity: float | None = None,
    effort: int | None = None,
    include_query_item: bool | None = None,
) -> Call[answers.Hits]:
    """The items whose best segment is nearest to a text, or to several and weighted parts.

    Texts are read for what they refuse, parts are taken as they are; `effort` overrides the index's own.
    """
    asked = query if isinstance(query, str) else list(query)
    options = _given(
        filter=filter,
        min_score=min_score,
        diversity=diversity,
        effort=effort,
        include_query_item=include_query_item,
    )
    return Call("POST", f"{_collection(collection)}/search", {"json": {"query": asked, "top_k": top_k, **options}})


def classify(
    clips: Iterable[Audio], *, preset: str | None = None, labels: Sequence[str] | Mapping[str, Any] | None = None
) -> Call[answers.Labels]:
    """A label for each clip, from a preset of the model or from labels of one's own."""
    body = {"inputs": [data_uri(clip) for clip in clips], **_given(preset=preset, labels=labels)}
    return Call("POST", "/v1/classify", {"json": body})


def score(
    pairs: Iterable[tuple[Audio, str]],
    *,
    curve: bool | None = None,
    window_s: float | None = None,
    hop_s: float | None = None,
    sentences: bool | None = None,
    attributes: bool | None = None,
) -> Call[answers.Scores]:
    """How well clips fit their captions; `window_s` and `hop_s` are of the curve, as are the sentences' curves."""
    rows = [{"audio": data_uri(clip), "caption": caption} for clip, caption in pairs]
    options = _given(curve=curve, window_s=window_s, hop_s=hop_s, sentences=sentences, attributes=attributes)
    return Call("POST", "/v1/score", {"json": {"pairs": rows, **options}})


def embed_texts(texts: Sequence[str]) -> Call[answers.Embeddings]:
    """Texts as unit vectors."""
    return _embed(list(texts), "text")


def embed_clips(clips: Iterable[Audio]) -> Call[answers.Embeddings]:
    """Clips as unit vectors."""
    return _embed([data_uri(clip) for clip in clips], "audio")


def _embed(inputs: list[str], modality: Literal["text", "audio"]) -> Call[answers.Embeddings]:
    return Call("POST", "/v1/embeddings", {"json": {"input": inputs, "modality": modality}})


def _collection(name: str) -> str:
    return f"/v1/collections/{_part(name, 'a collection')}"


def _item(collection: str, id: str) -> str:
    return f"{_collection(collection)}/items/{_part(id, 'an item')}"


def _job(id: str) -> str:
    return f"/v1/jobs/{_part(id, 'a job')}"


def _part(name: str, of: str) -> str:
    """A name as one part of a path. Raises InvalidRequestError for one that would lead to something else."""
    # HTTP clients fold "." and ".." away, escaped or not: to delete the item ".." would delete its collection.
    if name in ("", ".", ".."):
        raise InvalidRequestError(f"{name!r} is not the name of {of}: no address could hold it")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError as error:
        raise InvalidRequestError(f"{name!r} is not the name of {of}: it is not valid Unicode") from error


def _lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _member(name: str) -> Callable[[bytes], Any]:
    return lambda body: json.loads(body)[name]


def _bytes(body: bytes) -> bytes:
    return body


def _nothing(body: bytes) -> None:
    return None


def decoded(call: Call[T], body: bytes) -> T:
    """The answer of a successful call. Raises ValueError when the body is not what the call promises."""
    if call.decode is not None:
        return call.decode(body)
    return cast(T, json.loads(body))
