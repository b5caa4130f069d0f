"""Changes that Milvus makes whole: it has no transactions, so a change is a row of a log, written last.

A writer says what it is about to do (`pending`), writes its rows under a number of their own, and turns the one row of
the log to `committed`: that single write makes all of it visible. A reader asks the log first (a `View`), leaves out
rows of pending changes and rows that committed ones replaced, and asks again afterwards if it met a change that it
does not know as committed: rows of one that was not when it began are not for it. What was replaced
stays for `grace_s`, and a read that took longer begins anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from index.milvus.connection import Link, MilvusSettings
from index.milvus.rows import Row, has, new_id


@dataclass(frozen=True)
class Change:
    """A row of the log: the change's number, whether it is committed, versions it ends, and media that end with it.

    Attributes:
        undone: it was given up and its rows are gone; it stays for readers that may have seen one of them.
        media: files that it brings, to be removed if it is never committed.
        drops: numbers of item versions that it replaces or deletes.
        drop_media: files that only those versions referred to.
    """

    home: str
    txn: int
    committed: bool = False
    undone: bool = False
    media: list[str] = field(default_factory=list)
    drops: list[int] = field(default_factory=list)
    drop_media: list[str] = field(default_factory=list)

    @property
    def pk(self) -> str:
        return f"{self.home}/t/{self.txn:016x}"


@dataclass(frozen=True)
class View:
    """What a read may see: everything committed at one moment."""

    taken: float
    committed: frozenset[int]
    hidden: frozenset[int]
    dropped: frozenset[int]

    def seeing(self, expression: str) -> str:
        """An expression, for rows that this view may see."""
        parts = [f"({expression})"]
        if self.hidden:
            parts.append(f"txn not in {sorted(self.hidden)}")
        if self.dropped:
            parts.append(f"owner not in {sorted(self.dropped)}")
        return " and ".join(parts)

    def without(self, txns: Iterable[int]) -> View:
        return replace(self, hidden=self.hidden | set(txns))


class Log:
    """The log of all collections of one prefix, and what is known of each collection."""

    def __init__(self, link: Link, settings: MilvusSettings) -> None:
        self._link = link
        self._name = f"{settings.prefix}_log"
        self._fields: set[tuple[str, str]] = set()
        link.ensure_log(self._name)

    def view(self, home: str) -> View:
        """What is committed now."""
        taken = time.monotonic()
        changes = self.changes(home)
        return View(
            taken,
            committed=frozenset(one.txn for one in changes if one.committed),
            hidden=frozenset(one.txn for one in changes if not one.committed),
            dropped=frozenset(owner for one in changes if one.committed for owner in one.drops),
        )

    def changes(self, home: str | None = None) -> list[Change]:
        """Changes that are under way, or so fresh that a reader may still see what they replaced."""
        where = 'kind == "change"' if home is None else f'home == "{home}" and kind == "change"'
        rows = self._find(where)
        return [Change(home=row["home"], **json.loads(row["body"])) for row in rows]

    def write(self, change: Change) -> None:
        """Record a change as it is now; with `committed`, this is the moment it happens."""
        body = {name: value for name, value in vars(change).items() if name != "home"}
        self._put(change.pk, change.home, "change", body)

    def forget(self, change: Change) -> None:
        self._link.delete(self._name, f'pk in ["{change.pk}"]')

    def state(self, change: Change) -> Change | None:
        """The change as it is recorded."""
        return next((one for one in self.changes(change.home) if one.txn == change.txn), None)

    def drop(self, home: str, owners: Sequence[int], media: Sequence[str]) -> None:
        """End item versions: a change that is committed by being written."""
        self.write(Change(home, new_id(), committed=True, drops=list(owners), drop_media=list(media)))

    def facts(self, home: str) -> dict[str, Any] | None:
        """What a collection is: name, dim, identity, description, created_at."""
        rows = self._link.find(self._name, f'pk in ["{home}/c"]', ["body"])
        return json.loads(rows[0]["body"]) if rows else None

    def all_facts(self) -> dict[str, dict[str, Any]]:
        """What every collection is."""
        return {row["home"]: json.loads(row["body"]) for row in self._find('kind == "facts"')}

    def set_facts(self, home: str, facts: dict[str, Any]) -> None:
        self._put(f"{home}/c", home, "facts", facts)

    def fields(self, home: str) -> list[str]:
        """Names of metadata fields that items of the collection have, or had."""
        return sorted(json.loads(row["body"]) for row in self._find(f'home == "{home}" and kind == "field"'))

    def add_fields(self, home: str, names: Iterable[str]) -> None:
        """Remember fields before the first item that has them is there."""
        for name in set(names):
            if (home, name) not in self._fields:
                self._put(f"{home}/f/{has(name)}", home, "field", name)
                self._fields.add((home, name))

    def erase(self, home: str) -> None:
        """Forget all of a collection that is gone."""
        self._link.delete(self._name, f'home == "{home}"')

    def _find(self, where: str) -> list[Row]:
        return self._link.find(self._name, where, ["home", "body"])

    def _put(self, pk: str, home: str, kind: str, body: Any) -> None:
        text = json.dumps(body, ensure_ascii=False)
        self._link.put(self._name, {"pk": pk, "home": home, "kind": kind, "body": text, "nothing": [0.0, 1.0]})
