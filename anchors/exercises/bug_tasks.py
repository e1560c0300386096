"""The tasks that exist only with a bug in them: the number of anchors, the head, recall, the split, freezing, mAP."""

from __future__ import annotations

import math
import operator
from itertools import pairwise

import torch
from torch import nn

from anchors.exercises.task import Mistake, Task, draw_tensor


def anchor_count_variant(
    image_size, stride, num_cell_anchors, *, cells=lambda side, stride: math.ceil(side / stride), square=False
):
    height, width = image_size
    return cells(width if square else height, stride) * cells(width, stride) * num_cell_anchors


ANCHOR_COUNT = Task(
    name="anchor_count",
    function="anchor_count",
    lesson="anchors/grid.py",
    oracle=anchor_count_variant,
    variant=anchor_count_variant,
    edges={
        "800 x 800 pixels": ((800, 800), 16, 9),
        "a rectangle": ((600, 1000), 16, 9),
        "one cell": ((16, 16), 16, 1),
    },
    draw=lambda rng, size: (
        (rng.randint(1, 30 * size), rng.randint(1, 30 * size)),
        rng.choice([4, 8, 16, 32]),
        rng.randint(1, 9),
    ),
    mistakes={
        "the stride for the number of cells": Mistake(
            "16 * 16 * 9 is 2,304, not 22,500: 16 is the stride. 800 / 16 = 50 cells a side, and 50 * 50 * 9 = 22,500.",
            cells=lambda side, stride: stride,
        ),
        "the last cells left out": Mistake(
            "the map has ceil(side / stride) cells: a part of a cell is one too.", cells=operator.floordiv
        ),
        "a square assumed": Mistake("the height has its own number of cells.", square=True),
    },
)


def head_variant(x, w1, b1, w2, b2, *, first=True, second=True):
    x = x @ w1.T + b1
    x = (x.relu() if first else x) @ w2.T + b2
    return x.relu() if second else x


def draw_head(rng, size):
    n, a, b = (rng.randint(1, size) for _ in range(3))
    return tuple(draw_tensor(rng, shape, -1, 1, 0.5) for shape in ((n, a), (b, a), (b,), (a, b), (a,)))


def one_number(*values):
    return tuple(torch.tensor(value) for value in values)


HEAD = Task(
    name="head",
    function="head",
    lesson="anchors/heads.py",
    oracle=head_variant,
    variant=head_variant,
    edges={
        "a negative in the middle": one_number([[1.0]], [[-2.0]], [0.0], [[-1.0]], [0.0]),
        "a negative at the end": one_number([[1.0]], [[2.0]], [0.0], [[-1.0]], [0.0]),
        "no RoI": (torch.zeros(0, 2), torch.ones(3, 2), torch.zeros(3), torch.ones(2, 3), torch.zeros(2)),
    },
    draw=draw_head,
    mistakes={
        "no ReLU": Mistake(
            "Sequential(Linear, Linear) computes the same as one Linear: each needs a ReLU after it.",
            first=False,
            second=False,
        ),
        "only the last ReLU": Mistake("the first Linear needs a ReLU too.", first=False),
        "only the first ReLU": Mistake("the second Linear needs a ReLU too.", second=False),
    },
)


def recall_variant(tp, fp, fn, *, share_of="objects"):
    total = {"objects": tp + fn, "detections": tp + fp, "all": tp + fp + fn}[share_of]
    return tp / total if total else 0.0


RECALL = Task(
    name="recall",
    function="recall",
    lesson="anchors/train_on_scenes.py",
    oracle=recall_variant,
    variant=recall_variant,
    edges={
        "three of four found, one wrong": (3, 1, 1),
        "none found": (0, 5, 2),
        "nothing to find": (0, 2, 0),
    },
    draw=lambda rng, size: (rng.randint(0, size), rng.randint(0, size), rng.randint(0, size)),
    mistakes={
        "precision": Mistake(
            "TP / (TP + FP) is precision. Recall asks how many of the objects were found: TP / (TP + FN).",
            share_of="detections",
        ),
        "accuracy-like": Mistake("false alarms are not objects: recall divides by TP + FN.", share_of="all"),
    },
)


