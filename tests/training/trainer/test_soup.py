"""A soup of runs: the mean of what its members are alone, from one start, with the bias centred once."""

from pathlib import Path

import pytest
import torch

from tests.support.training_heads import run, small_recipe
from training.model import Clsp
from training.objective.examples import TrainClip, read_examples
from training.trainer.heads.features import speech_features


@pytest.fixture(scope="module")
def clips(manifest: Path) -> list[TrainClip]:
    return [clip for clip in read_examples(manifest) if clip.split == "train"]


def heads(model: Clsp) -> dict[str, torch.Tensor]:
    towers = ("frontend", "encoder_embed.", "encoder.", "text_encoder.")
    return {key: value for key, value in model.state_dict().items() if not key.startswith(towers)}


def test_a_soup_is_the_mean_of_what_its_members_are_alone(
    clips: list[TrainClip], tokenizer_path: Path, tmp_path: Path
) -> None:
    members = [{"weight": 3}, {"seed": 8, "kinds": {"fine": 1.0}}]
    mixed = heads(run(small_recipe(tokenizer_path, steps=5, soup=members), clips, tokenizer_path, tmp_path))
    plan = small_recipe(tokenizer_path, steps=5)
    other = plan.model_copy(update={"seed": 8, "data": plan.data.model_copy(update={"kinds": {"fine": 1.0}})})
    first = heads(run(plan, clips, tokenizer_path, tmp_path))
    second = heads(run(other, clips, tokenizer_path, tmp_path, start=plan.seed))
    differ = [key for key, value in first.items() if not torch.equal(value, second[key])]
    assert "logit_scale" in differ
    for key, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * first[key] + 0.25 * second[key], msg=key)


def test_the_bias_is_centred_once_on_the_mean(clips: list[TrainClip], tokenizer_path: Path, tmp_path: Path) -> None:
    def outputs(share: float) -> torch.Tensor:
        recipe = small_recipe(tokenizer_path, steps=2, centre_share=share, soup=[{}, {"seed": 8}])
        trained = run(recipe, clips, tokenizer_path, tmp_path)
        pooled = speech_features(trained, [clip.path for clip in clips], tmp_path)
        with torch.no_grad():
            return trained.audio_transform(trained.audio_projection(pooled))

    plain, shifted = outputs(0.0), outputs(0.25)
    torch.testing.assert_close(shifted, plain - 0.25 * plain.mean(0))


def test_a_soup_of_one_is_the_run_itself(clips: list[TrainClip], tokenizer_path: Path, tmp_path: Path) -> None:
    alone = run(small_recipe(tokenizer_path, steps=3), clips, tokenizer_path, tmp_path).state_dict()
    for key, value in (
        run(small_recipe(tokenizer_path, steps=3, soup=[{}]), clips, tokenizer_path, tmp_path).state_dict().items()
    ):
        torch.testing.assert_close(value, alone[key], msg=key)


def test_towers_that_learn_are_not_stirred(tokenizer_path: Path) -> None:
    with pytest.raises(ValueError, match="soup"):
        small_recipe(tokenizer_path, tune=("text",), soup=[{}, {"seed": 8}])


@pytest.mark.parametrize("member", [{"weight": 0}, {"lr": 1.0}, {"kinds": {"guess": 1.0}}])
def test_a_member_is_checked(tokenizer_path: Path, member: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(member))):
        small_recipe(tokenizer_path, soup=[member])
