"""The training loop: one step, what is written down of it, and the state from which the next process goes on."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from training.model import Clsp
from training.model.checkpoint import Card, save_checkpoint
from training.trainer.average import Average, Snapshots, swapped
from training.trainer.batches import Place, SpeechBatch, load_batches
from training.trainer.clips import Source
from training.trainer.errors import DivergedError
from training.trainer.gather import gathered_loss
from training.trainer.network import Network, parameter_groups
from training.trainer.recipe import AdamWPart, StageRecipe
from training.trainer.scaled_adam import ScaledAdam
from training.trainer.schedules import factor
from training.trainer.state import (
    load_state,
    pack_optimiser,
    random_state,
    restore_random_state,
    save_state,
    unpack_optimiser,
)
from training.trainer.validate import Validation, validate

Say = Callable[[str], None]


class Trainer:
    """A stage under way. `step` counts optimiser steps; `best` is the score of what lies in the folder `best`."""

    def __init__(
        self,
        recipe: StageRecipe,
        model: Clsp,
        source: Source,
        tokenizer: Tokenizer,
        accelerator: Accelerator,
        *,
        out: Path,
        held: Validation | None,
        identity: Mapping[str, Any],
        card: Card,
        tokenizer_path: Path,
        say: Say,
    ) -> None:
        self.recipe, self.source, self.tokenizer, self.accelerator = recipe, source, tokenizer, accelerator
        self.out, self.held, self.identity, self.say = out, held, identity, say
        self.card, self.tokenizer_path = card, tokenizer_path
        self.network = Network(model, recipe)
        self.model = self.network.clsp
        torch.manual_seed(recipe.seed + accelerator.process_index)
        options = recipe.optimiser
        groups = parameter_groups(model, recipe)
        if isinstance(options, AdamWPart):
            self.plain: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=options.betas)
        else:
            self.plain = ScaledAdam(groups, options.lr, options.betas, scale_lr=options.scale_lr, clip=options.clip)
        self.wrapped, self.optimiser = accelerator.prepare(self.network, self.plain)
        self.average = Average(self.network, recipe.run.ema)
        self.snapshots = Snapshots(out / "snapshots", recipe.run.last)
        self.step, self.place = 0, Place()
        self.best: float | None = None
        self.writer: SummaryWriter | None = None
        self.heard_s, self.since = 0.0, time.monotonic()

    @property
    def states(self) -> Path:
        """The folder of states."""
        return self.out / "states"

    def train(self, on_step: Callable[[int], None] = lambda step: None) -> None:
        """Go on to the recipe's last step. `on_step(step)` is called after each. Raises DivergedError."""
        options, main = self.recipe.run, self.accelerator.is_main_process
        if main:
            self.writer = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.step + 1)
        if self.step == 0:
            self._validate()
        batches = self._batches()
        while self.step < self.recipe.stage.steps:
            figures = self._one_step(next(batches))
            last = self.step == self.recipe.stage.steps
            if self.step % options.log_every == 0 or last:
                self._report(figures)
            if self.step % options.validate_every == 0 or last:
                self._validate()
            if self.step % options.save_every == 0 or last:
                self.save()
            on_step(self.step)
        if self.writer:
            self.writer.close()

    def _batches(self) -> Iterator[SpeechBatch]:
        return load_batches(
            self.source,
            self.recipe,
            self.tokenizer,
            step=self.step,
            place=self.place,
            rank=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )

    def _one_step(self, batch: SpeechBatch) -> dict[str, float]:
        self.network.learn()
        share = factor(self.recipe.schedule, self.step, self.place.epoch, self.recipe.stage.steps)
        for group in self.plain.param_groups:
            group["lr"] = self.recipe.optimiser.lr * group["scale"] * share
        batch = batch.to(self.accelerator.device)
        speech, text, scale = self.wrapped(batch.wave, batch.lengths, batch.ids, batch.mask)
        own = text[: len(speech) * batch.texts].view(len(speech), batch.texts, -1)
        options = self.recipe.stage
        false = text[len(speech) * batch.texts :] if options.hard_negatives else None
        owners = batch.owners if options.hard_negatives else None
        told = batch.told if options.claims else None
        whole, loss = gathered_loss(speech, own, scale, false, owners, told)
        if not bool(torch.isfinite(loss)):
            raise DivergedError(
                f"the loss of step {self.step + 1} is {loss.item()}; clips {', '.join(batch.names[:5])}..."
            )
        self.accelerator.backward(whole)
        norm = None
        if isinstance(self.recipe.optimiser, AdamWPart) and self.accelerator.sync_gradients:
            norm = self.accelerator.clip_grad_norm_(self.network.parameters(), self.recipe.optimiser.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.network.keep_in_range()
        self.average.update(self.step)
        self.step += 1
        self.place = batch.after
        self.heard_s += batch.seconds
        figures = {"loss": float(loss), "logit_scale": float(scale.detach()), "rate": share, "task1": batch.task1}
        figures |= {"clips": float(len(speech)), "audio_s": batch.seconds, "epoch": float(self.place.epoch)}
        return figures | ({"gradient_norm": float(norm)} if norm is not None else {})

    def _report(self, figures: dict[str, float]) -> None:
        now = time.monotonic()
        figures["audio_s_per_s"] = self.heard_s / max(1e-9, now - self.since)  # of this process
        self.heard_s, self.since = 0.0, now
        self._log("train", figures)
        self.say(
            f"step {self.step}/{self.recipe.stage.steps}, epoch {self.place.epoch + 1}: loss {figures['loss']:.3f}, "
            f"logit scale {figures['logit_scale']:.1f}, {figures['audio_s_per_s']:.0f} s of audio a second"
        )

    def _validate(self) -> None:
        """Measure the average on the held-out clips and keep it where it is the best so far."""
        self.snapshots_add()
        if self.held is not None and self.accelerator.is_main_process:
            with self.average.swapped():
                self.consider("average" if self.recipe.run.ema else "weights")
        self.accelerator.wait_for_everyone()

    def snapshots_add(self) -> None:
        """Remember the weights of this moment for the mean of the last ones."""
        if self.accelerator.is_main_process and self.step:
            self.snapshots.add(self.network, self.step)

    def consider(self, what: str) -> None:
        """Validate the weights that the network holds; the best so far are written to the folder `best`."""
        assert self.held is not None
        figures = validate(self.model, self.held, self.recipe, self.tokenizer)
        self._log("dev", figures)
        better = self.best is None or figures["score"] > self.best
        self.say(
            f"step {self.step}, dev: {what} loss {figures['loss']:.3f}, R@1 "
            f"{figures['speech_to_text/R@1']:.1f} / {figures['text_to_speech/R@1']:.1f}, mAP@10 {figures['score']:.1f}"
            + (", the best so far" if better else "")
        )
        if better:
            self.best = figures["score"]
            self.keep({"step": self.step, "of": what, **figures})

    def keep(self, held_out: Mapping[str, Any]) -> None:
        """Write the weights that the network holds as the best checkpoint."""
        card = Card(**{**vars(self.card), "provenance": {**self.card.provenance, "dev": dict(held_out)}})
        save_checkpoint(self.out / "best", self.network.plain(), self.tokenizer_path, card)

    def finish(self) -> None:
        """Let the mean of the last weights compete; without held-out clips the last average is what is kept."""
        if not self.accelerator.is_main_process:
            return
        if self.held is None:
            with self.average.swapped():
                self.keep({"step": self.step})
        elif mean := self.snapshots.mean():
            with swapped(self.network, mean):
                self.consider(f"mean of the last {self.recipe.run.last}")

    def _log(self, where: str, figures: Mapping[str, float]) -> None:
        if self.writer:
            for name, value in figures.items():
                self.writer.add_scalar(f"{where}/{name}", value, self.step)

    def save(self) -> None:
        """Write the state of this step; every process has to call it."""
        random = random_state(self.accelerator.device)
        rows = self.accelerator.gather(random.to(self.accelerator.device)[None]).cpu()
        if self.accelerator.is_main_process:
            packed, facts = pack_optimiser(self.plain)
            tensors: dict[str, Tensor] = {f"model/{k}": v for k, v in self.network.state_dict().items()}
            tensors |= {f"average/{k}": v for k, v in self.average.values.items()}
            tensors |= {f"optimiser/{k}": v for k, v in packed.items()}
            tensors |= {f"random/{i}": row for i, row in enumerate(rows)}
            scaler = self.accelerator.scaler.state_dict() if self.accelerator.scaler else None
            told = {"step": self.step, "place": vars(self.place), "best": self.best, "optimiser": facts}
            save_state(self.states, self.step, tensors, {**self.identity, **told, "scaler": scaler})
        self.accelerator.wait_for_everyone()

    def restore(self, place: Path) -> None:
        """Take up the state that `save` wrote."""
        tensors, facts = load_state(place)
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}, "random": {}}
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            parts[part][name] = value
        self.network.load_state_dict(parts["model"])
        for name, value in self.average.values.items():
            value.copy_(parts["average"][name])
        unpack_optimiser(self.plain, parts["optimiser"], facts["optimiser"])
        if self.accelerator.scaler and facts["scaler"]:
            self.accelerator.scaler.load_state_dict(facts["scaler"])
        self.step, self.place, self.best = facts["step"], Place(**facts["place"]), facts["best"]
        restore_random_state(parts["random"][str(self.accelerator.process_index)], self.accelerator.device)
