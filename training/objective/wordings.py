"""Wordings of one meaning belong together: a loss among captions alone, for what users type and no clip was near."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from training.captions.bursts import BURST, categories
from training.captions.profiles import PREFIX

# What a profile's hedged words mean; of the others nobody would say so.
PROFILES = {
    "calm": "calm",
    "bored": "boredom",
    "surprised": "surprised",
    "anxious": "fearful",
    "agitated": "angry",
    "subdued": "sad",
    "plain": "neutral",
}
OWN_MEANING = ("amusement",)  # a laugh is more than a happy voice
SPOKEN = ("gender", "child", "pitch", "rate", "expressiveness", "effort", "brightness", "phonation", "pauses", "accent")


def meaning(claims: Mapping[str, str]) -> str | None:
    """The one thing that a caption says, degrees left aside; None where it says several or nothing of the kind."""
    if len(claims) != 1:
        return None
    ((attribute, value),) = claims.items()
    if attribute == "emotion":
        return value
    if attribute == BURST:
        emotion = categories()[value].emotion.partition("|")[0]
        return value if value in OWN_MEANING or emotion == "?" else emotion
    if attribute.startswith(PREFIX):
        return PROFILES.get(attribute.removeprefix(PREFIX))
    if attribute == "age":
        return value if value in ("middle_aged", "elder") else None
    value = value.removeprefix("very_")
    return None if attribute not in SPOKEN or value == "medium" else f"{attribute} {value}"


def meanings(claims: Sequence[Mapping[str, str]]) -> Tensor:
    """Int64 [M]: captions of one meaning share a number, those without one have -1."""
    told = [meaning(own) for own in claims]
    place = {name: i for i, name in enumerate(sorted({name for name in told if name}))}
    return torch.tensor([place[name] if name else -1 for name in told], dtype=torch.int64)


def wording_loss(text: Tensor, meaning: Tensor, logit_scale: Tensor) -> Tensor:
    """Supervised contrastive loss (arXiv 2004.11362) among captions: text [M, D] unit rows, meaning [M].

    Captions without a meaning (-1), or whose meaning no other of the batch shares, are left out; 0 where all are.
    """
    own = meaning >= 0
    text, meaning = text[own], meaning[own]
    same = (meaning[:, None] == meaning[None]) & ~torch.eye(len(meaning), dtype=torch.bool)
    asked = same.any(1)
    if not asked.any():
        return text.sum() * 0.0
    logits = (logit_scale * text @ text.T).masked_fill(torch.eye(len(meaning), dtype=torch.bool), -1e4)
    chosen = logits.log_softmax(1).masked_fill(~same, 0.0).sum(1) / same.sum(1).clamp(min=1)
    return -chosen[asked].mean()
