"""A bundle as evaluation's embedder: clips in whole, cut and pooled as the service does."""

from collections.abc import Sequence

import numpy as np

from model_export.runtime import BundleRuntime, Vectors
from model_export.windows import plan_windows, pool_windows


class BundleEmbedder:
    """A bundle with the service's own window policy; a text is embedded once however often it is asked for."""

    def __init__(self, runtime: BundleRuntime) -> None:
        self.runtime = runtime
        self._texts: dict[str, Vectors] = {}

    def embed_clip(self, samples: Vectors) -> Vectors:
        """[samples] at 16 kHz -> [D], unit L2."""
        policy = self.runtime.bundle.manifest
        ranges = plan_windows(
            len(samples),
            sample_rate=policy.sample_rate,
            window_s=policy.window_s,
            hop_s=policy.hop_s,
            min_s=policy.min_s,
        )
        return pool_windows(self.runtime.embed_speech([samples[start:stop] for start, stop in ranges]))

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Texts -> [N, D], unit L2."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        self._texts.update(zip(new, self.runtime.embed_text(new), strict=True))
        return np.stack([self._texts[text] for text in texts]) if texts else self.runtime.embed_text([])
