"""Options of a run of a baseline, and the network that they make."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.single_object.baselines import Baseline, find


@dataclass(frozen=True)
class Recipe:
    """One run: everything but the pictures. Written to run.json and to every checkpoint."""

    baseline: str
    data: str
    loss: str
    epochs: int
    batch: int
    lr: float
    optimizer: str = "adam"
    schedule: str = "constant"
    seed: int = 0
    augment: bool = False
    patience: int = 0  # epochs without a better score before it stops; 0: never
    max_time: float = 0.0  # minutes; 0: no limit
    budget: str = "scaled"
    options: dict[str, Any] = field(default_factory=dict)  # of the network
    device: str = "auto"
    precision: str = "fp32"  # fp32, as the documents; bf16 or auto
    log_every: int = 20  # steps between two records of the losses

    def check(self) -> None:
        for name, least in (("epochs", 1), ("batch", 1), ("patience", 0), ("log_every", 1)):
            if getattr(self, name) < least:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: needs {least} or more")
        if self.optimizer not in ("adam", "sgd"):
            raise InputError(f"--optimizer {self.optimizer}: needs adam or sgd")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise InputError(f"--lr {self.lr}: needs a number over 0")
        if not (math.isfinite(self.max_time) and self.max_time >= 0):
            raise InputError(f"--max-time {self.max_time}: needs minutes, 0 or more")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed}: needs 0 to 2^32 - 1")


def make_network(baseline: Baseline, options: dict[str, Any], pretrained: str = "none") -> torch.nn.Module:
    """The baseline's network. pretrained: weights of a backbone; only networks with one take any."""
    extra = {"weights": pretrained} if pretrained != "none" else {}
    try:
        return baseline.build(**options, **extra)
    except TypeError:
        raise InputError(f"{baseline.name}: does not take {', '.join([*options, *extra])}") from None


def restored(found: checkpoint.Checkpoint) -> tuple[Baseline, torch.nn.Module]:
    """The network of a checkpoint, with its weights, in eval mode."""
    baseline, recipe = recipe_of(found.meta, found.folder)
    network = make_network(baseline, recipe.options)
    network.load_state_dict(found.weights)
    return baseline, network.eval()


def recipe_of(meta: dict[str, Any], where: Path) -> tuple[Baseline, Recipe]:
    if meta.get("kind") != "single_object":
        raise InputError(f"{where}: is not a single-object baseline; needs a run of `frcnn baseline train`")
    try:
        recipe = Recipe(**meta["recipe"])
    except (KeyError, TypeError):
        raise InputError(f"{where}: its recipe is of another version of this toolkit") from None
    return find(recipe.baseline), recipe
