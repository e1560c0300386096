"""The parts of an exercise: a function to write, an oracle, cases, and common mistakes."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Any]  # keyword arguments of one call: tensors, numbers, tuples and lists of numbers

NUM_RANDOM = 60
SEED = 20261121


@dataclass(frozen=True)
class Case:
    title: str
    arguments: Arguments


@dataclass(frozen=True)
class Mistake:
    """A known-wrong version of the task's function. `why` says what it does, and where the error comes from."""

    name: str
    why: str
    function: Callable


@dataclass(frozen=True)
class Task:
    """name: of the stub and on the command line. function: defined by the learner's file. canonical: turns an
    answer into what is compared, for answers that are right in many ways; ValueError for a malformed one."""

    name: str
    function: str
    lesson: str
    oracle: Callable
    edges: Sequence[Case]
    draw: Callable[[random.Random, int], Arguments]
    mistakes: Sequence[Mistake]
    canonical: Callable[[Arguments, Any], Any] = lambda arguments, answer: answer

    def cases(self) -> list[Case]:
        """The edge cases, then random ones from small to large: the same ones every time."""
        rng = random.Random(f"{SEED} {self.name}")
        sizes = [1 + i * 8 // NUM_RANDOM for i in range(NUM_RANDOM)]
        return [*self.edges, *(Case(f"random, size {size}", self.draw(rng, size)) for size in sizes)]


@dataclass(frozen=True)
class Bug:
    """A file with a common mistake in it: the solution of `task` with `changes`, pairs of what is right and wrong."""

    name: str
    task: str
    hint: str
    answer: str
    changes: tuple[tuple[str, str], ...]


def draw_boxes(rng: random.Random, count: int, side: int = 16, step: int = 1) -> Tensor:
    """[count,4] XYXY with whole corners in 0..side, at least one pixel wide and high: ties and touching are common."""
    rows = []
    for _ in range(count):
        x1, y1 = (rng.randrange(0, side, step) for _ in range(2))
        rows.append([x1, y1, rng.randrange(x1 + 1, side + 1), rng.randrange(y1 + 1, side + 1)])
    return torch.tensor(rows, dtype=torch.float32).reshape(count, 4)


def draw_tensor(rng: random.Random, shape: Sequence[int], low: float, high: float, step: float = 0.25) -> Tensor:
    """Multiples of `step` between low and high: numbers that a person can follow."""
    count = 1
    for length in shape:
        count *= length
    values = [low + step * rng.randint(0, round((high - low) / step)) for _ in range(count)]
    return torch.tensor(values, dtype=torch.float32).reshape(*shape)


def boxes_of(*rows: Sequence[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(len(rows), 4)
