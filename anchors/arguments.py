"""Check the arguments of public functions: a ValueError names the argument, what was found, what is needed.

They cost some tens of microseconds. Only the operators' own inputs are checked (boxes, deltas, scores, labels,
thresholds, sizes), never the values of the big feature maps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def check_tensor(value: object, name: str, shape: Sequence[int | str]) -> Tensor:
    """A tensor whose shape fits `shape`: an int must be equal, a name ("N") stands for any length."""
    wanted = "[" + ", ".join(str(size) for size in shape) + "]"
    if not isinstance(value, Tensor):
        raise ValueError(f"{name}: found {type(value).__name__}, needed a tensor of shape {wanted}")
    fits = value.ndim == len(shape) and all(
        isinstance(want, str) or size == want for size, want in zip(value.shape, shape)
    )
    if not fits:
        raise ValueError(f"{name}: found shape {list(value.shape)}, needed {wanted}")
    return value


def check_real(value: Tensor, name: str) -> None:
    """Floating point and finite: every comparison with a NaN is false, so one would pass unnoticed."""
    if not value.is_floating_point():
        raise ValueError(f"{name}: found dtype {value.dtype}, needed a floating-point dtype")
    if not bool(torch.isfinite(value).all()):
        rows = (~torch.isfinite(value)).reshape(value.shape[0], -1).any(1)
        row = int(rows.nonzero()[0])
        raise ValueError(
            f"{name}: found {value[row].tolist()} at row {row} ({int(rows.sum())} such rows), needed finite numbers"
        )


def check_boxes(boxes: object, name: str, *, order: str = "any", integers: bool = False) -> Tensor:
    """Boxes [N,4] XYXY, finite. order: "any", "weak" (x2 >= x1, y2 >= y1), "strict" (x2 > x1, y2 > y1)."""
    boxes = check_tensor(boxes, name, ("N", 4))
    if not integers or boxes.dtype.is_complex or boxes.dtype == torch.bool or boxes.is_floating_point():
        check_real(boxes, name)
    if order == "any":
        return boxes
    low, high = boxes[:, :2], boxes[:, 2:]
    bad = high < low if order == "weak" else high <= low
    if bool(bad.any()):
        row = int(bad.any(1).nonzero()[0])
        needed = "x2 >= x1 and y2 >= y1" if order == "weak" else "x2 > x1 and y2 > y1"
        raise ValueError(f"{name}: found {boxes[row].tolist()} at row {row}, needed {needed}")
    return boxes


def check_scores(scores: object, length: int, of: str) -> Tensor:
    """One finite floating-point number for each of the `length` rows of the argument `of`."""
    scores = check_vector(scores, "scores", length, of)
    check_real(scores, "scores")
    return scores


def check_labels(
    labels: object, name: str, length: int, of: str, *, within: tuple[int, int] | None = None, why: str = ""
) -> Tensor:
    """One integer for each of the `length` rows of the argument `of`; within: the least and the greatest label."""
    labels = check_vector(labels, name, length, of)
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.dtype.is_complex:
        raise ValueError(f"{name}: found dtype {labels.dtype}, needed int64")
    if within and len(labels) and not within[0] <= int(labels.min()) <= int(labels.max()) <= within[1]:
        found = f"{int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"{name}: found {found}, needed {within[0]} to {within[1]} ({why})")
    return labels


def check_vector(value: object, name: str, length: int, of: str) -> Tensor:
    value = check_tensor(value, name, ("N",))
    if len(value) != length:
        raise ValueError(f"{name}: found {len(value)} entries, needed {length}, one for each of {of}")
    return value


def check_number(value: object, name: str, low: float = 0.0, high: float = math.inf) -> float:
    """A number in [low, high]; not NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        upper = f"{high:g}]" if math.isfinite(high) else "infinity)"
        raise ValueError(f"{name}: found {value!r}, needed a number in [{low:g}, {upper}")
    return value


def check_count(value: object, name: str, low: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name}: found {value!r}, needed a whole number, {low} or more")
    return value


def check_pair(value: object, name: str, low: float = 1) -> tuple:
    """(height, width), both at least `low`. One number stands for both."""
    pair = tuple(value) if isinstance(value, Sequence | torch.Size) else (value, value)
    fits = len(pair) == 2 and all(
        isinstance(side, int | float) and not isinstance(side, bool) and low <= side < math.inf for side in pair
    )
    if not fits:
        raise ValueError(f"{name}: found {value!r}, needed (height, width), each {low:g} or more")
    return pair


def check_weights(weights: object, name: str = "weights") -> tuple[float, ...]:
    if (
        isinstance(weights, Sequence)
        and len(weights) == 4
        and all(isinstance(weight, int | float) and 0 < weight < math.inf for weight in weights)
    ):
        return tuple(weights)
    raise ValueError(f"{name}: found {weights!r}, needed four positive numbers for dx, dy, dw, dh")


def check_pooling(features: object, rois: object, spatial_scale: object) -> Tensor:
    """The arguments of RoI pooling and RoIAlign; the RoIs [K,5], detached, in the dtype of the features.

    features [B,C,H,W] are float32 or float64; their values are not read: that costs a whole pass. A RoI is the image's
    index in the batch (not a class), then XYXY.
    """
    features = check_tensor(features, "features", ("B", "C", "H", "W"))
    if features.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"features: found dtype {features.dtype}, needed float32 or float64")
    if 0 in features.shape[1:]:
        raise ValueError(f"features: found shape {list(features.shape)}, needed at least one channel and one cell")
    rois = check_tensor(rois, "rois", ("K", 5))
    check_real(rois, "rois")
    index = rois[:, 0]
    bad = (index < 0) | (index >= len(features)) | (index != index.floor())
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        raise ValueError(
            f"rois: found batch index {float(index[row]):g} at row {row}, "
            f"needed a whole number below {len(features)}, the number of images"
        )
    check_number(spatial_scale, "spatial_scale", low=1e-9)
    return rois.detach().to(features.dtype)


def check_ratio(sampling_ratio: object) -> None:
    if isinstance(sampling_ratio, bool) or not isinstance(sampling_ratio, int):
        raise ValueError(f"sampling_ratio: found {sampling_ratio!r}, needed a whole number (0 or less is adaptive)")
