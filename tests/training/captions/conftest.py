"""Clips to caption, and endpoint settings whose pauses suit a test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from training.captions.endpoint import EndpointSettings
from training.captions.formats import Row

MakeClips = Callable[..., list[Row]]


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Twelve short files, each with a sound of its own, as rows."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    rows: list[Row] = []
    for number in range(12):
        time = np.arange(6400) / 16000
        wave = 0.3 * np.sin(2 * np.pi * (120 + 20 * number) * time) + 0.01 * rng.standard_normal(6400)
        path = folder / f"clip{number:02d}.wav"
        soundfile.write(path, wave, 16000)
        rows.append(
            {"id": f"clip{number:02d}", "path": str(path), "duration_s": 0.4, "speaker": f"s{number}", "source": "t"}
        )
    return rows


@pytest.fixture
def quick() -> Callable[..., EndpointSettings]:
    """Settings for a server: `quick(url, attempts=3)`."""

    def make(*urls: str, **more: Any) -> EndpointSettings:
        given = {"model": "tester", "concurrency": 4, "timeout_s": 2.0, "backoff_s": 0.01, "backoff_max_s": 0.05}
        return EndpointSettings.of("annotator", base_url=urls, **(given | more))

    return make


@pytest.fixture
def manifest(clips: list[Row], tmp_path: Path) -> Path:
    """The clips as a manifest beside nothing else."""
    from training.captions.formats import write_rows

    path = tmp_path / "in.jsonl"
    write_rows(path, clips)
    return path
