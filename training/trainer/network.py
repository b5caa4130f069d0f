"""The network as one step sees it: towers in the chosen precision, everything that compares vectors in float32."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from training.model import Clsp, build_model
from training.model.zipformer import Zipformer
from training.trainer.adapters import add_adapters, plain_state
from training.trainer.heads.train import tower_parameters
from training.trainer.recipe import AdamWPart, StageRecipe, TowerPart


class Network(nn.Module):
    """One `forward` for both towers, as data parallelism wants it. Adapters are put in here."""

    def __init__(self, model: Clsp, recipe: StageRecipe) -> None:
        super().__init__()
        self.clsp, self.recipe = model, recipe
        towers: dict[str, list[nn.Module]] = {
            "speech": [model.encoder_embed, model.encoder],
            "text": [model.text_encoder],
        }
        self.still: list[nn.Module] = []
        for name, parts in towers.items():
            options: TowerPart = getattr(recipe.towers, name)
            if options.tune == "full":
                continue
            for part in parts:
                part.requires_grad_(False)
            if options.tune == "lora":
                add_adapters(parts[-1], options)
            else:
                self.still += parts

    def forward(self, wave: Tensor, lengths: Tensor, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """wave [n, samples], lengths int64 [n], ids and mask int64 [M, L] -> speech [n, D], text [M, D], scale []."""
        model, device = self.clsp, wave.device.type
        with torch.autocast(device, enabled=False):  # half precision would drown quiet bands
            features, counts = model.frontend(wave, lengths)
        frames, counts = model.encoder(*model.encoder_embed(features, counts))
        text = model.pool_text(ids, mask)
        with torch.autocast(device, enabled=False):
            speech = model.project_speech(model.pool(frames.float(), counts))
            return speech, model.project_text(text.float()), model.logit_scale.float().exp()

    def learn(self) -> None:
        """Training mode, save for what does not learn."""
        self.train()
        for part in self.still:
            part.eval()

    @torch.no_grad()
    def keep_in_range(self) -> None:
        """Bring temperature, bypasses and norms back into range; after each step of the optimiser."""
        self.clsp.logit_scale.clamp_(max=math.log(self.recipe.stage.max_logit_scale))
        if isinstance(self.clsp.encoder, Zipformer) and self.recipe.towers.speech.tune == "full":
            self.clsp.encoder.clamp_parameters()

    def plain(self) -> Clsp:
        """A copy of the model as it stands, adapters merged, on the CPU in evaluation mode."""
        copy = build_model(self.recipe.model)
        copy.load_state_dict(plain_state(self.clsp))
        return copy


def parameter_groups(model: Clsp, recipe: StageRecipe) -> list[dict[str, Any]]:
    """What learns, by tower and decay: `scale` multiplies the scheduled rate of the group."""
    scales = {"speech": recipe.towers.speech.lr_scale, "text": recipe.towers.text.lr_scale, "head": 1.0}
    decays = recipe.optimiser.weight_decay if isinstance(recipe.optimiser, AdamWPart) else 0.0
    groups: dict[tuple[str, float], list[Tensor]] = {}
    for name, parameter in tower_parameters(model):
        if parameter.requires_grad:
            decay = decays if parameter.ndim > 1 else 0.0
            groups.setdefault((name.partition("/")[0], decay), []).append(parameter)
    base = recipe.optimiser.lr
    return [
        {"params": rows, "lr": base * scales[tower], "scale": scales[tower], "tower": tower, "weight_decay": decay}
        for (tower, decay), rows in groups.items()
    ]
