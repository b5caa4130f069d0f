"""Imports of FCaps and ParaSpeechCaps layouts: audio is matched by id or path, what has no match is reported."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from training.annotate_cli import app
from training.captions.formats import read_rows, write_rows


def audio(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.sin(np.arange(4000) * (0.1 + 0.01 * number)), 16000)


def fcaps_line(identifier: str, source: str, long: list[str], short: list[str] | None = None) -> dict[str, Any]:
    custom = {"long_captions": long, **({"short_captions": short} if short else {})}
    return {
        "id": identifier,
        "start": 0.0,
        "duration": 0.25,
        "channel": 0,
        "type": "MonoCut",
        "recording": {
            "id": identifier,
            "sources": [{"type": "file", "channels": [0], "source": source}],
            "sampling_rate": 16000,
            "num_samples": 4000,
            "duration": 0.25,
            "channel_ids": [0],
        },
        "supervisions": [
            {
                "id": identifier,
                "recording_id": identifier,
                "start": 0.0,
                "duration": 0.25,
                "channel": 0,
                "text": "words that were spoken",
                "language": "en",
                "speaker": f"spk-{identifier}",
                "custom": custom,
            }
        ],
    }


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["captions", *arguments])
    return result.exit_code, result.output


def test_fcaps_by_path_and_by_id(tmp_path: Path) -> None:
    audio(tmp_path / "mine", "EN/EN_B00001/a.wav", "EN/EN_B00001/b.wav", "ears/p001/c.wav", "ears/unused.wav")
    lines = [
        fcaps_line("EN_1", "download/Emilia/EN/EN_B00001/a.mp3", ["A long one."]),
        fcaps_line("EN_2", "download/Emilia/EN/EN_B00001/b.mp3", ["Another.", "And 'quoted words' here."], ["Short."]),
        fcaps_line("psc_c", "download/ears/p001/c.wav", ["Third."], ["A.", "B."]),
        fcaps_line("EN_9", "download/Emilia/EN/EN_B99999/z.mp3", ["Nobody has this."]),
    ]
    release = tmp_path / "fcaps-emilia.jsonl.gz"
    release.write_bytes(gzip.compress("".join(json.dumps(line) + "\n" for line in lines).encode()))
    out = tmp_path / "out.jsonl"
    code, told = invoke("import", str(release), "--out", str(out), "--audio", str(tmp_path / "mine"))
    assert code == 0, told
    assert "3 clips with 7 captions" in told
    assert "1 clips of the release have no audio" in told
    assert "1 audio files have no caption" in told
    assert (tmp_path / "out.jsonl.unmatched.txt").read_text() == "EN_9\n"
    rows = {row["id"]: row for row in read_rows(out)}
    assert rows["EN_2"]["short_captions"] == ["Short."]
    assert rows["EN_2"]["path"] == str(tmp_path / "mine/EN/EN_B00001/b.wav")
    assert {c["kind"] for c in rows["psc_c"]["captions"]} == {"global", "fine"}
    assert rows["EN_1"]["speaker"] == "spk-EN_1"
    assert rows["EN_1"]["split"] in ("train", "dev", "test")
    # By the ids of a manifest, into Lhotse cuts, with our rules applied.
    ids = [{"id": f"EN_{i}", "path": str(tmp_path / f"mine/EN/EN_B00001/{n}.wav")} for i, n in ((1, "b"), (2, "a"))]
    write_rows(tmp_path / "ids.jsonl", ids)
    out = tmp_path / "by_id_cuts.jsonl"
    code, told = invoke("import", str(release), "--out", str(out), "--audio", str(tmp_path / "ids.jsonl"), "--filter")
    assert code == 0, told
    rows = {row["id"]: row for row in read_rows(out)}
    assert rows["EN_1"]["path"].endswith("b.wav")  # an id says more than a path
    assert [c["rule"] for c in rows["EN_2"]["rejected"]] == ["length", "length", "quotation"]


def test_paraspeechcaps(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    import pyarrow.parquet as pq

    audio(tmp_path / "vox", "dev/id1/x/0.wav")
    audio(tmp_path / "expresso", "read/ex01.wav")
    line = {
        "source": "voxceleb",
        "relative_audio_path": "dev/id1/x/0.wav",
        "text_description": ["In a clear environment, a man speaks.", "A deep voice."],
        "transcription": "hello",
        "intrinsic_tags": ["deep"],
        "situational_tags": None,
        "basic_tags": ["male"],
        "all_tags": ["deep", "male"],
        "speakerid": "id1",
        "duration": 0.25,
        "gender": "male",
        "accent": "American",
        "pitch": "low-pitched",
        "speaking_rate": "fast speed",
        "noise": "quiet environment",
    }
    lines = [line, {**line, "source": "expresso", "relative_audio_path": "read/ex01.wav", "speakerid": "ex01"},
             {**line, "relative_audio_path": "dev/id2/gone.wav"}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "psc.parquet")
    out = tmp_path / "out.jsonl"
    code, told = invoke("import", str(tmp_path / "psc.parquet"), "--out", str(out),
                        "--audio", str(tmp_path / "vox"), "--audio", str(tmp_path / "expresso"))  # fmt: skip
    assert code == 0, told
    first, second = read_rows(out)
    assert first["short_captions"] == line["text_description"]
    assert first["long_captions"] == []
    assert (first["speaker"], first["text"], first["gender"], first["source"]) == ("id1", "hello", "male", "voxceleb")
    assert second["path"].endswith("ex01.wav")
    assert "1 clips of the release have no audio" in told


def test_nothing_matched_is_an_error(tmp_path: Path) -> None:
    audio(tmp_path / "mine", "other.wav")
    (tmp_path / "f.jsonl").write_text(json.dumps(fcaps_line("a", "download/a.wav", ["x"])) + "\n")
    code, told = invoke(
        "import", str(tmp_path / "f.jsonl"), "--out", str(tmp_path / "o.jsonl"), "--audio", str(tmp_path / "mine")
    )
    assert code == 2
    assert "nothing matched" in told
    code, told = invoke(
        "import", str(tmp_path / "o.jsonl"), "--out", str(tmp_path / "p.jsonl"), "--audio", str(tmp_path / "mine")
    )
    assert code == 2
    assert "neither Lhotse cuts" in told


def test_a_bare_name_matches_only_when_it_is_unique(tmp_path: Path) -> None:
    audio(tmp_path / "mine", "one/same.wav", "two/same.wav", "three/only.wav")
    lines = [fcaps_line("p", "elsewhere/same.wav", ["x"]), fcaps_line("q", "elsewhere/only.wav", ["y"]),
             fcaps_line("r", "deep/down/two/same.wav", ["z"])]  # fmt: skip
    (tmp_path / "f.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, told = invoke(
        "import", str(tmp_path / "f.jsonl"), "--out", str(tmp_path / "o.jsonl"), "--audio", str(tmp_path / "mine")
    )
    assert code == 0, told
    assert {row["id"]: Path(row["path"]).parent.name for row in read_rows(tmp_path / "o.jsonl")} == {
        "q": "three",
        "r": "two",
    }
