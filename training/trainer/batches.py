"""Batches by duration: Lhotse's dynamic buckets fill them, and each knows its place, so that a run can go on there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lhotse import CutSet
from lhotse.dataset import DynamicBucketingSampler
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler

from training.captions.utterance import Utterance
from training.corpus.augment import augment
from training.corpus.data import stable_seed
from training.trainer.claims import Told
from training.trainer.clips import Source, lazy_cuts
from training.trainer.errors import EmptyEpochError
from training.trainer.heads.features import pad_tokens
from training.trainer.recipe import StageRecipe
from training.trainer.tasks import draw_texts


@dataclass(frozen=True)
class Place:
    """Where in the data a step is: its epoch, and how many of the epoch's steps came before."""

    epoch: int = 0
    taken: int = 0


@dataclass(frozen=True)
class SpeechBatch:
    """One step of one process. Texts lie clip by clip (all of clip 0, then of clip 1, ...), negatives after them.

    wave [n, samples], lengths int64 [n]; ids, mask int64 [n K + m, L]; owners int64 [m] is the clip of each negative.
    `after` is the place behind this batch.
    """

    wave: Tensor
    lengths: Tensor
    ids: Tensor
    mask: Tensor
    owners: Tensor
    told: Told  # what is known of the clips, and what their own texts claim
    texts: int  # K
    task1: float  # share of clips that drew task 1
    after: Place
    names: tuple[str, ...]

    def to(self, device: torch.device) -> "SpeechBatch":
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("wave", "lengths", "ids", "mask", "owners")}
        return SpeechBatch(**{**vars(self), **moved})

    @property
    def seconds(self) -> float:
        """Audio in it, padding left out, s."""
        return float(self.lengths.sum()) / 16000


class Steps(Sampler[Any]):
    """Endless (step, cuts, place after) from a step and a place on; deterministic by the recipe's seed."""

    def __init__(self, source: Source, recipe: StageRecipe, step: int, place: Place, rank: int, processes: int) -> None:
        self.source, self.recipe = source, recipe
        self.step, self.place = step, place
        self.rank, self.processes = rank, processes

    def __iter__(self) -> Iterator[tuple[int, CutSet, Place]]:
        data = self.recipe.data
        sampler = DynamicBucketingSampler(
            lazy_cuts(self.source, "train"),
            max_duration=data.batch_s,
            max_cuts=data.max_clips,
            num_buckets=data.buckets,
            buffer_size=data.buffer,
            num_cuts_for_bins_estimate=data.buffer,
            shuffle=True,
            drop_last=data.drop_last,
            seed=self.recipe.seed,
            rank=self.rank,
            world_size=self.processes,
        )
        step, place = self.step, self.place
        while True:
            sampler.set_epoch(place.epoch)
            taken = 0
            for cuts in sampler:
                taken += 1
                if taken > place.taken:
                    yield step, cuts, Place(place.epoch, taken)
                    step += 1
            if not taken:
                raise EmptyEpochError(
                    f"{self.source.manifest} fills no batch of {data.batch_s:g} s in {data.buckets} buckets on "
                    f"{self.processes} processes: lower data.batch_s or data.buckets, or set data.drop_last: false"
                )
            place = Place(place.epoch + 1, 0)


class Loading(Dataset[SpeechBatch]):
    """Loads and tokenises what a step asks for: a pure function of the step, its cuts and the seed."""

    def __init__(self, recipe: StageRecipe, tokenizer: Tokenizer) -> None:
        self.recipe, self.tokenizer = recipe, tokenizer

    def __getitem__(self, item: tuple[int, CutSet, Place]) -> SpeechBatch:
        step, cuts, after = item
        recipe = self.recipe
        rows = [cut.row for cut in cuts]
        drawn = [
            draw_texts(row["captions"], row["id"], step, stage=recipe.stage, data=recipe.data, seed=recipe.seed)
            for row in rows
        ]
        false = [(i, one.negative) for i, one in enumerate(drawn) if one.negative is not None]
        texts = [text for one in drawn for text in one.texts] + [text for _, text in false]
        waves = [torch.from_numpy(self._wave(row, step)) for row in rows]
        ids, mask = tokenise(self.tokenizer, texts, recipe.model.text.max_tokens, recipe.model.text.pad_token_id)
        return SpeechBatch(
            wave=pad_sequence(waves, batch_first=True),
            lengths=torch.tensor([len(wave) for wave in waves]),
            ids=ids,
            mask=mask,
            owners=torch.tensor([i for i, _ in false], dtype=torch.int64),
            told=Told(tuple(row["facts"] for row in rows), tuple(one.claims for one in drawn)),
            texts=len(drawn[0].texts),
            task1=sum(one.task == 1 for one in drawn) / len(drawn),
            after=after,
            names=tuple(row["id"] for row in rows),
        )

    def _wave(self, row: dict[str, Any], step: int) -> Any:
        wave = Utterance.of(row).load(self.recipe.data.max_s)
        if self.recipe.data.channel:
            wave, _ = augment(wave, stable_seed("channel", self.recipe.seed, step, row["id"]), self.recipe.data.channel)
        return wave


def tokenise(tokenizer: Tokenizer, texts: Sequence[str], limit: int, pad: int) -> tuple[Tensor, Tensor]:
    """Ids and mask int64 [N, L] of texts, each cut at `limit` tokens."""
    return pad_tokens([encoding.ids[:limit] for encoding in tokenizer.encode_batch(list(texts))], pad)


def load_batches(
    source: Source,
    recipe: StageRecipe,
    tokenizer: Tokenizer,
    *,
    step: int = 0,
    place: Place | None = None,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[SpeechBatch]:
    """This process's batches from a step on, without end. Raises EmptyEpochError."""
    loader = DataLoader(
        Loading(recipe, tokenizer),
        sampler=Steps(source, recipe, step, place or Place(), rank, processes),
        batch_size=None,
        num_workers=recipe.data.workers,
        collate_fn=_as_it_is,
        pin_memory=False,
        generator=torch.Generator().manual_seed(recipe.seed),  # the loader draws from it, not from the training's
    )
    return iter(loader)


def _as_it_is(batch: Any) -> Any:
    return batch
