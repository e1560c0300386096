"""Exercises on boxes: IoU, encoding as deltas, decoding."""

from __future__ import annotations

import math

import torch

from anchors.boxes import box_iou
from anchors.deltas import MAX_LOG_RATIO, decode, encode
from anchors.exercises.task import Task, boxes_of, draw_boxes, draw_tensor


def iou_variant(a, b, *, mistake=""):
    if mistake == "transposed":
        a, b = b, a
    plus = 1 if mistake == "hidden +1" else 0
    overlap = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2]) + plus
    inter = (overlap if mistake == "no clamp" else overlap.clamp(min=0)).prod(dim=2)
    area_a = (a[:, 2:] - a[:, :2] + plus).prod(dim=1)[:, None]
    area_b = (b[:, 2:] - b[:, :2] + plus).prod(dim=1)
    below = area_a + area_b - inter
    if mistake == "the sum for the union":
        below = area_a + area_b
    if mistake == "overlap over the smaller box":
        below = torch.minimum(area_a, area_b)
    return (inter / below).nan_to_num(nan=math.nan if mistake == "NaN for 0/0" else 0, posinf=math.inf)


IOU = Task(
    name="iou",
    function="box_iou",
    lesson="anchors/boxes.py",
    oracle=box_iou,
    variant=iou_variant,
    edges={
        "equal boxes": (boxes_of([0, 0, 2, 2]), boxes_of([0, 0, 2, 2])),
        "one pixel shared": (boxes_of([0, 0, 2, 2]), boxes_of([1, 1, 3, 3])),
        "touching along an edge": (boxes_of([0, 0, 2, 2]), boxes_of([2, 0, 4, 2])),
        "apart in x and in y": (boxes_of([0, 0, 2, 2]), boxes_of([5, 7, 6, 8])),
        "two boxes without area": (boxes_of([1, 1, 1, 1]), boxes_of([1, 1, 1, 1])),
        "no box in a": (boxes_of(), boxes_of([0, 0, 1, 1])),
        "no box in b": (boxes_of([0, 0, 1, 1]), boxes_of()),
    },
    draw=lambda rng, size: (draw_boxes(rng, size), draw_boxes(rng, rng.randint(1, size))),
    mistakes={
        "hidden +1": (
            "Widths are x2 - x1 + 1, the inclusive pixel indices of old code. Boxes here are half-open; in 0..1 "
            "coordinates the same +1 gives boxes that do not touch an IoU."
        ),
        "no clamp": (
            "The overlap's width and height are not cut at 0, so two negative sides multiply to a positive area."
        ),
        "the sum for the union": "area(a) + area(b) counts the overlap twice: subtract it once.",
        "overlap over the smaller box": "That is containment, not IoU: a small box inside a large one gets 1.",
        "NaN for 0/0": "Two boxes without area have a union of 0. torchvision gives NaN there; here the answer is 0.",
        "transposed": "Rows are b and columns a: needed is [N of a, M of b].",
    },
)


def encode_variant(gt_boxes, anchors, *, mistake=""):
    if mistake == "the corners themselves":
        return gt_boxes.clone()
    if mistake == "anchor and object swapped":
        gt_boxes, anchors = anchors, gt_boxes
    plus = 1 if mistake == "hidden +1" else 0
    gt_start, gt_sides = gt_boxes[:, :2], gt_boxes[:, 2:] - gt_boxes[:, :2] + plus
    start, sides = anchors[:, :2], anchors[:, 2:] - anchors[:, :2] + plus
    move = gt_start - start
    if mistake != "corners instead of centres":
        move = gt_start + gt_sides / 2 - (start + sides / 2)
    unit = {"divided by the object's sides": gt_sides, "not divided": 1}.get(mistake, sides)
    ratio = sides / gt_sides if mistake == "inverted ratio" else gt_sides / sides
    log = {"no logarithm": ratio, "log2": ratio.log2(), "log10": ratio.log10()}.get(mistake, ratio.log())
    return torch.cat((move / unit, log), dim=1)


