"""Exercises on NMS, proposals and the final detections."""

from __future__ import annotations

import torch

from anchors.boxes import clip_boxes
from anchors.deltas import HEAD_WEIGHTS, RPN_WEIGHTS, decode
from anchors.exercises.on_boxes_and_deltas import iou_variant
from anchors.exercises.task import Task, boxes_of, draw_boxes, draw_tensor
from anchors.nms import batched_nms, nms
from anchors.postprocess import postprocess
from anchors.proposals import propose


def nms_variant(boxes, scores, iou_thresh, *, mistake=""):
    by = scores.argsort(descending=True, stable=True)
    if mistake == "worst first":
        by = scores.argsort(stable=True)
    if mistake == "not sorted":
        by = torch.arange(len(scores))
    if mistake == "later index wins ties":
        by = len(scores) - 1 - scores.flip(0).argsort(descending=True, stable=True)
    iou = iou_variant(boxes, boxes, mistake=mistake)
    hit = iou >= iou_thresh if mistake == "threshold suppresses too" else iou > iou_thresh
    kept: list[int] = []
    for place, i in enumerate(by.tolist()):
        others = by[:place] if mistake == "suppressed boxes suppress" else kept
        if not hit[i, others].any():
            kept.append(i)
    return torch.tensor(sorted(kept) if mistake == "indices in rising order" else kept, dtype=torch.int64)


def nms_case(rows, scores):
    return boxes_of(*rows), torch.tensor(scores), 0.5


def draw_nms(rng, size):
    boxes, scores = draw_boxes(rng, 2 * size, side=6), [rng.randint(1, 19) / 20 for _ in range(2 * size)]
    return boxes, torch.tensor(scores), rng.choice([0.25, 0.5, 0.75])


NMS = Task(
    name="nms",
    function="nms",
    lesson="anchors/nms.py",
    oracle=nms,
    variant=nms_variant,
    edges={
        "one box": nms_case([[0, 0, 4, 4]], [0.5]),
        "overlapping and apart": nms_case([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], [0.9, 0.8, 0.7]),
        "the better one comes last": nms_case([[0, 0, 10, 10], [1, 0, 11, 10]], [0.6, 0.9]),
        "IoU equal to the threshold": nms_case([[0, 0, 2, 1], [0, 0, 1, 1]], [0.9, 0.8]),
        "a chain": nms_case([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], [0.9, 0.8, 0.7]),
        "equal scores": nms_case([[0, 0, 10, 10], [1, 0, 11, 10]], [0.5, 0.5]),
        "a small box in a large one": nms_case([[0, 0, 10, 10], [0, 0, 3, 3]], [0.9, 0.8]),
        "no box": nms_case([], []),
    },
    draw=draw_nms,
    mistakes={
        "hidden +1": "The IoU counts widths as x2 - x1 + 1; boxes here are half-open, x2 - x1 wide.",
        "threshold suppresses too": "An IoU equal to the threshold stays: suppress only above it.",
        "worst first": "The boxes are taken by rising score: the best comes first.",
        "not sorted": "The boxes are taken in the given order: sort by score first.",
        "suppressed boxes suppress": "A box that is gone suppresses nothing: compare with the kept ones only.",
        "overlap over the smaller box": "IoU divides by the union.",
        "indices in rising order": "The kept indices come by falling score.",
        "later index wins ties": "Among equal scores the lower index wins: sort with stable=True.",
    },
)


def propose_variant(
    anchors, deltas, scores, image_size, num_pre_nms, num_post_nms, nms_thresh, min_size, *, mistake=""
):
    boxes = anchors if mistake == "deltas unused" else decode(deltas, anchors)[:, 0]
    if mistake != "not clipped":
        boxes = clip_boxes(boxes, image_size)
    order = scores.argsort(descending=True, stable=True)
    if mistake == "small boxes dropped too late":
        order = order[:num_pre_nms]
    if mistake != "small boxes kept":
        order = order[(boxes[order, 2:] - boxes[order, :2] >= min_size).all(1)]
    if mistake != "no limit before NMS":
        order = order[:num_pre_nms]
    if mistake != "no NMS":
        order = order[nms(boxes[order], scores[order], nms_thresh)]
    if mistake != "no limit after NMS":
        order = order[:num_post_nms]
    return boxes[order], scores[order]


def draw_propose(rng, size):
    count = 2 * size
    anchors, deltas = draw_boxes(rng, count, side=12) - 2, draw_tensor(rng, (count, 4), -0.5, 0.5)
    scores = torch.tensor(rng.sample(range(1, 100), count)) / 100
    limits = rng.randint(1, count), rng.randint(1, size)
    return anchors, deltas, scores, (10, 8), *limits, 0.5, rng.choice([1.0, 2.0])