def split_variant(indices, num_train, *, from_end=False, shared=0):
    cut = -num_train if from_end else num_train
    return torch.tensor(indices[:cut]), torch.tensor(indices[cut - shared :])


SPLIT = Task(
    name="split",
    function="split",
    lesson="indices[:n] are the first n entries of a list, indices[:-n] all but the last n",
    oracle=split_variant,
    variant=split_variant,
    edges={"89 images": (list(range(89)), 50), "three images": ([2, 0, 1], 2)},
    draw=lambda rng, size: (rng.sample(range(size + 2), size + 2), rng.randint(1, size + 1)),
    mistakes={
        "counted from the end": Mistake(
            "of 89 images indices[:-50] leaves 39 to train on and indices[-50:] 50 for the test: the reverse of what "
            "was meant.",
            from_end=True,
        ),
        "one image twice": Mistake("the image at the cut lies in both parts: the test is no longer unseen.", shared=1),
    },
)


def freeze_variant(sizes, *, freeze=lambda layers: layers[:-1].requires_grad_(False)):
    layers = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))
    freeze(layers)
    return sum(p.numel() for p in layers.parameters() if p.requires_grad)


FREEZE = Task(
    name="freeze",
    function="trainable_after_freezing",
    lesson="torch.nn.Module.eval and requires_grad_ in the documentation of torch",
    oracle=lambda sizes: (sizes[-2] + 1) * sizes[-1],
    variant=freeze_variant,
    edges={"one layer to freeze, one to train": ([4, 3, 2],), "nothing to freeze": ([4, 2],)},
    draw=lambda rng, size: ([rng.randint(1, 5) for _ in range(size + 2)],),
    mistakes={
        "eval() for freezing": Mistake(
            "eval() switches dropout and batch norm to their test behaviour; the weights still train. "
            "requires_grad_(False) freezes them.",
            freeze=nn.Module.eval,
        ),
        "all frozen": Mistake(
            "the last layer is the new one, and trains.", freeze=lambda layers: layers.requires_grad_(False)
        ),
    },
)


def mean_ap_variant(ap, *, missing=True, first_only=False):
    ap = ap[:, :1] if first_only else ap
    values = ap[ap >= 0] if missing else ap.flatten()
    return float(values.mean()) if len(values) else 0.0


MEAN_AP = Task(
    name="mean_ap",
    function="mean_ap",
    lesson="COCO's table: AP is a mean over classes and ten IoU thresholds; -1 means no such object",
    oracle=mean_ap_variant,
    variant=mean_ap_variant,
    edges={
        "two classes, two thresholds": (torch.tensor([[0.75, 0.25], [0.5, 0.0]]),),
        "a class without objects": (torch.tensor([[0.5, 0.25], [-1.0, -1.0]]),),
        "nothing to find at all": (torch.tensor([[-1.0, -1.0]]),),
    },
    draw=lambda rng, size: (draw_ap(rng, size),),
    mistakes={
        "-1 averaged": Mistake(
            "-1 says that there is no such object, not that the result is bad: leave it out.", missing=False
        ),
        "one IoU threshold": Mistake(
            "a mean over classes alone is VOC's mAP; COCO's AP is also a mean over ten IoU thresholds.", first_only=True
        ),
    },
)


def draw_ap(rng, size):
    ap = draw_tensor(rng, (size, 3), 0, 1, 0.125)
    ap[torch.tensor([rng.random() < 0.25 for _ in range(size)])] = -1
    return ap


TASKS = (ANCHOR_COUNT, HEAD, RECALL, SPLIT, FREEZE, MEAN_AP)
