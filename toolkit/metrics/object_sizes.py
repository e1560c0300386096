"""What the objects look like.

size is sqrt(width * height) of the box, aspect_ratio is height / width.
"""

from __future__ import annotations

import numpy as np

from toolkit.metrics.coco_tables import Tables


def object_statistics(tables: Tables) -> dict:
    """Counts, sizes and aspect ratios over all labelled objects that are not crowds, and per class."""
    names = tables.class_names
    return {
        **_describe(tables, np.ones(len(tables.gt_class), bool)),
        "per_class": {name: _describe(tables, tables.gt_class == k) for k, name in enumerate(names)},
        "images_without_object": int((np.bincount(tables.gt_image, minlength=len(tables.image_ids)) == 0).sum()),
        "crowds": int(tables.gt_is_crowd.sum()),
    }


def _describe(tables: Tables, chosen: np.ndarray) -> dict:
    box = tables.gt_bbox[chosen & ~tables.gt_is_crowd]
    box = box[(box[:, 2:] > 0).all(1)]
    size = np.sqrt(box[:, 2] * box[:, 3])
    aspect = box[:, 3] / box[:, 2]
    edges = (0.0, 0.1, 0.5, 0.9, 1.0)
    return {
        "num_objects": len(box),
        "size_quantiles": None if not len(box) else [float(v) for v in np.quantile(size, edges)],
        "aspect_ratio_quantiles": None if not len(box) else [float(v) for v in np.quantile(aspect, edges)],
        "quantiles": list(edges),
    }


def sizes_and_aspects(tables: Tables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """size [N], aspect_ratio [N], class [N] of the objects that are not crowds and have an area."""
    good = ~tables.gt_is_crowd & (tables.gt_bbox[:, 2:] > 0).all(1)
    box = tables.gt_bbox[good]
    return np.sqrt(box[:, 2] * box[:, 3]), box[:, 3] / box[:, 2], tables.gt_class[good]
