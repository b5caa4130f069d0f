"""CLSP itself: two towers, two heads, one temperature (arXiv 2601.03065)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.model.config import ClspConfig, WhisperConfig, ZipformerConfig
from training.model.frontend import KaldiFbank, WhisperLogMel
from training.model.heads import build_head
from training.model.text import build_text_encoder, pool_text
from training.model.whisper import StatisticsPool, WhisperEmbed, WhisperEncoder
from training.model.zipformer import ConvSubsampling, MeanPool, Zipformer


class Clsp(nn.Module):
    """Speech and captions in one unit sphere; similarity is the dot product.

    With a Zipformer and RoBERTa the state-dict keys are the released checkpoint's, without its prefix `model.`.
    A clip's embedding does not depend on what else is in its batch.
    """

    def __init__(self, config: ClspConfig) -> None:
        super().__init__()
        self.config = config
        speech = config.speech
        if isinstance(speech, ZipformerConfig):
            self.frontend: nn.Module = KaldiFbank(speech.feature_dim)
            self.encoder_embed: nn.Module = ConvSubsampling(speech.feature_dim, speech.encoder_dim[0], speech.dropout)
            self.encoder: nn.Module = Zipformer(speech)
            self.pool: nn.Module = MeanPool()
        elif isinstance(speech, WhisperConfig):
            self.frontend = WhisperLogMel(speech.mel_bins, speech.channel_norm)
            self.encoder_embed = WhisperEmbed(speech)
            self.encoder = WhisperEncoder(speech)
            self.pool = StatisticsPool()
        joint = config.joint_dim
        self.audio_projection, self.audio_transform = build_head(speech.pooled_dim, joint, config.speech_head)
        self.text_encoder = build_text_encoder(config.text)
        self.text_projection, self.text_transform = build_head(config.text.hidden_size, joint, config.text_head)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def pool_features(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Features [N, T, F] with frame counts int64 [N] -> pooled [N, C]."""
        frames, lengths = self.encoder_embed(features, lengths)
        pooled: Tensor = self.pool(*self.encoder(frames, lengths))
        return pooled

    def pool_speech(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Waveform [N, samples] at 16 kHz in [-1, 1], sample counts int64 [N] -> pooled [N, C]."""
        return self.pool_features(*self.frontend(waveform, lengths))

    def project_speech(self, pooled: Tensor) -> Tensor:
        """Pooled [N, C] -> embedding [N, D], unit L2."""
        return F.normalize(self.audio_transform(self.audio_projection(pooled)), eps=1e-12)

    def embed_speech(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Waveform [N, samples] at 16 kHz in [-1, 1], sample counts int64 [N] -> embedding [N, D], unit L2."""
        return self.project_speech(self.pool_speech(waveform, lengths))

    def pool_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens and mask int64 [N, L] -> pooled [N, C]."""
        return pool_text(self.text_encoder, self.config.text.kind, input_ids, attention_mask)

    def project_text(self, pooled: Tensor) -> Tensor:
        """Pooled [N, C] -> embedding [N, D], unit L2."""
        return F.normalize(self.text_transform(self.text_projection(pooled)), eps=1e-12)

    def embed_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Tokens and mask int64 [N, L] -> embedding [N, D], unit L2."""
        return self.project_text(self.pool_text(input_ids, attention_mask))


def build_model(config: ClspConfig) -> Clsp:
    """A CLSP with fresh weights, in evaluation mode."""
    return Clsp(config).eval()
