"""The OpenAPI document: FastAPI's own, with the bodies that handlers read themselves put among the components."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.schemas import Problem

DESCRIPTION: Final = """
Search, classify and score speech by how it sounds.

* Audio is WAV, FLAC, OGG, MP3, M4A/MP4, WebM, AAC, AIFF, AU, CAF, W64, AMR or WMA:
  multipart files, or `data:` URIs in JSON.
* Addresses (`https://...`) stand for audio only where the operator lists them (`CLSP_URL_ALLOW`).
* 503 with `Retry-After`: there is more work than time, and nothing of this request was done. 429: this key's share.
* Errors are `application/problem+json` (RFC 9457). Switch on `type`; `field` and `limit` say what to change.
* Every answer carries `X-Request-ID`; send your own to find it in the log.
* Where API keys are configured: `Authorization: Bearer <key>`, with scope `read` or `write`.
* Embeddings compare only under one `identity`, which every answer names.
"""


def install_openapi(app: FastAPI, *, keys_needed: bool) -> None:
    """Replace `app.openapi`; the document is made once. Without `keys_needed` it says that calls go without a key."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=DESCRIPTION.strip(), routes=app.routes
            )
            _move_definitions(document)
            if not keys_needed:
                _open_calls(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _open_calls(document: dict[str, Any]) -> None:
    for path in document["paths"].values():
        for operation in path.values():
            if "security" in operation:
                operation["security"].append({})


def _move_definitions(document: dict[str, Any]) -> None:
    components: dict[str, Any] = document.setdefault("components", {}).setdefault("schemas", {})
    components[Problem.__name__] = Problem.model_json_schema()
    for path in document["paths"].values():
        for operation in path.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                schema = media["schema"]
                components.update(schema.pop("$defs", {}))
                if "title" in schema:
                    components[schema["title"]] = schema
                    media["schema"] = {"$ref": f"#/components/schemas/{schema['title']}"}
            # FastAPI announces its own shape of 422 where a route names no problem of that status.
            if "HTTPValidationError" in str(operation.get("responses", {}).get("422")):
                del operation["responses"]["422"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
