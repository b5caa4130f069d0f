"""Vectors and metadata of speech libraries: durable, filtered, searchable. Knows nothing of speech or HTTP.

from index.local.store import LocalStore
from index.types import NewItem, NewSegment
from index.filters import parse_filter

with LocalStore(Path("data")) as store:
    store.create_collection("voices", dim=384, identity="bundle-fingerprint")
    store.upsert("voices", items, identity="bundle-fingerprint")
    hits = store.search("voices", query, top_k=10, where=parse_filter({"gender": "female"}))
"""
