"""A Whisper-style speech tower: convolutions, learned positions, pre-norm Transformer, layer statistics.

Keys below `encoder_embed.` and `encoder.` follow the published encoder's, so pretrained weights load by renaming
(`from_whisper_keys`). Positions are cut to the clip's length: a 4 s clip costs an eighth of 30 s.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model.config import WhisperConfig
from training.model.scalar import padding_mask


class WhisperEmbed(nn.Module):
    """Log-mel [N, T, bins] at 100 Hz -> [N, (T + 1) // 2, C] at 50 Hz, with positions added."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(config.mel_bins, config.dim, 3, padding=1)
        self.conv2 = nn.Conv1d(config.dim, config.dim, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(config.max_positions, config.dim)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """features [N, T, bins] with 0 past each clip's end, lengths int64 [N] -> frames [N, t, C], lengths [N]."""
        hidden = F.gelu(self.conv1(features.transpose(1, 2)))
        # conv1 reaches one frame past a clip's end, where alone there would be nothing.
        hidden = hidden * (~padding_mask(lengths, hidden.shape[2]))[:, None].to(hidden.dtype)
        hidden = F.gelu(self.conv2(hidden)).transpose(1, 2)
        return hidden + self.embed_positions.weight[: hidden.shape[1]], (lengths + 1) // 2


class WhisperAttention(nn.Module):
    """Multi-head attention; the key projection has no bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, hidden_keys: Tensor) -> Tensor:
        """x [N, t, C], hidden_keys additive [N, 1, 1, t] -> [N, t, C]."""
        batch, frames, dim = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, frames, self.heads, dim // self.heads).transpose(1, 2)

        query, key, value = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=hidden_keys)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, frames, dim))
        return out


class WhisperLayer(nn.Module):
    """Pre-norm attention and feed-forward, both residual."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(config.dim)
        self.self_attn = WhisperAttention(config.dim, config.heads)
        self.final_layer_norm = nn.LayerNorm(config.dim)
        self.fc1 = nn.Linear(config.dim, config.feedforward_dim)
        self.fc2 = nn.Linear(config.feedforward_dim, config.dim)

    def forward(self, x: Tensor, hidden_keys: Tensor) -> Tensor:
        x = x + self.self_attn(self.self_attn_layer_norm(x), hidden_keys)
        out: Tensor = x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))
        return out


class WhisperEncoder(nn.Module):
    """The layers, returning every layer that the pooling asks for: [N, t, C] -> [N, K, t, C]."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.pool_layers = config.pool_layers
        self.layers = nn.ModuleList(WhisperLayer(config) for _ in range(config.layers))

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        hidden_keys = padding_mask(lengths, x.shape[1])[:, None, None, :].to(x.dtype) * -1e4
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], hidden_keys))
        return torch.stack([states[i] for i in self.pool_layers], dim=1), lengths


class StatisticsPool(nn.Module):
    """Mean and standard deviation over valid frames of each layer: [N, K, t, C] -> [N, K * 2 C].

    Statistics pooling as in x-vectors (Snyder et al., 2018), layer by layer.
    """

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        keep = (~padding_mask(lengths, frames.shape[2]))[:, None, :, None].to(frames.dtype)
        count = lengths.clamp(min=1)[:, None, None].to(frames.dtype)
        mean = (frames * keep).sum(2) / count
        centred = (frames - mean[:, :, None]) * keep
        deviation = (centred.square().sum(2) / count + 1e-8).sqrt()
        return torch.cat([mean, deviation], dim=-1).flatten(1)


def from_whisper_keys(state: Mapping[str, Tensor], config: WhisperConfig) -> dict[str, Tensor]:
    """Rename a `WhisperEncoder` state dict to ours, float32, leaving out layers past `config.layers`."""
    renamed = {}
    for key, tensor in state.items():
        parts = key.removeprefix("model.encoder.").removeprefix("encoder.").split(".")
        if parts[0] == "layers" and int(parts[1]) < config.layers:
            renamed["encoder." + ".".join(parts)] = tensor.float()
        elif parts[0] in ("conv1", "conv2", "embed_positions"):
            renamed["encoder_embed." + ".".join(parts)] = tensor.float()
    return renamed
