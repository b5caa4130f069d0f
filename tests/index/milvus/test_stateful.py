"""Any sequence of calls and restarts leaves Milvus equal to the same dictionary that LocalStore is held against."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test

from index.milvus.index import MilvusStore
from index.types import NewItem
from tests.index.local.test_stateful import NAMES, StoreAgainstDictionary, batches, names
from tests.support.index_backends import Backend
from tests.support.index_oracle import folder_in_memory


class MilvusAgainstDictionary(StoreAgainstDictionary):
    """The same rules; what replaced versions leave behind is removed before files are counted."""

    uri = ""
    store: Any

    @initialize(batch=batches)
    def open(self, batch: list[NewItem]) -> None:
        self.folder = folder_in_memory()
        self.store = Backend("milvus", self.uri).open(self.folder)
        self.model: dict[str, dict[str, NewItem]] = {}
        self.upsert(NAMES[0], batch)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = Backend("milvus", self.uri).open(self.folder)

    @rule(name=names, batch=batches)
    def upsert(self, name: str, batch: list[NewItem]) -> None:
        super().upsert(name, batch)

    def rebuild(self, name: str) -> None:
        """No rule here: Milvus keeps its indexes itself."""

    @invariant()
    def what_is_there_is_what_the_model_holds(self) -> None:
        assert isinstance(self.store, MilvusStore)
        while self.store.tidying.once(wait=False):
            pass
        super().what_is_there_is_what_the_model_holds()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            for info in self.store.list_collections():
                self.store.delete_collection(info.name)
            self.store.close()
            shutil.rmtree(self.folder)


def hold_against_dictionary(uri: str, examples: int, steps: int) -> None:
    machine = type("Machine", (MilvusAgainstDictionary,), {"uri": uri})
    chosen = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=chosen)


def test_milvus_is_a_dictionary(milvus_uri: str) -> None:
    hold_against_dictionary(milvus_uri, examples=6, steps=12)


@pytest.mark.slow
def test_milvus_is_a_dictionary_at_length(milvus_uri: str) -> None:
    hold_against_dictionary(milvus_uri, examples=25, steps=25)
