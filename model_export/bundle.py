"""The model bundle: what lies in the folder, how it is written, and how it is read back without torch."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from model_export.windows import check_windows

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
SPEECH, TEXT, TOKENIZER, CARD = "speech.onnx", "text.onnx", "tokenizer.json", "README.md"


class BundleError(ValueError):
    """The folder is not a bundle that can be trusted: absent, damaged, changed or of another format."""


class FileEntry(BaseModel):
    """One file of the bundle."""

    model_config = ConfigDict(frozen=True)
    sha256: str
    bytes: int = Field(ge=0)


class Interval(BaseModel):
    """A figure from 0 to 1 with its 95 % interval."""

    model_config = ConfigDict(frozen=True)
    value: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class MatchMap(BaseModel):
    """P(a text describes the clip) = sigmoid(scale * cosine + bias) (Platt, 1999), fitted on held-out pairs."""

    model_config = ConfigDict(frozen=True)
    scale: float = Field(gt=0)
    bias: float
    expected_calibration_error: Interval | None = Field(None, description="of maps fitted without the clips judged")
    pairs: int = Field(0, ge=0, description="pairs that it was fitted on, half of them mismatched; 0 where unknown")


class Calibration(MatchMap):
    """The map of captions, and what else held-out pairs told.

    Bundles written before table, error and the labels' map were part of the format lack them, and stay readable.
    """

    mismatched_percentiles: list[float] | None = Field(
        None, min_length=101, max_length=101, description="percentiles 0 to 100 of mismatched pairs' cosines"
    )
    labels: MatchMap | None = Field(
        None, description="the map of prompts that state one thing, such as a label's: their cosines lie higher"
    )

    @field_validator("mismatched_percentiles")
    @classmethod
    def _in_order(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and (value != sorted(value) or not -1.001 <= value[0] <= value[-1] <= 1.001):
            raise ValueError("percentiles are cosines in rising order")
        return value


class BundleManifest(BaseModel):
    """`bundle.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format_version: int
    name: str
    version: str
    licence: str
    provenance: dict[str, Any]
    embedding_dim: int = Field(gt=0)
    sample_rate: int = Field(16000, gt=0)
    window_s: float = Field(gt=0)
    hop_s: float = Field(gt=0)
    min_s: float = Field(gt=0)
    max_tokens: int = Field(gt=2)
    precision: str = Field("fp32", description="how the weights are stored; sums are float32")
    logit_scale: float = Field(gt=0, description="exponentiated: logits are logit_scale * cosine")
    calibration: Calibration
    presets: dict[str, dict[str, list[str]]] = Field(description="preset -> label -> prompts")
    reference_captions: list[str] = Field(description="captions of other clips, for a score's percentile")
    files: dict[str, FileEntry]
    verification: dict[str, Any] = Field(description="what was measured at export, against the torch modules")

    @field_validator("format_version")
    @classmethod
    def _known_format(cls, value: int) -> int:
        if value != FORMAT_VERSION:
            raise ValueError(f"format {value} is not the format {FORMAT_VERSION} that this release reads")
        return value

    @model_validator(mode="after")
    def _all_is_heard(self) -> "BundleManifest":
        check_windows(sample_rate=self.sample_rate, window_s=self.window_s, hop_s=self.hop_s)
        return self


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk that was read, and verified unless told otherwise."""

    path: Path
    manifest: BundleManifest

    @classmethod
    def load(cls, path: Path | str, *, verify: bool = True) -> "Bundle":
        """Read a bundle's manifest and, with `verify`, hash every file.

        Raises BundleError, naming the file, when something is missing, changed or malformed.
        """
        folder = Path(path)
        try:
            manifest = BundleManifest.model_validate_json((folder / MANIFEST).read_bytes())
        except OSError as error:
            raise BundleError(f"no bundle at {folder}: {MANIFEST} can't be read ({error.strerror})") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or MANIFEST
            raise BundleError(f"{folder / MANIFEST}: {place}: {first['msg']}") from error
        bundle = cls(folder, manifest)
        for name in (SPEECH, TEXT, TOKENIZER):
            if name not in manifest.files:
                raise BundleError(f"{folder / MANIFEST} does not list {name}")
        problems = bundle.damage() if verify else []
        if problems:
            raise BundleError("; ".join(problems))
        return bundle

    def damage(self) -> list[str]:
        """Hash every file; return one line for each that is missing or differs from the manifest."""
        problems = []
        for name, entry in self.manifest.files.items():
            file = self.path / name
            if not file.is_file():
                problems.append(f"{file} is missing")
            elif file.stat().st_size != entry.bytes or hash_file(file) != entry.sha256:
                problems.append(f"{file} is not the file that was exported (sha256 differs)")
        return problems

    def fingerprint(self) -> str:
        """sha256 hex over the files' hashes, the precision and the window policy: whatever moves an embedding."""
        manifest = self.manifest
        identity = {
            "files": {name: entry.sha256 for name, entry in sorted(manifest.files.items()) if name != CARD},
            "precision": manifest.precision,
            "policy": [manifest.sample_rate, manifest.window_s, manifest.hop_s, manifest.min_s, manifest.max_tokens],
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def speech_path(self) -> Path:
        """The speech graph."""
        return self.path / SPEECH

    def text_path(self) -> Path:
        """The text graph."""
        return self.path / TEXT

    def tokenizer_path(self) -> Path:
        """The tokenizer."""
        return self.path / TOKENIZER


def hash_file(path: Path) -> str:
    """sha256 hex of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_entries(folder: Path) -> dict[str, FileEntry]:
    """An entry for every file of a folder but the manifest, by name."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != MANIFEST)
    return {file.name: FileEntry(sha256=hash_file(file), bytes=file.stat().st_size) for file in files}


def write_manifest(folder: Path, manifest: BundleManifest) -> Bundle:
    """Write `bundle.json` last, in one rename, so that a half-written folder is never a bundle."""
    partial = folder / (MANIFEST + ".partial")
    partial.write_text(json.dumps(manifest.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
    partial.replace(folder / MANIFEST)
    return Bundle.load(folder)
