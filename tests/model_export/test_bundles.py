"""A bundle carries its proof, refuses what fails it, and answers the same however its inputs are batched."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from model_export.bundle import Bundle, BundleError
from model_export.export import export_bundle
from model_export.official import load_tokenizer
from model_export.quantize import Precision
from model_export.replace_bundle import settle
from model_export.runtime import BundleRuntime, arithmetic
from model_export.verify import (
    Cosines,
    Scope,
    VerificationError,
    refuse_below,
    top_overlap,
    verify,
    voiced_sound,
)
from model_export.windows import plan_runs, plan_windows, pool_windows
from tests.support.paths import ROOT
from training.model import Clsp
from training.model.checkpoint import Card

QUICK = Scope(lengths_s=(0.25, 0.5, 1.0), library=20)
FORMS = [("fp32", "fp32"), ("fp16", "fp16"), ("int8", "fp32"), ("int8", "int8"), ("int16", "int16")]


@pytest.fixture(scope="module")
def tokenizer(zipformer: Clsp, tokenizer_folder: Path) -> Path:
    path = tokenizer_folder / "tokenizer.json"
    load_tokenizer(tokenizer_folder, zipformer.config.text).save(str(path))
    return path


@pytest.fixture(
    scope="module",
    params=FORMS,
    ids="-".join,
)
def bundle(
    request: pytest.FixtureRequest, zipformer: Clsp, tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A bundle of each form, verified with five clips of its own besides the synthetic ones."""
    precision, sums = request.param
    card = Card(name="test", version="1", licence="Apache-2.0", window_s=10.0, hop_s=5.0)
    out = tmp_path_factory.mktemp("bundles") / "b"
    clips = [voiced_sound(0.4, seed) for seed in range(5)]
    return export_bundle(
        zipformer, tokenizer, card, out, precision=precision, arithmetic=sums, speech=clips, scope=QUICK, say=str
    )


def test_the_report_says_what_was_compared(bundle: Bundle) -> None:
    report = bundle.manifest.verification
    assert report["alone_vs_batch_min_cosine"] >= 0.99999
    assert report["real_speech_clips"] == 5
    assert report["speech"]["cases"] == 3 + 8 + 20
    assert report["speech"]["p1_cosine"] >= report["floor"]
    assert report["text"]["p1_cosine"] >= report["floor"]
    assert report["rank_agreement"]["library"] == 20
    assert report["rank_agreement"]["text_to_speech_top10"] >= 0.8


def test_bundles_do_not_depend_on_the_batch(bundle: Bundle) -> None:
    runtime = BundleRuntime(bundle, threads=1)
    clips = [voiced_sound(seconds, i) for i, seconds in enumerate((1.0, 0.3, 2.0, 1.0, 0.77))]
    alone = np.concatenate([runtime.embed_speech([clip]) for clip in clips])
    assert ((runtime.embed_speech(clips) * alone).sum(1) >= 0.99999).all()
    small_runs = BundleRuntime(bundle, threads=1, run_s=1.0)
    assert ((small_runs.embed_speech(clips) * alone).sum(1) >= 0.99999).all()
    texts = ["A calm man.", "a woman whispers softly and slowly, sounding tired", "x"]
    words = np.concatenate([runtime.embed_text([text]) for text in texts])
    assert ((runtime.embed_text(texts) * words).sum(1) >= 0.99999).all()


def assert_plain_script_agrees(bundle: Bundle, scratch: Path) -> None:
    clip, captions = voiced_sound(1.3, 5), ["A calm older man.", "the speaker whispers softly."]
    soundfile.write(scratch / "clip.wav", clip, 16000, subtype="FLOAT")
    script = [sys.executable, ROOT / "docs" / "plain_onnx.py", bundle.path, scratch / "clip.wav", *captions]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    runtime = BundleRuntime(bundle, threads=1)
    expected = runtime.embed_text(captions) @ runtime.embed_speech([clip])[0]
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert [caption for _, caption in lines] == captions
    np.testing.assert_allclose([float(cosine) for cosine, _ in lines], expected, atol=2e-4)


def test_the_plain_script_agrees_with_the_service(bundle: Bundle, tmp_path: Path) -> None:
    assert_plain_script_agrees(bundle, tmp_path)


def test_the_plain_script_agrees_on_the_bundle_that_ships(tmp_path: Path) -> None:
    """Weights in int8 and sums in float32, and a tokenizer's file that asks for padding."""
    assert_plain_script_agrees(Bundle.load(ROOT / "models" / "clsp-small"), tmp_path)


def test_nothing_is_kept_or_sent_for_the_runtimes_maker(tmp_path: Path) -> None:
    """Its telemetry begins with an id of the machine and a cache of what is to be sent, in the user's folders."""
    code = f"""
from model_export.bundle import Bundle
from model_export.runtime import BundleRuntime

BundleRuntime(Bundle.load({str(ROOT / "models" / "clsp-small")!r})).embed_text(["a calm voice"])
"""
    # None of the variables by which the library knows that it is tested, and keeps quiet by itself.
    own = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code], env=own, check=True, cwd=ROOT)
    assert list(tmp_path.iterdir()) == []


