"""RoIAlign: RoI pooling without rounding.

    corners on the map:  coordinate * spatial_scale - offset         offset 0.5 (aligned) or 0
    each of P x P bins:  the mean of s x s points, at the middles of s x s equal parts of the bin
    value at a point:    bilinear, (1-fy)(1-fx) v00 + (1-fy) fx v01 + fy (1-fx) v10 + fy fx v11

Why the offset: the value of cell i belongs to the cell's middle, i + 0.5 in box coordinates, and has index i in the
array. detectron2 subtracts the half; torchvision calls it `aligned`, has it off by default, and then also makes every
RoI at least 1 x 1 cell.

Limits: up to one cell outside the map a point takes the edge's value, further out it counts 0. On a constant map every
bin inside is that constant; on a ramp it is the ramp at the bin's centre. sampling_ratio <= 0 means
ceil(bin size) points along each side of a bin. A RoI of size 0 gives the value at its point; with `aligned` and
sampling_ratio <= 0 it has no point and gives 0.

Place: Mask R-CNN 3. torchvision's Faster R-CNN uses it instead of RoI pooling.

`anchors/fast/roi_align.py` gives the same result as two small matrix products; the detector uses that one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.arguments import check_pair, check_pooling, check_ratio


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    *,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Align features [B,C,H,W] over rois [K,5] (batch index, XYXY in pixels) -> [K,C,P,P]. (Mask R-CNN 3)

    spatial_scale: cells per pixel. sampling_ratio: points along each side of a bin (2); 0 or less: adaptive.
    aligned: detectron2 True, torchvision's default False. No gradient for the RoIs.
    """
    rois = check_pooling(features, rois, spatial_scale)
    check_ratio(sampling_ratio)
    num_y, num_x = check_pair(output_size, "output_size")
    starts, sizes = corners_on_map(rois, spatial_scale, aligned)
    output = features.new_zeros(len(rois), features.shape[1], num_y, num_x)
    for k, image in enumerate(rois[:, 0].long().tolist()):
        (x_start, y_start), (width, height) = starts[k], sizes[k]
        ys = points_along(y_start, height, num_y, sampling_ratio)
        xs = points_along(x_start, width, num_x, sampling_ratio)
        for p, row in enumerate(ys):
            for q, column in enumerate(xs):
                values = [bilinear(features[image], y, x) for y in row for x in column]
                if values:
                    output[k, :, p, q] = sum(values) / len(values)
    return output


def corners_on_map(rois: Tensor, spatial_scale: float, aligned: bool) -> tuple[Tensor, Tensor]:
    """Starts and sizes of rois [K,5] on the map, each [K,2] as (x, y)."""
    on_map = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    start, size = on_map[:, :2], on_map[:, 2:] - on_map[:, :2]
    return start, size if aligned else size.clamp(min=1)


def points_along(start: Tensor, size: Tensor, num_bins: int, sampling_ratio: int) -> list[list[float]]:
    """One RoI, one axis: the coordinates of each bin's points. start and size are scalars."""
    bin_size = size / num_bins
    num_points = sampling_ratio if sampling_ratio > 0 else max(int(bin_size.ceil()), 0)
    first = start + torch.arange(num_bins, dtype=size.dtype) * bin_size
    within = (torch.arange(num_points, dtype=size.dtype) + 0.5) * (bin_size / max(num_points, 1))
    return (first[:, None] + within).tolist()


def bilinear(feature_map: Tensor, y: float, x: float) -> Tensor:
    """The value [C] of a map [C,H,W] at a point between its cells; 0 more than one cell outside."""
    _, height, width = feature_map.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros_like(feature_map[:, 0, 0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    upper = (1 - fx) * feature_map[:, top, left] + fx * feature_map[:, top, right]
    lower = (1 - fx) * feature_map[:, bottom, left] + fx * feature_map[:, bottom, right]
    return (1 - fy) * upper + fy * lower


__test__ = {
    "tiny numbers": """
    A 5 x 5 map of 0..24; the RoI from (1, 1) to (3, 3) in 4 x 4 bins of half a cell. The first bin's centre
    is (1.25, 1.25) in box coordinates: 5 * 1.25 + 1.25 = 7.5 without the half-pixel offset, 5 * 0.75 + 0.75 =
    4.5 with it.

    >>> features, rois = torch.arange(25.0).reshape(1, 1, 5, 5), torch.tensor([[0.0, 1, 1, 3, 3]])
    >>> roi_align(features, rois, 4, 1.0, sampling_ratio=2, aligned=False)[0, 0, 0]
    tensor([7.5000, 8.0000, 8.5000, 9.0000])
    >>> roi_align(features, rois, 4, 1.0, sampling_ratio=2, aligned=True)[0, 0, 0]
    tensor([4.5000, 5.0000, 5.5000, 6.0000])
    """
}
