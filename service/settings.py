"""Every option of the service in one place, with its unit and default; nothing else reads the environment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from index.ann.plan import IndexSettings
from service.core.setting_types import ApiKey as ApiKey
from service.core.setting_types import IngestRoot as IngestRoot
from service.core.setting_types import Scope as Scope

Seconds = float
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

DEFAULT_BUNDLE = Path(__file__).resolve().parent.parent / "models" / "clsp-small"
MIB = 1024 * 1024


class Settings(BaseSettings):
    """Options of the service. Each field `x` is read from the environment variable `CLSP_X`.

    Lists are written comma separated or as JSON. Raises pydantic.ValidationError, which names the field, at start-up
    and never later.
    """

    model_config = SettingsConfigDict(env_prefix="CLSP_", frozen=True, extra="forbid")

    # What is served, and from where
    bundle: Path = Field(DEFAULT_BUNDLE, description="Folder of the model bundle.")
    verify_bundle: bool = Field(True, description="Check the bundle's SHA-256 hashes at start-up.")
    data_dir: Path = Field(
        Path("data"), description="Folder of the catalog and the kept audio; one process per folder."
    )
    keep_media: bool = Field(True, description="Keep the uploaded audio, so that hits can be played.")
    milvus_uri: str = Field(
        "",
        description="Milvus in the place of the data folder: http://host:19530, or a file name.db for Milvus Lite; "
        "empty keeps the index in the data folder. See scale.md.",
    )
    milvus_token: SecretStr = Field(SecretStr(""), description="user:password or API key for Milvus.")
    milvus_prefix: str = Field(
        "clsp",
        pattern="^[A-Za-z][A-Za-z0-9]{0,31}$",
        description="Begins the names of everything in Milvus; replicas have the same one.",
    )
    milvus_index_type: str = Field(
        "AUTOINDEX", description="Milvus' index of the vectors: AUTOINDEX, FLAT, HNSW, IVF_FLAT."
    )
    milvus_timeout_s: Seconds = Field(30.0, gt=0, description="Maximum time of one call to Milvus, seconds.")
    milvus_media_dir: Path | None = Field(
        None, description="With Milvus, the folder of kept audio: one that all replicas share."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    root_path: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9][A-Za-z0-9._~-]*)*/?$",
        description="Path prefix under which a proxy serves this, as /clsp, where it sends no X-Forwarded-Prefix.",
    )
    keep_alive_s: Seconds = Field(
        75.0,
        ge=1,
        description="A connection without a request is closed after this; more than the proxy in front waits, seconds.",
    )
    head_timeout_s: Seconds = Field(
        20.0, gt=0, description="Maximum time from a request's first byte to the end of its headers, seconds."
    )
    max_head_bytes: int = Field(
        64 * 1024, ge=4096, description="Maximum size of a request line and headers together, bytes (431 beyond)."
    )
    log_level: LogLevel = Field("info", description="Lowest level that is logged.")
    log_format: LogFormat = Field("text", description="Lines for people, or one JSON object a line.")
    otel_endpoint: str = Field(
        "", description="Where traces go: an OTLP/HTTP address such as http://collector:4318/v1/traces; empty is off."
    )
    otel_sample_ratio: float = Field(1.0, ge=0, le=1, description="Share of traces begun here that are kept.")

    # Who may call
    api_keys: Annotated[list[ApiKey], NoDecode] = Field(
        default_factory=list, description="name:scope[+scope]:sha256hex entries; none leaves the service open."
    )
    cors_origins: Annotated[list[str], NoDecode] = Field(
        default_factory=list, description="Origins that browsers may call from; none closes CORS."
    )
    allowed_hosts: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Names that callers may know the service by, as in the Host header; *.example.com and * work. "
        "None: without keys IP addresses, localhost and names without a dot, with keys all.",
    )
    key_concurrency: int = Field(
        0, ge=0, description="Maximum number of requests of one key at a time (429 beyond); 0 is no limit."
    )
    key_requests_per_s: float = Field(
        0.0, ge=0, description="Maximum number of requests a second of one key (429 beyond); 0 is no limit."
    )
    key_burst: int = Field(20, ge=1, description="Requests that one key may send at once before its rate counts.")
    max_requests: int = Field(
        256, ge=1, description="Maximum number of requests being answered at one time (503 beyond)."
    )
    max_lag_s: Seconds = Field(
        0.5,
        gt=0,
        description="Maximum time that what arrives may wait in the event loop before it is handled (503 beyond, "
        "where a batch of requests is under way).",
    )
    max_bodies_bytes: int = Field(
        1024 * MIB, ge=1, description="Maximum body bytes of all requests being answered (503 beyond)."
    )

    # The request
    max_body_bytes: int = Field(256 * MIB, ge=1, description="Maximum size of a request body, bytes.")
    body_idle_s: Seconds = Field(
        20.0,
        gt=0,
        description="Maximum silence within a request body (408 beyond); a whole one has CLSP_REQUEST_TIMEOUT_S. "
        "Shorter than whoever stops the service waits for it, seconds.",
    )
    max_json_values: int = Field(
        250_000,
        ge=1000,
        description="Maximum number of values in one JSON body: each comma, [ and { counts as one (413 beyond).",
    )
    max_parts: int = Field(64, ge=1, description="Maximum number of files, clips or pairs in one request.")
    request_timeout_s: Seconds = Field(300.0, gt=0, description="Deadline of a request; late work is dropped with 504.")
    max_texts: int = Field(
        256,
        ge=1,
        description="Maximum number of texts in one request; of all prompts of "
        "labels, nine tenths of CLSP_QUEUE_TEXTS.",
    )
    max_text_chars: int = Field(8192, ge=1, description="Maximum length of a text, characters.")
    max_labels: int = Field(256, ge=2, description="Maximum number of labels in one classification.")
    max_pairs: int = Field(64, ge=1, description="Maximum number of (clip, caption) pairs in one scoring request.")
    max_curve_points: int = Field(400, ge=1, description="Maximum number of windows of one clip's curve over time.")
    max_query_parts: int = Field(16, ge=1, description="Maximum number of parts in one search query.")
    max_top_k: int = Field(1000, ge=1, description="Maximum number of hits that one search may ask for.")
    page_size_max: int = Field(1000, ge=1, description="Maximum number of items on one page of a listing.")
    max_metadata_bytes: int = Field(
        16 * 1024, ge=2, description="Maximum size of the metadata object of an item, bytes of JSON."
    )

    # Audio
    max_audio_bytes: int = Field(128 * MIB, ge=1, description="Maximum size of an encoded clip, bytes.")
    max_audio_s: Seconds = Field(3600.0, gt=0, description="Maximum length of a clip after decoding, seconds.")
    max_channels: int = Field(8, ge=1, le=64, description="Maximum number of channels of a clip; they are averaged.")
    max_decoded_samples: int = Field(
        3600 * 48_000 * 2,
        ge=1,
        description="Maximum number of samples of a clip, all channels together: an hour at 48 kHz in stereo. "
        "Raise it with CLSP_MAX_AUDIO_S.",
    )
    max_request_audio_s: Seconds = Field(3600.0, gt=0, description="Maximum decoded audio of one request, seconds.")
    min_sample_rate: int = Field(4000, ge=1000, description="Lowest sample rate of a clip, Hz.")
    max_sample_rate: int = Field(192_000, le=768_000, description="Highest sample rate of a clip, Hz.")
    min_peak_dbfs: float = Field(-80.0, le=0, description="A clip whose peak is below this is refused as silent, dBFS.")
    url_allow: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Addresses that clips may be fetched from, such as https://media.example.com/clips/; none is off.",
    )
    url_private_networks: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Networks that are not public and may be fetched from all the same, such as 10.1.0.0/16.",
    )
    url_timeout_s: Seconds = Field(10.0, gt=0, description="Maximum time that fetching one clip may take, seconds.")
    decode_workers: int = Field(
        2,
        ge=1,
        le=64,
        description="Short clips decoded at the same time, and half as many long ones; bounds decoding memory.",
    )

    # The encoders
    threads: int = Field(0, ge=0, le=1024, description="Threads of one encoder; 0 takes the container's CPU quota.")
    batch_audio_s: Seconds = Field(30.0, gt=0, description="Maximum padded audio in one speech batch, seconds.")
    batch_texts: int = Field(32, ge=1, description="Maximum number of texts in one text batch.")
    queue_audio_s: Seconds = Field(
        9000.0, gt=0, description="Maximum windowed audio waiting for encoding, of which bulk is nine tenths, seconds."
    )
    bulk_audio_s: Seconds = Field(
        60.0, gt=0, description="A clip longer than this lets shorter ones go first, seconds."
    )
    max_wait_s: Seconds = Field(
        10.0, gt=0, description="Maximum expected wait for an encoder, beyond which interactive work is refused (503)."
    )
    queue_texts: int = Field(
        4096, ge=1, description="Maximum number of texts waiting for the text encoder, of which bulk is nine tenths."
    )
    text_cache_size: int = Field(4096, ge=0, description="Text embeddings kept in memory; 0 turns the cache off.")
    heartbeat_timeout_s: Seconds = Field(
        15.0, gt=0, description="An encoder busy with one batch for longer than this is reported as not ready."
    )
    max_failed_batches: int = Field(5, ge=1, description="Batches that may fail in a row before readiness turns false.")
    unhealthy_exit_s: Seconds = Field(
        60.0, gt=0, description="Encoders that stay broken for longer than this end the process, to be restarted."
    )

    # The index
    index_memory_mib: int = Field(
        0, ge=0, description="What the indexes of all collections together may hold in memory, MiB; 0 is half of it."
    )
    index_flat_mib: int = Field(
        64, ge=1, description="A collection whose vectors are no larger is scanned whole, exactly, MiB."
    )
    index_delta_mib: int = Field(
        16, ge=1, description="Vectors that came since an index was built are scanned whole, up to this size, MiB."
    )
    index_recall: float = Field(
        0.95, gt=0, le=1, description="recall@10 against exact search that a build sets the search effort for."
    )
    index_exact_ids: int = Field(
        2000, ge=0, description="A filter that leaves no more segments than this is answered exactly."
    )
    index_rerank: int = Field(
        0, ge=0, description="Candidates ranked by their exact vectors a wanted hit; 0 is what the kind of index needs."
    )
    index_regrow: float = Field(
        4.0, gt=1, description="An index is trained anew when the collection has grown this many times."
    )
    index_dead_share: float = Field(
        0.25, gt=0, le=1, description="An index is built anew when more than this share of it was deleted."
    )
    index_snapshot_share: float = Field(
        0.05, gt=0, le=1, description="A snapshot is saved when this share of the index is missing in the last one."
    )
    index_build_threads: int = Field(1, ge=1, le=1024, description="Threads of an index build.")
    index_build_niceness: int = Field(
        10, ge=0, le=19, description="How much a build stands back for everything else, as in nice(1)."
    )
    index_build_apart: bool = Field(
        True, description="Build in a process of its own, which may crash or run out of memory without harm."
    )
    index_filter_cache_mib: int = Field(64, ge=0, description="Memory for remembered answers of filters, MiB.")

    # Bulk ingest of what lies on the server
    ingest_roots: Annotated[list[IngestRoot], NoDecode] = Field(
        default_factory=list,
        description="Folders that ingest jobs may read, as name=/path or /path, whose last part is then the name; "
        "none is off. Links below them are never followed.",
    )
    ingest_jobs: int = Field(1, ge=1, le=16, description="Maximum number of ingest jobs that run at the same time.")
    ingest_jobs_waiting: int = Field(
        100, ge=1, description="Maximum number of ingest jobs that wait for their turn (429 beyond)."
    )
    ingest_jobs_kept: int = Field(
        1000, ge=0, description="Maximum number of ingest jobs that are remembered after they have ended."
    )
    ingest_max_entries: int = Field(10_000_000, ge=1, description="Maximum number of clips in one ingest job.")
    ingest_max_line_bytes: int = Field(1 * MIB, ge=64, description="Maximum length of a line of a manifest, bytes.")
    ingest_decode_workers: int = Field(2, ge=1, le=64, description="Clips that one ingest job decodes at a time.")
    ingest_ahead_s: Seconds = Field(
        300.0, gt=0, description="Maximum audio of one ingest job between decoding and the disk, seconds."
    )
    events_heartbeat_s: Seconds = Field(
        15.0,
        gt=0,
        description="Maximum silence of an event stream before a sign of life, seconds.",
    )

    @field_validator(
        "api_keys", "cors_origins", "allowed_hosts", "url_allow", "url_private_networks", "ingest_roots", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Environment variables carry lists comma separated, or as JSON where a value holds a comma."""
        if not isinstance(value, str):
            return value
        text = value.strip()
        if text.startswith("["):
            return json.loads(text)
        return [part.strip() for part in text.split(",") if part.strip()]

    @field_validator("url_allow")
    @classmethod
    def _whole_urls(cls, prefixes: Sequence[str]) -> Sequence[str]:
        for prefix in prefixes:
            parts = urlsplit(prefix)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
                raise ValueError(f"{prefix!r} is not an address such as https://media.example.com/clips/")
        return prefixes

    @field_validator("url_private_networks")
    @classmethod
    def _networks(cls, networks: Sequence[str]) -> Sequence[str]:
        for network in networks:
            ip_network(network)  # its ValueError names what is wrong
        return networks

    @field_validator("api_keys")
    @classmethod
    def _distinct(cls, keys: Sequence[ApiKey]) -> Sequence[ApiKey]:
        if len({key.name for key in keys}) != len(keys):
            raise ValueError("two API keys share one name")
        return keys

    @field_validator("ingest_roots")
    @classmethod
    def _distinct_roots(cls, roots: Sequence[IngestRoot]) -> Sequence[IngestRoot]:
        if len({root.name for root in roots}) != len(roots):
            raise ValueError("two roots share one name; write name=/path")
        return roots

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.milvus_uri and self.keep_media and self.milvus_media_dir is None:
            # A replica could not play what another one keeps in a folder of its own.
            raise ValueError("milvus_uri with keep_media needs milvus_media_dir, a folder that all replicas share")
        if self.min_sample_rate > self.max_sample_rate:
            raise ValueError("min_sample_rate is above max_sample_rate")
        if self.max_audio_s > self.queue_audio_s:
            # A clip larger than the whole queue could never be admitted, and its caller would retry for ever.
            raise ValueError("queue_audio_s must be at least max_audio_s")
        if self.max_texts > self.queue_texts:
            raise ValueError("queue_texts must be at least max_texts")
        return self

    def indexing(self) -> IndexSettings:
        """The index's options, as the index takes them."""
        return IndexSettings(
            memory_bytes=self.index_memory_mib * MIB,
            flat_bytes=self.index_flat_mib * MIB,
            delta_bytes=self.index_delta_mib * MIB,
            target_recall=self.index_recall,
            exact_ids=self.index_exact_ids,
            rerank=self.index_rerank,
            regrow=self.index_regrow,
            dead_share=self.index_dead_share,
            snapshot_share=self.index_snapshot_share,
            build_threads=self.index_build_threads,
            build_niceness=self.index_build_niceness,
            build_apart=self.index_build_apart,
            filter_cache_bytes=self.index_filter_cache_mib * MIB,
        )
