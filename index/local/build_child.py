"""The process in which an index is built: `python -m index.local.build_child`, started by build_subprocess.py.

It reads one line of JSON, builds into a file, and prints one line of JSON. It ends when its standard input does, so
that no build outlives the service that asked for it, however that one ended.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from index.ann.ivf import FrozenFacts
from index.ann.plan import Plan
from index.local import builder
from index.local.builder import BuildStopped
from index.local.vector_source import ReadOnlyCatalog, Source

NOTHING_TO_BUILD = 3
"""Exit status when the collection has no vectors any more."""


@dataclass(frozen=True)
class Order:
    """What to build, from which catalog, into which file; `niceness` 0 to 19 as in nice(1)."""

    catalog: Path
    collection: int
    dim: int
    plan: Plan
    target_recall: float
    threads: int
    niceness: int
    file: Path

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "catalog": str(self.catalog), "file": str(self.file)})

    @classmethod
    def from_json(cls, line: str) -> Self:
        told: dict[str, Any] = json.loads(line)
        paths = {name: Path(told[name]) for name in ("catalog", "file")}
        return cls(**{**told, **paths, "plan": Plan(**told["plan"])})


def main() -> int:
    """Carry out the order on standard input."""
    order = Order.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_the_caller, daemon=True).start()
    os.nice(order.niceness)
    # Where memory runs out, the kernel is to take the build and not the service.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    facts = _build(order)
    if facts is None:
        return NOTHING_TO_BUILD
    print(json.dumps(asdict(facts)), flush=True)
    return 0


def _build(order: Order) -> FrozenFacts | None:
    with closing(ReadOnlyCatalog(order.catalog)) as catalog:
        source = Source(catalog, order.collection, order.dim)
        try:
            frozen = builder.build(
                source, order.plan, target_recall=order.target_recall, threads=order.threads, check=lambda: None
            )
        except BuildStopped:
            return None
    frozen.write(order.file)
    return frozen.facts


def _end_with_the_caller() -> None:
    # Blocks until the pipe closes: the caller writes nothing after the order.
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
