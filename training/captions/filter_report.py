"""What the filters and the verifier threw out: counts by rule, and captions to read."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from training.captions.annotator import KINDS, TRAINER_KIND

REASONS, OTHER_REASONS = 1000, "other reasons"


@dataclass
class Report:
    """Sums over rows of an annotated manifest, the same in whatever order the rows come."""

    samples: int = 5
    clips: int = 0
    kept: Counter[str] = field(default_factory=Counter)  # kind -> captions
    bare: Counter[str] = field(default_factory=Counter)  # kind -> clips that were left without one
    dropped: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))  # rule -> kind -> captions
    failed: Counter[str] = field(default_factory=Counter)  # reason -> captions
    characters: Counter[str] = field(default_factory=Counter)  # kind -> characters of the kept ones
    # rule -> (draw, id, text, detail): those with the smallest draw, whatever order they come in.
    examples: dict[str, list[tuple[str, str, str, str]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, row: Mapping[str, Any]) -> None:
        """Counts one row of an annotated manifest."""
        self.clips += 1
        for kind in KINDS:
            texts = list(row.get(f"{kind}_captions") or [])
            # A manifest made for the trainer may have its captions nowhere but there.
            told = [c["text"] for c in row.get("captions") or [] if c["kind"] == TRAINER_KIND[kind]]
            texts += [text for text in dict.fromkeys(told) if text not in texts]
            self.kept[kind] += len(texts)
            self.characters[kind] += sum(map(len, texts))
            self.bare[kind] += not texts
            for text in texts:
                self._example(f"kept, {kind}", str(row["id"]), text, "")
        for caption in row.get("rejected") or []:
            self.dropped[caption["rule"]][caption["kind"]] += 1
            self._example(caption["rule"], str(row["id"]), caption["text"], caption["detail"])
        for caption in row.get("failed") or []:
            self._fail(caption["reason"])

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], samples: int = 5) -> Report:
        """The report of an annotated manifest; memory does not grow with its length."""
        report = cls(samples)
        for row in rows:
            report.add(row)
        return report

    def to_json(self) -> dict[str, Any]:
        """For machines: also what two runs can be compared by."""
        return {
            "clips": self.clips,
            "kept": dict(self.kept),
            "clips_without": {kind: count for kind, count in self.bare.items() if count},
            "mean_characters": {k: round(self.characters[k] / n, 1) for k, n in self.kept.items() if n},
            "dropped": {rule: dict(kinds) for rule, kinds in sorted(self.dropped.items())},
            "failed": dict(self.failed),
            "samples": {
                rule: [{"id": i, "text": text, "detail": detail} for _, i, text, detail in rows]
                for rule, rows in sorted(self.examples.items())
            },
        }

    def to_markdown(self) -> str:
        """For people: what fell to which rule, and samples to read."""
        made = sum(self.kept.values()) + sum(sum(k.values()) for k in self.dropped.values())
        lines = [
            "# Captions: what was kept and why the rest was not",
            "",
            f"{self.clips} clips, {made} captions made, {sum(self.kept.values())} kept "
            f"({_share(sum(self.kept.values()), made)}), {sum(self.failed.values())} failed.",
            "",
            "| | " + " | ".join(KINDS) + " | share |",
            "| --- |" + " ---: |" * (len(KINDS) + 1),
            _line("kept", self.kept, made),
        ]
        ranked = sorted(self.dropped.items(), key=lambda item: (-sum(item[1].values()), item[0]))
        lines += [_line(rule, kinds, made) for rule, kinds in ranked]
        lines += ["", f"Clips left without a caption: {', '.join(f'{k} {self.bare[k]}' for k in KINDS)}."]
        lines += [""] * bool(self.failed) + [
            f"- failed, {count}: {reason}" for reason, count in self.failed.most_common(20)
        ]
        for rule, rows in sorted(self.examples.items()):
            lines += ["", f"## {rule}", ""]
            lines += [
                f"- `{i}`{f' **{_flat(detail)}**' if detail else ''} {_flat(text)}" for _, i, text, detail in rows
            ]
        return "\n".join(lines) + "\n"

    def _fail(self, reason: str) -> None:
        # A reason may name its file: ten million of them are one line here, and listed with the failures.
        known = reason in self.failed or len(self.failed) < REASONS
        self.failed[reason if known else OTHER_REASONS] += 1

    def _example(self, rule: str, clip: str, text: str, detail: str) -> None:
        draw = hashlib.sha256(f"{rule}|{clip}|{text}".encode()).hexdigest()
        rows = self.examples[rule]
        if any(row[0] == draw for row in rows):
            return  # the same words of the same clip once more tell nothing
        if len(rows) < self.samples or draw < rows[-1][0]:
            rows.append((draw, clip, text, detail))
            rows.sort()
            del rows[self.samples :]


def _line(name: str, kinds: Mapping[str, int], made: int) -> str:
    return f"| {name} | {' | '.join(str(kinds.get(k, 0)) for k in KINDS)} | {_share(sum(kinds.values()), made)} |"


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _flat(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"')
