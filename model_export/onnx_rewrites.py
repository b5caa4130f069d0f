"""The Zipformer's mathematics in the operations that ONNX Runtime is fast at; the weights stay the same.

What each form changes, and why, is said where it is; `benchmarks/towers_steps.py` takes them back. The modules in
`training/` stay the definition: tests hold every form to them.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model import Clsp
from training.model.scalar import padding_mask, relative_positions
from training.model.zipformer import ConvNeXt, ConvSubsampling, Downsample, LayerStack, MeanPool
from training.model.zipformer_layer import MASKED_SCORE, AttentionWeights, ConvModule, FeedForward, NonlinAttention

SLOPE = 0.08
# swoosh(x) = rise(x - shift) - rest, for SwooshL and SwooshR
SHIFT_L, REST_L = 4.0, 0.035 + SLOPE * 4.0
SHIFT_R, REST_R = 1.0, 0.313261687 + SLOPE

Rise = Callable[[Tensor], Tensor]


def rise_by_softplus(z: Tensor) -> Tensor:
    """ln(1 + e^z) - 0.08 z, which is never below 0.27."""
    return F.softplus(z) - SLOPE * z


def rise_by_sigmoid(z: Tensor) -> Tensor:
    """The same without Softplus, which the CPU provider computes one element at a time.

    ln(1 + e^z) = max(z, 0) - ln(sigmoid(|z|)); and max(z, 0) - 0.08 z is a leaky ramp, scaled.
    """
    ramp = F.leaky_relu(z, -SLOPE / (1 - SLOPE)) * (1 - SLOPE)
    return ramp - torch.log(torch.sigmoid(z.abs()))


def rise_by_cubic(z: Tensor) -> Tensor:
    """The same within 5e-4 and without a logarithm: for 8-bit graphs, whose steps are ten times that.

    The CPU provider's logarithm rounds the last elements of a thread's share in another way than the rest, and the
    next rounding to 8 bits makes a step of it: a clip would depend on its place in a batch. These operations don't.
    """
    far = torch.sigmoid(-z.abs())  # -ln(1 - far) by its best cubic on [0, 1/2] through 0
    ramp = F.leaky_relu(z, -SLOPE / (1 - SLOPE)) * (1 - SLOPE)
    return ramp + far * (1.01778265 + far * (0.3126291 + far * 0.84478534))


@torch.no_grad()
def use_forms(model: Clsp, weights: Clsp, rise: Rise) -> None:
    """Give a hollow model's modules their fast forms; biases that absorb a constant come from `weights`."""
    real = dict(weights.named_modules())
    for name, module in model.named_modules():
        if type(module) not in FORMS:
            continue
        form, absorb = FORMS[type(module)]
        module.forward = partial(form, module, rise)
        for leaf, bias in absorb(real[name]).items():
            module.register_buffer(leaf, bias.to(_dtype(module)), persistent=False)


def raised_inputs(model: Clsp) -> dict[str, float]:
    """The weights whose input is never negative, with the constant that these forms add to it."""
    kinds = {FeedForward: REST_L, ConvModule: REST_R}
    return {f"{n}.out_proj.weight": kinds[type(m)] for n, m in model.named_modules() if type(m) in kinds}


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _absorb(layer: Any, rest: float) -> Tensor:
    """The bias of a layer that reads swoosh(x) + rest instead of swoosh(x)."""
    taps = layer.weight.double().flatten(1).sum(1)
    shifted: Tensor = (layer.bias.double() - rest * taps).float()
    return shifted


def _no_biases(_: Any) -> dict[str, Tensor]:
    return {}


def _subsampling_biases(m: Any) -> dict[str, Tensor]:
    return {
        "bias0": m.conv[0].bias - SHIFT_R,
        "bias4": _absorb(m.conv[4], REST_R) - SHIFT_R,
        "bias7": _absorb(m.conv[7], REST_R) - SHIFT_R,
    }


