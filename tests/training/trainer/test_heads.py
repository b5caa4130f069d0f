"""The trainer on sounds that differ in one heard attribute: it learns, repeats itself, and its checkpoint returns."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from tests.support.training_heads import run, small_recipe
from training.bfloat16 import cpu_has_bfloat16
from training.captions.writer import Facts, write
from training.evaluation.calibrate import calibration_error, embed_captions, embed_split, fit_calibration, platt
from training.evaluation.report import held_out_report
from training.model import Clsp, ClspConfig, ZipformerConfig, build_model
from training.model.checkpoint import Card, CheckpointError, load_checkpoint, save_checkpoint
from training.model.config import HeadConfig
from training.model.initial import InitialWeightsError, load_official, load_speech_tower, load_text_tower
from training.objective.examples import TrainClip, facts_of, read_examples
from training.objective.losses import soft_target_loss
from training.objective.matches import ClaimTable
from training.trainer.heads.features import speech_features, text_features
from training.trainer.heads.train import balanced, train


def test_frozen_towers_learn_and_repeat(manifest: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    clips = read_examples(manifest)
    recipe = small_recipe(tokenizer_path)
    train_clips = [clip for clip in clips if clip.split == "train"]
    model = run(recipe, train_clips, tokenizer_path, tmp_path)
    again = run(recipe, train_clips, tokenizer_path, tmp_path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    torch.manual_seed(recipe.seed)
    fresh = build_model(recipe.model)
    assert torch.equal(model.encoder.layers[0].fc1.weight, fresh.encoder.layers[0].fc1.weight)

    held_out = [clip for clip in clips if clip.split != "train"]
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    report = held_out_report(model, held_out, tokenizer, tmp_path)
    assert report["all"]["text_to_speech"]["clips"] == len(held_out)
    accuracy = caption_accuracy(model, held_out, tokenizer, tmp_path)
    assert accuracy > 0.8, accuracy
    calibration, _ = fit_calibration(model, held_out, tokenizer, tmp_path)
    assert calibration["scale"] > 0


def caption_accuracy(model: Clsp, clips: list[TrainClip], tokenizer: Tokenizer, cache: Path) -> float:
    speech = embed_split(model, clips, cache)
    text = embed_captions(model, tokenizer, ["a low voice", "a high voice"])
    guess = (speech @ text.T).argmax(1)
    truth = torch.tensor([clip.facts["pitch"] == "high" for clip in clips]).long()
    return float((guess == truth).float().mean())


@pytest.mark.parametrize("tune", [("speech", "text"), ("text",)])
def test_tuned_towers_move_and_frozen_ones_do_not(
    manifest: Path, tokenizer_path: Path, tmp_path: Path, tune: tuple[str, ...]
) -> None:
    recipe = small_recipe(tokenizer_path, tune=tune, steps=3, batch=4, tower_lr=1e-2)
    torch.manual_seed(recipe.seed)
    before = build_model(recipe.model).state_dict()
    clips = [clip for clip in read_examples(manifest) if clip.split == "train"][:8]
    after = run(recipe, clips, tokenizer_path, tmp_path).state_dict()
    moved = {key for key in after if not torch.equal(before[key], after[key])}
    assert any(key.startswith("text_encoder.") for key in moved)
    assert any(key.startswith("encoder.") for key in moved) == ("speech" in tune)


def test_zipformer_trains(manifest: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    recipe = small_recipe(tokenizer_path, tune=("speech",), steps=3, batch=4)
    speech = ZipformerConfig(
        downsampling_factor=(1, 2),
        num_encoder_layers=(1, 1),
        encoder_dim=(16, 24),
        encoder_unmasked_dim=(16, 16),
        query_head_dim=8,
        value_head_dim=8,
        pos_head_dim=4,
        num_heads=2,
        feedforward_dim=32,
        cnn_module_kernel=15,
    )
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"speech": speech})})
    model = run(recipe, read_examples(manifest)[:8], tokenizer_path, tmp_path)
    scales = [value for key, value in model.state_dict().items() if key.endswith("bypass.bypass_scale")]
    assert scales and all((scale >= 0.2).all() and (scale <= 1).all() for scale in scales)


def test_checkpoint_returns(manifest: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    model = build_model(small_recipe(tokenizer_path).model)
    save_checkpoint(tmp_path / "c", model, tokenizer_path, Card("tiny", "1", "Apache-2.0"))
    loaded, tokenizer, card = load_checkpoint(tmp_path / "c")
    assert card.name == "tiny" and tokenizer.is_file()
    wave, lengths = torch.randn(2, 9000) * 0.1, torch.tensor([9000, 5000])
    assert torch.equal(model.embed_speech(wave, lengths), loaded.embed_speech(wave, lengths))
    (tmp_path / "c" / "config.json").write_text(ClspConfig(joint_dim=8).model_dump_json())
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        load_checkpoint(tmp_path / "c")
    (tmp_path / "c" / "card.json").unlink()
    with pytest.raises(CheckpointError, match=r"card\.json"):
        load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("card.json", "[]"),
        ("card.json", "{"),
        ("card.json", '{"name": "tiny", "version": "1", "licence": "MIT", "window_s": "long"}'),
        ("card.json", '{"name": "tiny", "version": "1", "licence": "MIT", "colour": "red"}'),
        ("config.json", "[]"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "{}"),
    ],
)
def test_a_damaged_checkpoint_is_refused_by_file(tokenizer_path: Path, tmp_path: Path, name: str, content: str) -> None:
    model = build_model(small_recipe(tokenizer_path).model)
    save_checkpoint(tmp_path, model, tokenizer_path, Card("tiny", "1", "Apache-2.0"))
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load_checkpoint(tmp_path)


def test_starting_weights_that_are_none_are_refused(tokenizer_path: Path, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("no weights")
    model = build_model(small_recipe(tokenizer_path).model)
    for load in (load_speech_tower, load_text_tower, load_official):
        with pytest.raises(InitialWeightsError, match=r"model\.safetensors is not a safetensors file"):
            load(model, tmp_path)


def test_a_true_caption_is_no_negative() -> None:
    facts = [{"gender": "male", "pitch": "very_high"}, {"gender": "male", "pitch": "low"}, {"gender": "female"}]
    claims = [{"gender": "male"}, {"gender": "male", "pitch": "high"}, {"gender": "female"}, {}]
    match = ClaimTable(facts, claims).match(torch.arange(3), torch.arange(4))
    assert torch.allclose(match, torch.tensor([[1.0, 0.25, 0, 0], [1.0, 0, 0, 0], [0, 0, 1.0, 0]]), atol=1e-4)
    unknown = ClaimTable(facts, claims).unknown(torch.arange(3), torch.arange(4))
    assert not unknown.any()
    unlabelled = ClaimTable(
        [{"pitch": "low"}, {"emotion": "sad"}], [{"emotion": "sad"}, {"emotion": "sad", "pitch": "high"}]
    )
    both = torch.arange(2), torch.arange(2)
    assert unlabelled.unknown(*both).tolist() == [[True, False], [False, True]]
    perfect = torch.eye(3)
    text = torch.stack([perfect[0] + perfect[1], perfect[0], perfect[2], perfect[1]])
    text = torch.nn.functional.normalize(text, dim=1)
    good = soft_target_loss(perfect, text, torch.tensor(20.0), match)
    bad = soft_target_loss(perfect, text.flip(0), torch.tensor(20.0), match)
    assert good < bad


def test_a_hedged_caption_is_right_of_clips_that_fit_and_wrong_of_those_far_off() -> None:
    quiet = {"effort": "low", "pitch": "low", "rate": "low", "expressiveness": "low"}
    rows = [
        {"attributes": quiet},
        {"attributes": {**quiet, "pitch": "very_high"}},
        {"attributes": {"pitch": "low"}},
        {"attributes": quiet, "emotion": "angry"},
        {"attributes": quiet, "emotion": "sad"},
    ]
    claims = [c.claims for c in write(Facts(quiet), seed="1") if "profile.calm" in c.claims]
    assert claims
    table = ClaimTable([facts_of(row) for row in rows], claims)
    everything = torch.arange(len(rows)), torch.arange(len(claims))
    assert table.match(*everything).bool().all(1).tolist() == [True, False, False, False, False]
    assert table.unknown(*everything).all(1).tolist() == [False, False, True, False, True]


@pytest.mark.parametrize("kind", ["residual", "paper"])
def test_a_share_of_the_mean_output_is_taken_off_at_the_end(
    manifest: Path, tokenizer_path: Path, tmp_path: Path, kind: str
) -> None:
    clips = [clip for clip in read_examples(manifest) if clip.split == "train"]

    def outputs(share: float) -> torch.Tensor:
        recipe = small_recipe(tokenizer_path, steps=2, centre_share=share)
        model = recipe.model.model_copy(update={"speech_head": HeadConfig(kind=kind)})
        trained = run(recipe.model_copy(update={"model": model}), clips, tokenizer_path, tmp_path)
        pooled = speech_features(trained, [clip.path for clip in clips], tmp_path)
        with torch.no_grad():
            return trained.audio_transform(trained.audio_projection(pooled))

    plain, shifted = outputs(0.0), outputs(0.25)
    assert plain.mean(0).norm() > 0.1
    torch.testing.assert_close(shifted, plain - 0.25 * plain.mean(0))


def test_a_tuned_speech_tower_has_no_mean_to_take_off(tokenizer_path: Path) -> None:
    with pytest.raises(ValueError, match="centre_share"):
        small_recipe(tokenizer_path, tune=("speech",), centre_share=0.5)


def test_heads_learn_in_bfloat16(manifest: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    clips = read_examples(manifest)
    recipe = small_recipe(tokenizer_path, bf16=True)
    model = run(recipe, [clip for clip in clips if clip.split == "train"], tokenizer_path, tmp_path)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    held_out = [clip for clip in clips if clip.split != "train"]
    assert caption_accuracy(model, held_out, Tokenizer.from_file(str(tokenizer_path)), tmp_path) > 0.8


def test_bfloat16_is_left_off_where_the_cpu_lacks_it(manifest: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    """Emulated, a layer and its gradients take 18 to 31 times as long; the run says which it is."""
    clips = [clip for clip in read_examples(manifest) if clip.split == "train"]
    recipe = small_recipe(tokenizer_path, bf16=True, steps=2)
    seen: set[torch.dtype] = set()
    lines: list[str] = []
    model = build_model(recipe.model)
    model.audio_projection.register_forward_hook(lambda *call: seen.add(call[-1].dtype))
    train(model, recipe, clips, Tokenizer.from_file(str(tokenizer_path)), tmp_path, say=lines.append)
    assert seen == {torch.bfloat16 if cpu_has_bfloat16() else torch.float32}
    assert any("bfloat16" in line for line in lines) != cpu_has_bfloat16()


def test_platt_recovers_a_known_map() -> None:
    rng = np.random.default_rng(1)
    cosines = rng.uniform(-0.2, 0.8, 8000)
    truth = (rng.random(8000) < 1 / (1 + np.exp(-(12 * cosines - 4)))).astype(float)
    scale, bias = platt(cosines, truth)
    assert abs(scale - 12) < 1 and abs(bias + 4) < 0.5
    assert calibration_error(1 / (1 + np.exp(-(scale * cosines + bias))), truth) < 0.03
    assert calibration_error(np.full(8000, 0.99), truth) > 0.3


def test_values_of_a_corpus_are_drawn_equally_often_and_its_share_stays() -> None:
    groups = [("a", "sad"), ("a", "angry"), ("a", "angry"), ("a", None), ("b", None), ("b", "sad")]
    weights = balanced([1.0, 1.0, 1.0, 1.0, 0.5, 0.0], groups)
    assert weights == pytest.approx([1.5, 0.75, 0.75, 1.0, 0.5, 0.0])


def test_heads_learn_with_a_loss_among_captions(manifest: Path, tokenizer_path: Path, tmp_path: Path) -> None:
    clips = read_examples(manifest)
    own = [clip for clip in clips if clip.split == "train"]
    model = run(small_recipe(tokenizer_path, wording_weight=1.0), own, tokenizer_path, tmp_path)
    plain = run(small_recipe(tokenizer_path), own, tokenizer_path, tmp_path)
    assert not torch.equal(model.text_projection.linear.weight, plain.text_projection.linear.weight)
    held_out = [clip for clip in clips if clip.split != "train"]
    assert caption_accuracy(model, held_out, Tokenizer.from_file(str(tokenizer_path)), tmp_path) > 0.8


def test_a_text_is_encoded_once_whatever_it_stands_among(tokenizer_path: Path, tmp_path: Path) -> None:
    model = build_model(small_recipe(tokenizer_path).model)
    tokenizer = Tokenizer.from_file(str(tokenizer_path))
    first = text_features(model, tokenizer, ["a high voice", "low", "low"], tmp_path)
    assert torch.equal(first[1], first[2])
    more = text_features(model, tokenizer, ["fast", "low", "a high voice"], tmp_path)
    assert torch.equal(more[[2, 1]], first[[0, 1]])
    kept = [np.load(file)["keys"].shape[0] for file in tmp_path.glob("text-*/*.npz")]
    assert sorted(kept) == [1, 2]
