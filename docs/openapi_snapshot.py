"""Writes docs/openapi.json, which a test compares with the running service: a change of the API shows in a diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.app import create_app
from service.settings import Settings

PAGE = Path(__file__).parent / "openapi.json"


def document() -> dict[str, Any]:
    """The OpenAPI document without the version, which changes with each release."""
    found = create_app(Settings(api_keys=[])).openapi()
    return {**found, "info": {name: told for name, told in found["info"].items() if name != "version"}}


if __name__ == "__main__":
    PAGE.write_text(json.dumps(document(), indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
