"""Exercises on RoI pooling and RoIAlign."""

from __future__ import annotations

import math
from functools import partial

import torch

from anchors import roi_align, roi_pool
from anchors.exercises.task import Case, Mistake, Task, draw_tensor


def half_away(value: float) -> int:
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def pool_variant(
    features,
    rois,
    output_size,
    spatial_scale,
    *,
    whole=half_away,
    last=1,
    clip_first=False,
    mean=False,
    swapped=False,
    ceil=True,
    first_image=False,
):
    _, channels, height, width = features.shape
    answer = features.new_zeros(len(rois), channels, output_size, output_size)
    for k, roi in enumerate(rois.tolist()):
        image, (x1, y1, x2, y2) = int(roi[0]), (whole(value * spatial_scale) for value in roi[1:])
        if swapped:
            x1, y1, x2, y2 = y1, x1, y2, x2
        if clip_first:
            x1, x2 = (min(max(value, 0), width - 1) for value in (x1, x2))
            y1, y2 = (min(max(value, 0), height - 1) for value in (y1, y2))
        w, h = max(x2 - x1 + last, 1), max(y2 - y1 + last, 1)
        for i in range(output_size):
            for j in range(output_size):
                top, bottom = bin_range(y1, h, i, output_size, height, ceil)
                left, right = bin_range(x1, w, j, output_size, width, ceil)
                cells = features[0 if first_image else image, :, top:bottom, left:right].flatten(1)
                if cells.numel():
                    answer[k, :, i, j] = cells.mean(1) if mean else cells.amax(1)
    return answer


def bin_range(start: int, size: int, p: int, num_bins: int, length: int, ceil: bool) -> tuple[int, int]:
    low = math.floor(p * size / num_bins)
    high = math.ceil((p + 1) * size / num_bins) if ceil else max(math.floor((p + 1) * size / num_bins), low + 1)
    return min(max(low + start, 0), length), min(max(high + start, 0), length)


RAMP = torch.arange(16.0).reshape(1, 1, 4, 4)


def pool_case(*rois, output_size=2, spatial_scale=0.25, features=RAMP):
    rows = torch.tensor([[0.0, *roi] for roi in rois], dtype=torch.float32).reshape(len(rois), 5)
    return {"features": features, "rois": rows, "output_size": output_size, "spatial_scale": spatial_scale}


def second_image():
    case = pool_case([0, 0, 4, 4], output_size=1, features=torch.arange(8.0).reshape(2, 1, 2, 2))
    case["rois"][0, 0] = 1
    return case


