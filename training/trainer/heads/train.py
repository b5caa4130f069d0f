"""One trainer for every recipe: frozen towers from cached features, tuned towers end to end."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from training.audio import load_clip
from training.bfloat16 import cpu_has_bfloat16
from training.model import Clsp
from training.model.zipformer import Zipformer
from training.objective.examples import TrainClip
from training.objective.losses import soft_target_loss
from training.objective.matches import OR, ClaimTable
from training.objective.wordings import meanings, wording_loss
from training.trainer.heads.features import pad_tokens, speech_features, text_features
from training.trainer.heads.recipe import Recipe
from training.trainer.heads.setup import centre_speech, standardise_heads

Say = Callable[[str], None]


@dataclass(frozen=True)
class Batch:
    """Clips of one step, the captions drawn for them (all first captions, then all second), which match, which may."""

    clips: Tensor
    captions: Tensor
    match: Tensor
    unknown: Tensor


class Sampler:
    """Draws clips by source weight and captions by kind weight, without replacement inside a batch."""

    def __init__(self, clips: Sequence[TrainClip], recipe: Recipe) -> None:
        self.recipe = recipe
        self.captions: list[str] = []
        claims, owned = [], []
        for clip in clips:
            rows = []
            for caption in clip.captions:
                weight = recipe.data.kinds.get(caption.kind, 0.0)  # type: ignore[call-overload]
                if weight:
                    rows.append((len(self.captions), weight / sum(c.kind == caption.kind for c in clip.captions)))
                    self.captions.append(caption.text)
                    claims.append(caption.claims)
            owned.append(rows)
        self.owned = owned
        self.meanings = meanings(claims)
        self.table = ClaimTable([clip.facts for clip in clips], claims)
        weights = [
            recipe.data.source_weights.get(clip.source, 1.0) if rows else 0.0
            for clip, rows in zip(clips, owned, strict=True)
        ]
        for fact in recipe.data.balance:
            told = [clip.facts.get(fact) for clip in clips]  # of several values the first is the sure one
            values = [value.partition(OR)[0] if value else None for value in told]
            weights = balanced(weights, [(clip.source, value) for clip, value in zip(clips, values, strict=True)])
        self.weights = torch.tensor(weights)
        if int((self.weights > 0).sum()) < 2:
            raise ValueError("fewer than two clips have captions of the recipe's kinds")
        self.batch = min(recipe.train.batch, int((self.weights > 0).sum()))
        self.random = torch.Generator().manual_seed(recipe.seed)

    def draw(self) -> Batch:
        """One batch; deterministic by the recipe's seed."""
        clips = torch.multinomial(self.weights, self.batch, generator=self.random)
        columns = []
        for _ in range(self.recipe.train.captions):
            picks = []
            for clip in clips.tolist():
                ids, weights = zip(*self.owned[clip], strict=True)
                picks.append(ids[int(torch.multinomial(torch.tensor(weights), 1, generator=self.random))])
            columns.append(torch.tensor(picks))
        captions = torch.cat(columns)
        match = self.table.match(clips, captions)
        own = torch.arange(len(captions)) % self.batch
        match[own, torch.arange(len(captions))] = 1.0
        return Batch(clips, captions, match, self.table.unknown(clips, captions))


def balanced(weights: Sequence[float], groups: Sequence[tuple[str, str | None]]) -> list[float]:
    """Weights [M] in which all values of a source's clips, given as (source, value), have the same sum.

    The sum over the clips of a source that have a value stays as it was, and so does every clip without one.
    """
    sums: dict[tuple[str, str | None], float] = {}
    for weight, group in zip(weights, groups, strict=True):
        sums[group] = sums.get(group, 0.0) + weight
    share: dict[str, float] = {}
    for source in {source for source, _ in sums}:
        own = [total for (name, value), total in sums.items() if name == source and value is not None and total]
        share[source] = sum(own) / max(1, len(own))
    return [
        weight if group[1] is None or not weight else weight * share[group[0]] / sums[group]
        for weight, group in zip(weights, groups, strict=True)
    ]


