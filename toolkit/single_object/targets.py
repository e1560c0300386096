"""Targets of each sample, and the losses of a batch."""

from __future__ import annotations

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
    """The targets of `samples` for a baseline, and its losses for a batch of rows. InputError: a wrong loss."""

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
                raise InputError(
                    f"--loss {loss!r}: does not train the presence output of {baseline.name}; needs bce, too"
                )

    @property
    def loss_names(self) -> tuple[str, ...]:
        return grid.TERMS if self.baseline.grid else tuple(self.sum.weights)

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
