"""The served model, in OpenAI's list shape."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from service.api.deps import ANY_CALL, ServicesDep, problems
from service.core.problems import ProblemError
from service.http.auth import require_read
from service.schemas import ModelInfo, ModelList
from service.usecases.services import Services

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", dependencies=[Depends(require_read)], responses=problems(*ANY_CALL))
async def list_models(services: ServicesDep) -> ModelList:
    """The model that this service runs, its embedding identity, windows and presets."""
    return ModelList(data=[_shown(services)])


@router.get("/{model}", dependencies=[Depends(require_read)], responses=problems(*ANY_CALL, "unknown-model"))
async def get_model(model: str, services: ServicesDep) -> ModelInfo:
    """One model by name."""
    info = _shown(services)
    if model != info.id:
        raise ProblemError("unknown-model", f"{model[:80]!r} is not served here", field="model", limit=info.id)
    return info


def _shown(services: Services) -> ModelInfo:
    manifest = services.engine.manifest
    return ModelInfo(
        id=manifest.name,
        created=0,
        owned_by="clsp-service",
        version=manifest.version,
        licence=manifest.licence,
        identity=services.engine.identity,
        scoring=services.engine.scoring,
        embedding_dim=manifest.embedding_dim,
        sample_rate=manifest.sample_rate,
        window_s=manifest.window_s,
        hop_s=manifest.hop_s,
        min_s=manifest.min_s,
        max_tokens=manifest.max_tokens,
        logit_scale=manifest.logit_scale,
        presets={name: sorted(labels) for name, labels in manifest.presets.items()},
    )
