"""A number with its noun, as a person writes it."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`counted(1, "image")` -> "1 image", `counted(2, "class", "classes")` -> "2 classes"."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
