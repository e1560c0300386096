"""RoI pooling."""

from __future__ import annotations

import math

import torch


def half_away(value):
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def bin_of(p, start, size, num_bins, length):
    first, last = start + math.floor(p * size / num_bins), start + math.ceil((p + 1) * size / num_bins)
    return min(max(first, 0), length), min(max(last, 0), length)


def roi_pool(features: torch.Tensor, rois: torch.Tensor, output_size: int, spatial_scale: float) -> torch.Tensor:
    """RoI pooling: features [B,C,H,W], rois [K,5] (image index, x1, y1, x2, y2 in pixels) -> [K,C,P,P].

        corners on the map = round(coordinate * spatial_scale), halves away from zero: floor(x + 0.5) for x >= 0
        w = max(x2 - x1 + 1, 1), h likewise                     the last cell belongs to the RoI
        bin p covers x1 + floor(p * w / P) up to, not including, x1 + ceil((p + 1) * w / P), clipped to the map
        the answer is the maximum over the bin's cells, 0 for a bin outside the map          P = output_size

    By hand: a map of 0..15 (4 x 4), scale 1/4, RoI [0,0,8,8]: 3 x 3 cells, P = 2: [[5, 6], [9, 10]].
    """
    _, num_channels, height, width = features.shape
    output = features.new_zeros(len(rois), num_channels, output_size, output_size)
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (half_away(value * spatial_scale) for value in corners)
        for i in range(output_size):
            top, bottom = bin_of(i, y1, max(y2 - y1 + 1, 1), output_size, height)
            for j in range(output_size):
                left, right = bin_of(j, x1, max(x2 - x1 + 1, 1), output_size, width)
                if top < bottom and left < right:
                    output[k, :, i, j] = features[int(image), :, top:bottom, left:right].amax(dim=(1, 2))
    return output
