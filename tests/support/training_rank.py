"""One of two processes: its share of a batch through the wrapped network, and what its gradients became."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.support.training_stages import stage_recipe
from training.model import build_model
from training.trainer.claims import Told
from training.trainer.gather import gathered_loss
from training.trainer.network import Network
from training.trainer.run import make_accelerator

COUNTS = (3, 5)  # clips of each process: they need not be equal
FALSE = ((1,), ())  # which of a process's clips bring a false caption
# What is known of each clip, and what its two texts claim: true across processes, in doubt across them, or nothing.
HIGH, LOW = {"pitch": "high"}, {"pitch": "low"}
FACTS = ({**HIGH, "rate": "low"}, LOW, {}, HIGH, {"pitch": "very_high", "rate": "low"}, LOW, {"rate": "high"}, {})
CLAIMS = ((HIGH, {"rate": "low"}), (LOW, LOW), ({}, {}), (HIGH, {}), ({"rate": "low"}, HIGH), *[({}, {})] * 3)


def told(clips: slice) -> Told:
    """What is told of some of the batch's clips."""
    return Told(FACTS[clips], CLAIMS[clips])


def step(
    network: torch.nn.Module, parts: dict[str, torch.Tensor], told: Told | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of one process's part of the batch, as the trainer computes it."""
    speech, text, scale = network(parts["wave"], parts["lengths"], parts["ids"], parts["mask"])
    clips = len(speech)
    own, false = text[: 2 * clips].view(clips, 2, -1), text[2 * clips :]
    return gathered_loss(speech, own, scale, false, parts["owners"], told)


def clips_of(rank: int) -> slice:
    """A process's clips in the batch."""
    return slice(sum(COUNTS[:rank]), sum(COUNTS[: rank + 1]))


def share(whole: dict[str, torch.Tensor], rank: int) -> dict[str, torch.Tensor]:
    """A process's part: its clips, their two texts each, and its false captions, which come last."""
    clips = clips_of(rank)
    texts = list(range(2 * clips.start, 2 * clips.stop))
    offset = 2 * sum(COUNTS) + sum(len(false) for false in FALSE[:rank])
    rows = torch.tensor(texts + list(range(offset, offset + len(FALSE[rank]))))
    return {
        "wave": whole["wave"][clips],
        "lengths": whole["lengths"][clips],
        "ids": whole["ids"][rows],
        "mask": whole["mask"][rows],
        "owners": torch.tensor(FALSE[rank], dtype=torch.int64),
    }


def main() -> None:
    torch.set_num_threads(1)
    tokenizer, folder, rank = Path(sys.argv[1]), Path(sys.argv[2]), int(os.environ["RANK"])
    recipe = stage_recipe(tokenizer)
    accelerator = make_accelerator(recipe, cpu=True)
    assert accelerator.num_processes == 2
    model = build_model(recipe.model)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    network = Network(model, recipe)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    wrapped, _ = accelerator.prepare(network, optimiser)
    wrapped.eval()
    known = told(clips_of(rank)) if sys.argv[3] == "claims" else None
    whole, loss = step(wrapped, share(load_file(folder / "batch.safetensors"), rank), known)
    accelerator.backward(whole)
    found = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    save_file({**found, "loss": loss}, folder / f"rank{rank}.safetensors")
    accelerator.end_training()


if __name__ == "__main__":
    main()