def test_long_text_is_cut_and_said_so(bundle: Bundle, zipformer: Clsp) -> None:
    runtime = BundleRuntime(bundle, threads=1)
    limit = bundle.manifest.max_tokens
    assert limit == 128
    short, long = runtime.tokenize(["whispers", "whispers softly " * 200])
    assert not short.truncated
    assert long.truncated
    assert len(long.ids) == limit < long.tokens
    assert long.ids[0] == 0
    assert long.ids[-1] == 2
    ids = torch.tensor([long.ids])
    with torch.no_grad():
        theirs = zipformer.embed_text(ids, torch.ones_like(ids)).numpy()
    assert (runtime.embed_tokens([long]) * theirs).sum() >= bundle.manifest.verification["floor"]


def test_a_wrong_graph_is_refused_with_the_place(
    zipformer: Clsp, whisper: Clsp, tokenizer: Path, card: Card, tmp_path: Path
) -> None:
    out = tmp_path / "b"
    first = export_bundle(zipformer, tokenizer, card, out, precision="fp32", scope=QUICK, say=str)
    runtime = BundleRuntime(first, threads=1)
    with pytest.raises(VerificationError, match=r"speech has cosine .* at the 1st percentile \(.* s"):
        verify(whisper, runtime, "fp32", scope=QUICK)
    with pytest.raises(ValueError, match="fp32 weights go with fp32 arithmetic"):
        export_bundle(zipformer, tokenizer, card, out, precision="fp32", arithmetic="int8", scope=QUICK, say=str)
    assert Bundle.load(out).fingerprint() == first.fingerprint(), "a refused export leaves the older bundle"
    assert [path.name for path in tmp_path.iterdir()] == ["b"], "nothing half-made is left"
    (out / "text.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"text\.onnx"):
        Bundle.load(out)


# The process ends at a step of the folders' exchange: Python announces each before it is taken.
KILLED = """
import os, signal, sys
from pathlib import Path
from model_export.replace_bundle import replace_bundle
steps = iter(range(int(sys.argv[3])))
def look(event, arguments):
    if event in ("os.rename", "shutil.rmtree", "os.remove") and next(steps, None) is None:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
replace_bundle(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("steps", range(5))
def test_a_replacement_that_is_killed_leaves_one_bundle_whole(steps: int, tmp_path: Path) -> None:
    old, new = tmp_path / "bundle", tmp_path / ".bundle-new"
    shutil.copytree(ROOT / "models" / "clsp-small", old)
    shutil.copytree(ROOT / "models" / "clsp-small", new)
    (new / "LICENCE").write_text("of the new one alone")
    script = [sys.executable, "-c", KILLED, str(new), str(old), str(steps)]
    assert subprocess.run(script, cwd=ROOT).returncode == -signal.SIGKILL
    settle(old)
    assert Bundle.load(old)
    assert (old / "LICENCE").exists() == (steps >= 2), "the new one is there once it was renamed"
    assert {path.name for path in tmp_path.iterdir()} - {new.name} == {"bundle"}, "what was set aside is gone"


def test_only_a_bundle_is_replaced(zipformer: Clsp, tokenizer: Path, card: Card, tmp_path: Path) -> None:
    thesis, note, link = tmp_path / "thesis", tmp_path / "note", tmp_path / "current"
    (thesis / "chapters").mkdir(parents=True)
    note.write_text("a file")
    for out, words in ((thesis, r"thesis holds files and no bundle\.json"), (note, "note is a file")):
        with pytest.raises(BundleError, match=words):
            export_bundle(zipformer, tokenizer, card, out, precision="fp32", scope=QUICK, say=str)
    assert (thesis / "chapters").is_dir() and note.read_text() == "a file"
    (thesis / "chapters").rmdir()
    link.symlink_to(thesis)
    for _ in range(2):  # into an empty folder, and in place of a bundle
        export_bundle(zipformer, tokenizer, card, link, precision="fp32", scope=QUICK, say=str)
        assert link.is_symlink() and Bundle.load(thesis)
    assert thesis.stat().st_mode & 0o777 == 0o755
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "note", "thesis"]


def test_a_hop_is_at_most_a_window(zipformer: Clsp, tokenizer: Path, card: Card, tmp_path: Path) -> None:
    """At an export, before any work, and of a bundle that was written when nobody looked."""
    said: list[str] = []
    with pytest.raises(ValueError, match="windows of 10 s every 12 s do not cover a clip"):
        export_bundle(zipformer, tokenizer, replace(card, hop_s=12.0), tmp_path / "out", scope=QUICK, say=said.append)
    assert not said and not list(tmp_path.iterdir())
    old = Path(shutil.copytree(ROOT / "models" / "clsp-small", tmp_path / "old"))
    manifest = json.loads((old / "bundle.json").read_text())
    (old / "bundle.json").write_text(json.dumps(manifest | {"hop_s": 30.0}))
    with pytest.raises(BundleError, match=r"old/bundle\.json: .*windows of 10 s every 30 s do not cover a clip"):
        Bundle.load(old)


def test_the_text_tower_may_have_sums_of_its_own(zipformer: Clsp, tokenizer: Path, card: Card, tmp_path: Path) -> None:
    def export(name: str, **sums: Precision) -> Bundle:
        return export_bundle(
            zipformer, tokenizer, card, tmp_path / name, precision="int8", scope=QUICK, say=str, **sums
        )

    plain = export("plain")
    mixed = export("mixed", arithmetic="int8", text_arithmetic="fp32")
    assert (arithmetic(mixed), arithmetic(mixed, "text")) == ("int8", "fp32")
    hashes = [{name: file.sha256 for name, file in b.manifest.files.items()} for b in (plain, mixed)]
    assert hashes[0]["text.onnx"] == hashes[1]["text.onnx"]
    assert hashes[0]["speech.onnx"] != hashes[1]["speech.onnx"]
    kept = mixed.manifest.verification["float32_layers"]
    assert kept and not [name for name in kept if name.startswith("text_")], "only layers in 8 bits can stay out of it"
    other = export("other", arithmetic="fp32", text_arithmetic="int8")
    assert (arithmetic(other), arithmetic(other, "text")) == ("fp32", "int8")
    assert all(name.startswith("text_") for name in other.manifest.verification["float32_layers"])


def test_the_floor_is_at_the_first_percentile() -> None:
    good = Cosines([("clip", 1.0)] * 299 + [("odd one", 0.5)])
    refuse_below({"speech": good}, 0.99, 1.0, "int8")  # one of 300 is below the percentile
    bad = Cosines([("clip", 1.0)] * 290 + [(f"odd {i}", 0.5) for i in range(10)] + [("odd 99", 0.6)] * 10)
    with pytest.raises(VerificationError, match=r"speech has cosine 0\.500000 .*odd 0: 0\.5.*and 8 more"):
        refuse_below({"speech": bad}, 0.99, 1.0, "int8")
    with pytest.raises(VerificationError, match=r"alone against batch: cosine 0\.9990000"):
        refuse_below({"speech": good}, 0.99, 0.999, "int8")
    few = Cosines([("clip", 1.0)] * 5 + [("odd", 0.5)])
    assert few.percentile() == 0.5


def test_what_is_no_number_is_below_every_floor() -> None:
    good = Cosines([("clip", 1.0)] * 3)
    for cosines in (Cosines([("clip", 1.0)] * 300 + [("odd", math.nan)]), Cosines([("odd", math.nan)])):
        with pytest.raises(VerificationError, match=r"speech has cosine nan .*odd: nan"):
            refuse_below({"speech": cosines}, 0.99, 1.0, "int8")
    with pytest.raises(VerificationError, match="alone against batch: cosine nan"):
        refuse_below({"speech": good}, 0.99, math.nan, "int8")
    fine, broken = np.eye(2, dtype=np.float32), np.float32([[1, 0], [0, np.inf]])
    for theirs, ours, side in ((broken, fine, "torch modules"), (fine, broken, "exported graphs")):
        with pytest.raises(VerificationError, match=f"the {side} give embeddings that are not finite: two"):
            Cosines().add(["one", "two"], theirs, ours)


def test_top_overlap_counts_what_rankings_share() -> None:
    scores = np.arange(40.0)[None]
    assert top_overlap(scores, scores) == 1.0
    assert top_overlap(scores, -scores) == 0.0
    shifted = np.where(scores >= 35, scores, -scores)
    assert top_overlap(scores, shifted) == 0.5


@given(st.lists(st.integers(1, 100), max_size=40), st.integers(1, 500), st.booleans())
def test_runs_hold_every_input_once_within_the_bound(lengths: list[int], most: int, equal: bool) -> None:
    runs = plan_runs(lengths, most, equal=equal)
    assert sorted(place for run in runs for place in run) == list(range(len(lengths)))
    for run in runs:
        longest = max(lengths[place] for place in run)
        assert len(run) == 1 or len(run) * longest <= most
        assert not equal or len({lengths[place] for place in run}) == 1


@pytest.mark.slow
def test_an_hour_embeds_in_bounded_memory(zipformer: Clsp, tokenizer: Path, card: Card, tmp_path: Path) -> None:
    """All windows of an hour are asked for at once: memory is that of one run, not of 719 windows."""
    bundle = export_bundle(zipformer, tokenizer, card, tmp_path / "b", precision="fp32", scope=QUICK, say=str)
    runtime = BundleRuntime(bundle, threads=0)
    piece = voiced_sound(10.0, 1)

    def embed(seconds: int) -> float:
        clip = np.tile(piece, seconds // 10)
        ranges = plan_windows(len(clip), sample_rate=16000, window_s=10.0, hop_s=5.0, min_s=0.25)
        vectors = runtime.embed_speech([clip[start:stop] for start, stop in ranges])
        assert len(vectors) == seconds // 5 - 1
        assert abs(np.linalg.norm(pool_windows(vectors)) - 1) < 1e-5
        return psutil.Process().memory_info().rss / 2**20

    short = embed(120)  # fills one run, and the runtime's arena
    assert embed(3600) < short + 400  # the hour itself is 220 MiB of samples
