"""The planner: the cheapest index that a size needs and a budget allows."""

from __future__ import annotations

from itertools import pairwise

import pytest

from index.ann.memory import memory_bytes
from index.ann.plan import MIB, IndexSettings, list_count, make_plan

SETTINGS = IndexSettings(memory_bytes=12 * 1024 * MIB)


@pytest.mark.parametrize(
    ("vectors", "budget_mib", "kind"),
    [
        (0, 1, "flat"),
        (10_000, 1024, "flat"),
        (100_000, 1024, "ivf-sq8"),
        (1_000_000, 1024, "ivf-sq8"),
        (1_000_000, 256, "ivf-pq"),
        (10_000_000, 12 * 1024, "ivf-sq8"),
        (10_000_000, 2048, "ivf-pq"),
    ],
)
def test_size_and_budget_choose(vectors: int, budget_mib: int, kind: str) -> None:
    plan = make_plan(vectors, 512, SETTINGS, budget_mib * MIB)
    assert plan.kind == kind
    assert plan.resident_bytes <= budget_mib * MIB or kind == "flat"
    assert plan.reason


def test_codes_get_coarser_only_as_far_as_the_budget_asks() -> None:
    fine, coarse = (make_plan(10_000_000, 512, SETTINGS, gib * 1024 * MIB) for gib in (2, 1))
    assert (fine.code_bytes, coarse.code_bytes) == (128, 64)
    assert coarse.resident_bytes < fine.resident_bytes


def test_dimensions_that_no_product_quantiser_divides_stay_with_scalars() -> None:
    assert make_plan(1_000_000, 509, SETTINGS, 1).kind == "ivf-sq8"


def test_costs_grow_with_size() -> None:
    plans = [make_plan(10**power, 384, SETTINGS) for power in range(3, 8)]
    for small, large in pairwise(plans):
        assert small.resident_bytes < large.resident_bytes
        assert small.build_s <= large.build_s
    assert list_count(100) == 2
    assert list_count(1_000_000) == 2048


def test_without_a_setting_half_the_memory_is_the_budget() -> None:
    assert IndexSettings().budget() == memory_bytes() // 2 > 0
