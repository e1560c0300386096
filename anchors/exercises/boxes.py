"""Exercises on boxes: overlap, deltas, and back."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from anchors import boxes, deltas
from anchors.exercises.task import Case, Mistake, Task, boxes_of, draw_boxes, draw_tensor


def iou_variant(a: Tensor, b: Tensor, *, plus=0.0, clamp=True, denominator="union", zero=0.0) -> Tensor:
    w = torch.minimum(a[:, None, 2], b[:, 2]) - torch.maximum(a[:, None, 0], b[:, 0]) + plus
    h = torch.minimum(a[:, None, 3], b[:, 3]) - torch.maximum(a[:, None, 1], b[:, 1]) + plus
    inter = w.clamp(min=0) * h.clamp(min=0) if clamp else w * h
    area_a = ((a[:, 2] - a[:, 0] + plus) * (a[:, 3] - a[:, 1] + plus))[:, None]
    area_b = (b[:, 2] - b[:, 0] + plus) * (b[:, 3] - b[:, 1] + plus)
    below = {
        "union": area_a + area_b - inter,
        "sum": area_a + area_b,
        "smaller": torch.minimum(area_a, area_b),
    }[denominator]
    return (inter / below).nan_to_num(nan=zero, posinf=math.inf)


IOU = Task(
    name="iou",
    function="box_iou",
    lesson="anchors/boxes.py",
    oracle=boxes.box_iou,
    edges=[
        Case("equal boxes", {"a": boxes_of([0, 0, 2, 2]), "b": boxes_of([0, 0, 2, 2])}),
        Case("one pixel shared", {"a": boxes_of([0, 0, 2, 2]), "b": boxes_of([1, 1, 3, 3])}),
        Case("touching along an edge", {"a": boxes_of([0, 0, 2, 2]), "b": boxes_of([2, 0, 4, 2])}),
        Case("apart in x and in y", {"a": boxes_of([0, 0, 2, 2]), "b": boxes_of([5, 7, 6, 8])}),
        Case("two boxes without area", {"a": boxes_of([1, 1, 1, 1]), "b": boxes_of([1, 1, 1, 1])}),
        Case("no box in a", {"a": boxes_of(), "b": boxes_of([0, 0, 1, 1])}),
        Case("no box in b", {"a": boxes_of([0, 0, 1, 1]), "b": boxes_of()}),
    ],
    draw=lambda rng, size: {"a": draw_boxes(rng, size), "b": draw_boxes(rng, rng.randint(1, size))},
    mistakes=[
        Mistake(
            "hidden +1",
            "widths are x2 - x1 + 1, the inclusive pixel indices of old code. Boxes here are half-open; in 0..1 "
            "coordinates the same +1 gives boxes that do not touch an IoU.",
            partial(iou_variant, plus=1.0),
        ),
        Mistake(
            "no clamp",
            "the overlap's width and height are not cut at 0, so two negative sides multiply to a positive area.",
            partial(iou_variant, clamp=False),
        ),
        Mistake(
            "the sum for the union",
            "area(a) + area(b) counts the overlap twice: subtract it once.",
            partial(iou_variant, denominator="sum"),
        ),
        Mistake(
            "overlap over the smaller box",
            "that is containment, not IoU: a small box inside a large one gets 1.",
            partial(iou_variant, denominator="smaller"),
        ),
        Mistake(
            "NaN for 0/0",
            "two boxes without area have a union of 0. torchvision gives NaN there; here the answer is 0.",
            partial(iou_variant, zero=math.nan),
        ),
        Mistake(
            "transposed", "rows are b and columns a: needed is [N of a, M of b].", lambda a, b: boxes.box_iou(b, a)
        ),
    ],
)


def encode_variant(gt_boxes, anchors, *, corner=False, by="anchor", log=torch.log, sign=1, plus=0.0, swap=False):
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
    edges=[
        Case("the box itself", {"gt_boxes": boxes_of([2, 3, 6, 9]), "anchors": boxes_of([2, 3, 6, 9])}),
        Case("twice as wide", {"gt_boxes": boxes_of([0, 0, 20, 20]), "anchors": boxes_of([0, 0, 10, 20])}),
        Case("moved", {"gt_boxes": boxes_of([3, 5, 7, 9]), "anchors": boxes_of([0, 0, 4, 4])}),
        Case("no box", {"gt_boxes": boxes_of(), "anchors": boxes_of()}),
    ],
    draw=lambda rng, size: {"gt_boxes": draw_boxes(rng, size), "anchors": draw_boxes(rng, size)},
    mistakes=[
        Mistake(
            "corners instead of centres",
            "dx and dy are the distances of the top left corners; they are those of the centres.",
            partial(encode_variant, corner=True),
        ),
        Mistake(
            "divided by the object's sides",
            "dx and dy are divided by the anchor's width and height: at test time only the anchor is known.",
            partial(encode_variant, by="gt"),
        ),
        Mistake(
            "not divided",
            "dx and dy are in pixels: divide by the anchor's sides, so that small and large objects count alike.",
            partial(encode_variant, by="nothing"),
        ),
        Mistake("no logarithm", "dw = gw / aw: take its natural logarithm.", partial(encode_variant, log=lambda r: r)),
        Mistake("log2", "the logarithm is the natural one.", partial(encode_variant, log=torch.log2)),
        Mistake("log10", "the logarithm is the natural one.", partial(encode_variant, log=torch.log10)),
        Mistake("inverted ratio", "dw = ln(gw / aw), not ln(aw / gw).", partial(encode_variant, sign=-1)),
        Mistake(
            "anchor and object swapped",
            "deltas lead from the anchor to the object.",
            partial(encode_variant, swap=True),
        ),
        Mistake("hidden +1", "widths are x2 - x1, without the + 1 of old code.", partial(encode_variant, plus=1.0)),
        Mistake(
            "the corners themselves",
            "t = [x1, y1, x2, y2] are corners; the targets are deltas.",
            lambda gt_boxes, anchors: gt_boxes.clone(),
        ),
    ],
)


def decode_variant(deltas, anchors, *, exp=torch.exp, low=-math.inf, high=4.135166556742356, scaled=True, corner=False):
    dx, dy, dw, dh = deltas.unbind(1)
    aw, ah = (anchors[:, 2:] - anchors[:, :2]).unbind(1)
    ax, ay = anchors[:, 0] + 0.5 * aw, anchors[:, 1] + 0.5 * ah
    if not scaled:
        x, y = ax + dx, ay + dy
    else:
        x, y = ax + dx * aw, ay + dy * ah
    w, h = aw * exp(dw.clamp(low, high)), ah * exp(dh.clamp(low, high))
    if corner:
        return torch.stack((x, y, x + w, y + h), dim=1)
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), dim=1)


def rows_of(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(len(rows), 4)


DECODE = Task(
    name="decode",
    function="decode",
    lesson="anchors/deltas.py",
    oracle=lambda deltas, anchors: decode_oracle(deltas, anchors),  # the name `deltas` is the learner's
    edges=[
        Case("deltas 0", {"deltas": rows_of([0, 0, 0, 0]), "anchors": boxes_of([2, 3, 6, 9])}),
        Case("twice as wide", {"deltas": rows_of([0.5, 0, math.log(2), 0]), "anchors": boxes_of([0, 0, 10, 20])}),
        Case("a delta that would overflow", {"deltas": rows_of([0, 0, 100, 5]), "anchors": boxes_of([0, 0, 2, 2])}),
        Case("very thin", {"deltas": rows_of([0, 0, -6, -6]), "anchors": boxes_of([0, 0, 1600, 1600])}),
        Case("no box", {"deltas": rows_of(), "anchors": boxes_of()}),
    ],
    draw=lambda rng, size: {"deltas": draw_tensor(rng, (size, 4), -1.5, 1.5), "anchors": draw_boxes(rng, size)},
    mistakes=[
        Mistake(
            "no exp",
            "w = aw * dw: it is aw * exp(dw), which is never negative.",
            partial(decode_variant, exp=lambda d: d),
        ),
        Mistake(
            "no stop",
            "dw and dh stop at ln(1000 / 16), a factor 62.5: an early prediction of 100 overflows otherwise.",
            partial(decode_variant, high=math.inf),
        ),
        Mistake(
            "stopped on both sides",
            "only large dw and dh stop at ln(1000 / 16); exp of a large negative number is harmless.",
            partial(decode_variant, low=-4.135166556742356),
        ),
        Mistake("dx in pixels", "dx and dy are in units of the anchor's sides.", partial(decode_variant, scaled=False)),
        Mistake(
            "the centre taken for the corner",
            "(x, y) is the box's centre: the corners lie half a width and half a height away.",
            partial(decode_variant, corner=True),
        ),
    ],
)


def decode_oracle(given: Tensor, anchors: Tensor) -> Tensor:
    return deltas.decode(given, anchors)[:, 0]