class Embeddings:
    """Embeds the clips and captions of a batch: from cached features where a tower is frozen."""

    def __init__(
        self,
        model: Clsp,
        recipe: Recipe,
        clips: Sequence[TrainClip],
        captions: Sequence[str],
        tokenizer: Tokenizer,
        cache: Path,
        tick: Callable[[int], None],
    ) -> None:
        self.model, self.recipe = model, recipe
        self.clips = clips
        self.pad = model.config.text.pad_token_id
        limit = model.config.text.max_tokens
        self.speech: Tensor | None = None
        self.text: Tensor | None = None
        if "speech" not in recipe.train.tune:
            self.speech = speech_features(
                model, [clip.path for clip in clips], cache, max_s=recipe.data.max_s, tick=tick
            )
        if "text" not in recipe.train.tune:
            self.text = text_features(model, tokenizer, captions, cache)
        else:
            self.tokens = [encoding.ids[:limit] for encoding in tokenizer.encode_batch(list(captions))]
        standardise_heads(model, self.speech, self.text)

    def clips_of(self, batch: Batch) -> Tensor:
        """[N, D] unit vectors of the batch's clips."""
        if self.speech is not None:
            pooled = self.speech[batch.clips]
            noise = self.recipe.train.feature_noise
            if noise and self.model.training:
                pooled = pooled + noise * self.speech_spread * torch.randn_like(pooled)
            return self.model.project_speech(pooled)
        waves = [torch.from_numpy(load_clip(self.clips[i].path, self.recipe.data.max_s)) for i in batch.clips.tolist()]
        lengths = torch.tensor([len(wave) for wave in waves])
        return self.model.embed_speech(torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths)

    def captions_of(self, batch: Batch) -> Tensor:
        """[M, D] unit vectors of the batch's captions."""
        if self.text is not None:
            return self.model.project_text(self.text[batch.captions])
        return self.model.embed_text(*pad_tokens([self.tokens[i] for i in batch.captions.tolist()], self.pad))

    @property
    def speech_spread(self) -> Tensor:
        """Deviation of each pooled feature, what the noise is measured in."""
        if not hasattr(self, "_spread"):
            assert self.speech is not None
            self._spread = self.speech.std(0)
        return self._spread


def train(
    model: Clsp,
    recipe: Recipe,
    clips: Sequence[TrainClip],
    tokenizer: Tokenizer,
    cache: Path,
    *,
    say: Say = print,
    tick: Callable[[int], None] = lambda n: None,
    report: Callable[[int, Clsp], None] | None = None,
) -> Clsp:
    """Train on the clips given (the training split) and return the averaged weights, in evaluation mode.

    `report(step, averaged model)` is called ten times a run. Deterministic by the recipe's seed on one machine.
    Raises ValueError when the clips have no captions of the recipe's kinds.
    """
    torch.manual_seed(recipe.seed)
    options = recipe.train
    half = options.bf16 and cpu_has_bfloat16()
    if options.bf16 and not half:
        say("this CPU has no bfloat16 arithmetic: train.bf16 is left off, products are float32")
    sampler = Sampler(clips, recipe)
    data = Embeddings(model, recipe, clips, sampler.captions, tokenizer, cache, tick)
    optimiser = torch.optim.AdamW(parameter_groups(model, recipe), betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, options.warmup, options.steps))
    average = copy.deepcopy(model)
    for step in range(options.steps):
        set_training(model, options.tune)
        batch = sampler.draw()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            speech, text = data.clips_of(batch), data.captions_of(batch)
        loss = soft_target_loss(speech.float(), text.float(), model.logit_scale.exp(), batch.match, batch.unknown)
        if options.wording_weight:
            same = wording_loss(text.float(), sampler.meanings[batch.captions], model.logit_scale.exp().detach())
            loss = loss + options.wording_weight * same
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], 2.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(options.max_logit_scale))
            if isinstance(model.encoder, Zipformer) and "speech" in options.tune:
                model.encoder.clamp_parameters()
            update_average(average, model, min(options.ema, (step + 1) / (step + 10)))
        if (step + 1) % max(1, options.steps // 10) == 0:
            scale = model.logit_scale.exp().item()
            say(f"step {step + 1}/{options.steps}: loss {loss.item():.3f}, logit scale {scale:.1f}")
            if report:
                report(step + 1, average.eval())
    average.eval()
    if options.centre_share and data.speech is not None:
        centre_speech(average, data.speech, options.centre_share)
    return average


def rate(step: int, warmup: int, steps: int) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def parameter_groups(model: Clsp, recipe: Recipe) -> list[dict[str, object]]:
    """Heads at `lr`, tuned towers at `tower_lr`, vectors and scalars without decay; frozen towers need no gradient."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in tower_parameters(model):
        tower = name.partition("/")[0]
        if tower not in ("head", *recipe.train.tune):
            parameter.requires_grad_(False)
        elif parameter.requires_grad:
            lr = recipe.train.lr if tower == "head" else recipe.train.tower_lr
            decay = recipe.train.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    return [{"params": rows, "lr": lr, "weight_decay": decay} for (lr, decay), rows in groups.items()]


def tower_parameters(model: Clsp) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """Every parameter as `speech/...`, `text/...` or `head/...`."""
    for name, parameter in model.named_parameters():
        if name.startswith(("encoder_embed.", "encoder.")):
            yield f"speech/{name}", parameter
        elif name.startswith("text_encoder."):
            yield f"text/{name}", parameter
        else:
            yield f"head/{name}", parameter


def set_training(model: Clsp, tune: Sequence[str]) -> None:
    """Training mode for heads and tuned towers; frozen towers stay in evaluation mode."""
    model.train()
    if "speech" not in tune:
        model.encoder_embed.eval()
        model.encoder.eval()
    if "text" not in tune:
        model.text_encoder.eval()


def update_average(average: Clsp, model: Clsp, keep: float) -> None:
    """Exponential moving average of the weights that move, and a copy of the buffers."""
    for ours, theirs in zip(average.parameters(), model.parameters(), strict=True):
        if theirs.requires_grad:
            ours.lerp_(theirs, 1 - keep)
    for kept, current in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(current)
