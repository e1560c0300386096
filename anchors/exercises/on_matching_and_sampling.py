"""Exercises on matching and sampling: positive anchors, their sample, the labels and targets of the RoIs."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from anchors.boxes import box_iou
from anchors.deltas import HEAD_WEIGHTS, RPN_WEIGHTS, encode
from anchors.exercises.task import Task, boxes_of, draw_boxes, draw_tensor
from anchors.matching import match_anchors
from anchors.sampling import sample_labels


def match_variant(iou, high_thresh, low_thresh, *, mistake=""):
    if iou.numel() == 0:
        return (torch.zeros(iou.shape[1], dtype=torch.int64),) * 2
    best, gt_idxs = iou.max(dim=0)
    labels = torch.full_like(gt_idxs, -1)
    labels[best < low_thresh] = 0
    labels[best > high_thresh if mistake == "above instead of at least" else best >= high_thresh] = 1
    top, where = iou.max(dim=1)
    for gt in range(len(iou)):
        if mistake == "no rule (i)" or (top[gt] == 0 and mistake != "IoU 0 is the best"):
            continue
        chosen = where[gt] if mistake == "only one best anchor" else iou[gt] == top[gt]
        labels[chosen] = 1
        if mistake == "the forcing gt as target":
            gt_idxs[chosen] = gt
    if mistake == "negatives assigned last":
        labels[best < low_thresh] = 0
    return gt_idxs, labels


GOLDEN = torch.tensor([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])
MATCH = Task(
    name="match",
    function="match_anchors",
    lesson="anchors/matching.py",
    oracle=partial(match_anchors, low_quality=True),
    variant=match_variant,
    edges={
        "high, middle, low": (torch.tensor([[0.8, 0.5, 0.1]]), 0.7, 0.3),
        "the best is low": (torch.tensor([[0.1, 0.2]]), 0.7, 0.3),
        "two best": (torch.tensor([[0.5, 0.5, 0.25]]), 0.75, 0.25),
        "a gt that no anchor touches": (torch.tensor([[0.0, 0.0]]), 0.75, 0.25),
        "equal to the thresholds": (torch.tensor([[0.75, 0.25, 1.0]]), 0.75, 0.25),
        "three gt, four anchors": (GOLDEN, 0.7, 0.3),
        "no gt": (torch.zeros(0, 3), 0.75, 0.25),
        "no anchor": (torch.zeros(2, 0), 0.75, 0.25),
    },
    draw=lambda rng, size: (draw_tensor(rng, (rng.randint(1, 1 + size // 3), size), 0, 1, step=0.125), 0.75, 0.25),
    mistakes={
        "negatives assigned last": (
            "The line that sets 0 comes after the line that makes each gt's best anchor positive, and takes away "
            "every object whose best anchor is below low_thresh (Faster R-CNN 3.1.2 (i) holds there too)."
        ),
        "no rule (i)": (
            "Only anchors that reach high_thresh become positive here. The best anchor of each gt is positive too: in "
            "the worked example (figure 6 of the walkthrough) all 18 positives come from that rule."
        ),
        "only one best anchor": (
            "argmax finds one anchor of a gt; all that tie with it are too (16 of 18 in the worked example)."
        ),
        "IoU 0 is the best": (
            "A gt that no anchor touches has best IoU 0, and `iou == best` then makes every anchor of IoU 0 positive. "
            "torchvision and the paper's code do that; here such a gt forces nothing."
        ),
        "above instead of at least": (
            "IoU equal to high_thresh is positive (the paper says above, all code at least)."
        ),
        "the forcing gt as target": "The target of an anchor is its own best gt, not the gt that made it positive.",
    },
)


def sample_summary(arguments, answer):
    """(positives, negatives) drawn; ValueError where an index is repeated, out of range or of another label."""
    if not isinstance(answer, tuple | list) or len(answer) != 2 or not all(isinstance(part, Tensor) for part in answer):
        raise ValueError("needed a tuple of two index tensors, (positives, negatives)")
    labels = arguments["labels"]
    for part, label, word in zip(answer, (1, 0), ("positives", "negatives")):
        if part.ndim != 1 or part.is_floating_point() or part.dtype == torch.bool:
            raise ValueError(f"{word}: returned shape {list(part.shape)} of {part.dtype}, needed [n] of int64")
        if len(part) and not (int(part.min()) >= 0 and int(part.max()) < len(labels)):
            raise ValueError(f"{word}: returned an index outside 0..{len(labels) - 1}")
        found = labels[part.long()]
        if bool((found != label).any()):
            raise ValueError(f"{word}: returned an anchor whose label is {int(found[found != label][0])}")
        if len(part.unique()) != len(part):
            raise ValueError(f"{word}: returned an anchor twice")
    return len(answer[0]), len(answer[1])


def sample_variant(labels, num_samples, positive_fraction, *, mistake=""):
    positive, negative = (labels == 1).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    most = int(num_samples * positive_fraction)
    if mistake != "no limit on positives":
        positive = positive[:most]
    num_negative = {
        "not filled up": num_samples - most,
        "times for minus": num_samples * len(positive),
        "as many negatives as positives": len(positive),
        "one too many": num_samples - len(positive) + 1,
    }.get(mistake, max(num_samples - len(positive), 0))
    return positive, negative[:num_negative]


SAMPLE = Task(
    name="sample",
    function="sample_labels",
    lesson="anchors/sampling.py",
    oracle=sample_labels,
    variant=sample_variant,
    canonical=sample_summary,
    edges={
        "few positives": (torch.tensor([1, 0, 0, 0, 0, -1]), 4, 0.5),
        "many positives": (torch.tensor([1, 1, 1, 1, 0, 0]), 4, 0.5),
        "no positive": (torch.tensor([0, 0, -1, -1]), 4, 0.5),
        "all ignored": (torch.tensor([-1, -1]), 4, 0.5),
        "18 positives, 256 wanted": (torch.tensor([1] * 18 + [0] * 400 + [-1] * 30), 256, 0.5),
        "no anchor": (torch.zeros(0, dtype=torch.int64), 4, 0.5),
    },
    draw=lambda rng, size: (
        torch.tensor([rng.choice([1, 0, 0, -1]) for _ in range(3 * size)]),
        rng.randint(2, 2 * size + 2),
        rng.choice([0.25, 0.5]),
    ),
    mistakes={
        "not filled up": (
            "There are always num_samples * (1 - fraction) negatives here: 128 + 128. Where positives are few, "
            "negatives take their place: 18 + 238 in the worked example."
        ),
        "times for minus": (
            "The number of negatives is num_samples - #positives, not num_samples * #positives, a slip in a widely "
            "copied notebook."
        ),
        "as many negatives as positives": "Negatives fill the sample up to num_samples.",
        "no limit on positives": "There are at most int(num_samples * positive_fraction) positives.",
        "one too many": "The number of negatives is num_samples - #positives, not one more.",
    },
)


def rois_variant(proposals, gt_boxes, gt_labels, *, mistake=""):
    rois = proposals if mistake == "true boxes not added" else torch.cat((proposals, gt_boxes))
    if len(gt_boxes) == 0 or len(rois) == 0:
        return rois, torch.zeros(len(rois), dtype=torch.int64), torch.zeros(len(rois), 4)
    best, gt = box_iou(gt_boxes, rois).max(dim=0)
    thresh = 0.7 if mistake == "the RPN's threshold" else 0.5
    foreground = best > thresh if mistake == "above instead of at least" else best >= thresh
    matched = gt_boxes[gt]
    targets = encode(matched, rois, RPN_WEIGHTS if mistake == "weights left out" else HEAD_WEIGHTS)
    if mistake == "corners as targets":
        targets = matched
    if mistake == "deltas backwards":
        targets = encode(rois, matched, HEAD_WEIGHTS)
    return rois, torch.where(foreground, gt_labels[gt], 0), targets


def draw_rois(rng, size):
    num_gt = rng.randint(1, 1 + size // 3)
    proposals, gt_boxes = draw_boxes(rng, size, side=8), draw_boxes(rng, num_gt, side=8)
    return proposals, gt_boxes, torch.tensor([rng.randint(1, 3) for _ in range(num_gt)])


LABEL_ROIS = Task(
    name="label_rois",
    function="label_rois",
    lesson="anchors/sampling.py",
    oracle=rois_variant,  # of box_iou and encode alone
    variant=rois_variant,
    edges={
        "one far proposal": (boxes_of([50, 50, 60, 60]), boxes_of([0, 0, 10, 10]), torch.tensor([2])),
        "IoU exactly 0.5": (boxes_of([0, 0, 10, 5]), boxes_of([0, 0, 10, 10]), torch.tensor([1])),
        "no object": (boxes_of([0, 0, 5, 5]), boxes_of(), torch.zeros(0, dtype=torch.int64)),
        "no proposal": (boxes_of(), boxes_of([0, 0, 10, 10]), torch.tensor([1])),
    },
    draw=draw_rois,
    mistakes={
        "true boxes not added": (
            "The true boxes join the proposals (as in the paper's code and torchvision): early in training no "
            "proposal comes near an object."
        ),
        "corners as targets": (
            "The targets are deltas of the object against the proposal; its corners, t = [x1, y1, x2, y2], are a "
            "common slip."
        ),
        "weights left out": "The head's deltas are multiplied by (10, 10, 5, 5).",
        "deltas backwards": "Deltas lead from the proposal to the object.",
        "the RPN's threshold": "The head's foreground begins at IoU 0.5, not 0.7: proposals fit better than anchors.",
        "above instead of at least": "IoU 0.5 is foreground.",
    },
)
