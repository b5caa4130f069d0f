"""Two processes with unequal shares of a batch have the loss and the gradients of one process with all of it."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.paths import script_environment
from tests.support.training_rank import COUNTS, FALSE, step, told
from tests.support.training_stages import stage_recipe, train_tiny, write_manifest, write_recipe, write_tokenizer
from training.model import build_model
from training.trainer.gather import gathered_loss
from training.trainer.network import Network
from training.trainer.state import states


def two_processes(command: list[str]) -> None:
    """Run a script twice, as ranks 0 and 1 of one group on this machine, and wait for both."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, *command],
            env=script_environment(**told, RANK=str(rank), LOCAL_RANK=str(rank)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], "\n".join(said)


@pytest.mark.parametrize(("stage", "texts"), [("stage1", 1), ("stage2", 2)])
def test_one_process_has_the_papers_loss(reference: Path, stage: str, texts: int) -> None:
    golden = np.load(reference / "golden_losses.npz")
    speech = torch.from_numpy(golden["speech"]).requires_grad_()
    text = torch.from_numpy(golden["text"]).requires_grad_()
    scale = torch.tensor(float(golden["logit_scale"]), requires_grad=True)
    whole, told = gathered_loss(speech, text[: 6 * texts].view(texts, 6, -1).transpose(0, 1), scale)
    assert told.item() == pytest.approx(float(golden[f"{stage}_loss"]), abs=1e-5)
    whole.backward()
    for name, ours in (("speech", speech.grad), ("text", text.grad), ("logit_scale", scale.grad)):
        assert np.abs(ours.numpy() - golden[f"{stage}_grad_{name}"]).max() < 1e-5


@pytest.mark.parametrize("claims", ["claims", "none"])
def test_gathered_loss_and_gradients_are_those_of_one_process(tmp_path: Path, claims: str) -> None:
    recipe = stage_recipe(write_tokenizer(tmp_path / "words"))
    torch.manual_seed(3)
    model = build_model(recipe.model)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    clips, false = sum(COUNTS), sum(len(rows) for rows in FALSE)
    ids = torch.randint(4, 16, (2 * clips + false, 5))
    whole = {
        "wave": 0.1 * torch.randn(clips, 8000),
        "lengths": torch.randint(5000, 8001, (clips,)),
        "ids": ids,
        "mask": torch.ones_like(ids),
    }
    save_file(whole, tmp_path / "batch.safetensors")
    starts = [sum(COUNTS[:rank]) for rank in range(len(COUNTS))]
    owners = [start + row for start, rows in zip(starts, FALSE, strict=True) for row in rows]

    network = Network(model, recipe).eval()
    parts, known = {**whole, "owners": torch.tensor(owners)}, told(slice(None)) if claims == "claims" else None
    loss, alone = step(network, parts, known)
    assert (alone.item() == pytest.approx(step(network, parts, None)[1].item(), abs=1e-3)) == (claims == "none")
    loss.backward()
    ours = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}

    two_processes(["-m", "tests.support.training_rank", str(tmp_path / "words"), str(tmp_path), claims])
    for rank in (0, 1):
        theirs = load_file(tmp_path / f"rank{rank}.safetensors")
        assert float(theirs.pop("loss")) == pytest.approx(alone.item(), abs=1e-6)
        assert theirs.keys() == ours.keys() and "clsp.logit_scale" in ours
        # Clips are padded to other lengths in other company, which rounds float32 differently.
        wrong, size = 0.0, 0.0
        for name, gradient in ours.items():
            assert (theirs[name] - gradient).abs().max() < 2e-3 * gradient.abs().max() + 1e-7, name
            wrong += float((theirs[name] - gradient).square().sum())
            size += float(gradient.square().sum())
        assert wrong < 1e-8 * size


@pytest.mark.slow
def test_two_processes_train_and_resume(tmp_path: Path) -> None:
    tokenizer, manifest = write_tokenizer(tmp_path / "words"), write_manifest(tmp_path / "clips")
    recipe = stage_recipe(tokenizer, data={"batch_s": 3.0}, run={"save_every": 3})
    path = write_recipe(tmp_path / "recipe.yaml", recipe)

    def run(out: str, *more: str) -> Path:
        command = ["-m", "service.cli", "train", str(path), "--manifest", str(manifest), "--threads", "1", "--cpu"]
        two_processes([*command, "--out", str(tmp_path / out), "--cache", str(tmp_path / "cache"), *more])
        return tmp_path / out / "model.safetensors"

    whole = load_file(run("whole"))
    assert json.loads((states(tmp_path / "whole" / "states")[-1] / "state.json").read_text())["processes"] == 2
    again = load_file(run("again"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    with pytest.raises(ValueError, match="processes"):
        train_tiny(recipe, manifest, tmp_path / "whole", resume=True)
