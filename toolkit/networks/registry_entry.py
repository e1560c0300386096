"""Description of a trainable detector: how to build it, its weights, norms and stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Packaged:
    """Weights of a backbone that an installed package holds as a torch file; its name holds digits of its SHA-256."""

    package: str  # to import
    file: str  # below the package's folder
    rename: Callable[[dict], dict]  # its state dict under the names of our body
    origin: str  # what a checkpoint that began with them says
    heads: Path  # what of the detector follows the body, taught over it; its box predictor left out


@dataclass(frozen=True)
class Fetched:
    """Weights of a backbone that its own library fetches into its own cache."""

    place: Path  # where they lie when they are there
    load: Callable[[], dict]  # the state dict under the names of our body
    origin: str


@dataclass(frozen=True)
class Detector:
    """A registered network. `build(num_classes=, **sizes)` makes it with random weights."""

    build: Callable[..., nn.Module]
    about: str
    coco: Any = None  # torchvision's weights enum of the whole detector
    imagenet: Any = None  # of the backbone alone
    norm: str = "frozen"  # what torchvision uses with weights
    eps: float = 1e-5  # of the norm with torchvision's COCO weights
    body_eps: float = 1e-5  # of the norm with ImageNet weights
    compact: bool = False
    masks: bool = False  # gives masks, too, and learns them from outlines
    mask_branch: Path | None = None  # first weights of the mask branch over `starter` or `imagenet`, one mask for all
    starter: bool = False  # begins with the starter weights of drawn scenes
    num_layers: int = 5
    fixed_anchors: bool = False  # no --anchor-scale
    only_shrinks: bool = False  # images that are smaller than max_size keep their size
    channels_last: bool = False  # its memory format on a CPU: depthwise convolutions are faster so, others slower
