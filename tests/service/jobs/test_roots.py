"""The folders that jobs may read: whatever a path says, and whatever becomes of it, nothing else is opened."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.jobs.errors import SourceError
from service.jobs.roots import Place, Roots


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret.wav").write_bytes(b"secret")
    return folder


@pytest.fixture(scope="module")
def roots(outside: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Roots]:
    """A root with a file, a folder, and links of all kinds that lead out or around."""
    root = tmp_path_factory.mktemp("root")
    (root / "a").mkdir()
    (root / "a" / "b.wav").write_bytes(b"inside")
    for name, target in {"out": outside, "file": outside / "secret.wav", "up": "..", "loop": ".", "abs": "/"}.items():
        (root / name).symlink_to(target)
    yield Roots({"lib": root})


_PART = st.sampled_from(
    ["lib", "a", "b.wav", "out", "file", "up", "loop", "abs", "..", ".", "", "secret.wav", "etc", "\0"]
)


@given(st.one_of(st.text(max_size=40), st.lists(_PART, max_size=8).map("/".join)))
@example("lib/out/secret.wav")
@example("lib/up/../a/b.wav")
@example("lib/a/../../outside0/secret.wav")
@example("lib/\ud800")
def test_no_path_leads_out(roots: Roots, path: str) -> None:
    try:
        place = roots.place(path)
        assert not {"", ".", "..", "/"} & set(place.parts)
        with roots.open(place) as file:
            assert file.read() == b"inside"
    except SourceError as error:
        assert str(error)


def test_a_listing_finds_links_and_follows_none(roots: Roots) -> None:
    found = {str(one.place): one.refused for one in roots.walk(Place("lib"), lambda name: True)}
    assert found.pop("lib/a/b.wav") is None
    assert found.keys() == {f"lib/{name}" for name in ("out", "file", "up", "loop", "abs")}
    assert all(reason and "link" in reason for reason in found.values())


def test_a_folder_that_becomes_a_link_is_not_followed(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "takes").mkdir()
    (tmp_path / "takes" / "secret.wav").write_bytes(b"inside")
    roots = Roots({"lib": tmp_path})
    (found,) = roots.walk(Place("lib"), lambda name: True)
    assert roots.read(found.place, most=100) == b"inside"
    (tmp_path / "takes" / "secret.wav").unlink()
    (tmp_path / "takes").rmdir()
    (tmp_path / "takes").symlink_to(outside)
    with pytest.raises(SourceError):
        roots.read(found.place, most=100)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    roots = Roots({"lib": tmp_path})
    with pytest.raises(SourceError, match="not a file"):
        roots.read(Place("lib", ("pipe.wav",)), most=100)
    with pytest.raises(SourceError, match="not a file"):
        roots.read(Place("lib"), most=100)
