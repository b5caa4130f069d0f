"""Captions' claims in a stage's loss: true ones are right, doubtful ones don't count, silent ones are the paper's."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support.training_stages import stage_recipe, train_tiny, write_manifest, write_tokenizer
from training.trainer.claims import Told
from training.trainer.gather import gathered_loss

HIGH, LOW, SAD = {"pitch": "high"}, {"pitch": "low"}, {"emotion": "sad"}
FACTS = (HIGH, {"pitch": "very_high"}, LOW, {**LOW, **SAD})


def slopes(facts: Sequence[dict[str, str]], claims: Sequence[dict[str, str]], false: int | None = None) -> torch.Tensor:
    """[clips, texts]: the loss against each pair's cosine where all are 0. Below 0 a pair is drawn together."""
    clips = len(facts)
    speech, texts = torch.eye(clips), torch.zeros(clips, 1, clips, requires_grad=True)
    told = Told(tuple(facts), tuple((claim,) for claim in claims))
    extra = (None, None) if false is None else (torch.zeros(1, clips), torch.tensor([false]))
    loss, _ = gathered_loss(speech, texts, torch.tensor(1.0), *extra, told)
    (found,) = torch.autograd.grad(loss, texts)
    return found[:, 0].T


def test_true_draws_false_pushes_unknown_does_nothing() -> None:
    found = slopes(FACTS, [HIGH, {"pitch": "very_high"}, LOW, SAD])
    assert found.sign().tolist() == [
        [-1, 1, 1, 0],  # nobody knows whether the first is sad
        [1, -1, 1, 0],
        [1, 1, -1, 0],
        [1, 1, -1, -1],
    ]
    assert found[0, 1] < 0.5 * found[0, 2] and found[1, 0] < 0.5 * found[1, 2]  # high and very high: nearly true


def test_silent_captions_and_clips_of_which_nothing_is_known_are_the_papers() -> None:
    papers = slopes([{}] * 4, [{}] * 4)
    assert torch.equal(papers.sign(), 1 - 2 * torch.eye(4))
    assert torch.equal(slopes(FACTS, [{}] * 4), papers)
    assert torch.equal(slopes([{}] * 4, [HIGH, LOW, SAD, HIGH]), papers)
    mixed = slopes((*FACTS[:3], {}), [HIGH, HIGH, {}, LOW])
    assert mixed[0, 1] < 0 < mixed[0, 2]
    assert (mixed[3, :3] > 0).all() and mixed[3, 3] < 0  # claims are wrong of the clip that nobody describes


def test_each_of_a_clips_texts_keeps_its_own_claims() -> None:
    speech, texts = torch.eye(3), torch.zeros(3, 2, 3, requires_grad=True)
    told = Told((HIGH, HIGH, LOW), ((LOW, HIGH), ({}, {}), ({}, {})))
    loss, _ = gathered_loss(speech, texts, torch.tensor(1.0), told=told)
    (found,) = torch.autograd.grad(loss, texts)
    assert found[0, :, 1].sign().tolist() == [1, -1] and found[0, :, 2].sign().tolist() == [-1, 1]
    assert (found[1:, :, 0] > 0).all()


@pytest.mark.parametrize(("stage", "texts"), [("stage1", 1), ("stage2", 2)])
def test_without_claims_the_loss_is_the_papers(reference: Path, stage: str, texts: int) -> None:
    golden = np.load(reference / "golden_losses.npz")
    scale = torch.tensor(float(golden["logit_scale"]))
    text = torch.from_numpy(golden["text"])[: 6 * texts].view(texts, 6, -1).transpose(0, 1)
    silent = Told(({"pitch": "high"},) * 6, (({},) * texts,) * 6)
    _, loss = gathered_loss(torch.from_numpy(golden["speech"]), text, scale, told=silent)
    assert loss.item() == pytest.approx(float(golden[f"{stage}_loss"]), abs=1e-5)


def test_a_false_caption_is_its_owners_alone_beside_claims() -> None:
    claims = [HIGH, HIGH, LOW, LOW]
    plain, more = slopes(FACTS, claims), slopes(FACTS, claims, false=2)
    changed = (plain - more).abs().max(1).values > 1e-7
    assert changed.tolist() == [False, False, True, False]


def test_a_stage_reads_claims_unless_told_not_to(tmp_path: Path) -> None:
    tokenizer, manifest = write_tokenizer(tmp_path / "words"), write_manifest(tmp_path / "buzzes")
    silent = manifest.with_name("silent.jsonl")
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        row["captions"] = [{"text": c["text"], "kind": c["kind"]} for c in row["captions"]]
    silent.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def weights(name: str, manifest: Path, **stage: object) -> tuple[dict[str, torch.Tensor], str]:
        torch.set_num_threads(1)
        lines: list[str] = []
        recipe = stage_recipe(tokenizer, stage={"steps": 2, **stage})
        train_tiny(recipe, manifest, tmp_path / name, say=lines.append)
        state = next((tmp_path / name / "states").glob("step-*"))
        return load_file(state / "tensors.safetensors"), "\n".join(lines)

    on, said_on = weights("on", manifest)
    off, said_off = weights("off", manifest, claims=False)
    papers, said_nothing = weights("papers", silent)
    assert "captions of 44 train clips make claims" in said_on and "stage.claims is off" in said_off
    assert "claims" not in said_nothing
    assert all(torch.equal(off[key], papers[key]) for key in papers)
    moved = [key for key in papers if key.startswith("model/") and not torch.equal(on[key], papers[key])]
    assert moved
