"""The wire to Milvus: collections of the shapes we keep, reads that see every acknowledged write, errors of our own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from index.errors import IndexingError, StorageFailed
from index.milvus.rows import MAX_TOKENS, TOKEN_CHARS, Row

MAX_HITS = 16_384
"""The most that Milvus returns for one search or query."""
_PAGE = 1000
_INSERT_ROWS = 500
_TEXT = 65_535
_AT_A_TIME = 8
_KEEPALIVE_MS = 300_000
"""Between pings of an idle connection: gRPC servers close one that pings more often, and pymilvus does by default."""
_log = logging.getLogger(__name__)


class MilvusUnavailable(IndexingError):  # noqa: N818
    """pymilvus is not installed; the message says how to get it."""


@dataclass(frozen=True)
class MilvusSettings:
    """Where Milvus is, and how collections are kept in it.

    Attributes:
        uri: `http://host:19530` of a server, or a file `name.db` for Milvus Lite in this process.
        token: `user:password` or an API key; empty for none.
        prefix: begins the name of everything that is ours, so that several deployments can share a server.
        index_type: of the vectors, as Milvus calls it: AUTOINDEX, FLAT (exact), HNSW, IVF_FLAT, ...
        timeout_s: of one call.
        grace_s: how long replaced rows stay for readers that began before; no read may take longer.
        abandoned_s: after being seen unfinished for so long, a change belongs to a writer that died and is undone.
    """

    uri: str
    token: str = ""
    prefix: str = "clsp"
    index_type: str = "AUTOINDEX"
    timeout_s: float = 30.0
    grace_s: float = 30.0
    abandoned_s: float = 600.0


@contextmanager
def milvus_errors() -> Iterator[None]:
    """Whatever Milvus or the way to it raises, as StorageFailed."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError, OSError) as error:
        raise StorageFailed(f"Milvus failed: {error}") from error


