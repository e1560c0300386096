"""`fasterrcnn_tiny_fpn`: a Faster R-CNN small enough to train on two CPU cores.

Five conv-BN-ReLU stages of 16-32-64-128-128 channels, each halving the image; the last three (strides 8, 16, 32)
feed an FPN of 64 channels; one anchor size a level; a 256-wide head. Everything but the stages is torchvision's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from toolkit.networks.mask_branch import FINE, FinePyramid, add_masks

STAGES = (16, 32, 64, 128, 128)
FPN_CHANNELS = 64
HEAD_WIDTH = 256
ANCHOR_SIZES = ((24,), (48,), (96,))
ASPECT_RATIOS = (0.5, 1.0, 2.0)


def _stage(num_in: int, num_out: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        stride = 2 if i == 0 else 1
        layers += [
            nn.Conv2d(num_in if i == 0 else num_out, num_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(num_out),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class StagesFPN(nn.Module):
    """Five stages that halve the image: [B,3,H,W] -> {"0": stride 8, "1": stride 16, "2": stride 32}, each [B,C,h,w];
    with a mask branch also {"fine": stride 4}."""

    def __init__(self, stages: Iterable[nn.Module], widths: Sequence[int], channels: int) -> None:
        """widths: channels that each stage gives; channels: of the FPN's maps."""
        super().__init__()
        self.body = nn.ModuleList(stages)
        self.fpn = FeaturePyramidNetwork(list(widths[2:]), channels)
        self.fine_channels, self.out_channels = widths[1], channels

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        levels = {}
        for i, stage in enumerate(self.body):
            x = stage(x)
            if i >= 2:
                levels[str(i - 2)] = x
            elif i == 1 and isinstance(self.fpn, FinePyramid):
                levels[FINE] = x
        return self.fpn(levels)


class CompactFPN(StagesFPN):
    def __init__(self) -> None:
        stages = (_stage(a, b, 1 if i < 2 else 2) for i, (a, b) in enumerate(pairwise((3, *STAGES))))
        super().__init__(stages, STAGES, FPN_CHANNELS)


def fasterrcnn_tiny_fpn(num_classes: int, **options: object) -> FasterRCNN:
    """The compact detector for `num_classes` (background included); `options` go to torchvision's FasterRCNN."""
    return compact_detector(CompactFPN(), num_classes, ANCHOR_SIZES, **options)


def maskrcnn_tiny_fpn(num_classes: int, **options: object) -> FasterRCNN:
    """`fasterrcnn_tiny_fpn` with a mask branch."""
    return add_masks(fasterrcnn_tiny_fpn(num_classes, **options), num_classes)


def compact_detector(
    backbone: nn.Module, num_classes: int, anchor_sizes: tuple[tuple[int, ...], ...], **options: object
) -> FasterRCNN:
    """torchvision's FasterRCNN on a backbone with levels "0", "1", "2" of strides 8, 16, 32, made for a CPU: one anchor
    size a level, few proposals, a head of 256."""
    channels: Any = backbone.out_channels
    return FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(anchor_sizes, (ASPECT_RATIOS,) * len(anchor_sizes)),
        rpn_pre_nms_top_n_train=400,
        rpn_post_nms_top_n_train=150,
        rpn_pre_nms_top_n_test=400,
        rpn_post_nms_top_n_test=150,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2, canonical_scale=anchor_sizes[-1][0], canonical_level=4),
        box_head=TwoMLPHead(channels * 7 * 7, HEAD_WIDTH),
        box_predictor=FastRCNNPredictor(HEAD_WIDTH, num_classes),
        **options,
    )
