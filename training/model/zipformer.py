"""The paper's speech tower: convolutional subsampling, then Zipformer stacks at several frame rates.

Written from the published description (arXiv 2310.11230, 2601.03065). Unlike the reference, a clip's output
does not depend on the padding of its batch: every read past a clip's end is masked or redirected.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model.config import ZipformerConfig
from training.model.scalar import BiasNorm, Bypass, SharedDropout, padding_mask, relative_positions, swoosh_l, swoosh_r
from training.model.zipformer_layer import ZipformerLayer

MIN_FRAMES = 9  # the subsampling's receptive field: shorter features leave no frame


class SwooshR(nn.Module):
    """SwooshR as a module, for the subsampling's sequence."""

    def forward(self, x: Tensor) -> Tensor:
        return swoosh_r(x)


class ConvNeXt(nn.Module):
    """A residual 7x7 block on [N, c, t, f]; `keep` [N, 1, t, 1] is 1 within a clip, 0 past its end."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.pointwise_conv1 = nn.Conv2d(channels, 3 * channels, 1)
        self.pointwise_conv2 = nn.Conv2d(3 * channels, channels, 1)
        with torch.no_grad():
            self.pointwise_conv2.weight.mul_(0.01)
            if self.pointwise_conv2.bias is not None:
                nn.init.uniform_(self.pointwise_conv2.bias, -1e-3, 1e-3)

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        hidden = self.pointwise_conv1(self.depthwise_conv(x * keep))
        out: Tensor = x + self.pointwise_conv2(swoosh_l(hidden))
        return out


class ConvSubsampling(nn.Module):
    """Features [N, T, F] at 100 Hz -> [N, (T - 7) // 2, C] at 50 Hz."""

    def __init__(self, feature_dim: int, channels: int, dropout: float) -> None:
        super().__init__()
        identity = nn.Identity
        # Places 1, 2, 5 and 8 hold training-only pieces in released checkpoints; the keys count them.
        self.conv = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=(0, 1)),
            identity(),
            identity(),
            SwooshR(),
            nn.Conv2d(8, 32, 3, stride=2),
            identity(),
            SwooshR(),
            nn.Conv2d(32, 128, 3, stride=(1, 2)),
            identity(),
            SwooshR(),
        )
        self.convnext = ConvNeXt()
        self.out = nn.Linear(128 * (((feature_dim - 1) // 2 - 1) // 2), channels)
        self.out_norm = BiasNorm(channels)
        self.dropout = SharedDropout(dropout)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """features [N, T, F], lengths int64 [N] in frames -> frames [N, t, C], lengths [N]."""
        image = self.conv(features[:, None])
        lengths = (lengths - 7).clamp(min=0) // 2
        keep = (~padding_mask(lengths, image.shape[2]))[:, None, :, None].to(image.dtype)
        image = self.convnext(image, keep)
        frames = image.permute(0, 2, 1, 3).flatten(2)
        return self.dropout(self.out_norm(self.out(frames))), lengths


class Downsample(nn.Module):
    """Weighted mean of each group of `factor` frames, repeating a clip's own last frame to fill a group."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.bias = nn.Parameter(torch.zeros(factor))

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        batch, frames, channels = x.shape
        groups = (frames + self.factor - 1) // self.factor
        index = torch.arange(groups * self.factor, device=x.device)[None, :]
        index = torch.minimum(index, (lengths[:, None] - 1).clamp(min=0))
        filled = x.gather(1, index[..., None].expand(-1, -1, channels))
        weights = self.bias.float().softmax(0).to(x.dtype)
        return (filled.view(batch, groups, self.factor, channels) * weights[:, None]).sum(2)


class LayerStack(nn.Module):
    """Layers in turn at one frame rate, sharing one positional table."""

    def __init__(self, layers: list[ZipformerLayer], pos_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.pos_dim = pos_dim

    def forward(self, x: Tensor, lengths: Tensor, stride: int = 1) -> Tensor:
        """x [N, n, C]; a frame is padding when the first input frame of its group is (lengths count input frames)."""
        frames = x.shape[1]
        table = relative_positions(frames, self.pos_dim, x)
        mask = padding_mask((lengths + stride - 1) // stride, frames)
        for layer in self.layers:
            x = layer(x, table, mask)
        return x


class DownsampledStack(nn.Module):
    """A stack that runs at 1 / factor of the rate between a Downsample and a repeat, beside a bypass."""

    def __init__(self, stack: LayerStack, channels: int, factor: int) -> None:
        super().__init__()
        self.downsample = Downsample(factor)
        self.encoder = stack
        self.out_combiner = Bypass(channels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        factor = self.downsample.factor
        y = self.encoder(self.downsample(x, lengths), lengths, factor)
        repeated = y.index_select(1, torch.arange(x.shape[1], device=x.device) // factor)
        out: Tensor = self.out_combiner(x, repeated)
        return out


class Zipformer(nn.Module):
    """Stacks, then each output channel from the last stack that has it: [N, t, C_0] -> [N, t', max C]."""

    def __init__(self, config: ZipformerConfig) -> None:
        super().__init__()
        self.widths = config.encoder_dim
        stacks: list[nn.Module] = []
        for i, (factor, width) in enumerate(zip(config.downsampling_factor, config.encoder_dim, strict=True)):
            layers = [
                ZipformerLayer(
                    width,
                    pos_dim=config.pos_dim,
                    heads=config.num_heads[i],
                    query_dim=config.query_head_dim[i],
                    pos_head_dim=config.pos_head_dim[i],
                    value_dim=config.value_head_dim[i],
                    feedforward_dim=config.feedforward_dim[i],
                    kernel=config.cnn_module_kernel[i],
                    dropout=config.dropout,
                )
                for _ in range(config.num_encoder_layers[i])
            ]
            stack = LayerStack(layers, config.pos_dim)
            stacks.append(stack if factor == 1 else DownsampledStack(stack, width, factor))
        self.encoders = nn.ModuleList(stacks)
        if config.output_downsampling_factor == 2:
            self.downsample_output = Downsample(2)

    def stack_outputs(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """Each stack's output [N, t, C_i], in order."""
        outputs = []
        for stack, width in zip(self.encoders, self.widths, strict=True):
            x = stack(fit_width(x, width), lengths)
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.stack_outputs(x, lengths)
        assembled = outputs.pop()
        for output in reversed(outputs):
            if output.shape[-1] > assembled.shape[-1]:
                assembled = torch.cat([assembled, output[..., assembled.shape[-1] :]], dim=-1)
        if hasattr(self, "downsample_output"):
            return self.downsample_output(assembled, lengths), (lengths + 1) // 2
        return assembled, lengths

    @torch.no_grad()
    def clamp_parameters(self, minimum_bypass: float = 0.2) -> None:
        """Keep bypass scales in [minimum, 1] and norm scales in [-1.5, 1.5]; call after each optimiser step."""
        for module in self.modules():
            if isinstance(module, Bypass):
                module.bypass_scale.clamp_(minimum_bypass, 1.0)
            elif isinstance(module, BiasNorm):
                module.log_scale.clamp_(-1.5, 1.5)


def fit_width(x: Tensor, width: int) -> Tensor:
    """Cut or zero-fill the last axis to `width` channels."""
    return x[..., :width] if width <= x.shape[-1] else F.pad(x, (0, width - x.shape[-1]))


class MeanPool(nn.Module):
    """Mean over each clip's valid frames: [N, t, C], lengths [N] -> [N, C]."""

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        keep = (~padding_mask(lengths, frames.shape[1]))[..., None].to(frames.dtype)
        return (frames * keep).sum(1) / lengths.clamp(min=1)[:, None].to(frames.dtype)
