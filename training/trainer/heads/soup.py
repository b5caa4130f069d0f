"""Model soups: runs from the same start that differ in data or chance, and the mean of their weights."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from training.model import Clsp
from training.objective.examples import TrainClip
from training.trainer.heads.features import speech_features
from training.trainer.heads.recipe import Recipe, SoupMember
from training.trainer.heads.setup import centre_speech
from training.trainer.heads.train import Say, train


def train_recipe(
    model: Clsp,
    recipe: Recipe,
    clips: Sequence[TrainClip],
    tokenizer: Tokenizer,
    cache: Path,
    *,
    say: Say = print,
    tick: Callable[[int], None] = lambda n: None,
) -> Clsp:
    """Train once, or once for each member of the recipe's soup and take the mean (arXiv 2203.05482).

    All members start from `model` as it is given. The bias is centred once, on the mean. Deterministic by the seeds on
    one machine. Raises ValueError as `training.trainer.heads.train.train` does.
    """
    if not recipe.soup:
        return train(model, recipe, clips, tokenizer, cache, say=say, tick=tick)
    total = sum(member.weight for member in recipe.soup)
    mean: Clsp | None = None
    for number, member in enumerate(recipe.soup, 1):
        say(f"member {number} of {len(recipe.soup)} of the soup")
        own = train(copy.deepcopy(model), member_recipe(recipe, member), clips, tokenizer, cache, say=say, tick=tick)
        tick = _already_told
        mean = _stir(mean, own, member.weight / total)
    assert mean is not None
    if recipe.train.centre_share:
        paths = [clip.path for clip in clips]
        centre_speech(mean, speech_features(mean, paths, cache, max_s=recipe.data.max_s), recipe.train.centre_share)
    return mean


def member_recipe(recipe: Recipe, member: SoupMember) -> Recipe:
    """The recipe of one member's run; its bias is left for the mean to centre."""
    changed: dict[str, object] = {"soup": (), "train": recipe.train.model_copy(update={"centre_share": 0.0})}
    if member.seed is not None:
        changed["seed"] = member.seed
    if member.kinds is not None:
        changed["data"] = recipe.data.model_copy(update={"kinds": member.kinds})
    return recipe.model_copy(update=changed)


@torch.no_grad()
def _stir(mean: Clsp | None, own: Clsp, share: float) -> Clsp:
    if mean is None:
        mean = copy.deepcopy(own)
        for tensor in _learned(mean):
            tensor.zero_()
    for kept, new in zip(_learned(mean), _learned(own), strict=True):
        kept.add_(new, alpha=share)
    return mean


def _learned(model: Clsp) -> list[torch.Tensor]:
    """What differs between members: parameters that moved, and what the heads standardise by."""
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    heads = (model.audio_projection, model.text_projection)
    return moved + [buffer for head in heads for buffer in head.buffers()]


def _already_told(count: int) -> None:
    """Clips are encoded once; later members find them in the cache."""
