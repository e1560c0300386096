"""Every baseline: its network, data, loss and budget as its document has them, what it reports, and a budget for two
CPU cores; and `Recipe`, the options of a run of one, with the network that they make.

`reported` numbers are the documents' own; what their "IoU" is worth is in `evaluate_baseline`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from label_tools.text.errors import InputError
from label_tools.text.messages import counted, unknown
from toolkit import checkpoint
from toolkit.single_object.networks import backbones, hw5net, loadnet
from toolkit.single_object.networks.digit_networks import CNNModel1, CNNModel2, CNNModel3, Grid1, Grid2, Grid3


@dataclass(frozen=True)
class Budget:
    """How long and how. images: training pictures; val: validation pictures. 0: the document does not say, or for
    pictures from files: all of them."""

    epochs: int
    batch: int
    lr: float
    images: int
    val: int
    optimizer: str = ""  # where it is not the baseline's
    schedule: str = ""
    size: int = 0

    def __str__(self) -> str:
        parts = [
            f"{self.images:,} images" if self.images else "",
            counted(self.epochs, "epoch") if self.epochs else "",
            f"batch {self.batch}" if self.batch else "",
            f"lr {self.lr:g}" if self.lr else "",
            self.optimizer,
            self.schedule,
            f"{self.size} px" if self.size else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Baseline:
    """One row of the table. `build(**options)` makes the network with random weights."""

    name: str
    about: str
    document: str
    build: Callable[..., nn.Module]
    data: str  # shapes5 | digits | digit_grid | dominant | largest
    form: str  # of the output, see `network_outputs.read`
    code: str  # of the box, see `network_outputs`
    loss: str
    budget: Budget  # the document's
    scaled: Budget  # for two CPU cores
    drawn: Budget | None = None  # the same for our own pictures of `dominant` and `largest`; `scaled` is for files
    optimizer: str = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    size: int = 0  # side of the pictures of `dominant` and `largest`
    raw: bool = False  # grey values 0..255 as they are, not 0..1
    augment: bool = False
    schedule: str = "constant"
    fixed: dict[str, Any] = field(default_factory=dict)  # options of `build`
    reported: dict[str, float] = field(default_factory=dict)

    @property
    def document_number(self) -> str:
        """`004`; "" for a network of ours."""
        number = self.document.partition(":")[0]
        return number if number.isdigit() else ""

    @property
    def reported_iou(self) -> float | None:
        return self.reported.get("mean_iou", self.reported.get("document_iou"))

    @property
    def grid(self) -> bool:
        return self.data == "digit_grid"

    def options(self, num_classes: int) -> dict[str, Any]:
        """Keyword arguments of `build` for these classes."""
        return dict(self.fixed) if self.grid else {"num_classes": num_classes, **self.fixed}


_SHAPES: dict[str, Any] = {
    "data": "shapes5",
    "form": "pair",
    "code": "inclusive",
    "loss": "ce + mse",
    "optimizer": "sgd",
    "raw": True,
}
_DIGITS: dict[str, Any] = {"data": "digits", "form": "presence_box_class", "code": "centre", "loss": "bce + 4*mse + ce"}
_GRID: dict[str, Any] = {"data": "digit_grid", "form": "grid", "code": "centre", "loss": "grid_document"}
_HW5: dict[str, Any] = {"data": "dominant", "form": "pair", "code": "corners", "betas": (0.9, 0.99), "size": 256}
_KAK = "000: LOADnet2, lecture on detection and localisation"
_SAHIN = "001: HW5Net, homework report"
_POST = "002: ResNet-34 on the largest object, post"
_VEGA = "004: digit localisation and grid detection"
_OURS = "ours"

# the document's SGD is still on the first plateau after most of an epoch; Adam leaves it earlier, with larger batches
# too late for two epochs
_LOADNET: dict[str, Any] = {
    "budget": Budget(2, 4, 1e-4, 10_000, 1_000),
    "scaled": Budget(2, 8, 5e-4, 10_000, 1_000, "adam", "cosine"),
}
_DOMINANT: dict[str, Any] = {"budget": Budget(30, 16, 1e-3, 3_789, 1_972), "scaled": Budget(15, 16, 1e-3, 0, 0)}
# 100 steps of 211 million weights: what two cores can pay for
_FULL: dict[str, Any] = {**_DOMINANT, "drawn": Budget(2, 16, 1e-3, 800, 300, schedule="cosine")}
# 64 pixels cost half of what 96 do; after five epochs class and box are learned, after fifteen the losses differ
_LIGHT: dict[str, Any] = {**_DOMINANT, "drawn": Budget(15, 16, 1e-3, 2_000, 1_000, schedule="cosine", size=64)}
_PHOTOGRAPH: dict[str, Any] = {"data": "largest", "size": 224, "augment": True, "schedule": "onecycle"}


def _loadnet(name: str, about: str, **more: Any) -> Baseline:
    return Baseline(name, about, _KAK, loadnet.LOADnet2, **_SHAPES, **_LOADNET, **more)


def _vega(
    name: str,
    about: str,
    network: Callable,
    words: dict[str, Any],
    epochs: int,
    scaled: Budget,
    accuracy: float,
    iou: float,
) -> Baseline:
    """A network of the digit assignment, after so many epochs there."""
    images = (59_400, 6_600) if words is _DIGITS else (0, 0)
    return Baseline(
        name,
        about,
        _VEGA,
        network,
        **words,
        budget=Budget(epochs, 64, 1e-3, *images),
        scaled=dataclasses.replace(scaled, schedule="onecycle"),
        reported={"accuracy": accuracy, "document_iou": iou},
    )


def _hw5(name: str, about: str, loss: str, network: Callable = hw5net.HW5Net, **more: Any) -> Baseline:
    return Baseline(name, about, _SAHIN, network, **_HW5, loss=loss, **(_FULL | more))


_BASELINES = (
    _loadnet("loadnet2", "skip blocks for the class, two convolutions for the box", reported={"accuracy": 0.88}),
    _loadnet("loadnet2_noskip", "the same without skip connections", fixed={"skip_connections": False}),
    _loadnet("loadnet2_deep", "the same with depth 16", fixed={"depth": 16}),
    # the document's pictures, few times instead of a hundred: fresh handwriting in fresh places is worth more than the
    # same again. The networks with norms need many steps at first, so a quarter of the batch, and a rate that rises
    _vega("cnn1", "two convolutions", CNNModel1, _DIGITS, 100, Budget(4, 64, 1e-3, 59_400, 2_000), 0.7595, 0.7313),
    _vega(
        "cnn2", "three with norms, dropout", CNNModel2, _DIGITS, 100, Budget(2, 16, 5e-4, 59_400, 2_000), 0.9398, 0.6863
    ),
    _vega("cnn3", "residual blocks", CNNModel3, _DIGITS, 50, Budget(1, 16, 5e-4, 40_000, 2_000), 0.9594, 0.7331),
    # in the documents' ratio: with as many epochs as the second the third is the best
    _vega("grid1", "five convolutions", Grid1, _GRID, 100, Budget(12, 64, 1e-3, 4_000, 1_000), 0.9373, 0.7708),
    _vega(
        "grid2", "with norms and larger kernels", Grid2, _GRID, 100, Budget(12, 64, 1e-3, 4_000, 1_000), 0.9808, 0.9187
    ),
    _vega("grid3", "six convolutions", Grid3, _GRID, 25, Budget(3, 64, 1e-3, 4_000, 1_000), 0.9809, 0.8513),
    _hw5("hw5net", "CIoU", "ce + ciou", reported={"accuracy": 0.889, "mean_iou": 0.61}),
    _hw5("hw5net_mse", "MSE", "ce + mse", reported={"accuracy": 0.896, "mean_iou": 0.57}),
    _hw5("hw5net_learnable", "CIoU, learnable residuals", "ce + ciou", fixed={"learnable_residual": True}),
    _hw5("hw5net_light", "pooled heads, CIoU", "ce + ciou", hw5net.HW5NetLight, **_LIGHT),
    _hw5("hw5net_light_mse", "pooled heads, MSE", "ce + mse", hw5net.HW5NetLight, **_LIGHT),
    # from random weights a sigmoid of pixels moves slowly: 600 steps until it beats one answer for all
    Baseline(
        "resnet34",
        "custom head, flips, turns, colours",
        _POST,
        backbones.CustomHead,
        **_PHOTOGRAPH,
        form="box_class",
        code="pixels",
        loss="l1 + 25*ce",
        budget=Budget(0, 0, 0.0, 5_011, 0),
        scaled=Budget(30, 16, 2e-3, 0, 0),
        drawn=Budget(15, 16, 2e-3, 2_000, 500, size=64),
    ),
    Baseline(
        "loadhead",
        "ResNet-18, separate heads, box never inverted",
        _OURS,
        backbones.LoadHead,
        **_PHOTOGRAPH,
        form="pair",
        code="corners",
        loss="ce + 5*smooth_l1 + 2*giou",
        budget=Budget(30, 32, 1e-3, 0, 0),
        scaled=Budget(30, 32, 1e-3, 0, 0),
        drawn=Budget(8, 16, 1e-3, 2_000, 500, size=64),
    ),
)

REGISTRY = {baseline.name: baseline for baseline in _BASELINES}


def find(name: str) -> Baseline:
    """The baseline, or an InputError with the nearest name."""
    if name not in REGISTRY:
        raise InputError(unknown("baseline", name, REGISTRY))
    return REGISTRY[name]


def num_parameters(baseline: Baseline) -> int:
    """Trainable numbers of the network as its document has it. Nothing is allocated."""
    counts = {"shapes5": 5, "digits": 10, "digit_grid": 2, "dominant": 3, "largest": 20}
    with torch.device("meta"):
        network = baseline.build(**baseline.options(counts[baseline.data]))
    return sum(parameter.numel() for parameter in network.parameters())


def budget(baseline: Baseline, which: str, drawn: bool = False) -> Budget:
    """`scaled` or `document`; what a document leaves open is taken from the scaled one, the baseline's optimiser,
    schedule and size where the budget has none of its own. drawn: for our own pictures, not for files."""
    chosen = scaled = (baseline.drawn if drawn else None) or baseline.scaled
    if which == "document":
        stated = {name: value for name, value in dataclasses.asdict(baseline.budget).items() if value}
        chosen = dataclasses.replace(scaled, **{"optimizer": "", "schedule": "", "size": 0, **stated})
    return dataclasses.replace(
        chosen,
        optimizer=chosen.optimizer or baseline.optimizer,
        schedule=chosen.schedule or baseline.schedule,
        size=chosen.size or baseline.size,
    )


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
