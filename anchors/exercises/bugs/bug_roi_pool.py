"""Find the bug. Where do the corners go, and what happens at the edge of the map?

Check it: frcnn anchors check bug_roi_pool.py
"""

from __future__ import annotations

import torch.nn.functional as F


def roi_pool(features, rois, output_size, spatial_scale):
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
        x1, y1, x2, y2 = (int(value * spatial_scale) for value in corners)
        x1, x2 = min(max(x1, 0), width - 1), min(max(x2, 0), width - 1)
        y1, y2 = min(max(y1, 0), height - 1), min(max(y2, 0), height - 1)
        crop = features[int(image), :, y1 : max(y2, y1) + 1, x1 : max(x2, x1) + 1]
        output[k] = F.adaptive_max_pool2d(crop, output_size)
    return output
