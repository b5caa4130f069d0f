"""Which backend holds the vectors: a setting, and nothing else in the service knows."""

from __future__ import annotations

from index.backend import Store
from index.store import LocalStore
from service.settings import Settings


def open_store(settings: Settings) -> Store:
    """The data folder on this machine, or Milvus where `index_uri` names one. Raises the index's errors."""
    if not settings.index_uri:
        return LocalStore(settings.data_dir, keep_media=settings.keep_media, settings=settings.indexing())
    from index.milvus_index import MilvusStore
    from index.milvus_link import MilvusSettings

    milvus = MilvusSettings(
        uri=settings.index_uri,
        token=settings.index_token.get_secret_value(),
        prefix=settings.index_prefix,
        index_type=settings.index_type,
        timeout_s=settings.index_timeout_s,
    )
    return MilvusStore(milvus, media=settings.index_media_dir if settings.keep_media else None)
