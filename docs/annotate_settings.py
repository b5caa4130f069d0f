"""Writes the settings table of docs/annotate.md from `EndpointSettings`, so that the two cannot disagree.

python docs/annotate_settings.py           # rewrite the table
python docs/annotate_settings.py --check   # exit 1 when it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from training.captions.endpoint import EndpointSettings

PAGE = Path(__file__).parent / "annotate.md"
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"


def table() -> str:
    """All settings as a Markdown table."""
    lines = ["| X | default | meaning |", "| --- | --- | --- |"]
    for name, field in EndpointSettings.model_fields.items():
        value = field.get_default(call_default_factory=True)
        default = "none" if value in (None, "", (), {}) else f"`{value}`"
        lines.append(f"| `{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def main() -> int:
    """Rewrite or check the page."""
    page = PAGE.read_text("utf-8")
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    fresh = f"{head}{BEGIN}\n{table()}\n{END}{tail}"
    if "--check" in sys.argv:
        return int(fresh != page)
    PAGE.write_text(fresh, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
