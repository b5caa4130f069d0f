"""Measured properties of a voice: right where the truth is known, and a changed voice is found for men and women."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr

from service.audio.decode import SAMPLE_RATE, decode
from service.audio.limits import AudioLimits
from service.gates.rows import Row, Run, Voice, dump, load_row
from service.gates.verdict import Gates, judge
from service.gates.voice import MEASURES, measure, with_voices
from service.settings import Settings
from tests.support.gate_rows import row
from tests.support.paths import LIBRARY, ROOT

GATES = ROOT / "examples" / "gates"


def samples_of(path: Path) -> np.ndarray:
    return decode(path.read_bytes(), AudioLimits.from_settings(Settings(api_keys=[]), min_s=0.0)).samples


def test_louder_higher_and_longer_read_as_what_they_are() -> None:
    plain = samples_of(LIBRARY / "woman-us-plain.ogg")
    then = measure(plain)
    softer = measure(plain * np.float32(10 ** (-3 / 20)))
    assert then.level_lufs is not None
    assert softer.level_lufs == pytest.approx(then.level_lufs - 3, abs=0.05)
    assert softer.pitch_hz == pytest.approx(then.pitch_hz, rel=0.01)
    higher = measure(soxr.resample(plain, SAMPLE_RATE * 1.08, SAMPLE_RATE))
    assert then.pitch_hz is not None
    assert higher.pitch_hz == pytest.approx(then.pitch_hz * 1.08, rel=0.02)
    quiet = np.zeros(SAMPLE_RATE // 2, np.float32)
    padded = measure(np.concatenate([quiet, plain, quiet]))
    assert padded.silence_s == pytest.approx(then.silence_s + 1, abs=0.1)
    clipped = measure(np.clip(plain * 40, -1, 1))
    assert clipped.clipped_share > 0.05 > then.clipped_share


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros(100), np.zeros(SAMPLE_RATE), np.full(4000, 0.1)])
def test_what_is_no_speech_has_no_voice(samples: np.ndarray) -> None:
    found = measure(samples.astype(np.float32))
    assert found.rate_hz is None


def test_rows_keep_what_was_measured() -> None:
    measured = row("a", voice=Voice(120.5, 6.0, 4.2, -23.0, 0.3, 0.1, 0.0))
    assert load_row(dump(measured)) == measured
    assert "voice" not in dump(row("a"))


@pytest.mark.parametrize("voice", ["anna", "dan"])
def test_a_voice_8_percent_higher_is_found_whatever_its_sex(voice: str, tmp_path: Path) -> None:
    rows = [
        row(line["id"], group=line["group"], attributes=())
        for line in map(json.loads, (GATES / "baseline.jsonl").read_text("utf-8").splitlines())
        if line["group"] in ("anna", "dan")
    ]
    before = {one.id: GATES / "baseline" / f"{one.id}.ogg" for one in rows}
    good = {one.id: GATES / "good" / f"{one.id}.ogg" for one in rows}
    changed = dict(good)
    for one in rows:
        if one.group == voice:
            changed[one.id] = tmp_path / f"{one.id}.wav"
            higher = soxr.resample(samples_of(good[one.id]), SAMPLE_RATE * 1.08, SAMPLE_RATE)
            sf.write(changed[one.id], higher, SAMPLE_RATE)
    gates = Gates(voice=("pitch", "level"), resamples=5000)

    def breaches(now: dict[str, Path]) -> set[str]:
        then: list[Row] = [*with_voices(rows, before)]
        return {
            one.place for one in judge(Run([*with_voices(rows, now)]), gates, then).breaches if "pitch" in one.message
        }

    assert breaches(good) == set()
    assert f"group {voice}" in breaches(changed) <= {f"group {voice}", "all clips"}


def test_audio_that_is_gone_is_not_measured() -> None:
    assert [one.voice for one in with_voices([row("a")], {"a": Path("nowhere.wav")})] == [None]
    kept = replace(row("a"), voice=Voice())
    assert [*with_voices([kept], {})] == [kept]
    assert set(MEASURES) == {"pitch", "range", "rate", "level", "pauses", "silence", "duration", "clipping"}