def draw_pool(rng, size):
    side, num_images = 3 + size // 2, 1 + (size > 4)
    rows = []
    for _ in range(1 + size // 3):
        x1, y1 = (rng.randint(-4, 4 * side - 4) for _ in range(2))
        rows.append([rng.randrange(num_images), x1, y1, x1 + rng.randint(1, 4 * side), y1 + rng.randint(1, 4 * side)])
    return {
        "features": draw_tensor(rng, (num_images, 1 + size // 5, side, side + 1), -4, 9, step=1),
        "rois": torch.tensor(rows, dtype=torch.float32),
        "output_size": rng.randint(1, 3),
        "spatial_scale": 0.25,
    }


POOL = Task(
    name="roi_pool",
    function="roi_pool",
    lesson="anchors/roi_pool.py",
    oracle=roi_pool.roi_pool,
    edges=[
        Case("the whole map", pool_case([0, 0, 12, 12])),
        Case("three cells in two bins", pool_case([0, 0, 8, 8])),
        Case("corners at half a cell", pool_case([2, 2, 10, 10])),
        Case("smaller than a cell", pool_case([5, 5, 6, 6])),
        Case("over the right edge", pool_case([8, 0, 24, 12])),
        Case("outside the map", pool_case([100, 100, 120, 120])),
        Case("negative values", pool_case([0, 0, 12, 12], features=RAMP - 20)),
        Case("the second image", second_image()),
        Case("no RoI", pool_case()),
    ],
    draw=draw_pool,
    mistakes=[
        Mistake(
            "truncation",
            "the corners are truncated (.long(), int()) instead of rounded, as in a widely copied notebook.",
            partial(pool_variant, whole=int),
        ),
        Mistake(
            "half-even rounding",
            "torch.round and Python's round send 2.5 to 2; halves go away from zero: floor(x + 0.5).",
            partial(pool_variant, whole=round),
        ),
        Mistake(
            "the last cell left out",
            "the RoI covers x2 - x1 + 1 cells: its last cell belongs to it.",
            partial(pool_variant, last=0),
        ),
        Mistake(
            "clipped before it is divided",
            "the whole RoI is divided into bins, then the bins are clipped. Your code "
            "clips the RoI first, so all bins of a RoI at the edge shrink.",
            partial(pool_variant, clip_first=True),
        ),
        Mistake(
            "truncated, and clipped before it is divided",
            "corners truncated and the RoI clipped before it is divided: a widely copied notebook does both.",
            partial(pool_variant, clip_first=True, whole=int),
        ),
        Mistake("mean for maximum", "RoI pooling takes the maximum of a bin.", partial(pool_variant, mean=True)),
        Mistake(
            "x and y swapped",
            "a RoI is (image, x1, y1, x2, y2); rows of the map are y.",
            partial(pool_variant, swapped=True),
        ),
        Mistake(
            "bins without ceil",
            "a bin ends at ceil((p + 1) * size / P): neighbours may share cells.",
            partial(pool_variant, ceil=False),
        ),
        Mistake(
            "always the first image",
            "column 0 of a RoI is the image's index in the batch, not a class.",
            partial(pool_variant, first_image=True),
        ),
    ],
)


def align_oracle(features, rois, output_size, spatial_scale):
    return roi_align.roi_align(features, rois, output_size, spatial_scale, sampling_ratio=2, aligned=True)


def align_variant(
    features,
    rois,
    output_size,
    spatial_scale,
    *,
    half=0.5,
    inner=0.5,
    nearest=False,
    how="mean",
    whole=None,
    num_points=2,
):
    _, channels, height, width = features.shape
    answer = features.new_zeros(len(rois), channels, output_size, output_size)
    for k, roi in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (value * spatial_scale - half for value in roi[1:])
        if whole:
            x1, y1, x2, y2 = (whole(value) for value in (x1, y1, x2, y2))
        h, w = (y2 - y1) / output_size, (x2 - x1) / output_size
        for i in range(output_size):
            for j in range(output_size):
                values = []
                for p in range(num_points):
                    for q in range(num_points):
                        y, x = y1 + (i + (p + inner) / num_points) * h, x1 + (j + (q + inner) / num_points) * w
                        if nearest and -1 <= y <= height and -1 <= x <= width:
                            y, x = (min(max(half_away(v), 0), n - 1) for v, n in ((y, height), (x, width)))
                        values.append(roi_align.bilinear(features[int(roi[0])], y, x))
                stack = torch.stack(values)
                answer[k, :, i, j] = {"mean": stack.mean(0), "sum": stack.sum(0), "max": stack.amax(0)}[how]
    return answer


def align_case(*rois, **settings):
    return pool_case(*rois, **{"spatial_scale": 1.0, **settings})


def draw_align(rng, size):
    arguments = draw_pool(rng, 1 + size // 2)  # every point is a call of Python in the wrong versions
    rois = arguments["rois"]
    return {
        **arguments,
        "rois": torch.cat((rois[:, :1], rois[:, 1:] + draw_tensor(rng, (len(rois), 4), 0, 0.75)), dim=1),
    }


ALIGN = Task(
    name="roi_align",
    function="roi_align",
    lesson="anchors/roi_align.py",
    oracle=align_oracle,
    edges=[
        Case("one bin in the middle", align_case([1, 1, 3, 3], output_size=1)),
        Case("two by two bins", align_case([1, 1, 3, 3])),
        Case("a quarter of a cell", align_case([1.25, 1.25, 1.5, 1.5], output_size=1)),
        Case("over the edge", align_case([-3, -3, 2, 2])),
        Case("outside the map", align_case([100, 100, 120, 120])),
        Case("no RoI", align_case()),
    ],
    draw=draw_align,
    mistakes=[
        Mistake(
            "missing half pixel",
            "the values sit at the cells' middles: subtract 0.5 after scaling (aligned=True in "
            "detectron2; torchvision's default leaves it out).",
            partial(align_variant, half=0.0),
        ),
        Mistake(
            "points at the corners",
            "the points lie in the middles of the bin's quarters, not at their corners.",
            partial(align_variant, inner=0.0),
        ),
        Mistake(
            "nearest cell", "a value between cells is the bilinear mean of four.", partial(align_variant, nearest=True)
        ),
        Mistake("maximum", "RoIAlign takes the mean of the points.", partial(align_variant, how="max")),
        Mistake("sum", "RoIAlign takes the mean of the points.", partial(align_variant, how="sum")),
        Mistake(
            "corners rounded", "RoIAlign rounds nothing: that is its point.", partial(align_variant, whole=half_away)
        ),
        Mistake("one point for each bin", "a bin has 2 x 2 points.", partial(align_variant, num_points=1)),
    ],
)
