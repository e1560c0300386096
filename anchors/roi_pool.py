"""RoI pooling: a box of any size becomes P x P numbers for each channel.

    corners on the map:  x1, y1, x2, y2 = round(coordinate * spatial_scale)       halves away from zero
    size in cells:       w = max(x2 - x1 + 1, 1), h likewise                      the last cell belongs to it
    bin p covers:        cells x1 + floor(p * w / P) up to, but not including, x1 + ceil((p + 1) * w / P),
                         clipped to the map
    output:              the maximum over the bin's cells; 0 if the bin lies outside the map

Limits: a RoI of fewer than P cells: bins share cells, and each still has one. A RoI outside the map: zeros. An inverted
RoI counts as 1 x 1. The gradient goes to the first cell (row by row) that holds the maximum, and to no other.

Worked example: 7 x 7 bins of 512 channels are 25,088 inputs for the head.

Place: Fast R-CNN 2.1. Two roundings (the corners, the bins) move the box by up to half a cell, 8 pixels at stride 16;
RoIAlign does without.

Where others differ: a widely copied notebook truncates the coordinates instead of rounding, and clips the RoI to the
map before it divides. Here, as in the paper's code and torchvision, the whole RoI is divided and the bins are clipped.
`torch.round` rounds halves to even. `amax` shares the gradient among equal cells (after a ReLU many are equal: 0).

`anchors/fast/roi_pool.py` gives the same result by looking maxima up in tables; the detector uses that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from anchors.arguments import check_pair, check_pooling


def roi_pool(features: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float) -> Tensor:
    """Pool features [B,C,H,W] over rois [K,5] (batch index, XYXY in pixels) -> [K,C,P,P]. (Fast R-CNN 2.1)

    spatial_scale: cells per pixel, 1/16 at stride 16. No gradient for the RoIs.
    """
    rois = check_pooling(features, rois, spatial_scale)
    bins = pool_bins(rois, features.shape[-2:], output_size, spatial_scale)
    output = []
    for k, image in enumerate(rois[:, 0].long().tolist()):
        for top, bottom in zip(bins.y_start[k], bins.y_end[k]):
            for left, right in zip(bins.x_start[k], bins.x_end[k]):
                cells = features[image, :, top:bottom, left:right].flatten(1)
                # max(dim), not amax: its gradient goes to the first maximum alone
                output.append(cells.max(dim=1).values if cells.numel() else cells.sum(dim=1))
    num_channels = features.shape[1]
    pooled = torch.stack(output) if output else features.new_zeros(0, num_channels)
    shape = (len(rois), bins.y_start.shape[1], bins.x_start.shape[1], num_channels)
    return pooled.reshape(shape).permute(0, 3, 1, 2)


class Bins(NamedTuple):
    """Cell ranges [start, end) of each RoI's bins, clipped to the map: y [K,P_h], x [K,P_w], all int64."""

    y_start: Tensor
    y_end: Tensor
    x_start: Tensor
    x_end: Tensor


def pool_bins(rois: Tensor, map_size: Sequence[int], output_size: int | tuple[int, int], spatial_scale: float) -> Bins:
    """The cells of each bin of rois [K,5] (batch index, XYXY in pixels) on a map of (height, width) cells."""
    x1, y1, x2, y2 = round_half_away(rois[:, 1:] * spatial_scale).unbind(1)

    def ranges(first: Tensor, last: Tensor, num_bins: int, length: int) -> tuple[Tensor, Tensor]:
        # The division stays in floating point, as in C: at 57 cells a bin is one cell off the exact fraction.
        size = (last - first + 1).clamp(min=1)[:, None] / num_bins
        p = torch.arange(num_bins, device=rois.device, dtype=rois.dtype)
        start = (p * size).floor() + first[:, None]
        end = ((p + 1) * size).ceil() + first[:, None]
        return start.clamp(0, length).long(), end.clamp(0, length).long()

    num_y, num_x = check_pair(output_size, "output_size")
    height, width = map_size
    return Bins(*ranges(y1, y2, num_y, height), *ranges(x1, x2, num_x, width))


def round_half_away(x: Tensor) -> Tensor:
    """2.5 -> 3, -2.5 -> -3, as C does. torch.round gives 2 and -2."""
    whole = x.trunc()
    return whole + x.sign() * ((x - whole).abs() >= 0.5)


__test__ = {
    "tiny numbers": """
    A 4 x 4 map of 0..15, two RoIs of 3 x 3 cells, 2 x 2 bins: bins of ceil(1.5) = 2 cells that overlap by
    one.

    >>> features = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> rois = torch.tensor([[0.0, 0, 0, 20, 20], [0.0, 0, 10, 30, 30]])
    >>> roi_pool(features, rois, 2, 0.1)[:, 0]
    tensor([[[ 5.,  6.],
             [ 9., 10.]],
    <BLANKLINE>
            [[ 9., 11.],
             [13., 15.]]])
    >>> round_half_away(torch.tensor([0.5, 1.5, 2.5, -0.5])), torch.round(torch.tensor([0.5, 1.5, 2.5, -0.5]))
    (tensor([ 1.,  2.,  3., -1.]), tensor([0., 2., 2., -0.]))
    """
}
