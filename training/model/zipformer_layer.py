"""One Zipformer layer and its modules, batch first: [N, n, C] (arXiv 2310.11230, evaluation as in CLSP)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model.scalar import BiasNorm, Bypass, SharedDropout, swoosh_l, swoosh_r

MASKED_SCORE = -1000.0  # fits fp16, and keeps a wholly masked row finite


def scaled_linear(inputs: int, outputs: int, scale: float, bias: bool = True) -> nn.Linear:
    """A linear layer whose initial weight is PyTorch's times `scale`, bias uniform within 0.1 of it."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        layer.weight.mul_(scale)
        if bias:
            nn.init.uniform_(layer.bias, -0.1 * scale, 0.1 * scale)
    return layer


class AttentionWeights(nn.Module):
    """Attention weights with relative positions, computed once a layer: -> [N, H, n, n], rows sum to 1."""

    def __init__(self, channels: int, pos_dim: int, heads: int, query_dim: int, pos_head_dim: int) -> None:
        super().__init__()
        self.heads, self.query_dim, self.pos_head_dim = heads, query_dim, pos_head_dim
        self.in_proj = scaled_linear(channels, heads * (2 * query_dim + pos_head_dim), query_dim**-0.25)
        self.linear_pos = scaled_linear(pos_dim, heads * pos_head_dim, 0.05, bias=False)

    def forward(self, x: Tensor, table: Tensor, mask: Tensor) -> Tensor:
        batch, frames, _ = x.shape
        heads, width = self.heads, self.heads * self.query_dim
        projected = self.in_proj(x)
        query = projected[..., :width].view(batch, frames, heads, self.query_dim).permute(0, 2, 1, 3)
        key = projected[..., width : 2 * width].view(batch, frames, heads, self.query_dim).permute(0, 2, 3, 1)
        place = projected[..., 2 * width :].view(batch, frames, heads, self.pos_head_dim).permute(0, 2, 1, 3)
        rows = self.linear_pos(table.to(x.dtype)).view(-1, heads, self.pos_head_dim).permute(1, 2, 0)
        scores = query @ key + relative_shift(place @ rows)
        scores = scores.masked_fill(mask[:, None, None, :], MASKED_SCORE)
        weights: Tensor = scores.float().softmax(-1).to(x.dtype)
        return weights


def relative_shift(scores: Tensor) -> Tensor:
    """[N, H, n, 2n - 1] by offset -> [N, H, n, n] by source frame: out[i, j] = in[i, (n - 1) - i + j].

    Pad one column, flatten, drop n - 1: every row then starts one place earlier than the row above.
    """
    batch, heads, frames, offsets = scores.shape
    flat = F.pad(scores, (0, 1)).view(batch, heads, frames * (offsets + 1))
    return flat[..., frames - 1 : frames - 1 + frames * offsets].view(batch, heads, frames, offsets)[..., :frames]


class SelfAttention(nn.Module):
    """Values mixed by weights from AttentionWeights."""

    def __init__(self, channels: int, heads: int, value_dim: int) -> None:
        super().__init__()
        self.heads, self.value_dim = heads, value_dim
        self.in_proj = nn.Linear(channels, heads * value_dim)
        self.out_proj = scaled_linear(heads * value_dim, channels, 0.05)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        batch, frames, _ = x.shape
        values = self.in_proj(x).view(batch, frames, self.heads, self.value_dim).permute(0, 2, 1, 3)
        mixed = (weights @ values).permute(0, 2, 1, 3).reshape(batch, frames, self.heads * self.value_dim)
        out: Tensor = self.out_proj(mixed)
        return out


class NonlinAttention(nn.Module):
    """A gated branch mixed over time by one head."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(channels, 3 * hidden)
        self.out_proj = scaled_linear(hidden, channels, 0.05)

    def forward(self, x: Tensor, first_head: Tensor) -> Tensor:
        squash, value, gate = self.in_proj(x).chunk(3, dim=-1)
        out: Tensor = self.out_proj((first_head @ (value * squash.tanh())) * gate)
        return out


class FeedForward(nn.Module):
    """Linear, SwooshL, dropout, linear."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.in_proj = nn.Linear(channels, hidden)
        self.dropout = SharedDropout(dropout)
        self.out_proj = scaled_linear(hidden, channels, 0.1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out_proj(self.dropout(swoosh_l(self.in_proj(x))))
        return out


class ConvModule(nn.Module):
    """Gated depthwise convolution over time; frames past a clip's end are read as 0."""

    def __init__(self, channels: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.in_proj = nn.Linear(channels, 2 * channels)
        self.depthwise_conv = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.dropout = SharedDropout(dropout)
        self.out_proj = scaled_linear(channels, channels, 0.05)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        value, gate = self.in_proj(x).chunk(2, dim=-1)
        gated = (value * gate.sigmoid()).masked_fill(mask[..., None], 0.0)
        convolved = self.depthwise_conv(gated.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.out_proj(self.dropout(swoosh_r(convolved)))
        return out


class ZipformerLayer(nn.Module):
    """Two halves around one set of attention weights; no pre-norm, one norm at the end."""

    def __init__(
        self,
        channels: int,
        *,
        pos_dim: int,
        heads: int,
        query_dim: int,
        pos_head_dim: int,
        value_dim: int,
        feedforward_dim: int,
        kernel: int,
        dropout: float,
    ) -> None:
        super().__init__()
        # Unused, without gradient: kept so that released checkpoints load strictly.
        self.bypass_scale = nn.Parameter(torch.full((channels,), 0.5), requires_grad=False)
        self.bypass = Bypass(channels)
        self.bypass_mid = Bypass(channels)
        self.self_attn_weights = AttentionWeights(channels, pos_dim, heads, query_dim, pos_head_dim)
        self.self_attn1 = SelfAttention(channels, heads, value_dim)
        self.self_attn2 = SelfAttention(channels, heads, value_dim)
        self.feed_forward1 = FeedForward(channels, feedforward_dim * 3 // 4, dropout)
        self.feed_forward2 = FeedForward(channels, feedforward_dim, dropout)
        self.feed_forward3 = FeedForward(channels, feedforward_dim * 5 // 4, dropout)
        self.nonlin_attention = NonlinAttention(channels, 3 * channels // 4)
        self.conv_module1 = ConvModule(channels, kernel, dropout)
        self.conv_module2 = ConvModule(channels, kernel, dropout)
        self.norm = BiasNorm(channels)

    def forward(self, x0: Tensor, table: Tensor, mask: Tensor) -> Tensor:
        """x0 [N, n, C], table [2n - 1, P], mask [N, n] true at padding -> [N, n, C]."""
        weights = self.self_attn_weights(x0, table, mask)
        x = x0 + self.feed_forward1(x0)
        x = x + self.nonlin_attention(x, weights[:, 0])
        x = x + self.self_attn1(x, weights)
        x = x + self.conv_module1(x, mask)
        x = x + self.feed_forward2(x)
        x = self.bypass_mid(x0, x)
        x = x + self.self_attn2(x, weights)
        x = x + self.conv_module2(x, mask)
        x = x + self.feed_forward3(x)
        out: Tensor = self.bypass(x0, self.norm(x))
        return out
