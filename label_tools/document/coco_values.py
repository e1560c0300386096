"""Parse values of COCO documents from any program: numbers, ids, boxes. 7, 7.0 and "7" are one id."""

from __future__ import annotations

from typing import Any, TypeGuard

_NUMBERS = frozenset((int, float))


def whole(value: Any) -> int | None:
    """`value` as an int where it can only mean one: 7, 7.0, "7"; True and False are not numbers."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and len(value) <= 18:
        text = value.strip()
        return int(text) if text.isascii() and text.removeprefix("-").isdecimal() else None
    return None


def number_in(text: str) -> float | None:
    """Parse a number from a text; None if it is none."""
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def is_number(value: Any) -> TypeGuard[int | float]:
    return type(value) in _NUMBERS


def are_numbers(value: Any, count: int) -> TypeGuard[list[float]]:
    """Whether `value` is a list of `count` numbers."""
    return isinstance(value, list) and len(value) == count and _NUMBERS.issuperset(map(type, value))


def short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
