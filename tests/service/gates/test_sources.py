"""Reading sets: JSONL, CSV, folders with sidecars, InstructTTSEval's results; what is wrong is named with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.gates.rows import RowsError
from service.gates.sources import SourceError, read_cases


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), "utf-8")
    return path


def test_jsonl_rows_by_any_of_their_names(tmp_path: Path) -> None:
    path = write(
        tmp_path / "set.jsonl",
        {"id": "a", "audio": "x/a.wav", "caption": "calm", "group": "anna"},
        {"file": "b.wav", "instruction": "fast", "metadata": {"group": "ben"}},
        "",
        {"wav": "c.wav", "style": "slow"},
    )
    cases = read_cases(path)
    assert [(case.id, case.group, case.caption, case.shown) for case in cases] == [
        ("a", "anna", "calm", "x/a.wav"),
        ("b", "ben", "fast", "b.wav"),
        ("c", "all", "slow", "c.wav"),
    ]
    assert cases[0].audio == tmp_path / "x" / "a.wav"
    assert read_cases(path, audio_root=tmp_path / "other")[1].audio == tmp_path / "other" / "b.wav"


def test_csv_and_tsv(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text('ID,Audio,Caption,group\na,a.wav,"calm, slow",anna\nb,b.wav,fast,\n', "utf-8-sig")
    (tmp_path / "set.tsv").write_text("audio\tcaption\na.wav\tcalm, slow\n", "utf-8")
    assert [(case.id, case.caption, case.group) for case in read_cases(tmp_path / "set.csv")] == [
        ("a", "calm, slow", "anna"),
        ("b", "fast", "all"),
    ]
    assert read_cases(tmp_path / "set.tsv")[0].caption == "calm, slow"
    (tmp_path / "lines.csv").write_text('audio,caption\na.wav,"calm\nand slow"\n,\nb.wav,"fa\u2028st"\n', "utf-8")
    assert [case.caption for case in read_cases(tmp_path / "lines.csv")] == ["calm\nand slow", "fa\u2028st"]
    (tmp_path / "bare.csv").write_text("audio,caption\na.wav,calm, slow\n", "utf-8")
    with pytest.raises(SourceError, match=r"line 2: more cells .* quotes"):
        read_cases(tmp_path / "bare.csv")


@pytest.mark.parametrize("last", ["", 'd.wav,"slow"\n', '"d.wav",slow\n'])
@pytest.mark.parametrize("name", ["set.csv", "set.tsv"])
def test_a_quote_that_is_not_closed_swallows_no_clips(tmp_path: Path, name: str, last: str) -> None:
    text = f'audio,caption\na.wav,"calm\nand slow"\nb.wav,"fast\nc.wav,loud\n{last}'
    (tmp_path / name).write_text(text if name.endswith("csv") else text.replace(",", "\t"), "utf-8")
    with pytest.raises(SourceError, match=r"line 4: not a table .* quote"):
        read_cases(tmp_path / name)


def test_a_json_array_and_ids_that_are_numbers(tmp_path: Path) -> None:
    rows = [{"id": 0, "audio": "a.wav", "caption": "calm\u2028slow"}, {"id": 1, "audio": "b.wav", "caption": "fast"}]
    (tmp_path / "set.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), "utf-8")
    write(tmp_path / "set.jsonl", *(json.dumps(one, ensure_ascii=False) for one in rows))
    for name in ("set.json", "set.jsonl"):
        assert [(case.id, case.caption) for case in read_cases(tmp_path / name)] == [
            ("0", "calm\u2028slow"),
            ("1", "fast"),
        ]
    evaluated = {"id": 0, "APS": {"instruction": "calm", "gen_path": "a.wav"}}
    assert read_cases(write(tmp_path / "eval.jsonl", evaluated))[0].id == "0-APS"


def test_instruct_tts_eval_results_as_they_are(tmp_path: Path) -> None:
    path = write(
        tmp_path / "example_en.jsonl",
        {
            "id": "s1",
            "text": "Hello.",
            "APS": {"instruction": "Gender: female. Pitch: high.", "gen_path": "out/s1_aps.wav", "gemini_score": True},
            "DSD": {"instruction": "Cheerful and fast.", "gen_path": "out/s1_dsd.wav"},
            "RP": {"instruction": "A nurse soothing a child.", "gen_path": None},
        },
    )
    cases = read_cases(path)
    assert [(case.id, case.group, case.shown) for case in cases] == [
        ("s1-APS", "APS", "out/s1_aps.wav"),
        ("s1-DSD", "DSD", "out/s1_dsd.wav"),
        ("s1-RP", "RP", "s1-RP-not-generated"),
    ]
    assert not cases[2].audio.exists(), "a generation that failed counts as a clip that is not there"
    done = {"instruction": "Calm.", "gen_path": "out/s2_aps.wav"}
    write(
        path, {"id": "s2", "APS": done, "DSD": None, "RP": "timeout"}, {"id": "s3", "DSD": None}, {"id": 4, "RP": done}
    )
    ids = [(case.id, case.group, case.shown) for case in read_cases(path)]
    assert ids == [
        ("s2-APS", "APS", "out/s2_aps.wav"),
        ("s2-DSD", "DSD", "s2-DSD-not-generated"),
        ("s2-RP", "RP", "s2-RP-not-generated"),
        ("s3-DSD", "DSD", "s3-DSD-not-generated"),
        ("4-RP", "RP", "out/s2_aps.wav"),
    ], "only a task that is not there was not asked for"


def test_a_folder_with_sidecars(tmp_path: Path) -> None:
    for name in ("anna/one", "anna/two", "ben/one", "loose"):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        path.with_suffix(".txt").write_text(f"caption of {name}\n")
    (tmp_path / "anna" / "two.txt").unlink()
    (tmp_path / "anna" / "two.json").write_text('{"caption": "from JSON"}')
    (tmp_path / "README.txt").write_text("about this set")
    assert [(case.id, case.group, case.caption) for case in read_cases(tmp_path)] == [
        ("anna/one", "anna", "caption of anna/one"),
        ("anna/two", "anna", "from JSON"),
        ("ben/one", "ben", "caption of ben/one"),
        ("loose", "all", "caption of loose"),
    ]
    (tmp_path / "ben" / "lost.txt").write_text("its audio was never made")
    lost = next(case for case in read_cases(tmp_path) if case.id == "ben/lost")
    assert not lost.audio.exists()
    for name in ("license-plate.txt", "readme-intro.txt"):
        (tmp_path / name).write_text("a caption")
    for name in ("README.txt", "ben/LICENSE.txt", "ben/licence.txt"):
        (tmp_path / name).write_text("about this set")
    (tmp_path / "ben" / "gone.json").write_text('{"caption": "its audio was never made either"}')
    for name, text in (("config", '{"rate": 2}'), ("list", '["caption"]'), ("number", '{"caption": 2}'), ("half", "{")):
        (tmp_path / f"{name}.json").write_text(text)
    assert [case.id for case in read_cases(tmp_path) if not case.audio.exists()] == [
        "ben/gone",
        "ben/lost",
        "license-plate",
        "readme-intro",
    ]
    (tmp_path / "loose.flac").write_bytes(b"")
    with pytest.raises(SourceError, match=r"loose\.flac and loose\.wav share one caption"):
        read_cases(tmp_path)
    (tmp_path / "loose.flac").unlink()
    (tmp_path / "mute.wav").write_bytes(b"")
    with pytest.raises(SourceError, match=r"mute\.txt"):
        read_cases(tmp_path)


def test_links_are_followed_and_none_is_passed_over(tmp_path: Path) -> None:
    cached, folder = tmp_path / "cache" / "anna", tmp_path / "set"
    cached.mkdir(parents=True)
    folder.mkdir()
    for name in ("one", "two"):
        (cached / f"{name}.wav").write_bytes(b"")
        (cached / f"{name}.txt").write_text("calm")
    for link, target in (("anna", cached), ("same", cached), ("round", folder)):
        (folder / link).symlink_to(target, target_is_directory=True)
    (cached / "up").symlink_to(folder, target_is_directory=True)
    ids = [case.id for case in read_cases(folder)]
    assert ids == ["anna/one", "anna/two", "same/one", "same/two"]
    (cached / "one.wav").unlink()
    (cached / "one.wav").symlink_to(tmp_path / "gone.wav")
    assert [case.id for case in read_cases(folder) if not case.audio.exists()] == ["anna/one", "same/one"]
    (folder / "ben").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    with pytest.raises(SourceError, match="ben is a link to nothing"):
        read_cases(folder)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"audio": "a.wav"'], "line 1: not JSON"),
        (['{"audio": "a.wav", "caption": "x"}', "[1]"], "line 2"),
        (['{"audio": "a.wav"}'], "needs `audio` and `caption`"),
        (['{"caption": "x"}'], "needs `audio` and `caption`"),
        (['{"audio": "a.wav", "caption": "  "}'], "needs `audio` and `caption`"),
        (['{"audio": "a.wav", "caption": "x"}', '{"audio": "a.flac", "caption": "y"}'], "'a' appears twice"),
        (['{"id": "x", "APS": {"gen_path": "a.wav"}}'], "APS needs `instruction`"),
        (['{"id": "x", "APS": ["a.wav"]}'], "APS is neither an object"),
        (['{"audio": ["a.wav"], "caption": "x"}'], "`audio` is not text"),
        (['{"audio": "a.wav", "caption": NaN}'], "`caption` is not text"),
        (['{"audio": "a.wav", "caption": "x", "id": NaN}'], "`id` is neither text"),
        (['{"audio": "a.wav", "caption": "x", "group": ["b"]}'], "`group` is neither text"),
        ([], "holds no clips"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        read_cases(write(tmp_path / "set.jsonl", *rows))


def test_text_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RowsError, match="not valid Unicode"):
        read_cases(write(tmp_path / "set.jsonl", '{"audio": "a.wav", "caption": "half \\ud83d of a pair"}'))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read_cases(tmp_path / "nowhere.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no clips"):
        read_cases(tmp_path / "empty")
    (tmp_path / "latin.jsonl").write_bytes(b'{"audio": "\xe9.wav", "caption": "x"}')
    with pytest.raises(SourceError, match=r"latin\.jsonl"):
        read_cases(tmp_path / "latin.jsonl")


def test_what_operating_systems_leave_in_folders_is_no_voice(tmp_path: Path) -> None:
    companion = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "
    (tmp_path / "one.ogg").write_bytes(b"")
    (tmp_path / "one.txt").write_text("A man speaks.", "utf-8")
    (tmp_path / "__MACOSX").mkdir()
    for name in ("._one.ogg", "._one.txt", "__MACOSX/._one.ogg", "__MACOSX/two.wav", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).write_bytes(companion)
    assert [case.id for case in read_cases(tmp_path)] == ["one"]


@pytest.mark.parametrize(
    ("name", "separator", "encoding"),
    [
        ("semicolon.csv", ";", "utf-8-sig"),
        ("western.csv", ";", "cp1252"),
        ("unicode.tsv", "\t", "utf-16"),
        ("tabs.csv", "\t", "utf-16"),
    ],
)
def test_tables_as_spreadsheets_save_them(tmp_path: Path, name: str, separator: str, encoding: str) -> None:
    rows = ["audio" + separator + "caption", "takes/one.ogg" + separator + "A man, Zo\u00eb, speaks."]
    (tmp_path / name).write_bytes("\r\n".join([*rows, ""]).encode(encoding))
    (case,) = read_cases(tmp_path / name)
    assert (case.shown, case.caption) == ("takes/one.ogg", "A man, Zo\u00eb, speaks.")


def test_one_audio_file_may_have_several_captions(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("audio,caption\na.wav,calm\na.wav,low\nb.wav,fast\n", "utf-8")
    assert [case.id for case in read_cases(tmp_path / "set.csv")] == ["a", "a (2)", "b"]
    (tmp_path / "ids.csv").write_text("id,audio,caption\nx,a.wav,calm\nx,b.wav,low\n", "utf-8")
    with pytest.raises(SourceError, match="appears twice"):
        read_cases(tmp_path / "ids.csv")
