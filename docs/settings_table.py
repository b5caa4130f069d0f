"""Writes the settings table of docs/operations.md from `Settings`, so that the two cannot disagree.

python docs/settings_table.py           # rewrite the table
python docs/settings_table.py --check   # exit 1 when it is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from service.settings import Settings

PAGE = Path(__file__).parent / "operations.md"
BEGIN, END = "<!-- settings: begin -->", "<!-- settings: end -->"
ROOT = Path(__file__).resolve().parent.parent


def table() -> str:
    """All settings as a Markdown table."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in Settings.model_fields.items():
        lines.append(f"| `CLSP_{name.upper()}` | {_default(field)} | {field.description} |")
    return "\n".join(lines)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Path) and value.is_absolute():
        value = value.relative_to(ROOT)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return "none" if value in ([], None) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


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
