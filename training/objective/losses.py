"""Contrastive losses of both stages (arXiv 2601.03065, section on training)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def pairwise_loss(speech: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """Stage 1, symmetric InfoNCE: speech [N, D] and text [N, D], row i of one belongs to row i of the other."""
    return multi_positive_loss(speech, text, logit_scale)


def multi_positive_loss(
    speech: Tensor, text: Tensor, logit_scale: Tensor, negatives: Tensor | None = None, owners: Tensor | None = None
) -> Tensor:
    """Stage 2: speech [N, D], text [K N, D]; clip i owns texts i, i + N, ... Unit rows, scale exponentiated.

    A clip's target puts 1 / K on each of its texts; a text's target is its clip. The mean of both cross entropies.
    `negatives` and `owners` are as in `soft_target_loss`. Raises ValueError when texts are not a multiple of clips.
    """
    match = ownership(speech.shape[0], text.shape[0]).to(speech)
    return soft_target_loss(speech, text, logit_scale, match, negatives=negatives, owners=owners)


def ownership(clips: int, texts: int) -> Tensor:
    """[clips, texts] of 0 and 1: clip i owns texts i, i + clips, ... Raises ValueError when shares are unequal."""
    if texts % clips:
        raise ValueError(f"{texts} texts cannot be shared equally by {clips} clips")
    return F.one_hot(torch.arange(texts) % clips, clips).T.float()


def soft_target_loss(
    speech: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    match: Tensor,
    ignore: Tensor | None = None,
    *,
    negatives: Tensor | None = None,
    owners: Tensor | None = None,
) -> Tensor:
    """Cross entropy both ways against match [N, M] >= 0, normalised over rows for clips and columns for texts.

    The general form: a caption that is true of several clips of the batch is a positive for each of them. Pairs in
    `ignore`, bool [N, M], are neither positive nor negative. `negatives` [K, D] are captions that are false of clips
    `owners` int64 [K]: one more wrong answer to their owner's choice of text, and to nobody else's, for nobody knows
    whether they are true of other clips.
    """
    logits = logit_scale * speech @ text.T
    if ignore is not None:
        logits = logits.masked_fill(ignore & (match == 0), -1e4)
    to_text = match / match.sum(1, keepdim=True).clamp(min=1e-12)
    to_speech = match / match.sum(0, keepdim=True).clamp(min=1e-12)
    text_to_speech = F.cross_entropy(logits.T, to_speech.T)
    if negatives is not None and owners is not None and len(owners):
        others = torch.arange(len(speech), device=speech.device)[:, None] != owners[None]
        wrong = (logit_scale * speech @ negatives.T).masked_fill(others, -1e4)
        logits, to_text = torch.cat([logits, wrong], 1), F.pad(to_text, (0, len(owners)))
    return (F.cross_entropy(logits, to_text) + text_to_speech) / 2
