"""The model that a stage starts from: towers, a checkpoint of ours, or the released one."""

from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from training.captions.utterance import Utterance
from training.model import Clsp, build_model
from training.model.checkpoint import load_checkpoint
from training.model.heads import ResidualProjection
from training.model.initial import (
    InitialWeightsError,
    load_official,
    load_speech_tower,
    load_text_tower,
    locate,
    weights_folder,
)
from training.model.reference_mean import CLIPS, measure_reference_mean
from training.trainer.batches import tokenise
from training.trainer.clips import Source, SplitCuts
from training.trainer.heads.setup import standardise_heads
from training.trainer.recipe import StageRecipe
from training.trainer.tasks import captions_of

SAMPLE = 256  # clips that residual heads are standardised on


def start_stage(recipe: StageRecipe, source: Source, tokenizer: Tokenizer) -> Clsp:
    """The recipe's model with its starting weights, in evaluation mode.

    Fresh heads of the residual kind are standardised, and the mean that channel normalisation needs is measured, on the
    first training clips. Raises InitialWeightsError, CheckpointError.
    """
    torch.manual_seed(recipe.seed)
    start = recipe.start
    if start.checkpoint:
        model = load_checkpoint(locate(start.checkpoint))[0]
        if model.config != recipe.model:
            raise InitialWeightsError(f"{start.checkpoint} holds another model than the recipe describes")
        return model
    model = build_model(recipe.model)
    if start.official:
        load_official(model, locate(start.official))
        return model
    if start.speech:
        load_speech_tower(model, weights_folder(start.speech))
    if start.text:
        load_text_tower(model, weights_folder(start.text))
    rows = [cut.row for cut in islice(SplitCuts(source, "train"), CLIPS)]
    measure_reference_mean(model, [Path(row["path"]) for row in rows])
    _standardise(model, rows[:SAMPLE], recipe, tokenizer)
    return model


@torch.no_grad()
def _standardise(model: Clsp, rows: list[dict[str, Any]], recipe: StageRecipe, tokenizer: Tokenizer) -> None:
    if not any(isinstance(head, ResidualProjection) for head in (model.audio_projection, model.text_projection)):
        return
    speech, text = [], []
    for row in rows:
        wave = torch.from_numpy(Utterance.of(row).load(recipe.data.max_s))[None]
        speech.append(model.pool_speech(wave, torch.tensor([wave.shape[1]])))
        whole, fine = captions_of(row["captions"], recipe.data)
        options = recipe.model.text
        text.append(
            model.pool_text(*tokenise(tokenizer, (fine or whole)[:1], options.max_tokens, options.pad_token_id))
        )
    standardise_heads(model, torch.cat(speech), torch.cat(text))
