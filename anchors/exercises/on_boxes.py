"""Exercises on boxes: overlap, deltas, and back."""

from __future__ import annotations

import math

import torch

from anchors import deltas
from anchors.boxes import box_iou
from anchors.exercises.task import Mistake, Task, boxes_of, draw_boxes, draw_tensor


def iou_variant(a, b, *, plus=0.0, clamp=True, divide="union", zero=0.0, transposed=False):
    if transposed:
        a, b = b, a
    overlap = torch.minimum(a[:, None, 2:], b[:, 2:]) - torch.maximum(a[:, None, :2], b[:, :2]) + plus
    inter = (overlap.clamp(min=0) if clamp else overlap).prod(dim=2)
    area_a = (a[:, 2:] - a[:, :2] + plus).prod(dim=1)[:, None]
    area_b = (b[:, 2:] - b[:, :2] + plus).prod(dim=1)
    both = area_a + area_b
    below = {"union": both - inter, "sum": both, "smaller": torch.minimum(area_a, area_b)}[divide]
    return (inter / below).nan_to_num(nan=zero, posinf=math.inf)


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
        "hidden +1": Mistake(
            "widths are x2 - x1 + 1, the inclusive pixel indices of old code. Boxes here are half-open; in 0..1 "
            "coordinates the same +1 gives boxes that do not touch an IoU.",
            plus=1.0,
        ),
        "no clamp": Mistake(
            "the overlap's width and height are not cut at 0, so two negative sides multiply to a positive area.",
            clamp=False,
        ),
        "the sum for the union": Mistake("area(a) + area(b) counts the overlap twice: subtract it once.", divide="sum"),
        "overlap over the smaller box": Mistake(
            "that is containment, not IoU: a small box inside a large one gets 1.", divide="smaller"
        ),
        "NaN for 0/0": Mistake(
            "two boxes without area have a union of 0. torchvision gives NaN there; here the answer is 0.",
            zero=math.nan,
        ),
        "transposed": Mistake("rows are b and columns a: needed is [N of a, M of b].", transposed=True),
    },
)


def encode_variant(
    gt_boxes, anchors, *, corner=False, by="anchor", log=torch.log, sign=1, plus=0.0, swap=False, encoded=True
):
    if not encoded:
        return gt_boxes.clone()
    if swap:
        gt_boxes, anchors = anchors, gt_boxes
    gw, gh = (gt_boxes[:, 2:] - gt_boxes[:, :2] + plus).unbind(1)
    aw, ah = (anchors[:, 2:] - anchors[:, :2] + plus).unbind(1)
    gx, gy, ax, ay = gt_boxes[:, 0], gt_boxes[:, 1], anchors[:, 0], anchors[:, 1]
    if not corner:
        gx, gy, ax, ay = gx + gw / 2, gy + gh / 2, ax + aw / 2, ay + ah / 2
    w, h = {"anchor": (aw, ah), "gt": (gw, gh), "nothing": (1, 1)}[by]
    return torch.stack(((gx - ax) / w, (gy - ay) / h, sign * log(gw / aw), sign * log(gh / ah)), dim=1)


ENCODE = Task(
    name="encode",
    function="encode",
    lesson="anchors/deltas.py",
    oracle=deltas.encode,
    variant=encode_variant,
    edges={
        "the box itself": (boxes_of([2, 3, 6, 9]), boxes_of([2, 3, 6, 9])),
        "twice as wide": (boxes_of([0, 0, 20, 20]), boxes_of([0, 0, 10, 20])),
        "moved": (boxes_of([3, 5, 7, 9]), boxes_of([0, 0, 4, 4])),
        "no box": (boxes_of(), boxes_of()),
    },
    draw=lambda rng, size: (draw_boxes(rng, size), draw_boxes(rng, size)),
    mistakes={
        "corners instead of centres": Mistake(
            "dx and dy are the distances of the top left corners; they are those of the centres.", corner=True
        ),
        "divided by the object's sides": Mistake(
            "dx and dy are divided by the anchor's width and height: at test time only the anchor is known.", by="gt"
        ),
        "not divided": Mistake(
            "dx and dy are in pixels: divide by the anchor's sides, so that small and large objects count alike.",
            by="nothing",
        ),
        "no logarithm": Mistake("dw = gw / aw: take its natural logarithm.", log=lambda r: r),
        "log2": Mistake("the logarithm is the natural one.", log=torch.log2),
        "log10": Mistake("the logarithm is the natural one.", log=torch.log10),
        "inverted ratio": Mistake("dw = ln(gw / aw), not ln(aw / gw).", sign=-1),
        "anchor and object swapped": Mistake("deltas lead from the anchor to the object.", swap=True),
        "hidden +1": Mistake("widths are x2 - x1, without the + 1 of old code.", plus=1.0),
        "the corners themselves": Mistake("t = [x1, y1, x2, y2] are corners; the targets are deltas.", encoded=False),
    },
)


LIMIT = deltas.MAX_LOG_RATIO


def decode_variant(deltas, anchors, *, exp=torch.exp, low=-math.inf, high=LIMIT, scaled=True, corner=False):
    start, sides = anchors[:, :2], anchors[:, 2:] - anchors[:, :2]
    centre = start + sides / 2 + deltas[:, :2] * (sides if scaled else 1)
    size = sides * exp(deltas[:, 2:].clamp(low, high))
    before, after = (0 * size, size) if corner else (size / 2, size / 2)
    return torch.cat((centre - before, centre + after), dim=1)


DECODE = Task(
    name="decode",
    function="decode",
    lesson="anchors/deltas.py",
    oracle=lambda **arguments: deltas.decode(**arguments)[:, 0],
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
        "no exp": Mistake("w = aw * dw: it is aw * exp(dw), which is never negative.", exp=lambda d: d),
        "no stop": Mistake(
            "dw and dh stop at ln(1000 / 16), a factor 62.5: an early prediction of 100 overflows otherwise.",
            high=math.inf,
        ),
        "stopped on both sides": Mistake(
            "only large dw and dh stop at ln(1000 / 16); exp of a large negative number is harmless.", low=-LIMIT
        ),
        "dx in pixels": Mistake("dx and dy are in units of the anchor's sides.", scaled=False),
        "the centre taken for the corner": Mistake(
            "(x, y) is the box's centre: the corners lie half a width and half a height away.", corner=True
        ),
    },
)
