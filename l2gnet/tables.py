"""Tables of text, for the screen and in files."""

import csv
from collections.abc import Sequence
from pathlib import Path


def text_table(rows: Sequence[dict[str, str]]) -> str:
    """Rows with the same columns, below a line with the columns' names."""
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [{name: name for name in widths}, *rows]
    return "\n".join("  ".join(row[name].ljust(width) for name, width in widths.items()).rstrip() for row in lines)


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """The rows of a CSV file by their columns' names, values as text."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))
