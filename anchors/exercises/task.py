"""The parts of an exercise: a function to write, an oracle, cases, and common mistakes."""

from __future__ import annotations

import inspect
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Arguments = dict[str, Any]  # keyword arguments of one call: tensors, numbers, tuples and lists of numbers

NUM_RANDOM = 60
SEED = 20261121


@dataclass(frozen=True)
class Task:
    """One exercise.

    name: of the stub and on the command line. function: defined by the learner's file. oracle: gives the right answer.
    variant: the same function once more, right unless it gets the name of a mistake; the others of its parameters are
    those of the learner's function. edges, draw: the arguments of a call, in this order. mistakes: for each name what
    the learner is told. canonical: turns an answer into what is compared, for answers that are right in many ways;
    ValueError for a malformed one.
    """

    name: str
    function: str
    lesson: str
    oracle: Callable
    variant: Callable
    edges: Mapping[str, tuple]
    draw: Callable[[random.Random, int], tuple]
    mistakes: Mapping[str, str]
    canonical: Callable[[Arguments, Any], Any] = lambda arguments, answer: answer

    def cases(self) -> list[Arguments]:
        """The edge cases, then random ones from small to large: the same ones every time."""
        rng = random.Random(f"{SEED} {self.name}")
        sizes = [1 + i * 8 // NUM_RANDOM for i in range(NUM_RANDOM)]
        calls = [*self.edges.values(), *(self.draw(rng, size) for size in sizes)]
        return [dict(zip(self.names, call, strict=True)) for call in calls]

    @property
    def names(self) -> list[str]:
        """The arguments of the function."""
        parameters = inspect.signature(self.variant).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is not parameter.KEYWORD_ONLY]


def draw_boxes(rng: random.Random, count: int, side: int = 16) -> Tensor:
    """[count,4] XYXY with whole corners in 0..side, at least one pixel wide and high: ties and touching are common."""
    rows = []
    for _ in range(count):
        x1, y1 = rng.randrange(side), rng.randrange(side)
        rows.append([x1, y1, rng.randrange(x1 + 1, side + 1), rng.randrange(y1 + 1, side + 1)])
    return boxes_of(*rows)


def draw_tensor(rng: random.Random, shape: Sequence[int], low: float, high: float, step: float = 0.25) -> Tensor:
    """Multiples of `step` between low and high: numbers that a person can follow."""
    values = [low + step * rng.randint(0, round((high - low) / step)) for _ in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float32).reshape(*shape)


def boxes_of(*rows: Sequence[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(len(rows), 4)
