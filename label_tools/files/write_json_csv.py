"""Write JSON and CSV files atomically."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from label_tools.files.atomic_write import atomic_write

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the beginning of one


def write_json(path: Path, content: Any, *, lines: bool = False) -> None:
    """Write JSON atomically; NaN is refused. lines: a list with one entry a line."""
    if lines:
        rows = [json.dumps(row, sort_keys=True, allow_nan=False) for row in content]
        text = "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"
    else:
        text = json.dumps(content, sort_keys=True, indent=1, allow_nan=False) + "\n"
    with atomic_write(path) as file:
        file.write(text.encode())


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable]) -> None:
    """Write CSV atomically, row by row; None and NaN become empty cells, floats have five digits.

    A text that a spreadsheet would take for a formula (a class named =1+1) gets an apostrophe in front.
    """
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([_cell(value) for value in header])
        for row in rows:
            writer.writerow([_cell(value) for value in row])
        text.detach()  # flushes, and leaves the file open


def _cell(value: object) -> object:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.5g}"
    if isinstance(value, str):
        text = f"'{value}" if value.startswith(FORMULA) else value
        return text.replace("\r", "\\x0d")  # before Python 3.13 it stands unquoted, and a reader sees a new row
    return "" if value is None else value


def cell_text(cell: str) -> str:
    """Undo the escaping of a text cell by `write_csv`."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell
