"""Which backend holds the vectors: a setting, and nothing else in the service knows."""

from __future__ import annotations

from index.backend import Store
from index.local.store import LocalStore
from index.types import Limits
from service.settings import Settings


def store_limits(settings: Settings) -> Limits:
    """Bounds on what one item may hold, for every way in."""
    return Limits(max_metadata_bytes=settings.max_metadata_bytes)


def open_store(settings: Settings) -> Store:
    """The data folder on this machine, or Milvus where `milvus_uri` names one. Raises the index's errors."""
    if not settings.milvus_uri:
        return LocalStore(
            settings.data_dir,
            keep_media=settings.keep_media,
            limits=store_limits(settings),
            settings=settings.indexing(),
        )
    from index.milvus.connection import MilvusSettings
    from index.milvus.index import MilvusStore

    milvus = MilvusSettings(
        uri=settings.milvus_uri,
        token=settings.milvus_token.get_secret_value(),
        prefix=settings.milvus_prefix,
        index_type=settings.milvus_index_type,
        timeout_s=settings.milvus_timeout_s,
    )
    return MilvusStore(
        milvus, media=settings.milvus_media_dir if settings.keep_media else None, limits=store_limits(settings)
    )
