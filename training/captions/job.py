"""Everything that one annotation depends on, in one value that can travel to other machines (without keys)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from training.captions.annotator import Annotator, Kind
from training.captions.endpoint import EndpointPool, EndpointSettings, Spending
from training.captions.endpoint.settings import Role
from training.captions.formats.rows import Row
from training.captions.formats.training import Shares
from training.captions.ledger import Ledger
from training.captions.llm_annotator import KNOWN, LlmAnnotator
from training.captions.pipeline import Pipeline, Plan
from training.captions.run import Outcome, Source, annotate
from training.captions.verifier import Verifier


@dataclass(frozen=True)
class Pools:
    """The endpoints of a run, for its progress line; None where there are none."""

    annotator: EndpointPool | None
    verifier: EndpointPool | None

    @property
    def cost(self) -> float:
        """Spent by this run so far."""
        return sum(pool.cost for pool in (self.annotator, self.verifier) if pool)

    def interrupt(self) -> None:
        """Lets requests that were sent come back, and sends no others."""
        for pool in (self.annotator, self.verifier):
            if pool is not None:
                pool.interrupt()


@dataclass(frozen=True)
class Job:
    """An annotation. `annotator` None is the acoustic one, which needs `bands`; `verifier` None leaves it out."""

    plan: Plan
    annotator: EndpointSettings | None = None
    verifier: EndpointSettings | None = None
    bands: Path | None = None
    prompts: Path | None = None
    tell: tuple[str, ...] = tuple(KNOWN)
    workers: int = 1
    shares: Shares | None = None

    async def run(
        self,
        source: Source,
        out: Path,
        ledger: Path,
        *,
        accounts: Mapping[Role, Spending] | None = None,
        watch: Callable[[Pipeline, int, Pools], None] = lambda pipeline, resumed, pools: None,
        tick: Callable[[Row], None] = lambda row: None,
    ) -> Outcome:
        """Annotates a source. `accounts` are what earlier sources of the same job have spent, and are charged further.

        Raises what `training.captions.run.annotate` does, BandsError and LedgerLockedError.
        """
        accounts = accounts or {}
        async with AsyncExitStack() as stack:
            book = Ledger(ledger)
            stack.callback(book.close)
            pool = checks = None
            if self.annotator is not None:
                pool = await stack.enter_async_context(EndpointPool(self.annotator, spending=accounts.get("annotator")))
            if self.verifier is not None:
                checks = await stack.enter_async_context(EndpointPool(self.verifier, spending=accounts.get("verifier")))
            annotator: Annotator
            if pool is not None:
                annotator = LlmAnnotator(pool, prompts=self.prompts, tell=self.tell)
            else:
                annotator = stack.enter_context(self._acoustic())
            verifier = Verifier(checks, book, prompts=self.prompts, seed=self.plan.seed) if checks else None
            pools = Pools(pool, checks)
            return await annotate(
                source,
                out,
                annotator,
                book,
                self.plan,
                verifier=verifier,
                shares=self.shares,
                watch=lambda pipeline, resumed: watch(pipeline, resumed, pools),
                tick=tick,
            )

    def accounts(self) -> dict[Role, Spending]:
        """Empty accounts, for all the sources that are to keep to the budgets together."""
        roles: dict[Role, EndpointSettings | None] = {"annotator": self.annotator, "verifier": self.verifier}
        return {role: Spending(options) for role, options in roles.items() if options is not None}

    def share(self, workers: int) -> Job:
        """This job for one of `workers` that run side by side: together they keep to each endpoint's limits.

        Raises ValueError when there are more workers than requests that an endpoint takes at once.
        """
        return replace(self, annotator=_share(self.annotator, workers), verifier=_share(self.verifier, workers))

    def _acoustic(self) -> Any:
        # Praat and scipy are not needed where an endpoint listens.
        from training.captions.acoustic_annotator import AcousticAnnotator, BandsError, read_bands

        if self.bands is None:
            raise BandsError("the acoustic annotator needs bands")
        return AcousticAnnotator(read_bands(self.bands), workers=self.workers)


def lengths_of(acoustic: bool, **given: tuple[int, int] | None) -> dict[Kind, tuple[int, int]]:
    """The annotator's own length bands, with those that are given in their place."""
    if acoustic:
        from training.captions.acoustic_annotator import AcousticAnnotator

        own = dict(AcousticAnnotator.lengths)
    else:
        own = dict(LlmAnnotator.lengths)
    return {kind: given.get(kind) or band for kind, band in own.items()}


def _share(options: EndpointSettings | None, workers: int) -> EndpointSettings | None:
    if options is None:
        return None
    if workers > options.concurrency:
        raise ValueError(f"{workers} workers cannot share {options.concurrency} requests at once: use fewer workers")
    return options.model_copy(
        update={
            "concurrency": options.concurrency // workers,
            "requests_per_minute": options.requests_per_minute / workers,
            "max_cost": options.max_cost / workers,
        }
    )
