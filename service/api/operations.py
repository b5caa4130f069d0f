"""For those who run the service: liveness, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from service.api.deps import ANY_CALL, ServicesDep, problems
from service.core.problems import ProblemError
from service.http.auth import require_read
from service.schemas import Health
from service.telemetry.metrics import CONTENT_TYPE

router = APIRouter(tags=["operations"])


@router.get("/healthz", responses=problems("unknown-host"))
@router.head("/healthz", include_in_schema=False)
async def healthz() -> Health:
    """Whether the process answers at all. Restart it where this fails."""
    return Health(status="ok")


@router.get("/readyz", responses=problems("unavailable", "unknown-host"))
@router.head("/readyz", include_in_schema=False)
async def readyz(services: ServicesDep) -> Health:
    """Whether the service can do its work: the encoders live and their last inference went well. Send traffic then."""
    if not services.engine.ready:
        raise ProblemError("unavailable", "the encoders are not ready", headers={"Retry-After": "1"})
    return Health(status="ok")


@router.get(
    "/metrics",
    dependencies=[Depends(require_read)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(*ANY_CALL)},
)
async def metrics(services: ServicesDep) -> Response:
    """Prometheus metrics."""
    return Response(services.metrics.render(), headers={"Content-Type": CONTENT_TYPE})
