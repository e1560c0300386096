"""Exercises on choosing boxes: NMS, proposals, the final detections."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from anchors import nms as suppress
from anchors import postprocess as final
from anchors import proposals
from anchors.boxes import clip_boxes
from anchors.deltas import HEAD_WEIGHTS, RPN_WEIGHTS, decode
from anchors.exercises.boxes import iou_variant
from anchors.exercises.task import Case, Mistake, Task, boxes_of, draw_boxes, draw_tensor


def nms_variant(
    boxes,
    scores,
    iou_thresh,
    *,
    plus=0.0,
    at_least=False,
    order="score",
    dead_kill=False,
    denominator="union",
    sort_answer=False,
):
    by = {
        "score": lambda: scores.argsort(descending=True, stable=True),
        "rising": lambda: scores.argsort(stable=True),
        "none": lambda: torch.arange(len(scores)),
        "later wins": lambda: len(scores) - 1 - scores.flip(0).argsort(descending=True, stable=True),
    }[order]()
    iou = iou_variant(boxes, boxes, plus=plus, denominator=denominator)
    hit = iou >= iou_thresh if at_least else iou > iou_thresh
    kept: list[int] = []
    seen: list[int] = []
    for i in by.tolist():
        if not any(bool(hit[i, j]) for j in (seen if dead_kill else kept)):
            kept.append(i)
        seen.append(i)
    return torch.tensor(sorted(kept) if sort_answer else kept, dtype=torch.int64)


def nms_case(rows, scores, iou_thresh=0.5):
    return {"boxes": boxes_of(*rows), "scores": torch.tensor(scores, dtype=torch.float32), "iou_thresh": iou_thresh}


def draw_nms(rng, size):
    return {
        "boxes": draw_boxes(rng, 2 * size, side=6),
        "scores": torch.tensor([rng.randint(1, 19) / 20 for _ in range(2 * size)]),
        "iou_thresh": rng.choice([0.25, 0.5, 0.75]),
    }


NMS = Task(
    name="nms",
    function="nms",
    lesson="anchors/nms.py",
    oracle=suppress.nms,
    edges=[
        Case("one box", nms_case([[0, 0, 4, 4]], [0.5])),
        Case("overlapping and apart", nms_case([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]], [0.9, 0.8, 0.7])),
        Case("the better one comes last", nms_case([[0, 0, 10, 10], [1, 0, 11, 10]], [0.6, 0.9])),
        Case("IoU equal to the threshold", nms_case([[0, 0, 2, 1], [0, 0, 1, 1]], [0.9, 0.8])),
        Case("a chain", nms_case([[0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], [0.9, 0.8, 0.7])),
        Case("equal scores", nms_case([[0, 0, 10, 10], [1, 0, 11, 10]], [0.5, 0.5])),
        Case("a small box in a large one", nms_case([[0, 0, 10, 10], [0, 0, 3, 3]], [0.9, 0.8])),
        Case("no box", nms_case([], [])),
    ],
    draw=draw_nms,
    mistakes=[
        Mistake(
            "hidden +1",
            "the IoU counts widths as x2 - x1 + 1: boxes here are half-open.",
            partial(nms_variant, plus=1.0),
        ),
        Mistake(
            "threshold suppresses too",
            "an IoU equal to the threshold stays: suppress only above it.",
            partial(nms_variant, at_least=True),
        ),
        Mistake(
            "worst first",
            "the boxes are taken by rising score: the best comes first.",
            partial(nms_variant, order="rising"),
        ),
        Mistake(
            "not sorted",
            "the boxes are taken in the given order: sort by score first.",
            partial(nms_variant, order="none"),
        ),
        Mistake(
            "suppressed boxes suppress",
            "a box that is gone suppresses nothing: compare with the kept ones only.",
            partial(nms_variant, dead_kill=True),
        ),
        Mistake(
            "overlap over the smaller box", "IoU divides by the union.", partial(nms_variant, denominator="smaller")
        ),
        Mistake(
            "indices in rising order", "the kept indices come by falling score.", partial(nms_variant, sort_answer=True)
        ),
        Mistake(
            "later index wins ties",
            "among equal scores the lower index wins: sort with stable=True.",
            partial(nms_variant, order="later wins"),
        ),
    ],
)


def propose_oracle(anchors, deltas, scores, image_size, num_pre_nms, num_post_nms, nms_thresh, min_size):
    return proposals.propose(
        anchors,
        deltas,
        scores,
        image_size,
        num_pre_nms=num_pre_nms,
        num_post_nms=num_post_nms,
        nms_thresh=nms_thresh,
        min_size=min_size,
    )


def propose_variant(
    anchors,
    deltas,
    scores,
    image_size,
    num_pre_nms,
    num_post_nms,
    nms_thresh,
    min_size,
    *,
    clip=True,
    small=True,
    pre=True,
    post=True,
    nms=True,
    anchors_only=False,
    filter_first=True,
):
    boxes = anchors if anchors_only else decode(deltas, anchors)[:, 0]
    if clip:
        boxes = clip_boxes(boxes, image_size)
    order = scores.argsort(descending=True, stable=True)
    if not filter_first:
        order = order[:num_pre_nms]
    sides = boxes[order, 2:] - boxes[order, :2]
    if small:
        order = order[(sides >= min_size).all(1)]
    if pre:
        order = order[:num_pre_nms]
    keep = suppress.nms(boxes[order], scores[order], nms_thresh) if nms else torch.arange(len(order))
    keep = order[keep[:num_post_nms] if post else keep]
    return boxes[keep], scores[keep]


def draw_propose(rng, size):
    count = 2 * size
    return {
        "anchors": draw_boxes(rng, count, side=12) - 2,
        "deltas": draw_tensor(rng, (count, 4), -0.5, 0.5),
        "scores": torch.tensor(rng.sample(range(1, 100), count)) / 100,
        "image_size": (10, 8),
        "num_pre_nms": rng.randint(1, count),
        "num_post_nms": rng.randint(1, size),
        "nms_thresh": 0.5,
        "min_size": rng.choice([1.0, 2.0]),
    }


THREE = {
    "anchors": boxes_of([0, 0, 20, 20], [2, 0, 22, 20], [36, 0, 56, 20]),
    "deltas": torch.zeros(3, 4),
    "scores": torch.tensor([0.9, 0.8, 0.7]),
    "image_size": (40, 40),
    "num_pre_nms": 100,
    "num_post_nms": 10,
    "nms_thresh": 0.75,
    "min_size": 1.0,
}
PROPOSE = Task(
    name="propose",
    function="propose",
    lesson="anchors/proposals.py",
    oracle=propose_oracle,
    edges=[
        Case("overlap, and over the edge", THREE),
        Case("the thin one goes", {**THREE, "min_size": 16.0}),
        Case("all too small", {**THREE, "min_size": 30.0}),
        Case("only the best two", {**THREE, "num_pre_nms": 2}),
        Case("no anchor", {**THREE, "anchors": boxes_of(), "deltas": torch.zeros(0, 4), "scores": torch.zeros(0)}),
    ],
    draw=draw_propose,
    mistakes=[
        Mistake(
            "deltas unused",
            "the proposals are the decoded anchors, not the anchors.",
            partial(propose_variant, anchors_only=True),
        ),
        Mistake(
            "not clipped",
            "the boxes are cut at the image's edges before anything else looks at them.",
            partial(propose_variant, clip=False),
        ),
        Mistake("small boxes kept", "boxes with a side below min_size go.", partial(propose_variant, small=False)),
        Mistake(
            "no limit before NMS",
            "only the best num_pre_nms go into NMS (12,000 in training).",
            partial(propose_variant, pre=False),
        ),
        Mistake("no NMS", "the proposals still need NMS at nms_thresh.", partial(propose_variant, nms=False)),
        Mistake(
            "no limit after NMS",
            "at most num_post_nms proposals (2,000 in training).",
            partial(propose_variant, post=False),
        ),
        Mistake(
            "small boxes dropped too late",
            "the best num_pre_nms are taken after the small ones are gone (torchvision does it the other way round).",
            partial(propose_variant, filter_first=False),
        ),
    ],
)


def postprocess_oracle(class_logits, box_deltas, rois, image_size, score_thresh, nms_thresh):
    found = final.postprocess(
        class_logits,
        box_deltas,
        rois,
        image_size,
        score_thresh=score_thresh,
        nms_thresh=nms_thresh,
        max_detections=100,
        weights=HEAD_WEIGHTS,
        min_size=0.0,
    )
    return found.boxes, found.labels, found.scores


def postprocess_variant(
    class_logits,
    box_deltas,
    rois,
    image_size,
    score_thresh,
    nms_thresh,
    *,
    across=False,
    best=False,
    background=False,
    weights=HEAD_WEIGHTS,
    clip=True,
    sigmoid=False,
):
    probability = class_logits.sigmoid() if sigmoid else class_logits.softmax(dim=1)
    boxes = decode(box_deltas, rois, weights)
    wanted = probability > score_thresh
    if not background:
        wanted[:, 0] = False
    if best:
        wanted &= probability == probability.max(dim=1, keepdim=True).values
    roi, label = wanted.nonzero(as_tuple=True)
    found, scores = boxes[roi, label], probability[roi, label]
    if clip:
        found = clip_boxes(found, image_size)
    keep = suppress.batched_nms(found, scores, torch.zeros_like(label) if across else label, nms_thresh)
    return found[keep], label[keep], scores[keep]


def draw_postprocess(rng, size):
    classes = 3
    return {
        "class_logits": draw_tensor(rng, (size, classes), -2, 2)
        + torch.arange(size)[:, None] / 64
        + torch.arange(classes) / 16
        + draw_tensor(rng, (size, classes), 0, 0.01, step=0.0003),
        "box_deltas": draw_tensor(rng, (size, 4 * classes), -1, 1),
        "rois": draw_boxes(rng, size, side=10),
        "image_size": (9, 11),
        "score_thresh": 0.05,
        "nms_thresh": 0.5,
    }


ONE_ROI: dict[str, Tensor | tuple | float] = {
    "class_logits": torch.tensor([[1.0, 3.0, 4.0]]).log(),
    "box_deltas": torch.zeros(1, 12),
    "rois": boxes_of([5, 5, 50, 20]),
    "image_size": (30, 40),
    "score_thresh": 0.05,
    "nms_thresh": 0.5,
}
POSTPROCESS = Task(
    name="postprocess",
    function="postprocess",
    lesson="anchors/postprocess.py",
    oracle=postprocess_oracle,
    edges=[
        Case("one RoI, two classes", ONE_ROI),
        Case(
            "two RoIs on one object",
            {
                **ONE_ROI,
                "class_logits": torch.tensor([[1.0, 8.0, 0.01], [1.0, 6.0, 0.01]]).log(),
                "box_deltas": torch.zeros(2, 12),
                "rois": boxes_of([5, 5, 30, 20], [6, 5, 30, 20]),
            },
        ),
        Case("background alone", {**ONE_ROI, "class_logits": torch.tensor([[9.0, 0.0, 0.0]])}),
        Case(
            "no RoI",
            {**ONE_ROI, "class_logits": torch.zeros(0, 3), "box_deltas": torch.zeros(0, 12), "rois": boxes_of()},
        ),
    ],
    draw=draw_postprocess,
    mistakes=[
        Mistake(
            "NMS across classes",
            "NMS runs within each class: a bolt may lie on a washer.",
            partial(postprocess_variant, across=True),
        ),
        Mistake(
            "only the best class",
            "each class above the threshold is a detection, not only the likeliest.",
            partial(postprocess_variant, best=True),
        ),
        Mistake(
            "background detected",
            "class 0 is background and never a detection.",
            partial(postprocess_variant, background=True),
        ),
        Mistake(
            "weights left out",
            "the deltas were encoded with weights (10, 10, 5, 5): decode with the same.",
            partial(postprocess_variant, weights=RPN_WEIGHTS),
        ),
        Mistake("not clipped", "detections are cut at the image's edges.", partial(postprocess_variant, clip=False)),
        Mistake(
            "sigmoid for softmax",
            "the classes share one softmax, background included.",
            partial(postprocess_variant, sigmoid=True),
        ),
    ],
)
