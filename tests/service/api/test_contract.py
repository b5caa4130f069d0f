"""The OpenAPI document is the manual: its examples work, nothing is undocumented, and no input makes a 5xx."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.http import add, clip
from tests.support.jobs import clips, ended, start
from tests.support.paths import ROOT
from tests.support.serving import Serve

# Left out: positive_data_acceptance. A schema cannot say what a clip, a served model or a known field is, so that a
# request may well be of the right form and refused.
CHECKS = ",".join(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "negative_data_rejection",
        "missing_required_header",
        "unsupported_method",
        "use_after_free",
        "ensure_resource_availability",
        "ignored_auth",
    ]
)
ITEM = "/v1/collections/{collection}/items/{item_id}"


@pytest.fixture(scope="module")
def document(server: Any) -> dict[str, Any]:
    return dict(server.client.get("/openapi.json").json())


def test_the_api_changes_only_on_purpose(document: dict[str, Any]) -> None:
    kept = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
    now = {**document, "info": {name: told for name, told in document["info"].items() if name != "version"}}
    assert now == kept, "the API is another one; where that is meant, run `make openapi` and commit what it writes"


def schemathesis(url: str, folder: Path, *options: str, phases: str) -> None:
    """Run Schemathesis against a live service; fails with its report."""
    command = [sys.executable, "-m", "schemathesis.cli", *options, "run", f"{url}/openapi.json"]
    arguments = ["--checks", CHECKS, "--max-examples", "5", "--seed", "7", "--phases", phases]
    result = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, timeout=400)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "Tested: 27" in result.stdout, result.stdout[-2000:]


def test_no_input_makes_a_server_error(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    with serve(data_dir=data_dir) as own:
        schemathesis(own.url, tmp_path, phases="examples,coverage,fuzzing")
        assert own.client.get("/readyz").status_code == 200


def test_no_input_makes_a_server_error_where_there_is_data(serve: Serve, data_dir: Path, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    clips(tmp_path / "lib", 1)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "lib"]) as own:
        own.client.put("/v1/collections/filled")
        add(own.client, "/v1/collections/filled", "a", clip(1), gender="female", age=40)
        job = ended(own.client, start(own.client, "lib", collection="filled"))
        known = {"collection": "filled", "item_id": "a", "job_id": job["id"]}
        lines = [f'"path.{name}" = "{value}"\n' for name, value in known.items()]
        config.write_text("".join(["[parameters]\n", *lines]))
        schemathesis(own.url, tmp_path, "--config-file", str(config), phases="examples,fuzzing")
        assert own.client.get("/readyz").status_code == 200


def bodies(document: dict[str, Any]) -> list[tuple[str, str, Any]]:
    found = []
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            media = call.get("requestBody", {}).get("content", {}).get("application/json")
            if media:
                name = media["schema"]["$ref"].rsplit("/", 1)[-1]
                found.append((method, path, document["components"]["schemas"][name]["examples"][0]))
    return found


def test_the_examples_of_all_bodies_work(
    serve: Serve, data_dir: Path, tmp_path: Path, document: dict[str, Any]
) -> None:
    examples = bodies(document)
    assert len(examples) == 8
    clips(tmp_path / "recordings" / "2026", 1)
    with serve(data_dir=data_dir, ingest_roots=[tmp_path / "recordings"]) as own:
        order = {"put": 0, "post": 1, "patch": 2}
        for method, path, example in sorted(examples, key=lambda one: (order[one[0]], one[1])):
            address = path.format(collection="voices", item_id="a01")
            if address.endswith("/search"):
                example = {**example, "filter": {"gender": "female"}}
            answer = own.client.request(method, address, json=example)
            assert answer.status_code in (200, 201, 202), (method, path, answer.text)


def test_every_call_and_model_is_explained(document: dict[str, Any]) -> None:
    for path, calls in document["paths"].items():
        for method, call in calls.items():
            assert call.get("description"), (method, path)
            assert call["tags"], (method, path)
            assert "421" in call["responses"], (method, path)
            if path not in ("/healthz", "/readyz"):
                assert {"401", "403", "422", "500"} <= set(call["responses"]), (method, path)
                assert call["security"], (method, path)
            for status, answer in call["responses"].items():
                if status >= "400":
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
    assert {"206", "304"} < set(document["paths"][f"{ITEM}/audio"]["get"]["responses"])
    schemas = document["components"]["schemas"]
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)
    for name, schema in schemas.items():
        assert schema.get("description"), name
        assert schema.get("examples"), name


def test_keys_are_documented_as_needed_only_where_they_are(document: dict[str, Any]) -> None:
    assert {} in document["paths"]["/v1/models"]["get"]["security"]


def test_405_names_all_methods_of_the_address(server: Any) -> None:
    answer: httpx.Response = server.client.put("/v1/collections/c/items/a")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, GET, PATCH"
