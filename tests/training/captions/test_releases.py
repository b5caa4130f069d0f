"""Imports of FCaps and ParaSpeechCaps layouts: audio is matched by id or path, what has no match is reported."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from training.captions.formats import read_rows, write_rows
from training.commands.annotate import app


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


def test_a_bare_name_matches_only_when_it_is_unique_and_its_folders_agree(tmp_path: Path) -> None:
    audio(tmp_path / "mine", "one/same.wav", "two/same.wav", "three/only.wav", "wav16/four/deep.wav", "flat.wav")
    lines = [fcaps_line("p", "same.wav", ["x"]), fcaps_line("q", "elsewhere/only.wav", ["y"]),
             fcaps_line("r", "deep/down/two/same.wav", ["z"]), fcaps_line("s", "four/deep.wav", ["u"]),
             fcaps_line("t", "some/folder/flat.wav", ["v"]), fcaps_line("u", "gone.wav", ["w"])]  # fmt: skip
    code, told, rows = imported(tmp_path, lines)
    assert code == 0, told
    assert rows == {"r": "two/same.wav", "s": "wav16/four/deep.wav", "t": "flat.wav"}
    assert "3 clips of the release have no audio here" in told
    assert "2 of these have the name of a file here" in told
    assert (tmp_path / "o.jsonl.unmatched.txt").read_text().split() == ["p", "q", "u"]


def test_one_file_is_never_given_to_lines_that_mean_different_ones(tmp_path: Path) -> None:
    # As VoxCeleb names them: a number within a video within a speaker.
    audio(tmp_path / "mine", "idA/x/00001.wav", "y/00002.wav", "00003.wav")
    lines = [fcaps_line("b", "wavs/idB/y/00001.wav", ["x"]), fcaps_line("c", "wavs/idC/z/00001.wav", ["y"]),
             fcaps_line("d", "wavs/idB/y/00002.wav", ["z"]), fcaps_line("e", "wavs/idC/y/00002.wav", ["u"]),
             fcaps_line("f", "00003.wav", ["v"]), fcaps_line("g", "wavs/idD/00003.wav", ["w"])]  # fmt: skip
    code, told, rows = imported(tmp_path, lines)
    assert code == 2
    assert "nothing matched" in told
    assert rows == {}
    assert "6 of these have the name of a file here" in told
    # Who tells more of a path is believed over who tells less, and two stretches of one recording share its file.
    lines += [fcaps_line("a", "wavs/idA/x/00001.wav", ["x"]), fcaps_line("a2", "wavs/idA/x/00001.wav", ["y"]),
              fcaps_line("h", "00001.wav", ["z"]), fcaps_line("00003", "mine.wav", ["u"])]  # fmt: skip
    code, told, rows = imported(tmp_path, lines)
    assert code == 0, told
    assert rows == {"a": "idA/x/00001.wav", "a2": "idA/x/00001.wav", "00003": "00003.wav"}
    assert "1 audio files have no caption" in told


def test_paths_of_a_manifest_start_in_its_folder(tmp_path: Path) -> None:
    audio(tmp_path / "mine", "EN/B1/a.wav", "idA/x/00001.wav")
    names = ["EN/B1/a.wav", "idA/x/00001.wav"]
    own = [{"id": f"own-{i}", "path": str(tmp_path / "mine" / name)} for i, name in enumerate(names)]
    write_rows(tmp_path / "mine" / "m.jsonl", own)
    lines = [fcaps_line("1", "download/Emilia/EN/B1/a.mp3", ["x"]), fcaps_line("2", "wavs/idB/y/00001.wav", ["y"])]
    code, told, rows = imported(tmp_path, lines, "mine/m.jsonl")
    assert code == 0, told
    assert rows == {"1": "EN/B1/a.wav"}


def imported(folder: Path, lines: list[dict[str, Any]], mine: str = "mine") -> tuple[int, str, dict[str, str]]:
    """Exit code, what was said, and the file of every id that got one."""
    (folder / "f.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = invoke("import", str(folder / "f.jsonl"), "--out", str(folder / "o.jsonl"), "--audio", str(folder / mine))
    rows = read_rows(folder / "o.jsonl")
    return *told, {row["id"]: str(Path(row["path"]).relative_to(folder / "mine")) for row in rows}
