"""Low-rank adapters on a tower's linear layers (LoRA, arXiv 2106.09685), by peft; merged into plain weights."""

import re
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as AdaptedLinear
from torch import Tensor, nn

from training.trainer.recipe import TowerPart

NAME = "default"


def add_adapters(module: nn.Module, options: TowerPart) -> int:
    """Put adapters beside the module's linear layers, which stop learning themselves. Returns how many there are.

    A fresh adapter adds nothing. Raises ValueError when no linear layer's name holds `options.targets`.
    """
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    chosen = [name for name in linear if re.search(options.targets, name)]
    if not chosen:
        raise ValueError(f"towers.*.targets {options.targets!r} is in no linear layer's name, such as {linear[:3]}")
    # Its type says int, but it is only divided by.
    scale: dict[str, Any] = {"lora_alpha": options.alpha}
    config = LoraConfig(r=options.rank, lora_dropout=options.dropout, target_modules=chosen, **scale)
    module.requires_grad_(False)
    inject_adapter_in_model(config, module, NAME)
    return len(chosen)


@torch.no_grad()
def plain_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict that the model had without adapters, on the CPU: each adapter added to the weight it stands by."""
    deltas = {
        f"{name}.weight": part.get_delta_weight(NAME)
        for name, part in model.named_modules()
        if isinstance(part, AdaptedLinear)
    }
    plain = {}
    for key, value in model.state_dict().items():
        if ".lora_" in key:
            continue
        key = key.replace(".base_layer.", ".")
        plain[key] = (value + deltas[key] if key in deltas else value).detach().cpu().clone()
    return plain
