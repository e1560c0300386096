"""Sizes and shapes of the objects.

size is sqrt(width * height) of the box, aspect_ratio is height / width.
"""

from __future__ import annotations

import numpy as np

from toolkit.metrics.coco_tables import Tables

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


def object_statistics(tables: Tables) -> dict:
    """Counts, sizes and aspect ratios over all labelled objects that are not crowds, and per class."""
    size, aspect, class_ = sizes_and_aspects(tables)

    def described(chosen: np.ndarray) -> dict:
        quantiles = [np.quantile(one[chosen], QUANTILES).tolist() if chosen.any() else None for one in (size, aspect)]
        return {
            "num_objects": int(chosen.sum()),
            "size_quantiles": quantiles[0],
            "aspect_ratio_quantiles": quantiles[1],
            "quantiles": list(QUANTILES),
        }

    return {
        **described(np.ones(len(size), bool)),
        "per_class": {name: described(class_ == k) for k, name in enumerate(tables.class_names)},
        "images_without_object": int((np.bincount(tables.gt_image, minlength=len(tables.image_ids)) == 0).sum()),
        "crowds": int(tables.gt_is_crowd.sum()),
    }


def sizes_and_aspects(tables: Tables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """size [N], aspect_ratio [N], class [N] of the objects that are not crowds and have an area."""
    good = ~tables.gt_is_crowd & (tables.gt_bbox[:, 2:] > 0).all(1)
    box = tables.gt_bbox[good]
    return np.sqrt(box[:, 2] * box[:, 3]), box[:, 3] / box[:, 2], tables.gt_class[good]
