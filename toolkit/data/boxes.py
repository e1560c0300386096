"""Convert COCO's bbox [x, y, w, h] to corners XYXY and back; detections as entries of COCO's results format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from toolkit.data import packed_masks


def corners(bboxes: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """[N,4] float64 XYXY of N bboxes."""
    boxes = np.array(bboxes, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def bbox(box: Sequence[float]) -> list[float]:
    """[x, y, w, h] of one XYXY box."""
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]


def result_entries(
    boxes: np.ndarray, labels: Sequence[int] | np.ndarray, scores: Sequence[float] | np.ndarray, ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Entries of COCO's results format in the order given, without image_id: boxes to 0.001 pixels, scores to 0.000001.

    boxes [N,4] XYXY; ids: category_id of labels 1, 2, ...
    """
    rows = zip(boxes.tolist(), np.asarray(labels).tolist(), np.asarray(scores).tolist(), strict=True)
    return [
        {"category_id": ids[label - 1], "bbox": [round(v, 3) for v in bbox(box)], "score": round(score, 6)}
        for box, label, score in rows
    ]


def coco_results(image_id: int, output: dict[str, Any], category_ids: tuple[int, ...]) -> list[dict]:
    """One image's {boxes XYXY, labels, scores} -> entries of COCO's results format, best first.

    With masks [n,1,S,S] of probabilities in each box, and the image's size (height, width), also "segmentation": RLE.
    """
    boxes = output["boxes"].double().cpu().reshape(-1, 4).numpy()
    entries = result_entries(boxes, output["labels"].tolist(), output["scores"].tolist(), category_ids)
    results = [{"image_id": int(image_id), **entry} for entry in entries]
    if "masks" in output:
        height, width = output["size"]
        for one, box, mask in zip(results, output["boxes"].float().cpu(), output["masks"].float().cpu(), strict=True):
            one["segmentation"] = packed_masks.pasted(mask[0], box, height, width)
    return results
