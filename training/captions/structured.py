"""A model's answer as JSON of a known shape: asked for by schema, read with forgiveness, checked without."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from training.captions.endpoint.settings import EndpointSettings

T = TypeVar("T", bound=BaseModel)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)


class ShapeError(ValueError):
    """The answer holds no object of the wanted shape."""


def request_of(shape: type[BaseModel], options: EndpointSettings) -> dict[str, Any]:
    """What to add to a request so that the endpoint keeps to the shape, as far as it can."""
    if options.structured == "none":
        return {}
    if options.structured == "json_object":
        return {"response_format": {"type": "json_object"}}
    schema = shape.model_json_schema() | {"additionalProperties": False}
    form = {"name": shape.__name__.lower(), "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def read(shape: type[T], text: str) -> T:
    """The last JSON object in a text that has the shape; thoughts, fences and words around it are passed over.

    Raises ShapeError.
    """
    text = _THOUGHT.sub("", text).rpartition("</think>")[2]
    if "<think>" in text:
        raise ShapeError("the token limit was reached before the end of its thoughts: raise MAX_TOKENS")
    decoder, fault = json.JSONDecoder(), "no JSON object in it"
    for start in reversed([match.start() for match in re.finditer(r"\{", text)]):
        try:
            return shape.model_validate(decoder.raw_decode(text, start)[0])
        except ValidationError as error:
            fault = f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
        except ValueError:
            continue
    raise ShapeError(f"{fault}: {text[:120]!r}")
