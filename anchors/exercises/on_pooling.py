"""Exercises on RoI pooling and RoIAlign."""

from __future__ import annotations

import math
from functools import partial

import torch

from anchors.exercises.task import Task, draw_tensor
from anchors.roi_align import bilinear, roi_align
from anchors.roi_pool import roi_pool


def half_away(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def pool_variant(features, rois, output_size, spatial_scale, *, mistake=""):
    _, channels, height, width = features.shape
    answer = features.new_zeros(len(rois), channels, output_size, output_size)
    truncated = mistake in ("truncation", "truncated, and clipped before it is divided")
    whole = int if truncated else round if mistake == "half-even rounding" else half_away
    last = 0 if mistake == "the last cell left out" else 1
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (whole(value * spatial_scale) for value in corners)
        if mistake == "x and y swapped":
            x1, y1, x2, y2 = y1, x1, y2, x2
        if mistake in ("clipped before it is divided", "truncated, and clipped before it is divided"):
            x1, x2 = (min(max(value, 0), width - 1) for value in (x1, x2))
            y1, y2 = (min(max(value, 0), height - 1) for value in (y1, y2))
        w, h = max(x2 - x1 + last, 1), max(y2 - y1 + last, 1)
        feature_map = features[0 if mistake == "always the first image" else int(image)]
        for i in range(output_size):
            for j in range(output_size):
                top, bottom = bin_range(y1, h, i, output_size, height, mistake)
                left, right = bin_range(x1, w, j, output_size, width, mistake)
                cells = feature_map[:, top:bottom, left:right].flatten(1)
                if cells.numel():
                    answer[k, :, i, j] = cells.mean(1) if mistake == "mean for maximum" else cells.amax(1)
    return answer


def bin_range(start: int, size: int, p: int, num_bins: int, length: int, mistake: str) -> tuple[int, int]:
    low, high = math.floor(p * size / num_bins), math.ceil((p + 1) * size / num_bins)
    if mistake == "bins without ceil":
        high = max(math.floor((p + 1) * size / num_bins), low + 1)
    return min(max(low + start, 0), length), min(max(high + start, 0), length)


RAMP = torch.arange(16.0).reshape(1, 1, 4, 4)


def pool_case(*rois, output_size=2, spatial_scale=0.25, features=RAMP):
    rows = torch.tensor([[0.0, *roi] for roi in rois], dtype=torch.float32).reshape(len(rois), 5)
    return features, rows, output_size, spatial_scale


def draw_pool(rng, size):
    side, num_images = 3 + size // 2, 1 + (size > 4)
    rows = []
    for _ in range(1 + size // 3):
        x1, y1 = (rng.randint(-4, 4 * side - 4) for _ in range(2))
        rows.append([rng.randrange(num_images), x1, y1, x1 + rng.randint(1, 4 * side), y1 + rng.randint(1, 4 * side)])
    features = draw_tensor(rng, (num_images, 1 + size // 5, side, side + 1), -4, 9, step=1)
    return features, torch.tensor(rows, dtype=torch.float32), rng.randint(1, 3), 0.25


POOL = Task(
    name="roi_pool",
    function="roi_pool",
    lesson="anchors/roi_pool.py",
    oracle=roi_pool,
    variant=pool_variant,
    edges={
        "the whole map": pool_case([0, 0, 12, 12]),
        "three cells in two bins": pool_case([0, 0, 8, 8]),
        "corners at half a cell": pool_case([2, 2, 10, 10]),
        "smaller than a cell": pool_case([5, 5, 6, 6]),
        "over the right edge": pool_case([8, 0, 24, 12]),
        "outside the map": pool_case([100, 100, 120, 120]),
        "negative values": pool_case([0, 0, 12, 12], features=RAMP - 20),
        "the second image": (torch.arange(8.0).reshape(2, 1, 2, 2), torch.tensor([[1.0, 0, 0, 4, 4]]), 1, 0.25),
        "no RoI": pool_case(),
    },
    draw=draw_pool,
    mistakes={
        "truncation": (
            "The corners are truncated (.long(), int()) instead of rounded, as in a widely copied notebook."
        ),
        "half-even rounding": (
            "torch.round and Python's round send 2.5 to 2; halves go away from zero: floor(x + 0.5)."
        ),
        "the last cell left out": "The RoI covers x2 - x1 + 1 cells: its last cell belongs to it.",
        "clipped before it is divided": (
            "The whole RoI is divided into bins, then the bins are clipped. Your code "
            "clips the RoI first, so all bins of a RoI at the edge shrink."
        ),
        "truncated, and clipped before it is divided": (
            "The corners are truncated instead of rounded, and the RoI is clipped before it is divided into bins: a "
            "widely copied notebook does both."
        ),
        "mean for maximum": "RoI pooling takes the maximum of a bin.",
        "x and y swapped": "A RoI is (image, x1, y1, x2, y2); rows of the map are y.",
        "bins without ceil": "A bin ends at ceil((p + 1) * size / P): neighbours may share cells.",
        "always the first image": "Column 0 of a RoI is the image's index in the batch, not a class.",
    },
)


def align_variant(features, rois, output_size, spatial_scale, *, mistake=""):
    answer = features.new_zeros(len(rois), features.shape[1], output_size, output_size)
    half = 0 if mistake == "missing half pixel" else 0.5
    points = {"points at the corners": (0, 0.5), "one point for each bin": (0.5,)}.get(mistake, (0.25, 0.75))
    value_at = nearest if mistake == "nearest cell" else bilinear
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (value * spatial_scale - half for value in corners)
        if mistake == "corners rounded":
            x1, y1, x2, y2 = (half_away(value) for value in (x1, y1, x2, y2))
        h, w = (y2 - y1) / output_size, (x2 - x1) / output_size
        for i in range(output_size):
            for j in range(output_size):
                places = [(y1 + (i + p) * h, x1 + (j + q) * w) for p in points for q in points]
                values = torch.stack([value_at(features[int(image)], y, x) for y, x in places])
                answer[k, :, i, j] = {"maximum": values.amax(0), "sum": values.sum(0)}.get(mistake, values.mean(0))
    return answer


def nearest(feature_map, y, x):
    _, height, width = feature_map.shape
    if -1 <= y <= height and -1 <= x <= width:
        y, x = min(max(half_away(y), 0), height - 1), min(max(half_away(x), 0), width - 1)
    return bilinear(feature_map, y, x)


align_case = partial(pool_case, spatial_scale=1.0)


def draw_align(rng, size):
    features, rois, *rest = draw_pool(rng, 1 + size // 2)  # every point is a call of Python in the wrong versions
    rois[:, 1:] += draw_tensor(rng, (len(rois), 4), 0, 0.75)
    return features, rois, *rest


ALIGN = Task(
    name="roi_align",
    function="roi_align",
    lesson="anchors/roi_align.py",
    oracle=partial(roi_align, sampling_ratio=2, aligned=True),
    variant=align_variant,
    edges={
        "one bin in the middle": align_case([1, 1, 3, 3], output_size=1),
        "two by two bins": align_case([1, 1, 3, 3]),
        "a quarter of a cell": align_case([1.25, 1.25, 1.5, 1.5], output_size=1),
        "over the edge": align_case([-3, -3, 2, 2]),
        "outside the map": align_case([100, 100, 120, 120]),
        "no RoI": align_case(),
    },
    draw=draw_align,
    mistakes={
        "missing half pixel": (
            "The values sit at the cells' middles: subtract 0.5 after scaling (aligned=True in "
            "detectron2; torchvision's default leaves it out)."
        ),
        "points at the corners": "The points lie in the middles of the bin's quarters, not at their corners.",
        "nearest cell": "A value between cells is the bilinear mean of four.",
        "maximum": "RoIAlign takes the mean of the points.",
        "sum": "RoIAlign takes the mean of the points.",
        "corners rounded": "RoIAlign rounds nothing: that is its point.",
        "one point for each bin": "A bin has 2 x 2 points.",
    },
)
