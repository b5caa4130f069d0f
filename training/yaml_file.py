"""A YAML file that people wrote by hand: what it holds, or the line at which it is none."""

from pathlib import Path
from typing import Any

import yaml


class YamlError(ValueError):
    """The file is no YAML; the message names it and, where known, the line."""


def read_yaml(path: Path) -> Any:
    """The document of a file, None for an empty one. Raises YamlError, or OSError when it can't be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise YamlError(f"{path}{place}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:  # letters that no text has, dates that no calendar has
        raise YamlError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
