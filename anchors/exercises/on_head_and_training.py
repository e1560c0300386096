"""Tasks on training and measuring: head, split, freezing, recall, mAP. They have a file with a bug, and no stub."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from anchors.exercises.task import Task, draw_tensor


def head_variant(x, w1, b1, w2, b2, *, mistake=""):
    x = x @ w1.T + b1
    x = (x if mistake in ("no ReLU", "only the last ReLU") else x.relu()) @ w2.T + b2
    return x if mistake in ("no ReLU", "only the first ReLU") else x.relu()


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
        "no ReLU": "Sequential(Linear, Linear) computes the same as one Linear: each needs a ReLU after it.",
        "only the last ReLU": "The first Linear needs a ReLU too.",
        "only the first ReLU": "The second Linear needs a ReLU too.",
    },
)


def recall_variant(tp, fp, fn, *, mistake=""):
    total = {"precision": tp + fp, "accuracy-like": tp + fp + fn}.get(mistake, tp + fn)
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
        "precision": "TP / (TP + FP) is precision. Recall asks how many of the objects were found: TP / (TP + FN).",
        "accuracy-like": "False alarms are not objects: recall divides by TP + FN.",
    },
)


def split_variant(indices, num_train, *, mistake=""):
    cut = -num_train if mistake == "counted from the end" else num_train
    return torch.tensor(indices[:cut]), torch.tensor(indices[cut - 1 if mistake == "one image twice" else cut :])


SPLIT = Task(
    name="split",
    function="split",
    lesson="indices[:n] are the first n entries of a list, indices[:-n] all but the last n",
    oracle=split_variant,
    variant=split_variant,
    edges={"89 images": (list(range(89)), 50), "three images": ([2, 0, 1], 2)},
    draw=lambda rng, size: (rng.sample(range(size + 2), size + 2), rng.randint(1, size + 1)),
    mistakes={
        "counted from the end": (
            "Of 89 images, indices[:-50] leaves 39 to train on and indices[-50:] 50 for the test: the reverse of what "
            "was meant. Count from the start: indices[:50] and indices[50:]."
        ),
        "one image twice": "The image at the cut lies in both parts: the test is no longer unseen.",
    },
)


def freeze_variant(sizes, *, mistake=""):
    layers = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))
    if mistake == "eval() for freezing":
        layers.eval()
    else:
        (layers if mistake == "all frozen" else layers[:-1]).requires_grad_(False)
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
        "eval() for freezing": (
            "Calling eval() switches dropout and batch norm to their test behaviour; the weights still train. "
            "requires_grad_(False) freezes them."
        ),
        "all frozen": "The last layer is the new one, and trains.",
    },
)


def mean_ap_variant(ap, *, mistake=""):
    ap = ap[:, :1] if mistake == "one IoU threshold" else ap
    values = ap.flatten() if mistake == "-1 averaged" else ap[ap >= 0]
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
        "-1 averaged": "-1 says that there is no such object, not that the result is bad: leave it out.",
        "one IoU threshold": (
            "A mean over classes alone is VOC's mAP; COCO's AP is also a mean over ten IoU thresholds."
        ),
    },
)


def draw_ap(rng, size):
    ap = draw_tensor(rng, (size, 3), 0, 1, 0.125)
    ap[torch.tensor([rng.random() < 0.25 for _ in range(size)])] = -1
    return ap


TASKS = (HEAD, RECALL, SPLIT, FREEZE, MEAN_AP)
