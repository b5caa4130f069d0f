"""`clsp ingest`: adds, resumes, replaces, relabels, and puts every failure on record without losing the rest."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from clsp_client import Client
from tests.support.clsp_script import LIBRARY, Run


def _rows(manifest: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in manifest.read_text("utf-8").splitlines()]


def _write(manifest: Path, rows: list[dict[str, object]]) -> None:
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def test_a_second_run_sends_only_what_changed(online: Run, small_library: Path) -> None:
    first = online("ingest", "resume", small_library, "--batch", 3, "--json").json()
    assert (first["added"], first["failed"]) == (4, 0)
    second = online("ingest", "resume", small_library, "--json").json()
    assert (second["unchanged"], second["added"], second["replaced"], second["relabelled"]) == (4, 0, 0, 0)

    rows = _rows(small_library)
    rows[0]["metadata"] = {"speaker": "anna"}
    _write(small_library, rows)
    shutil.copy(LIBRARY / "man-gb-low.mp3", small_library.parent / str(rows[1]["file"]))
    third = online("ingest", "resume", small_library, "--json").json()
    assert (third["unchanged"], third["relabelled"], third["replaced"], third["added"]) == (2, 1, 1, 0)
    relabelled = online("search", "resume", "--item", rows[1]["id"], "--where", "speaker=anna", "--json").json()
    assert [hit["id"] for hit in relabelled["hits"]] == [rows[0]["id"]]
    assert "gender" not in relabelled["hits"][0]["metadata"], "what the manifest no longer says is gone"


def test_a_bad_file_costs_that_file_alone_and_is_tried_again(online: Run, small_library: Path, tmp_path: Path) -> None:
    bad = small_library.parent / "notes.wav"
    bad.write_text("these are not samples\n" * 50)
    rows = [*_rows(small_library), {"file": "notes.wav", "id": "notes"}, {"file": "gone.wav", "id": "gone"}]
    _write(small_library, rows)
    done = online("ingest", "failing", small_library, "--failures", "failed.jsonl")
    assert done.status == 3
    assert "4 added, 2 failed" in done.out
    failures = {row["id"]: row for row in _rows(tmp_path / "failed.jsonl")}
    assert failures.keys() == {"notes", "gone"}
    assert failures["notes"]["status"] == 422
    assert "text file" in str(failures["notes"]["detail"])
    assert "No such file" in str(failures["gone"]["detail"])

    shutil.copy(LIBRARY / "man-gb-slow.flac", bad)
    _write(small_library, rows[:-1])
    again = online("ingest", "failing", small_library, "--failures", "failed.jsonl", "--json").json()
    assert (again["added"], again["unchanged"], again["failed"]) == (1, 4, 0)
    assert not (tmp_path / "failed.jsonl").exists()


def test_a_manifest_may_hold_any_text_and_a_byte_order_mark(online: Run, small_library: Path) -> None:
    rows = _rows(small_library)
    caption = "one\u2028two\u0085three\u2029four"
    rows[0]["metadata"] = {"caption": caption}
    text = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    small_library.write_text(f"\ufeff{text}", "utf-8", newline="")
    assert online("ingest", "texts", small_library, "--json").json()["added"] == 4
    (hit,) = online("search", "texts", "a voice", "--filter", json.dumps({"caption": caption}), "--json").json()["hits"]
    assert hit["id"] == rows[0]["id"]


def test_a_folder_is_walked_and_ids_are_paths(online: Run, tmp_path: Path) -> None:
    for place in ("a", "b/c"):
        (tmp_path / "voices" / place).mkdir(parents=True)
        shutil.copy(LIBRARY / "man-us-low.ogg", tmp_path / "voices" / place / "take 1.ogg")
    (tmp_path / "voices" / "readme.txt").write_text("not audio")
    assert online("ingest", "folder", tmp_path / "voices", "--json").json()["added"] == 2
    hits = online("search", "folder", "a deep voice", "--json").json()["hits"]
    assert {hit["id"] for hit in hits} == {"a__take 1.ogg", "b__c__take 1.ogg"}
    assert [hit["filename"] for hit in hits] == ["take 1.ogg"] * 2


def test_what_the_source_says_nothing_about_stays(online: Run, cli_server_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for name in ("same.ogg", "other.ogg"):
        shutil.copy(LIBRARY / "man-us-low.ogg", folder / name)
    bare = folder / "bare.jsonl"
    _write(bare, [{"file": name} for name in ("same.ogg", "other.ogg")])
    for collection, source in (("by-folder", folder), ("by-manifest", bare)):
        shutil.copy(LIBRARY / "man-us-low.ogg", folder / "other.ogg")
        assert online("ingest", collection, source, "--json").json()["added"] == 2
        with Client(cli_server_url) as client:
            for name in ("same.ogg", "other.ogg"):
                client.patch_item(collection, name, {"speaker": "anna"})
            shutil.copy(LIBRARY / "man-gb-low.mp3", folder / "other.ogg")
            again = online("ingest", collection, source, "--json").json()
            assert (again["unchanged"], again["relabelled"], again["replaced"]) == (1, 0, 1)
            assert [item["metadata"] for item in client.items(collection)] == [{"speaker": "anna"}] * 2

    _write(bare, [{"file": "same.ogg", "metadata": {}}])
    assert online("ingest", "by-manifest", bare, "--json").json()["relabelled"] == 1, "nothing known is said"


def test_two_files_of_one_id_do_not_replace_each_other(online: Run, tmp_path: Path) -> None:
    folder = tmp_path / "twins"
    (folder / "a").mkdir(parents=True)
    shutil.copy(LIBRARY / "man-us-low.ogg", folder / "a" / "b.ogg")
    shutil.copy(LIBRARY / "woman-us-high.ogg", folder / "a__b.ogg")
    for outcome in ("added", "unchanged"):
        done = online("ingest", "twins", folder)
        assert (done.status, f"1 {outcome}, 1 failed" in done.out) == (3, True), done.out
        (failed,) = _rows(tmp_path / "twins-failures.jsonl")
        assert failed["file"] == str(folder / "a__b.ogg")
        assert f"the id 'a__b.ogg' is taken by another clip of the source: {folder / 'a' / 'b.ogg'}" in str(
            failed["detail"]
        )
    _write(folder / "m.jsonl", [{"file": "a/b.ogg"}, {"file": "a__b.ogg"}])
    done = online("ingest", "twins", folder / "m.jsonl")
    assert done.status == 1
    assert f"appears twice, for {folder / 'a' / 'b.ogg'} and {folder / 'a__b.ogg'}" in done.err


def test_a_name_that_is_not_text_costs_that_file_alone(online: Run, tmp_path: Path) -> None:
    folder = tmp_path / "latin"
    folder.mkdir()
    names = ["a.ogg", os.fsdecode(b"caf\xe9.ogg"), "z.ogg"]
    for name in names:
        shutil.copy(LIBRARY / "man-us-low.ogg", folder / name)
    done = online("ingest", "latin", folder)
    assert (done.status, "2 added, 1 failed" in done.out) == (3, True), done.err
    assert "caf\\udce9.ogg: its name is not valid UTF-8" in done.out
    (failed,) = _rows(tmp_path / "latin-failures.jsonl")
    assert failed["file"] == str(folder / names[1]), "so that a script finds the file"
    assert json.loads(online("ingest", "latin", folder, "--json").out)["failures"] == [failed]

    rows: list[dict[str, object]] = [{"file": name, "id": f"m{i}"} for i, name in enumerate(names)]
    _write(folder / "m.jsonl", [*rows, {"file": "a.ogg", "id": "half \ud800"}, {"file": "a\0.ogg", "id": "nul"}])
    done = online("ingest", "latin-rows", folder / "m.jsonl")
    assert (done.status, "2 added, 3 failed" in done.out) == (3, True), done.err


def test_what_cannot_be_read_is_named(online: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no audio" in online("ingest", "x", "empty").err
    (tmp_path / "broken.jsonl").write_text('{"file": "a.wav"}\n{"metadata": {}}\n')
    done = online("ingest", "x", "broken.jsonl")
    assert done.status == 1
    assert "line 2" in done.err
    (tmp_path / "twice.jsonl").write_text('{"file": "a.wav", "id": "a"}\n{"file": "b.wav", "id": "a"}\n')
    assert "appears twice" in online("ingest", "x", "twice.jsonl").err
    assert "no such file or folder" in online("ingest", "x", "nowhere").err


def test_a_bad_collection_name_is_the_servers_answer(online: Run, small_library: Path) -> None:
    done = online("ingest", "not a name!", small_library)
    assert done.status == 1
    assert "(422)" in done.err
    assert "Traceback" not in done.err


def test_companions_of_macs_and_windows_are_no_clips(online: Run, tmp_path: Path) -> None:
    folder = tmp_path / "zipped"
    (folder / "__MACOSX").mkdir(parents=True)
    shutil.copy(LIBRARY / "man-us-low.ogg", folder / "one.ogg")
    for name in ("._one.ogg", "__MACOSX/._one.ogg", "__MACOSX/two.ogg", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
    done = online("ingest", "zipped", folder, "--json")
    assert (done.status, done.json()["added"], done.json()["failed"]) == (0, 1, 0)
