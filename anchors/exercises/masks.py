"""An exercise on masks: the loss of the mask head."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from anchors import mask
from anchors.exercises.task import Case, Mistake, Task, draw_tensor


def mask_oracle(mask_logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    foreground = labels > 0
    return mask.mask_loss(mask_logits[foreground], labels[foreground], targets[foreground])


def mask_variant(
    mask_logits,
    labels,
    targets,
    *,
    background=False,
    classes="own",
    shift=0,
    reduce="mean",
    rounded=False,
    squared=False,
):
    kept = labels >= 0 if background else labels > 0
    logits, own, truth = mask_logits[kept], labels[kept] + shift, targets[kept]
    if not len(own):
        return mask_logits.sum() * 0
    truth = (truth >= 0.5).to(truth.dtype) if rounded else truth
    rows = torch.arange(len(own))
    if classes == "all":
        cells = F.binary_cross_entropy_with_logits(logits, truth[:, None].expand_as(logits), reduction="none")
    elif classes == "softmax":
        cells = F.binary_cross_entropy(logits.softmax(dim=1)[rows, own], truth, reduction="none")
    elif squared:
        cells = (logits[rows, own].sigmoid() - truth) ** 2
    else:
        cells = F.binary_cross_entropy_with_logits(logits[rows, own], truth, reduction="none")
    return {
        "mean": lambda: cells.mean(),
        "sum": lambda: cells.sum(),
        "all RoIs": lambda: cells.sum() / (len(labels) * truth[0].numel()),
        "object": lambda: cells[truth > 0].mean() if bool((truth > 0).any()) else cells.sum() * 0,
    }[reduce]()


def mask_case(labels, targets, logits):
    """Each RoI has 1 x 2 cells; logits holds, for each RoI, the two cells of each class."""
    return {
        "mask_logits": torch.tensor(logits, dtype=torch.float32).reshape(len(labels), -1, 1, 2),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "targets": torch.tensor(targets, dtype=torch.float32).reshape(len(labels), 1, 2),
    }


def draw_masks(rng, size):
    count, num_classes, side = 1 + size // 2, 2 + size // 4, 1 + size // 4
    return {
        "mask_logits": draw_tensor(rng, (count, num_classes, side, side + 1), -2, 2),
        "labels": torch.tensor([rng.randrange(num_classes) for _ in range(count)]),
        "targets": draw_tensor(rng, (count, side, side + 1), 0, 1),
    }


MASK_LOSS = Task(
    name="mask_loss",
    function="mask_loss",
    lesson="anchors/mask.py",
    oracle=mask_oracle,
    edges=[
        Case("logits 0", mask_case([1], [[1, 0]], [[0, 0, 0, 0]])),
        Case("another class is sure", mask_case([1], [[1, 0]], [[8, -8, 0, 0]])),
        Case("a fraction at the object's edge", mask_case([1], [[1, 0.25]], [[0, 0, 2, -1]])),
        Case("a background RoI beside it", mask_case([0, 1], [[0, 0], [1, 0]], [[4, 4, 0, 0], [0, 0, 1, 1]])),
        Case("only background", mask_case([0], [[0, 0]], [[1, 1, 1, 1]])),
        Case(
            "no RoI",
            {
                "mask_logits": torch.zeros(0, 2, 2, 2),
                "labels": torch.zeros(0, dtype=torch.int64),
                "targets": torch.zeros(0, 2, 2),
            },
        ),
    ],
    draw=draw_masks,
    mistakes=[
        Mistake(
            "background has a mask",
            "a RoI with label 0 has no object and no mask: leave it out.",
            partial(mask_variant, background=True),
        ),
        Mistake(
            "all classes trained",
            "only the map of the RoI's own class is trained; the maps of the other classes get no gradient.",
            partial(mask_variant, classes="all"),
        ),
        Mistake(
            "softmax over the classes",
            "each map has a sigmoid of its own, so that classes do not compete for a pixel (Mask R-CNN, table 2b).",
            partial(mask_variant, classes="softmax"),
        ),
        Mistake(
            "classes counted from 0",
            "map 0 is the background's; the map of class c is number c, not c - 1.",
            partial(mask_variant, shift=-1),
        ),
        Mistake(
            "sum", "the loss is the mean over the foreground RoIs and their cells.", partial(mask_variant, reduce="sum")
        ),
        Mistake(
            "divided by all RoIs",
            "the mean runs over the foreground RoIs alone, unlike the box loss, which is divided by all.",
            partial(mask_variant, reduce="all RoIs"),
        ),
        Mistake(
            "only the object's cells",
            "cells outside the object count as well: else a mask of 1 everywhere is perfect.",
            partial(mask_variant, reduce="object"),
        ),
        Mistake(
            "target rounded",
            "the target is RoIAlign's fraction, as in torchvision (Detectron rounds it).",
            partial(mask_variant, rounded=True),
        ),
        Mistake(
            "squared error",
            "the loss is the binary cross-entropy of the sigmoid.",
            partial(mask_variant, squared=True),
        ),
    ],
)
