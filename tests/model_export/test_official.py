"""The released folder's shapes: read, refused with reasons, exported by the command, opened by plain ONNX Runtime."""

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from rich.console import Console
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from transformers import RobertaTokenizerFast
from typer.testing import CliRunner

from model_export import cli
from model_export.bundle import Bundle, BundleError
from model_export.cli import export_app
from model_export.official import compare, load_official, load_tokenizer
from model_export.runtime import BundleRuntime, arithmetic
from model_export.verify import voiced_sound
from tests.support.make_checkpoint import load_draw, read_keys, write_checkpoint, write_tokenizer
from tests.support.paths import ROOT
from training.model import Clsp, ClspConfig
from training.model.checkpoint import CheckpointError

CLSP = [sys.executable, "-c", "from service.cli.main import main; main()"]
GIB = 2**30


@pytest.fixture(scope="module")
def folder(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the released one, of the reference's small size, in three shards."""
    folder = tmp_path_factory.mktemp("released")
    write_checkpoint(folder, read_keys(reference, "small"), load_draw(reference), shards=3)
    write_tokenizer(folder / "roberta-base", size=400)
    return folder


@pytest.fixture(scope="module")
def small(reference: Path) -> ClspConfig:
    return ClspConfig.from_recipe_json(reference / "config_small.json")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_reads_one_file_or_shards(folder: Path, small: ClspConfig, reference: Path, tmp_path: Path) -> None:
    keys, draw = read_keys(reference, "small"), load_draw(reference)
    write_checkpoint(tmp_path, keys, draw)
    for place in (folder, tmp_path):
        state = load_official(place, small).state_dict()
        assert state.keys() == keys.keys()
        for key, shape in keys.items():
            np.testing.assert_array_equal(state[key].numpy(), draw(key, shape))


def test_goldens_hold_for_what_was_read(folder: Path, small: ClspConfig, reference: Path) -> None:
    golden = dict(np.load(reference / "golden_small.npz"))
    model = load_official(folder, small)
    length = int(golden["lengths"][0])
    with torch.no_grad():
        pooled = model.pool_features(torch.from_numpy(golden["features"][:1, :length]), torch.tensor([length]))
        ids, mask = torch.from_numpy(golden["input_ids"]).long(), torch.from_numpy(golden["attention_mask"]).long()
        text = model.embed_text(ids, mask)
        assert np.abs(model.project_speech(pooled).numpy() - golden["speech_embedding_alone"][:1]).max() < 1e-5
    assert np.abs(text.numpy() - golden["text_embedding"]).max() < 1e-5


def test_half_precision_weights_are_widened(copied: Path, small: ClspConfig) -> None:
    shard = next(copied.glob("*00001*.safetensors"))
    save_file({key: value.astype(np.float16) for key, value in load_file(shard).items()}, shard)
    assert {value.dtype for value in load_official(copied, small).state_dict().values()} == {torch.float32}


def test_says_what_is_missing_extra_and_of_another_shape(copied: Path, small: ClspConfig) -> None:
    index = json.loads((copied / "model.safetensors.index.json").read_text())
    held = {key: value for name in set(index["weight_map"].values()) for key, value in load_file(copied / name).items()}
    for file in copied.glob("model*"):
        file.unlink()
    del held["model.logit_scale"], held["model.audio_projection.0.bias"]
    held["model.vocoder.weight"] = np.zeros(3, np.float32)
    held["model.text_projection.0.weight"] = np.zeros((5, 7), np.float32)
    save_file(held, copied / "model.safetensors")
    with pytest.raises(CheckpointError) as refusal:
        load_official(copied, small)
    text = str(refusal.value)
    assert "2 missing: logit_scale, audio_projection.0.bias" in text
    assert "1 extra: vocoder.weight" in text
    assert "1 of another shape: text_projection.0.weight is [5, 7], not [64, 64]" in text


def test_official_size_refuses_a_small_checkpoint_with_counts(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"\d+ missing: .* and \d+ more; .*\d+ of another shape: .* and \d+ more"):
        load_official(folder)


def test_compare_finds_nothing_in_equal_sets() -> None:
    assert compare({"a": (1,)}, {"a": (1,)}).lines() == []


def test_refuses_folders_without_weights(copied: Path, small: ClspConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        load_official(tmp_path / "nowhere", small)
    shard = next(copied.glob("*00002*.safetensors"))
    shard.rename(copied / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=shard.name):
        load_official(copied, small)
    (copied / "model.safetensors.index.json").unlink()
    with pytest.raises(CheckpointError, match=r"neither .*pytorch_model.bin.*pickles are not read"):
        load_official(copied, small)
    (copied / "model.safetensors").write_bytes(b"not a tensor in here")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_official(copied, small)


def test_an_index_that_lies_is_refused(copied: Path, small: ClspConfig) -> None:
    path = copied / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    files = sorted(set(index["weight_map"].values()))
    at = index["weight_map"]["model.logit_scale"]
    index["weight_map"]["model.logit_scale"] = next(name for name in files if name != at)
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lacks model\.logit_scale"):
        load_official(copied, small)
    for wrong in ("{}", "[]", '{"weight_map": []}', '{"weight_map": {"model.logit_scale": 1}}', "[" * 100000):
        path.write_text(wrong)
        with pytest.raises(CheckpointError, match="weight_map"):
            load_official(copied, small)


def test_a_recipe_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    for wrong in ("[]", "{}", '{"roberta": 3, "joint_dim": 4}', "[" * 100000, "\udcff"):
        path.write_bytes(wrong.encode(errors="surrogateescape"))
        with pytest.raises(ValueError, match=r"config\.json is (no recipe|not JSON)"):
            ClspConfig.from_recipe_json(path)
    path.write_text('{"roberta": {}, "joint_dim": 4, "downsampling_factor": 3}')
    with pytest.raises(ValueError, match="values for 1 stacks"):
        ClspConfig.from_recipe_json(path)


def test_speech_that_is_none_is_refused_by_name(
    folder: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "console", Console(stderr=True, width=1000))
    speech = tmp_path / "speech"
    speech.mkdir()
    (speech / "notes.wav").write_text("no sound")
    where = ["--checkpoint", str(folder), "--out", str(tmp_path / "bundle"), "--speech", str(speech)]
    done = CliRunner().invoke(export_app, ["official", *where, "--config", str(reference / "config_small.json")])
    assert done.exit_code == 1
    assert re.search(r"not exported --speech: .*notes\.wav", done.stderr)


def test_tokenizer_is_robertas(folder: Path, small: ClspConfig, tmp_path: Path) -> None:
    """From the two files, from tokenizer.json, and as `transformers` makes it: the same ids."""
    place = folder / "roberta-base"
    ours = load_tokenizer(folder, small.text)
    ours.save(str(tmp_path / "tokenizer.json"))
    again = load_tokenizer(tmp_path, small.text)
    single = load_tokenizer(tmp_path / "tokenizer.json", small.text)
    theirs = RobertaTokenizerFast.from_pretrained(place)
    for text in ("A calm older man speaks slowly.", " leading space", "naïve café — 声", "", "a  b\n c", "</s> inside"):
        expected = theirs(text)["input_ids"]
        assert ours.encode(text).ids == again.encode(text).ids == single.encode(text).ids == expected
        assert expected[0] == 0
        assert expected[-1] == 2


def test_no_tokenizer_or_another_networks_is_refused(folder: Path, small: ClspConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no tokenizer: put roberta-base's"):
        load_tokenizer(tmp_path, small.text)
    tokenizer = load_tokenizer(folder, small.text)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    with pytest.raises(CheckpointError, match=r"<pad> is 1, the text tower's is 0"):
        load_tokenizer(tmp_path, small.text.model_copy(update={"pad_token_id": 0}))
    with pytest.raises(CheckpointError, match=r"has \d+ tokens, the text tower 50"):
        load_tokenizer(tmp_path, small.text.model_copy(update={"vocab_size": 50}))
    bare = json.loads(path.read_text()) | {"post_processor": None}
    path.write_text(json.dumps(bare))
    with pytest.raises(CheckpointError, match="between <s> and </s>"):
        load_tokenizer(tmp_path, small.text)
    path.write_text("{")
    with pytest.raises(CheckpointError, match="can't be read"):
        load_tokenizer(tmp_path, small.text)


def export(checkpoint: Path, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*CLSP, "export", "official", "--checkpoint", str(checkpoint), "--out", str(out), *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_command_writes_a_bundle_that_plain_onnx_runtime_opens(folder: Path, reference: Path, tmp_path: Path) -> None:
    out, config = tmp_path / "bundle", str(reference / "config_small.json")
    done = export(folder, out, "--config", config, "--precision", "int8", "--longest-s", "1", "--library", "20")
    assert done.returncode == 0, done.stderr
    bundle = Bundle.load(out)
    assert arithmetic(bundle) == bundle.manifest.precision == "int8"
    assert bundle.manifest.window_s == 30.0
    assert bundle.manifest.logit_scale == pytest.approx(20.0, rel=1e-4)
    assert set(bundle.manifest.provenance["weights_sha256"]) == {file.name for file in folder.glob("*.safetensors")}
    report = bundle.manifest.verification
    assert report["speech"]["p1_cosine"] >= 0.99
    assert report["rank_agreement"]["library"] == 20
    runtime = BundleRuntime(bundle, threads=1)
    clip = voiced_sound(1.3, 5)
    soundfile.write(tmp_path / "clip.wav", clip, 16000, subtype="FLOAT")
    captions = ["A calm older man.", "the speaker whispers softly."]
    script = [sys.executable, str(ROOT / "docs" / "plain_onnx.py"), str(out), str(tmp_path / "clip.wav"), *captions]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    expected = runtime.embed_text(captions) @ runtime.embed_speech([clip])[0]
    assert [line.split(maxsplit=1)[1] for line in printed] == captions
    np.testing.assert_allclose([float(line.split()[0]) for line in printed], expected, atol=2e-4)


def test_plain_script_is_short_and_uses_nothing_of_ours() -> None:
    text = (ROOT / "docs" / "plain_onnx.py").read_text()
    body = [line for line in text.splitlines() if line and not line.startswith(("import", "from", '"""'))]
    assert len(body) <= 17
    assert not any(room in text for room in ("service", "index", "model_export", "training"))


def test_command_explains_a_refusal(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "console", Console(stderr=True))  # writes where the runner listens
    done = CliRunner().invoke(export_app, ["official", "--checkpoint", str(folder), "--out", str(tmp_path / "bundle")])
    assert done.exit_code == 1
    words = " ".join(done.stderr.split())
    assert "not exported" in words
    assert "missing" in words
    assert "Traceback" not in words
    assert not (tmp_path / "bundle").exists()


def test_graphs_that_give_no_numbers_are_refused(copied: Path, reference: Path, tmp_path: Path) -> None:
    """Weights that float32 holds, and float16 doesn't."""
    index = json.loads((copied / "model.safetensors.index.json").read_text())
    shard = copied / index["weight_map"]["model.audio_projection.0.weight"]
    held = load_file(shard)
    held["model.audio_projection.0.weight"] *= 1e6
    save_file(held, shard)
    config = ("--config", str(reference / "config_small.json"), "--longest-s", "1", "--library", "20")
    done = export(copied, tmp_path / "bundle", "--precision", "fp16", *config)
    assert done.returncode == 1
    assert "the exported graphs give embeddings that are not finite: 0.25 s alone; " in " ".join(done.stderr.split())
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("window", "hop"), [("2", "5"), ("10", "nan"), ("10", "0"), ("inf", "5"), ("10", "1e-9")])
def test_windows_that_leave_audio_unheard_are_refused(
    folder: Path, tmp_path: Path, window: str, hop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "console", Console(stderr=True, width=1000))
    where = ["--checkpoint", str(folder), "--out", str(tmp_path / "bundle")]
    done = CliRunner().invoke(export_app, ["official", *where, "--window-s", window, "--hop-s", hop])
    assert done.exit_code == 1
    assert f"windows of {window} s every {float(hop):g} s do not cover a clip" in done.stderr


@pytest.mark.parametrize("place", ["", "roberta-base", "..", "bundle"])
def test_what_is_read_is_never_written_over(
    copied: Path, reference: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where a bundle lies that would be replaced."""
    monkeypatch.setattr(cli, "console", Console(stderr=True, width=1000))
    (copied.parent / "bundle.json").write_text("{}")
    before = sorted(copied.parent.rglob("*"))
    config = ["--config", str(reference / "config_small.json"), "--library", "20", "--longest-s", "1"]
    options = ["official", "--checkpoint", str(copied), "--out", str(copied / place), *config]
    done = CliRunner().invoke(export_app, options)
    assert done.exit_code == 1
    assert ("which is" if place else "is itself") + " read for the bundle: name another folder" in done.stderr
    assert sorted(copied.parent.rglob("*")) == before
    ours = CliRunner().invoke(export_app, ["checkpoint", str(copied), "--out", str(copied / place)])
    assert isinstance(ours.exception, BundleError)
    assert sorted(copied.parent.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.timeout(5400)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_official_size(reference: Path, tmp_path: Path, precision: str) -> None:
    """The whole size: exported from shards under 12 GB, opened, damaged, refused."""
    keys = read_keys(reference, "official")
    write_checkpoint(tmp_path / "released", keys, load_draw(reference), shards=4)
    write_tokenizer(tmp_path / "released", size=500)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = export(tmp_path / "released", tmp_path / "bundle", "--precision", precision, "--library", "24")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    assert done.returncode == 0, done.stderr
    assert peak < 12e9, f"{peak / GIB:.1f} GiB, {before / 2**20:.1f} before"
    bundle = Bundle.load(tmp_path / "bundle")
    data = "speech.onnx.data"
    assert (data in bundle.manifest.files) == (precision == "fp32"), "only weights past protobuf's limit lie beside"
    floor = {"fp32": 0.99999, "int8": 0.99}[precision]
    assert bundle.manifest.verification["speech"]["p1_cosine"] >= floor
    runtime = BundleRuntime(bundle)
    assert runtime.embed_speech([voiced_sound(0.25, 1), voiced_sound(3.0, 2)]).shape == (2, 512)
    long = runtime.tokenize(["slowly and calmly " * 400])[0]
    assert long.truncated
    assert len(long.ids) == 512 < long.tokens
    damaged = tmp_path / "bundle" / (data if precision == "fp32" else "speech.onnx")
    with damaged.open("r+b") as file:
        file.seek(damaged.stat().st_size // 2)
        file.write(b"\x55" * 64)
    with pytest.raises(BundleError, match=damaged.name):
        Bundle.load(tmp_path / "bundle")


def test_clsp_is_imported_with_its_own_names(folder: Path, small: ClspConfig) -> None:
    model = load_official(folder, small)
    assert isinstance(model, Clsp)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert isinstance(load_tokenizer(folder, small.text), Tokenizer)
