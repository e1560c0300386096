"""Detections against labels: COCO's numbers, what explains them, and the files of an evaluation."""

from __future__ import annotations

from toolkit.metrics.coco import summary
from toolkit.metrics.matching import match
from toolkit.metrics.tables import read_tables


def coco_metrics(document: dict, detections: list) -> dict:
    """COCO's twelve numbers of a COCO document and a list of COCO results. Prints nothing.

    document: with "images", "annotations", "categories"; every image counts, with detections or without.
    detections: [{"image_id", "category_id", "bbox": [x, y, w, h] in pixels of the original image, "score"}].
    Returns AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl in 0..1, None where there is no object;
    "per_class" {name: the same and "num_objects"}, "num_images", "num_objects", "num_objects_by_size",
    "num_detections", "warnings". The same numbers as pycocotools (tests/test_metrics_oracle.py).
    Raises InputError for detections that cannot be judged.
    """
    tables = read_tables(document, detections)
    return {**summary(match(tables)), "warnings": list(tables.warnings)}
