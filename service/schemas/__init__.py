"""Request and response models with examples: the OpenAPI page made from them is the manual."""

from service.schemas.collections import CollectionInfo, CollectionList, CollectionRequest
from service.schemas.common import Health, Problem, Segment
from service.schemas.details import AttributeScore, CurvePoint, ScoreOptions, SentenceScore, TurnScore
from service.schemas.embeddings import Embedding, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage
from service.schemas.items import (
    AddedItem,
    AddItemsRequest,
    AddItemsResponse,
    FormMetadata,
    Item,
    ItemPage,
    NewItem,
    PatchItemRequest,
)
from service.schemas.jobs import (
    IngestRequest,
    IngestRoot,
    IngestRoots,
    Job,
    JobError,
    JobList,
    JobState,
    RefusedClip,
)
from service.schemas.judging import (
    ClassifyRequest,
    ClassifyResponse,
    ClipLabels,
    Pair,
    PairScore,
    ScoreRequest,
    ScoreResponse,
)
from service.schemas.models import ModelInfo, ModelList
from service.schemas.search import AppliedPart, Hit, QueryPart, SearchRequest, SearchResponse

__all__ = [
    "AddItemsRequest",
    "AddItemsResponse",
    "AddedItem",
    "AppliedPart",
    "AttributeScore",
    "ClassifyRequest",
    "ClassifyResponse",
    "ClipLabels",
    "CollectionInfo",
    "CollectionList",
    "CollectionRequest",
    "CurvePoint",
    "Embedding",
    "EmbeddingRequest",
    "EmbeddingResponse",
    "EmbeddingUsage",
    "FormMetadata",
    "Health",
    "Hit",
    "IngestRequest",
    "IngestRoot",
    "IngestRoots",
    "Item",
    "ItemPage",
    "Job",
    "JobError",
    "JobList",
    "JobState",
    "ModelInfo",
    "ModelList",
    "NewItem",
    "Pair",
    "PairScore",
    "PatchItemRequest",
    "Problem",
    "QueryPart",
    "RefusedClip",
    "ScoreOptions",
    "ScoreRequest",
    "ScoreResponse",
    "SearchRequest",
    "SearchResponse",
    "Segment",
    "SentenceScore",
    "TurnScore",
]
