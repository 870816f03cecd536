"""Tables of text, for the screen and in files."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def text_table(rows: Sequence[dict[str, str]]) -> str:
    """Rows with the same columns, below a line with the columns' names."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [{name: name for name in widths}, *rows]
    return "\n".join("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in lines)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same columns as a CSV file has them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file by their columns' names, values as text."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