ENCODE = Task(
    name="encode",
    function="encode",
    lesson="anchors/deltas.py",
    oracle=encode,
    variant=encode_variant,
    edges={
        "the box itself": (boxes_of([2, 3, 6, 9]), boxes_of([2, 3, 6, 9])),
        "twice as wide": (boxes_of([0, 0, 20, 20]), boxes_of([0, 0, 10, 20])),
        "moved": (boxes_of([3, 5, 7, 9]), boxes_of([0, 0, 4, 4])),
        "no box": (boxes_of(), boxes_of()),
    },
    draw=lambda rng, size: (draw_boxes(rng, size), draw_boxes(rng, size)),
    mistakes={
        "corners instead of centres": (
            "dx and dy are the distances of the top left corners; they are those of the centres."
        ),
        "divided by the object's sides": (
            "dx and dy are divided by the anchor's width and height: at test time only the anchor is known."
        ),
        "not divided": (
            "dx and dy are in pixels: divide by the anchor's sides, so that small and large objects count alike."
        ),
        "no logarithm": "dw = gw / aw: take its natural logarithm.",
        "log2": "The logarithm is the natural one.",
        "log10": "The logarithm is the natural one.",
        "inverted ratio": "dw = ln(gw / aw), not ln(aw / gw).",
        "anchor and object swapped": "Deltas lead from the anchor to the object.",
        "hidden +1": "Widths are x2 - x1, without the + 1 of old code.",
        "the corners themselves": "t = [x1, y1, x2, y2] are corners; the targets are deltas.",
    },
)


def decode_variant(deltas, anchors, *, mistake=""):
    start, sides = anchors[:, :2], anchors[:, 2:] - anchors[:, :2]
    centre = start + sides / 2 + deltas[:, :2] * (1 if mistake == "dx in pixels" else sides)
    low = -MAX_LOG_RATIO if mistake == "stopped on both sides" else -math.inf
    high = math.inf if mistake == "no stop" else MAX_LOG_RATIO
    factor = deltas[:, 2:].clamp(low, high)
    size = sides * (factor if mistake == "no exp" else factor.exp())
    if mistake == "the centre taken for the corner":
        return torch.cat((centre, centre + size), dim=1)
    return torch.cat((centre - size / 2, centre + size / 2), dim=1)


DECODE = Task(
    name="decode",
    function="decode",
    lesson="anchors/deltas.py",
    oracle=lambda **arguments: decode(**arguments)[:, 0],
    variant=decode_variant,
    edges={
        "deltas 0": (boxes_of([0, 0, 0, 0]), boxes_of([2, 3, 6, 9])),
        "twice as wide": (boxes_of([0.5, 0, math.log(2), 0]), boxes_of([0, 0, 10, 20])),
        "a delta that would overflow": (boxes_of([0, 0, 100, 5]), boxes_of([0, 0, 2, 2])),
        "very thin": (boxes_of([0, 0, -6, -6]), boxes_of([0, 0, 1600, 1600])),
        "no box": (boxes_of(), boxes_of()),
    },
    draw=lambda rng, size: (draw_tensor(rng, (size, 4), -1.5, 1.5), draw_boxes(rng, size)),
    mistakes={
        "no exp": "w = aw * dw: it is aw * exp(dw), which is never negative.",
        "no stop": "dw and dh stop at ln(1000 / 16), a factor 62.5: an early prediction of 100 overflows otherwise.",
        "stopped on both sides": (
            "Only large dw and dh stop at ln(1000 / 16); exp of a large negative number is harmless."
        ),
        "dx in pixels": "dx and dy are in units of the anchor's sides.",
        "the centre taken for the corner": (
            "(x, y) is the box's centre: the corners lie half a width and half a height away."
        ),
    },
)
