"""Compare an answer with the expected one, and describe the first difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

RTOL, ATOL = 1e-4, 1e-5


@dataclass(frozen=True)
class Foreign:
    """An answer of a type that no exercise returns."""

    type_name: str


def kind(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "bool"
    return "float" if dtype.is_floating_point else "integer"


def type_name(value: Any) -> str:
    return value.type_name if isinstance(value, Foreign) else type(value).__name__


def difference(expected: Any, got: Any, place: str = "") -> str | None:
    """None if `got` is right, else one line. float32 or float64, int32 or int64 are all right."""
    where = f"{place}: " if place else ""
    if isinstance(expected, tuple):
        if not isinstance(got, tuple | list):
            return f"{where}returned {type_name(got)}, needed a tuple of {len(expected)}"
        if len(got) != len(expected):
            return f"{where}returned a tuple of {len(got)}, needed {len(expected)}"
        found = (difference(want, have, f"value {i}") for i, (want, have) in enumerate(zip(expected, got), start=1))
        return next((line for line in found if line), None)
    if isinstance(expected, int) and not isinstance(expected, bool):
        if isinstance(got, Tensor) and got.ndim == 0:
            got = got.item()
        if isinstance(got, bool) or not isinstance(got, int):
            return f"{where}returned {type_name(got)}, needed an int"
        return None if got == expected else f"{where}returned {got}, needed {expected}"
    if isinstance(expected, float) or (isinstance(expected, Tensor) and expected.ndim == 0):
        if isinstance(got, int | float) and not isinstance(got, bool):
            got = torch.tensor(float(got))
        expected = torch.as_tensor(expected)
    if not isinstance(got, Tensor):
        return f"{where}returned {type_name(got)}, needed a tensor of shape {list(expected.shape)}"
    return tensor_difference(expected, got, where)


def tensor_difference(expected: Tensor, got: Tensor, where: str) -> str | None:
    if got.shape != expected.shape:
        return f"{where}returned shape {list(got.shape)}, needed {list(expected.shape)}"
    if kind(got.dtype) != kind(expected.dtype):
        return f"{where}returned dtype {got.dtype}, needed {expected.dtype}".replace("torch.", "")
    if kind(expected.dtype) != "float":
        wrong = got.long() != expected.long()
    else:
        # no oracle gives NaN, so equal NaNs only ever say which mistake an answer equals
        wrong = ~torch.isclose(got.double(), expected.double(), rtol=RTOL, atol=ATOL, equal_nan=True)
    if not bool(wrong.any()):
        return None
    index = tuple(wrong.nonzero()[0].tolist())
    at = f" at {list(index)}" if index else ""
    have, want = got[index].item(), expected[index].item()
    return f"{where}returned {number(have)}{at}, needed {number(want)} ({int(wrong.sum())} of {wrong.numel()} differ)"


def number(value: float) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