THREE = boxes_of([0, 0, 20, 20], [2, 0, 22, 20], [36, 0, 56, 20]), torch.zeros(3, 4), torch.tensor([0.9, 0.8, 0.7])
NO_ANCHOR = boxes_of(), torch.zeros(0, 4), torch.zeros(0)
PROPOSE = Task(
    name="propose",
    function="propose",
    lesson="anchors/proposals.py",
    oracle=propose,
    variant=propose_variant,
    edges={
        "overlap, and over the edge": (*THREE, (40, 40), 100, 10, 0.75, 1.0),
        "the thin one goes": (*THREE, (40, 40), 100, 10, 0.75, 16.0),
        "all too small": (*THREE, (40, 40), 100, 10, 0.75, 30.0),
        "only the best two": (*THREE, (40, 40), 2, 10, 0.75, 1.0),
        "no anchor": (*NO_ANCHOR, (40, 40), 100, 10, 0.75, 1.0),
    },
    draw=draw_propose,
    mistakes={
        "deltas unused": "The proposals are the decoded anchors, not the anchors.",
        "not clipped": "The boxes are cut at the image's edges before anything else looks at them.",
        "small boxes kept": "Boxes with a side below min_size are removed.",
        "no limit before NMS": "Only the best num_pre_nms go into NMS (12,000 in training).",
        "no NMS": "The proposals still need NMS at nms_thresh.",
        "no limit after NMS": "At most num_post_nms proposals are kept (2,000 in training).",
        "small boxes dropped too late": (
            "The best num_pre_nms are taken after the small ones are gone (torchvision does it the other way round)."
        ),
    },
)


def postprocess_oracle(**arguments):
    found = postprocess(**arguments, max_detections=100, weights=HEAD_WEIGHTS, min_size=0.0)
    return found.boxes, found.labels, found.scores


def postprocess_variant(class_logits, box_deltas, rois, image_size, score_thresh, nms_thresh, *, mistake=""):
    probability = class_logits.sigmoid() if mistake == "sigmoid for softmax" else class_logits.softmax(dim=1)
    boxes = decode(box_deltas, rois, RPN_WEIGHTS if mistake == "weights left out" else HEAD_WEIGHTS)
    wanted = probability > score_thresh
    if mistake != "background detected":
        wanted[:, 0] = False
    if mistake == "only the best class":
        wanted &= probability == probability.max(dim=1, keepdim=True).values
    roi, label = wanted.nonzero(as_tuple=True)
    found, scores = boxes[roi, label], probability[roi, label]
    if mistake != "not clipped":
        found = clip_boxes(found, image_size)
    group = torch.zeros_like(label) if mistake == "NMS across classes" else label
    keep = batched_nms(found, scores, group, nms_thresh)
    return found[keep], label[keep], scores[keep]


def draw_postprocess(rng, size):
    classes = 3
    logits = draw_tensor(rng, (size, classes), -2, 2)
    logits = logits + torch.arange(size)[:, None] / 64 + torch.arange(classes) / 16  # scores that do not tie
    logits = logits + draw_tensor(rng, (size, classes), 0, 0.01, step=0.0003)
    deltas = draw_tensor(rng, (size, 4 * classes), -1, 1)
    return logits, deltas, draw_boxes(rng, size, side=10), (9, 11), 0.05, 0.5


def postprocess_case(logits, *rois):
    return logits, torch.zeros(len(rois), 12), boxes_of(*rois), (30, 40), 0.05, 0.5


POSTPROCESS = Task(
    name="postprocess",
    function="postprocess",
    lesson="anchors/postprocess.py",
    oracle=postprocess_oracle,
    variant=postprocess_variant,
    edges={
        "one RoI, two classes": postprocess_case(torch.tensor([[1.0, 3.0, 4.0]]).log(), [5, 5, 50, 20]),
        "two RoIs on one object": postprocess_case(
            torch.tensor([[1.0, 8.0, 0.01], [1.0, 6.0, 0.01]]).log(), [5, 5, 30, 20], [6, 5, 30, 20]
        ),
        "background alone": postprocess_case(torch.tensor([[9.0, 0.0, 0.0]]), [5, 5, 50, 20]),
        "no RoI": postprocess_case(torch.zeros(0, 3)),
    },
    draw=draw_postprocess,
    mistakes={
        "NMS across classes": "NMS runs within each class: a bolt may lie on a washer.",
        "only the best class": "Each class above the threshold is a detection, not only the likeliest.",
        "background detected": "Class 0 is background and never a detection.",
        "weights left out": "The deltas were encoded with weights (10, 10, 5, 5): decode with the same.",
        "not clipped": "Detections are cut at the image's edges.",
        "sigmoid for softmax": "The classes share one softmax, background included.",
    },
)
