"""What the objects look like, and how well the anchors of a detector cover them.

size is sqrt(width * height) of the box, aspect_ratio is height / width.
"""

from __future__ import annotations

import numpy as np

from toolkit.metrics.arrays import Tables
from toolkit.metrics.overlap import iou_of

COVERED = 0.5  # an object whose best anchor has less IoU starts far from every anchor


def object_statistics(tables: Tables) -> dict:
    """Counts, sizes and aspect ratios over all labelled objects that are no crowds, and per class."""
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
    """size [N], aspect_ratio [N], class [N] of the objects that are no crowds and have an area."""
    good = ~tables.gt_is_crowd & (tables.gt_bbox[:, 2:] > 0).all(1)
    box = tables.gt_bbox[good]
    return np.sqrt(box[:, 2] * box[:, 3]), box[:, 3] / box[:, 2], tables.gt_class[good]


def resize_scale(image_size: np.ndarray, shorter: int, longest: int) -> np.ndarray:
    """[I,2] width, height -> [I] the factor by which torchvision's detectors resize (GeneralizedRCNNTransform)."""
    low, high = image_size.min(1), image_size.max(1)
    return np.where(high > 0, np.minimum(shorter / np.maximum(low, 1), longest / np.maximum(high, 1)), 1.0)


def anchor_coverage(tables: Tables, anchors: dict) -> dict | None:
    """Best IoU of each object with any anchor on its grid; None without objects.

    anchors: {"sizes": [[s, ...] per level], "aspect_ratios": [[height / width, ...] per level],
    "strides": [pixels per level], "image_size": shorter side, "max_size": longest side}, in the pixels that the
    network sees. The best anchor of a shape is the one on the grid point nearest to the object's centre.
    """
    good = ~tables.gt_is_crowd & (tables.gt_bbox[:, 2:] > 0).all(1)
    if not good.any():
        return None
    scale = resize_scale(tables.image_size, anchors["image_size"], anchors["max_size"])
    box = tables.gt_bbox[good] * scale[tables.gt_image[good], None]
    centre = box[:, :2] + box[:, 2:] / 2
    best = np.zeros(len(box))
    for sizes, ratios, stride in zip(anchors["sizes"], anchors["aspect_ratios"], anchors["strides"]):
        grid = np.maximum(np.round(centre / stride), 0) * stride
        for size in sizes:
            for ratio in ratios:
                width, height = size / np.sqrt(ratio), size * np.sqrt(ratio)
                shape = np.broadcast_to([width, height], box[:, 2:].shape)
                best = np.maximum(best, iou_of(box, np.hstack([grid - shape / 2, shape])))
    class_ = tables.gt_class[good]
    per_class = {
        name: _coverage_of(best[class_ == k]) for k, name in enumerate(tables.class_names) if (class_ == k).any()
    }
    return {**_coverage_of(best), "per_class": per_class, "best_iou": [round(float(v), 4) for v in best]}


def _coverage_of(best: np.ndarray) -> dict:
    return {
        "mean_best_iou": float(best.mean()),
        "covered": float((best >= COVERED).mean()),
        "covered_at_0.7": float((best >= 0.7).mean()),
        "num_objects": len(best),
    }