def subsampling(m: Any, rise: Rise, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The activations' constants move into biases: three element-wise passes less for each."""
    image = rise(F.conv2d(features[:, None], m.conv[0].weight, m.bias0, padding=(0, 1)))
    image = rise(F.conv2d(image, m.conv[4].weight, m.bias4, stride=2))
    image = rise(F.conv2d(image, m.conv[7].weight, m.bias7, stride=(1, 2))) - REST_R
    lengths = (lengths - 7).clamp(min=0) // 2
    keep = (~padding_mask(lengths, image.shape[2]))[:, None, :, None].to(image.dtype)
    frames = m.convnext(image, keep).permute(0, 2, 1, 3).flatten(2)
    return m.out_norm(m.out(frames)), lengths


def _convnext_biases(m: Any) -> dict[str, Tensor]:
    return {"bias1": m.pointwise_conv1.bias - SHIFT_L, "bias2": _absorb(m.pointwise_conv2, REST_L)}


def convnext(m: Any, rise: Rise, x: Tensor, keep: Tensor) -> Tensor:
    """Constants moved into biases."""
    hidden = F.conv2d(m.depthwise_conv(x * keep), m.pointwise_conv1.weight, m.bias1)
    return x + F.conv2d(rise(hidden), m.pointwise_conv2.weight, m.bias2)


def downsample(m: Any, rise: Rise, x: Tensor, lengths: Tensor) -> Tensor:
    """Whole frames are gathered by row, not each element by an index of its own."""
    batch, frames, channels = x.shape
    groups = (frames + m.factor - 1) // m.factor
    index = torch.arange(groups * m.factor, device=x.device)[None, :]
    index = torch.minimum(index, (lengths[:, None] - 1).clamp(min=0))
    index = index + torch.arange(batch, device=x.device)[:, None] * frames
    filled = x.reshape(-1, channels).index_select(0, index.flatten())
    weights = m.bias.float().softmax(0).to(x.dtype)
    mean: Tensor = (filled.view(batch, groups, m.factor, channels) * weights[:, None]).sum(2)
    return mean


def layer_stack(m: Any, rise: Rise, x: Tensor, lengths: Tensor, stride: int = 1) -> Tensor:
    """The table gets the one more row that the relative shift needs, so that no score is padded."""
    frames = x.shape[1]
    table = relative_positions(frames + 1, m.pos_dim, x)[1:]
    mask = padding_mask((lengths + stride - 1) // stride, frames)
    for layer in m.layers:
        x = layer(x, table, mask)
    return x


def attention_weights(m: Any, rise: Rise, x: Tensor, table: Tensor, mask: Tensor) -> Tensor:
    """The padding mask is one more channel of the keys, against a query of 1: no pass over the scores for it.

    table [2n, P]: offsets -(n - 1) .. n.
    """
    batch, frames, _ = x.shape
    width, place_width = m.heads * m.query_dim, m.heads * m.pos_head_dim
    query, key, place = m.in_proj(x).split([width, width, place_width], dim=-1)
    hidden = (mask.to(x.dtype) * MASKED_SCORE)[:, None, None, :].expand(-1, m.heads, -1, -1)
    query = F.pad(query.view(batch, frames, m.heads, m.query_dim), (0, 1), value=1.0).permute(0, 2, 1, 3)
    key = key.view(batch, frames, m.heads, m.query_dim).permute(0, 2, 3, 1)
    place = place.view(batch, frames, m.heads, m.pos_head_dim).permute(0, 2, 1, 3)
    rows = m.linear_pos(table.to(x.dtype)).view(-1, m.heads, m.pos_head_dim).permute(1, 2, 0)
    scores = query @ torch.cat([key, hidden], dim=2) + shifted(place @ rows)
    weights: Tensor = scores.float().softmax(-1).to(x.dtype)
    return weights


def shifted(scores: Tensor) -> Tensor:
    """[N, H, n, 2n] by offset -> [N, H, n, n] by source frame: out[i, j] = in[i, (n - 1) - i + j]."""
    batch, heads, frames, _ = scores.shape
    offsets = 2 * frames - 1
    flat = scores.reshape(batch, heads, -1)[..., frames - 1 : frames - 1 + frames * offsets]
    return flat.view(batch, heads, frames, offsets)[..., :frames]


def nonlin_attention(m: Any, rise: Rise, x: Tensor, first_head: Tensor) -> Tensor:
    """Parts of fixed width: one Split, no arithmetic on shapes."""
    width = m.out_proj.in_features
    squash, value, gate = m.in_proj(x).split([width, width, width], dim=-1)
    out: Tensor = m.out_proj((first_head @ (value * squash.tanh())) * gate)
    return out


def _feed_forward_biases(m: Any) -> dict[str, Tensor]:
    return {"in_bias": m.in_proj.bias - SHIFT_L, "out_bias": _absorb(m.out_proj, REST_L)}


def feed_forward(m: Any, rise: Rise, x: Tensor) -> Tensor:
    """Constants moved into biases."""
    return F.linear(rise(F.linear(x, m.in_proj.weight, m.in_bias)), m.out_proj.weight, m.out_bias)


def _conv_module_biases(m: Any) -> dict[str, Tensor]:
    return {"depthwise_bias": m.depthwise_conv.bias - SHIFT_R, "out_bias": _absorb(m.out_proj, REST_R)}


def conv_module(m: Any, rise: Rise, x: Tensor, mask: Tensor) -> Tensor:
    """The depthwise convolution is one over an image of one row, for which the CPU provider has a blocked layout."""
    width = m.out_proj.in_features
    value, gate = m.in_proj(x).split([width, width], dim=-1)
    gated = (value * gate.sigmoid()).masked_fill(mask[..., None], 0.0).transpose(1, 2)
    kernel, padding = m.depthwise_conv.weight, m.depthwise_conv.padding[0]
    if x.dtype == torch.float32:
        image = F.conv2d(gated[:, :, None], kernel[:, :, None], m.depthwise_bias, padding=(0, padding), groups=width)
        convolved = image[:, :, 0]
    else:
        convolved = F.conv1d(gated, kernel, m.depthwise_bias, padding=padding, groups=width)
    return F.linear(rise(convolved.transpose(1, 2)), m.out_proj.weight, m.out_bias)


def mean_pool(m: Any, rise: Rise, frames: Tensor, lengths: Tensor) -> Tensor:
    """The sum over a clip is float32 whatever the graph's precision."""
    keep = (~padding_mask(lengths, frames.shape[1]))[..., None].float()
    return (frames.float() * keep).sum(1) / lengths.clamp(min=1)[:, None].float()


FORMS: dict[type[nn.Module], tuple[Callable[..., Any], Callable[[Any], dict[str, Tensor]]]] = {
    ConvSubsampling: (subsampling, _subsampling_biases),
    ConvNeXt: (convnext, _convnext_biases),
    Downsample: (downsample, _no_biases),
    LayerStack: (layer_stack, _no_biases),
    AttentionWeights: (attention_weights, _no_biases),
    NonlinAttention: (nonlin_attention, _no_biases),
    FeedForward: (feed_forward, _feed_forward_biases),
    ConvModule: (conv_module, _conv_module_biases),
    MeanPool: (mean_pool, _no_biases),
}
