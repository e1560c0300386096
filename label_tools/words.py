"""A number with its noun, as a person writes it; a name that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def counted(number: int, noun: str, plural: str = "") -> str:
    """`counted(1, "image")` -> "1 image", `counted(2, "class", "classes")` -> "2 classes"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`--model resnet50: unknown; did you mean fasterrcnn_resnet50_fpn? known: ...`"""
    known = list(known)
    near = get_close_matches(name, known, n=1, cutoff=0.4)
    return f"{what} {name}: unknown; {f'did you mean {near[0]}? ' if near else ''}known: {', '.join(known)}"
