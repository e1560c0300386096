"""Shrink a failing case: leave out rows, round numbers, as long as it still fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from anchors.exercises.task import Arguments, Axes, Task

BUDGET = 300  # calls of the learner's function


def size_of(arguments: Arguments) -> int:
    """The count of numbers in all tensors and lists."""
    return sum(
        value.numel() if isinstance(value, Tensor) else len(value) if isinstance(value, list | tuple) else 1
        for value in arguments.values()
    )


def shrink(task: Task, arguments: Arguments, fails: Callable[[Arguments], bool]) -> Arguments:
    """The smallest case found: no row of it can be left out and no number made whole. `fails` may be slow."""
    left = BUDGET
    improved = True
    while improved and left > 0:
        improved = False
        for smaller in candidates(task, arguments):
            left -= 1
            if left <= 0:
                break
            if fails(smaller):
                arguments, improved = smaller, True
                break
    return arguments


def candidates(task: Task, arguments: Arguments) -> Iterator[Arguments]:
    for axes in task.shrinks:
        length = length_of(arguments[axes[0][0]], axes[0][1])
        step = length
        while step >= 1:
            for start in range(0, length, step):
                yield without(arguments, axes, start, min(start + step, length))
            step = step // 2
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not torch.equal(value, value.round()):
            yield {**arguments, name: value.round()}
    for name, value in arguments.items():
        if isinstance(value, Tensor) and value.ndim == 4 and bool(value.any()):  # a map: fewer cells that say something
            for y in range(value.shape[2]):
                if bool(value[:, :, y].any()):
                    yield {**arguments, name: value.index_fill(2, torch.tensor([y]), 0)}


def length_of(value: Tensor | list, axis: int) -> int:
    return value.shape[axis] if isinstance(value, Tensor) else len(value)


def without(arguments: Arguments, axes: Axes, start: int, stop: int) -> Arguments:
    """The arguments without entries start..stop-1 of these axes."""
    smaller = dict(arguments)
    for name, axis in axes:
        value = arguments[name]
        if isinstance(value, Tensor):
            kept = [i for i in range(value.shape[axis]) if not start <= i < stop]
            smaller[name] = value.index_select(axis, torch.tensor(kept, dtype=torch.int64))
        else:
            smaller[name] = value[:start] + value[stop:]
    return smaller
