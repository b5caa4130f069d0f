"""Formats: what goes in comes back, other people's names are understood, faults name the line."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.captions.formats import FormatError, Row, kind_of, read_rows, write_rows
from training.captions.utterance import AudioError, Utterance

NAMES = ["x.jsonl", "x.jsonl.gz", "x_cuts.jsonl", "x_cuts.jsonl.gz", "x.parquet"]


def annotated(clips: list[Row]) -> list[Row]:
    return [
        {
            **row,
            "gender": "female",
            "language": "en",
            "text": "spoken words",
            "split": "train",
            "short_captions": [f"A calm voice {i}.", "Ein “Zitat” – ü"],
            "long_captions": [f"A longer text {i}."],
            "captions": [{"text": f"A calm voice {i}.", "kind": "global", "claims": {"pitch": "low"}, "seed": 0}],
            "rejected": [],
            "tags": {"odd": [1, None, {"x": 2.5}]},
        }
        for i, row in enumerate(clips)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_rows_come_back_as_they_went(name: str, clips: list[Row], tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    rows = annotated(clips)
    path = tmp_path / "deep" / name
    assert write_rows(path, rows) == 12
    assert kind_of(path) == ("parquet" if "parquet" in name else "cuts" if "cuts" in name else "jsonl")
    back = list(read_rows(path))
    for row in back:
        row.pop("cut", None)
    assert back == rows
    assert [row["id"] for row in read_rows(path, skip=5)] == [row["id"] for row in rows[5:]]
    assert list(read_rows(path, skip=12)) == []
    assert [p.name for p in path.parent.iterdir()] == [name]  # nothing half-written is left behind


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows_make_the_same_bytes(name: str, clips: list[Row], tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    for prefix in ("a", "b"):
        write_rows(tmp_path / f"{prefix}{name}", annotated(clips))
    made = (tmp_path / f"a{name}").read_bytes()
    assert made == (tmp_path / f"b{name}").read_bytes()
    if name.endswith("gz"):
        assert made[3:8] == bytes(5)  # no name, and no time: a run of another second is no other output


def test_lhotse_reads_what_we_write_and_we_read_what_lhotse_writes(clips: list[Row], tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    write_rows(tmp_path / "a_cuts.jsonl.gz", annotated(clips[:3]))
    cuts = lhotse.CutSet.from_jsonl_lazy(tmp_path / "a_cuts.jsonl.gz")
    for cut, row in zip(cuts, clips[:3], strict=True):
        assert cut.supervisions[0].long_captions[0].startswith("A longer text")
        assert cut.supervisions[0].speaker == row["speaker"]
        assert cut.load_audio().shape == (1, 6400)
    # A stretch of a recording, with a field of its own that must come back.
    recording = lhotse.Recording.from_file(clips[0]["path"])
    cut = recording.to_cut().truncate(offset=0.1, duration=0.2)
    cut.supervisions = [lhotse.SupervisionSegment("s", recording.id, 0.0, 0.2, speaker="me", custom={"mood": "odd"})]
    cut.custom = {"kept": 1}
    lhotse.CutSet.from_cuts([cut]).to_file(tmp_path / "b_cuts.jsonl")
    (row,) = read_rows(tmp_path / "b_cuts.jsonl")
    assert (row["start_s"], row["duration_s"], row["speaker"], row["mood"]) == (0.1, 0.2, "me", "odd")
    assert len(Utterance.of(row).load()) == 3200
    write_rows(tmp_path / "c_cuts.jsonl", [{**row, "long_captions": ["new"]}])
    (back,) = lhotse.CutSet.from_jsonl_lazy(tmp_path / "c_cuts.jsonl")
    assert back.supervisions[0].long_captions == ["new"]
    assert back.supervisions[0].mood == "odd"
    assert back.kept == 1
    assert back.load_audio().shape == (1, 3200)


def test_other_names_of_the_same_fields(tmp_path: Path) -> None:
    lines = [
        {"audio_filepath": "a/b.wav", "duration": 2.5, "offset": 1.5, "text": "t"},  # NeMo
        {"audio": {"path": "c.flac"}, "speaker_id": 7, "transcription": "u"},  # Hugging Face
        {"file": "/abs/d.wav", "utt_id": "u1"},
    ]
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    one, two, three = read_rows(path, audio_root=tmp_path / "root")
    assert (one["id"], one["path"], one["start_s"], one["duration_s"]) == (
        "a-b-1.5", str(tmp_path / "root/a/b.wav"), 1.5, 2.5)  # fmt: skip
    assert (two["id"], two["speaker"], two["text"]) == ("c", 7, "u")
    assert (three["id"], three["path"]) == ("u1", "/abs/d.wav")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"path": "a.wav"}\n{"path": ', "m.jsonl:2: not JSON"),
        ('{"path": "a.wav"}\n[1]\n', "m.jsonl:2: a line is a JSON object"),
        ('{"path": "a.wav"}\n\n{"id": "x"}\n', "m.jsonl:3: it names no audio file"),
        ('{"recording": {"sources": []}, "duration": 1, "id": "x"}\n', "m.jsonl:1: not a cut"),
        (
            '{"recording": {"sources": [{"type": "url", "source": "http://x"}]}, "duration": 1, "id": "x"}\n',
            "of type url",
        ),
    ],
)
def test_faults_name_the_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(FormatError, match=said):
        list(read_rows(tmp_path / "m.jsonl"))


def test_a_line_ends_at_a_newline_alone_and_may_begin_with_a_mark(tmp_path: Path) -> None:
    told = "A calm voice,\u2028then\u0085a loud one."
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps({"path": "a.wav", "short_captions": [told]}, ensure_ascii=False) + "\n", "utf-8-sig")
    packed = path.with_name("m.jsonl.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for manifest in (path, packed):
        assert kind_of(manifest) == "jsonl"
        assert [row["short_captions"] for row in read_rows(manifest)] == [[told]]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="jsonl"):
        list(read_rows(tmp_path / "m.csv"))
    (tmp_path / "m.jsonl.gz").write_bytes(gzip.compress(b'{"path": "a.wav"}\n')[:-6])
    with pytest.raises(FormatError, match=r"m\.jsonl\.gz"):
        list(read_rows(tmp_path / "m.jsonl.gz"))
    with pytest.raises(FormatError):
        write_rows(tmp_path / "y_cuts.jsonl", [{"id": "x", "path": str(tmp_path / "none.wav")}])
    assert not (tmp_path / "y_cuts.jsonl").exists()


def test_what_is_heard_is_what_is_hashed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    stereo = rng.uniform(-0.5, 0.5, (48_000, 2))
    soundfile.write(tmp_path / "s.wav", stereo, 48_000)
    whole = Utterance.of({"id": "w", "path": str(tmp_path / "s.wav")})
    left = Utterance.of({"id": "l", "path": str(tmp_path / "s.wav"), "channel": 0, "duration_s": 1.0})
    part = Utterance.of({"id": "p", "path": str(tmp_path / "s.wav"), "start_s": 0.0, "duration_s": 0.5})
    assert len({u.hash() for u in (whole, left, part)}) == 3
    assert whole.hash() == Utterance.of({"id": "other", "path": str(tmp_path / "s.wav"), "duration_s": 1.0}).hash()
    assert [len(u.load()) for u in (whole, left, part)] == [16_000, 16_000, 8_000]
    assert len(whole.load(0.25)) == 4_000
    assert np.corrcoef(left.load(), whole.load())[0, 1] < 0.9
    for broken in ({"channel": 5, "duration_s": 1.0}, {"start_s": 30.0, "duration_s": 1.0}):
        with pytest.raises(AudioError):
            Utterance.of({"id": "x", "path": str(tmp_path / "s.wav"), **broken}).load()
    with pytest.raises(AudioError, match="No such file"):
        Utterance.of({"id": "x", "path": str(tmp_path / "none.wav")}).hash()
