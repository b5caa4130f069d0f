"""Text towers from `transformers`, built from a config alone: nothing is fetched from a hub."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from training.model.config import TextConfig


def build_text_encoder(config: TextConfig) -> nn.Module:
    """A RobertaModel with its pooler, or a BertModel without one."""
    options = config.model_dump(exclude={"kind"}) | {"attn_implementation": "eager"}
    if config.kind == "roberta":
        return RobertaModel(RobertaConfig(**options))
    return BertModel(BertConfig(**options), add_pooling_layer=False)


def pool_text(encoder: Any, kind: str, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """input_ids, attention_mask int64 [N, L] -> pooled [N, C].

    The encoder's parts are called one by one with an additive mask of our own: the wrapper's mask making depends on
    its release and on traced values, the parts do not.
    """
    hidden = encoder.embeddings(input_ids=input_ids, position_ids=position_ids(encoder, kind, attention_mask))
    hidden_keys = (1.0 - attention_mask[:, None, None, :].to(hidden.dtype)) * -1e4
    hidden = encoder.encoder(hidden, attention_mask=hidden_keys).last_hidden_state
    if kind == "roberta":
        pooled: Tensor = encoder.pooler(hidden)
        return pooled
    keep = attention_mask[..., None].to(hidden.dtype)
    mean: Tensor = (hidden * keep).sum(1) / keep.sum(1).clamp(min=1e-9)
    return mean


def position_ids(encoder: Any, kind: str, attention_mask: Tensor) -> Tensor:
    """RoBERTa numbers real tokens from pad + 1 and padding pad; BERT numbers places from 0. int64 [N, L]."""
    if kind == "roberta":
        pad = int(encoder.config.pad_token_id)
        mask = attention_mask.to(torch.int64)
        return mask.cumsum(1) * mask + pad
    return torch.arange(attention_mask.shape[1], device=attention_mask.device)[None].expand_as(attention_mask)
