"""Parts of messages: counted nouns, tables, suggestions for unknown names and missing paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path


def counted(number: int, noun: str, plural: str = "") -> str:
    """`counted(1, "image")` -> "1 image", `counted(2, "class", "classes")` -> "2 classes"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def table_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line for each row, the first column to the left, the others to the right."""
    first, *widths = (max(map(len, column)) for column in zip(*rows))
    return ["  ".join([row[0].ljust(first), *map(str.rjust, row[1:], widths)]) for row in rows]


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Report an unknown name: `--model resnet50: unknown; did you mean fasterrcnn_resnet50_fpn? known: ...`"""
    known = list(known)
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    return f"{what} {name}: unknown; {f'did you mean {near[0]}? ' if near else ''}known: {', '.join(known)}"


def near_names(name: str, known: Iterable[str]) -> str:
    """Suggest names from a list too long to print: `; did you mean resnet18 or resnet101?`; "" if none is near."""
    near = get_close_matches(name, list(known), n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def near_paths(path: str | os.PathLike) -> str:
    """Suggest names for a missing path: `; did you mean photos/val.json?`; "" if no name is near."""
    path = missing = Path(path)
    while not os.path.isdir(missing.parent):  # the first part that is not there
        missing = missing.parent
    try:
        stems = sorted(one.stem for one in missing.parent.iterdir() if one.suffix == missing.suffix)
    except OSError:
        return ""
    near = [missing.with_stem(stem) / path.relative_to(missing) for stem in get_close_matches(missing.stem, stems)]
    found = " or ".join(str(one) for one in near if one.exists())
    return f"; did you mean {found}?" if found else ""
