"""RoIAlign."""

from __future__ import annotations

import torch

from anchors.roi_align import bilinear


def roi_align(features: torch.Tensor, rois: torch.Tensor, output_size: int, spatial_scale: float) -> torch.Tensor:
    """RoIAlign: features [B,C,H,W], rois [K,5] (image index, x1, y1, x2, y2 in pixels) -> [K,C,P,P].

        corners on the map = coordinate * spatial_scale - 1/2                   nothing is rounded
        each of P x P bins: the mean of 2 x 2 points, in the middles of the bin's quarters
        value at a point = bilinear between its four neighbours; (y, x) = (0, 0) is the middle of the first cell
        a point more than 1 outside (y < -1 or y > H, the same for x) counts 0; nearer ones take the edge's value

    anchors.roi_align.bilinear(map [C,H,W], y, x) is the last two lines.

    By hand: a map of 0..15 (4 x 4), scale 1, RoI [1,1,3,3], P = 1: its middle is (1.5, 1.5), the value 7.5.
    """
    output = features.new_zeros(len(rois), features.shape[1], output_size, output_size)
    for k, (image, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (value * spatial_scale - 0.5 for value in corners)
        h, w = (y2 - y1) / output_size, (x2 - x1) / output_size
        for i in range(output_size):
            for j in range(output_size):
                points = [(y1 + (i + p) * h, x1 + (j + q) * w) for p in (0.25, 0.75) for q in (0.25, 0.75)]
                output[k, :, i, j] = sum(bilinear(features[int(image)], y, x) for y, x in points) / 4
    return output
