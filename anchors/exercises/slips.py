"""Small exercises on common slips: the number of anchors, the head, recall, the split, freezing, mAP."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from anchors.exercises.task import Case, Mistake, Task, draw_tensor

ANCHOR_COUNT = Task(
    name="anchor_count",
    function="anchor_count",
    lesson="anchors/grid.py",
    oracle=lambda image_size, stride, num_cell_anchors: (
        math.prod(math.ceil(s / stride) for s in image_size) * num_cell_anchors
    ),
    edges=[
        Case("800 x 800 pixels", {"image_size": (800, 800), "stride": 16, "num_cell_anchors": 9}),
        Case("a rectangle", {"image_size": (600, 1000), "stride": 16, "num_cell_anchors": 9}),
        Case("one cell", {"image_size": (16, 16), "stride": 16, "num_cell_anchors": 1}),
    ],
    draw=lambda rng, size: {
        "image_size": (rng.randint(1, 30 * size), rng.randint(1, 30 * size)),
        "stride": rng.choice([4, 8, 16, 32]),
        "num_cell_anchors": rng.randint(1, 9),
    },
    mistakes=[
        Mistake(
            "the stride for the number of cells",
            "16 * 16 * 9 is 2,304, not 22,500: 16 is the stride. 800 / 16 = 50 cells a side, and 50 * 50 * 9 = 22,500.",
            lambda image_size, stride, num_cell_anchors: stride * stride * num_cell_anchors,
        ),
        Mistake(
            "the last cells left out",
            "the map has ceil(side / stride) cells: a part of a cell is one too.",
            lambda image_size, stride, num_cell_anchors: (
                (image_size[0] // stride) * (image_size[1] // stride) * num_cell_anchors
            ),
        ),
        Mistake(
            "a square assumed",
            "the height has its own number of cells.",
            lambda image_size, stride, num_cell_anchors: math.ceil(image_size[1] / stride) ** 2 * num_cell_anchors,
        ),
    ],
)


def head_variant(x, w1, b1, w2, b2, *, first=True, second=True):
    x = x @ w1.T + b1
    x = (x.relu() if first else x) @ w2.T + b2
    return x.relu() if second else x


def draw_head(rng, size):
    n, a, b = (rng.randint(1, size) for _ in range(3))
    return {
        "x": draw_tensor(rng, (n, a), -1, 1, 0.5),
        "w1": draw_tensor(rng, (b, a), -1, 1, 0.5),
        "b1": draw_tensor(rng, (b,), -1, 1, 0.5),
        "w2": draw_tensor(rng, (a, b), -1, 1, 0.5),
        "b2": draw_tensor(rng, (a,), -1, 1, 0.5),
    }


HEAD = Task(
    name="head",
    function="head",
    lesson="anchors/heads.py",
    oracle=head_variant,
    edges=[
        Case(
            "a negative in the middle",
            {
                "x": torch.tensor([[1.0]]),
                "w1": torch.tensor([[-2.0]]),
                "b1": torch.zeros(1),
                "w2": torch.tensor([[-1.0]]),
                "b2": torch.zeros(1),
            },
        ),
        Case(
            "a negative at the end",
            {
                "x": torch.tensor([[1.0]]),
                "w1": torch.tensor([[2.0]]),
                "b1": torch.zeros(1),
                "w2": torch.tensor([[-1.0]]),
                "b2": torch.zeros(1),
            },
        ),
        Case(
            "no RoI",
            {
                "x": torch.zeros(0, 2),
                "w1": torch.ones(3, 2),
                "b1": torch.zeros(3),
                "w2": torch.ones(2, 3),
                "b2": torch.zeros(2),
            },
        ),
    ],
    draw=draw_head,
    mistakes=[
        Mistake(
            "no ReLU",
            "Sequential(Linear, Linear) computes the same as one Linear: each needs a ReLU after it.",
            lambda x, w1, b1, w2, b2: head_variant(x, w1, b1, w2, b2, first=False, second=False),
        ),
        Mistake(
            "only the last ReLU",
            "the first Linear needs a ReLU too.",
            lambda x, w1, b1, w2, b2: head_variant(x, w1, b1, w2, b2, first=False),
        ),
        Mistake(
            "only the first ReLU",
            "the second Linear needs a ReLU too.",
            lambda x, w1, b1, w2, b2: head_variant(x, w1, b1, w2, b2, second=False),
        ),
    ],
)

RECALL = Task(
    name="recall",
    function="recall",
    lesson="anchors/training.py",
    oracle=lambda tp, fp, fn: tp / (tp + fn) if tp + fn else 0.0,
    edges=[
        Case("three of four found, one wrong", {"tp": 3, "fp": 1, "fn": 1}),
        Case("none found", {"tp": 0, "fp": 5, "fn": 2}),
        Case("nothing to find", {"tp": 0, "fp": 2, "fn": 0}),
    ],
    draw=lambda rng, size: {"tp": rng.randint(0, size), "fp": rng.randint(0, size), "fn": rng.randint(0, size)},
    mistakes=[
        Mistake(
            "precision",
            "TP / (TP + FP) is precision. Recall asks how many of the objects were found: TP / (TP + FN).",
            lambda tp, fp, fn: tp / (tp + fp) if tp + fp else 0.0,
        ),
        Mistake(
            "accuracy-like",
            "false alarms are not objects: recall divides by TP + FN.",
            lambda tp, fp, fn: tp / (tp + fp + fn) if tp + fp + fn else 0.0,
        ),
    ],
)

SPLIT = Task(
    name="split",
    function="split",
    lesson="indices[:n] are the first n entries of a list, indices[:-n] all but the last n",
    oracle=lambda indices, num_train: (torch.tensor(indices[:num_train]), torch.tensor(indices[num_train:])),
    edges=[
        Case("89 images", {"indices": list(range(89)), "num_train": 50}),
        Case("three images", {"indices": [2, 0, 1], "num_train": 2}),
    ],
    draw=lambda rng, size: {"indices": rng.sample(range(size + 2), size + 2), "num_train": rng.randint(1, size + 1)},
    mistakes=[
        Mistake(
            "counted from the end",
            "of 89 images indices[:-50] leaves 39 to train on and indices[-50:] 50 for the test: the reverse of what "
            "was meant.",
            lambda indices, num_train: (torch.tensor(indices[:-num_train]), torch.tensor(indices[-num_train:])),
        ),
        Mistake(
            "one image twice",
            "the image at the cut lies in both parts: the test is no longer unseen.",
            lambda indices, num_train: (torch.tensor(indices[:num_train]), torch.tensor(indices[num_train - 1 :])),
        ),
    ],
)


def count_trainable(sizes, freeze) -> int:
    layers = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))
    freeze(layers)
    return sum(p.numel() for p in layers.parameters() if p.requires_grad)


FREEZE = Task(
    name="freeze",
    function="trainable_after_freezing",
    lesson="torch.nn.Module.eval and requires_grad_ in the documentation of torch",
    oracle=lambda sizes: sum(a * b + b for a, b in list(pairwise(sizes))[-1:]),
    edges=[
        Case("one layer to freeze, one to train", {"sizes": [4, 3, 2]}),
        Case("nothing to freeze", {"sizes": [4, 2]}),
    ],
    draw=lambda rng, size: {"sizes": [rng.randint(1, 5) for _ in range(size + 2)]},
    mistakes=[
        Mistake(
            "eval() for freezing",
            "eval() switches dropout and batch norm to their test behaviour; the weights still train. "
            "requires_grad_(False) freezes them.",
            lambda sizes: count_trainable(sizes, lambda layers: layers.eval()),
        ),
        Mistake(
            "all frozen",
            "the last layer is the new one, and trains.",
            lambda sizes: count_trainable(sizes, lambda layers: layers.requires_grad_(False)),
        ),
    ],
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
    edges=[
        Case("two classes, two thresholds", {"ap": torch.tensor([[0.75, 0.25], [0.5, 0.0]])}),
        Case("a class without objects", {"ap": torch.tensor([[0.5, 0.25], [-1.0, -1.0]])}),
        Case("nothing to find at all", {"ap": torch.tensor([[-1.0, -1.0]])}),
    ],
    draw=lambda rng, size: {"ap": draw_ap(rng, size)},
    mistakes=[
        Mistake(
            "-1 averaged",
            "-1 says that there is no such object, not that the result is bad: leave it out.",
            lambda ap: mean_ap_variant(ap, missing=False),
        ),
        Mistake(
            "one IoU threshold",
            "a mean over classes alone is VOC's mAP; COCO's AP is also a mean over ten IoU thresholds.",
            lambda ap: mean_ap_variant(ap, first_only=True),
        ),
    ],
)


def draw_ap(rng, size):
    ap = draw_tensor(rng, (size, 3), 0, 1, 0.125)
    ap[torch.tensor([rng.random() < 0.25 for _ in range(size)])] = -1
    return ap
