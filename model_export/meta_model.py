"""A CLSP without weights: where a checkpoint is loaded tensor by tensor, and what a graph is traced from."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from training.model import Clsp, ClspConfig, build_model


def hollow_model(config: ClspConfig) -> Clsp:
    """A CLSP on the meta device: shapes, no memory. Buffers that no checkpoint stores hold their values."""
    with torch.device("meta"):
        model = build_model(config)
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta and name not in model.state_dict():
            owner, leaf = _owner(model, name)
            setattr(owner, leaf, _fixed_buffer(leaf, buffer))
    return model


def fill(model: Clsp, tensors: Mapping[str, Tensor]) -> Clsp:
    """Put tensors in place of a hollow model's, without a copy. Raises RuntimeError unless keys and shapes agree."""
    model.load_state_dict(dict(tensors), strict=True, assign=True)
    return model.requires_grad_(False).eval()


def fill_with_numbers(model: Clsp, dtype: torch.dtype) -> Clsp:
    """Give every parameter one small number, stretched to its shape: enough to trace, at no memory.

    Each number is another one, because the exporter makes one weight of those that are equal.
    """
    state = model.state_dict()
    step = 2.0**-12  # exact in float16 up to 2048 of them
    return fill(
        model,
        {key: torch.tensor(i * step, dtype=dtype).expand(value.shape) for i, (key, value) in enumerate(state.items())},
    )


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


def _fixed_buffer(leaf: str, like: Tensor) -> Tensor:
    """The text tower's tables of positions and token types, which `transformers` makes when it builds a model."""
    if leaf == "position_ids":
        return torch.arange(like.shape[-1], dtype=like.dtype).expand(like.shape)
    if leaf == "token_type_ids":
        return torch.zeros(like.shape, dtype=like.dtype)
    raise NotImplementedError(f"the buffer {leaf} has no known value")
