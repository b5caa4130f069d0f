"""Loss and retrieval on clips of the dev split: what chooses the best weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from training.captions.utterance import Utterance
from training.evaluation.metrics import ranks
from training.model import Clsp
from training.objective.losses import pairwise_loss
from training.trainer.batches import tokenise
from training.trainer.recipe import StageRecipe
from training.trainer.tasks import captions_of

TEXTS = 64  # captions a forward pass


@dataclass(frozen=True)
class Validation:
    """Held-out rows, the longest first so that memory is asked for at once, and one caption for each."""

    rows: Sequence[dict[str, Any]]
    captions: Sequence[str]

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]], recipe: StageRecipe) -> "Validation":
        """A row's first fine-grained caption, or its first global one."""
        kept = sorted(rows, key=lambda row: (-row["duration_s"], row["id"]))
        told = [captions_of(row["captions"], recipe.data) for row in kept]
        return cls(kept, [(fine or whole)[0] for whole, fine in told])


@torch.no_grad()
def validate(model: Clsp, held: Validation, recipe: StageRecipe, tokenizer: Tokenizer) -> dict[str, float]:
    """loss, R@1 and R@10 in percent and mAP@10 (as in the paper, one positive a query), and `score`, the mean mAP@10.

    The loss is stage 1's over 64 pairs at a time. The model is left in evaluation mode; nothing random is drawn.
    """
    model.eval()
    device = model.logit_scale.device
    speech, text = [], []
    for start, stop in _by_seconds(held.rows, recipe.data.batch_s):
        waves = [torch.from_numpy(Utterance.of(row).load(recipe.data.max_s)) for row in held.rows[start:stop]]
        lengths = torch.tensor([len(wave) for wave in waves])
        padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
        speech.append(model.embed_speech(padded.to(device), lengths.to(device)).float())
    for start in range(0, len(held.captions), TEXTS):
        part = held.captions[start : start + TEXTS]
        ids, mask = tokenise(tokenizer, part, recipe.model.text.max_tokens, recipe.model.text.pad_token_id)
        text.append(model.embed_text(ids.to(device), mask.to(device)).float())
    clips, captions = torch.cat(speech), torch.cat(text)
    scale = model.logit_scale.exp()
    # Neighbours have like lengths: a stride mixes them.
    parts = [
        torch.arange(i, len(clips), -(-len(clips) // TEXTS), device=device) for i in range(-(-len(clips) // TEXTS))
    ]
    losses = [float(pairwise_loss(clips[part], captions[part], scale)) for part in parts if len(part) > 1]
    similarity = (clips @ captions.T).cpu().numpy()
    figures = {"loss": float(np.mean(losses)), "logit_scale": float(scale)}
    own = np.arange(len(clips))
    for name, table in (("speech_to_text", similarity), ("text_to_speech", similarity.T)):
        found = ranks(table, own)
        for k in (1, 10):
            figures[f"{name}/R@{k}"] = 100.0 * float((found <= k).mean())
        figures[f"{name}/mAP@10"] = 100.0 * float(np.where(found <= 10, 1 / found, 0.0).mean())
    figures["score"] = (figures["speech_to_text/mAP@10"] + figures["text_to_speech/mAP@10"]) / 2
    return figures


def _by_seconds(rows: Sequence[dict[str, Any]], limit: float) -> list[tuple[int, int]]:
    """Ranges of rows, the longest first, whose padded audio stays within `limit` seconds."""
    ranges, start = [], 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or rows[start]["duration_s"] * (place + 1 - start) > limit:
            ranges.append((start, place))
            start = place
    return ranges
