"""The page at `/` and the manual at `/docs`: static files that load nothing from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse

WEB: Final = Path(__file__).resolve().parent.parent / "web"
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; media-src 'self' blob:; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-cache",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
async def page() -> FileResponse:
    """Search, classify and score in a browser."""
    return FileResponse(WEB / "index.html", media_type="text/html", headers=_HEADERS)


@router.api_route("/docs", methods=["GET", "HEAD"])
async def manual() -> FileResponse:
    """The OpenAPI document, readable."""
    return FileResponse(WEB / "docs.html", media_type="text/html", headers=_HEADERS)


def _asset(name: str, media_type: str) -> None:
    async def asset() -> FileResponse:
        return FileResponse(WEB / name, media_type=media_type, headers={"Cache-Control": "no-cache"})

    router.add_api_route(f"/web/{name}", asset, methods=["GET", "HEAD"], name=name)


_KINDS: Final = {".css": "text/css", ".js": "text/javascript"}
for _file in sorted(WEB.iterdir()):
    if _file.suffix in _KINDS:
        _asset(_file.name, _KINDS[_file.suffix])
