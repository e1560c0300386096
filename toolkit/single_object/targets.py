"""What a network is taught about each sample, the loss of a batch, and the means of losses over steps."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch

from label_tools.text.errors import InputError
from toolkit.single_object import grid
from toolkit.single_object.data.augment import augment
from toolkit.single_object.data.samples import One, Samples
from toolkit.single_object.losses import WeightedSum
from toolkit.single_object.predictions import read
from toolkit.single_object.recipe import Recipe
from toolkit.single_object.registry import Baseline


class Targets:
    """What the network should say to each sample, and the loss of a batch of rows."""

    def __init__(self, baseline: Baseline, samples: Samples, recipe: Recipe) -> None:
        loss = recipe.loss
        self.baseline, self.loss, self.size = baseline, loss, samples.size
        if baseline.grid:
            if loss not in grid.LOSSES:
                raise InputError(f"--loss {loss}: a grid detector takes {' or '.join(grid.LOSSES)}")
            self.cells, _ = grid.assign(samples)
        else:
            self.sum, self.one = WeightedSum.parse(loss), samples.one()
            presence = baseline.form == "presence_box_class" or recipe.options.get("presence")
            if "bce" in self.sum.weights and not presence:
                raise InputError(f"--loss {loss!r}: {baseline.name} has no presence output; leave bce out")
            if presence and "bce" not in self.sum.weights:
                raise InputError(f"--loss {loss!r}: teaches {baseline.name} nothing about presence; needs bce, too")

    def losses(
        self, network: torch.nn.Module, images: torch.Tensor, rows: torch.Tensor, device: torch.device, changed: bool
    ) -> dict[str, torch.Tensor]:
        if self.baseline.grid:
            return grid.terms(self.loss, network(images).float(), self.cells[rows].to(device))
        truth = One(*(part[rows].to(device) for part in self.one))
        if changed:
            images, boxes = augment(images, truth.boxes)
            truth = truth._replace(boxes=boxes)
        return self.sum.terms(read(network(images), self.baseline.form), truth, self.baseline.code, self.size)


@dataclass
class Sums:
    """Means of losses: over the epoch, and over the steps since the last record."""

    total: dict[str, float] = field(default_factory=dict)
    count: int = 0
    recent: dict[str, float] = field(default_factory=dict)
    recent_count: int = 0

    def add(self, losses: dict[str, float], weight: int = 1) -> None:
        for name, value in losses.items():
            self.total[name] = self.total.get(name, 0.0) + value * weight
            self.recent[name] = self.recent.get(name, 0.0) + value * weight
        self.count, self.recent_count = self.count + weight, self.recent_count + weight

    def window(self) -> dict[str, float]:
        means = {name: value / self.recent_count for name, value in self.recent.items()}
        self.recent, self.recent_count = {}, 0
        return means

    def epoch(self) -> dict[str, float]:
        means = {name: value / max(1, self.count) for name, value in self.total.items()}
        self.total, self.count = {}, 0
        return means

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)
