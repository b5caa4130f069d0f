"""Whether this CPU multiplies in bfloat16 itself: where it does not, a layer takes 18 to 31 times as long to learn."""

import torch


def cpu_has_bfloat16() -> bool:
    """Whether torch hands bfloat16 products to oneDNN here (AVX-512 or newer) instead of a plain loop."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