class Link:
    """One connection, used by many threads. Reads are strongly consistent where nothing else is said."""

    def __init__(self, settings: MilvusSettings) -> None:
        """Connect. Raises MilvusUnavailable, StorageFailed."""
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise MilvusUnavailable("this needs pymilvus: pip install 'clsp-service[scale]'") from error
        # It logs a traceback for every refusal, expected ones too; refusals reach callers as errors.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._settings = settings
        with milvus_errors():
            self._client: Any = self._connect(MilvusClient)

    def _connect(self, client: Callable[..., Any]) -> Any:
        """A client. Its first call is the only one that pymilvus doesn't repeat when a connection breaks under it."""
        import grpc
        from pymilvus.exceptions import MilvusException

        def connected() -> Any:
            options = {"grpc.keepalive_time_ms": _KEEPALIVE_MS}
            settings = self._settings
            return client(uri=settings.uri, token=settings.token, timeout=settings.timeout_s, grpc_options=options)

        try:
            return connected()
        except MilvusException as error:
            # Nobody answering in time has another cause, and was waited for.
            if not isinstance(error.__cause__, grpc.RpcError):
                raise
            return connected()

    def close(self) -> None:
        self._client.close()

    def create_segments(self, name: str, dim: int) -> None:
        """A collection of one row a segment, loaded."""
        from pymilvus import DataType

        texts = {"pk": 4096, "item": 4096, "info": _TEXT}
        numbers = {"owner": DataType.INT64, "txn": DataType.INT64, "made": DataType.INT64, "ordinal": DataType.INT32}
        schema = self._schema(texts, "pk")
        for field, kind in {**numbers, "start_s": DataType.DOUBLE, "end_s": DataType.DOUBLE}.items():
            schema.add_field(field, kind)
        tokens = {"element_type": DataType.VARCHAR, "max_length": TOKEN_CHARS, "max_capacity": MAX_TOKENS}
        schema.add_field("facts", DataType.ARRAY, **tokens)
        schema.add_field("sortable", DataType.JSON)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        self._create(name, schema, self._settings.index_type, ("item", "owner", "txn", "ordinal", "facts"))

    def ensure_log(self, name: str) -> None:
        """The collection of what is known of the others; made once."""
        from pymilvus import DataType

        with milvus_errors():
            there = self._client.has_collection(name)
        if there:
            return
        schema = self._schema({"pk": 512, "home": 512, "kind": 16, "body": _TEXT}, "pk")
        schema.add_field("nothing", DataType.FLOAT_VECTOR, dim=2)  # Milvus wants a vector everywhere
        # The same definition again, from a replica that starts at the same time, is no error.
        self._create(name, schema, "FLAT", ("home", "kind"))

    def resolve(self, alias: str) -> str | None:
        """The collection that an alias stands for, if there is one."""
        from pymilvus.exceptions import MilvusException

        with milvus_errors():
            try:
                return str(self._client.describe_alias(alias)["collection_name"])
            except MilvusException as error:
                if _absent(error):
                    return None
                raise

    def name(self, collection: str, alias: str) -> bool:
        """Give a collection its alias; False if the alias is taken. Atomic among all clients."""
        from pymilvus.exceptions import MilvusException

        with milvus_errors():
            try:
                self._client.create_alias(collection_name=collection, alias=alias)
            except MilvusException:
                if self.resolve(alias) not in (None, collection):
                    return False
                raise
        return True

    def unname(self, alias: str) -> None:
        with milvus_errors():
            self._client.drop_alias(alias)

    def drop(self, collection: str) -> None:
        with milvus_errors():
            self._client.drop_collection(collection)

    def collections(self) -> list[str]:
        with milvus_errors():
            return list(self._client.list_collections())

    def insert(self, collection: str, rows: Sequence[Row]) -> None:
        """Add rows, in calls of a bounded size."""
        with milvus_errors():
            for start in range(0, len(rows), _INSERT_ROWS):
                self._client.insert(collection, rows[start : start + _INSERT_ROWS])

    def put(self, collection: str, row: Row) -> None:
        """Add or replace one row by its primary key."""
        with milvus_errors():
            self._client.upsert(collection, [row])

    def delete(self, collection: str, expression: str) -> None:
        with milvus_errors():
            self._client.delete(collection, filter=expression)

    def count(self, collection: str, expression: str) -> int:
        with milvus_errors():
            found = self._client.query(
                collection, filter=expression, output_fields=["count(*)"], consistency_level="Strong"
            )
        return int(found[0]["count(*)"])

    def find(
        self, collection: str, expression: str, fields: Sequence[str], *, limit: int = MAX_HITS, now: bool = True
    ) -> list[Row]:
        """Rows in no order, of which there are not more than one answer holds.

        Without `now` Milvus answers from what it has read of its log: without a wait, and what is new may be missing.
        """
        level = "Strong" if now else "Eventually"
        with milvus_errors():
            rows = self._client.query(
                collection, filter=expression, output_fields=list(fields), limit=limit, consistency_level=level
            )
        return list(rows)

    def scan(
        self, collection: str, expression: str, fields: Sequence[str], *, limit: int | None = None
    ) -> Iterator[Row]:
        """Rows by primary key. The iterator asks for the keys after the last one, so it relies on their order too."""
        batch = min(limit or _PAGE, _PAGE)
        with milvus_errors():
            pages = self._client.query_iterator(
                collection,
                batch_size=batch,
                limit=-1 if limit is None else limit,
                filter=expression,
                output_fields=list(fields),
                consistency_level="Strong",
            )
            try:
                while page := pages.next():
                    yield from page
            finally:
                pages.close()

    def nearest(
        self, collection: str, vector: Any, limit: int, expression: str, fields: Sequence[str], effort: int | None
    ) -> list[Row]:
        """The nearest rows by inner product, best first, each with its `score`."""
        options: dict[str, Any] = {}
        if effort and self._settings.index_type.startswith("IVF"):
            options["search_params"] = {"params": {"nprobe": effort}}
        elif effort and self._settings.index_type.startswith("HNSW"):
            options["search_params"] = {"params": {"ef": max(effort, limit)}}
        with milvus_errors():
            (hits,) = self._client.search(
                collection,
                data=[vector],
                anns_field="vector",
                limit=limit,
                filter=expression,
                output_fields=list(fields),
                consistency_level="Strong",
                **options,
            )
        return [{**hit["entity"], "score": float(hit["distance"])} for hit in hits]

    @staticmethod
    def together(*calls: Callable[[], Any]) -> list[Any]:
        """Answers of independent reads: a server holds each one back for its next tick, and so all for the same one."""
        if len(calls) < 2:
            return [call() for call in calls]
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            return [answer.result() for answer in [pool.submit(call) for call in calls]]

    def _schema(self, texts: dict[str, int], primary: str) -> Any:
        from pymilvus import DataType, MilvusClient

        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        for field, length in texts.items():
            schema.add_field(field, DataType.VARCHAR, max_length=length, is_primary=field == primary)
        return schema

    def _create(self, name: str, schema: Any, index_type: str, scalars: Sequence[str]) -> None:
        from pymilvus.exceptions import MilvusException

        with milvus_errors():
            # One shard: rows of one call are then in one log, in order.
            self._client.create_collection(name, schema=schema, num_shards=1, consistency_level="Strong")
            self._index(name, schema.fields[-1].name, index_type=index_type, metric_type="IP")
            self._client.load_collection(name)
        for field in scalars:
            try:
                self._index(name, field, index_type="INVERTED")
            except MilvusException as error:
                # Milvus Lite has none for arrays, 2.3 servers none at all; filters are then slower and not other.
                _log.debug("no index on %s.%s: %s", name, field, error)

    def _index(self, name: str, field: str, **options: Any) -> None:
        wanted = self._client.prepare_index_params()
        wanted.add_index(field, **options)
        self._client.create_index(name, wanted, sync=False)  # there is nothing to wait for: it is empty


def _absent(error: Any) -> bool:
    # 100: collection not found; 1600: alias not found.
    return error.code in (100, 1600) or "not exist" in str(error) or "not found" in str(error)
