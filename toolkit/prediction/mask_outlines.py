"""Write masks of detections as run lengths, polygons with few points, or left out; and their areas."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

import numpy as np

from label_tools.shapes import outline, rle
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.prediction.detector import Found

POLYGONS, MASKS, BOXES = KINDS = ("polygons", "masks", "boxes")


@dataclass
class Outlines:
    """How masks are written, and what was written so far.

    kind: one of KINDS. least: IoU of polygons with their mask; a mask that polygons cannot follow so closely (a hole,
    many parts, a few pixels) stays a mask.
    """

    kind: str = POLYGONS
    least: float = outline.IOU
    points: list[int] = field(default_factory=list)  # of each object's polygons
    lowest: float = 1.0  # IoU of them all
    kept: int = 0  # masks that stayed masks

    def check(self) -> None:
        if not 0.5 <= self.least <= 1:
            raise InputError(f"--outline-iou: found {self.least}, needs 0.5 to 1")

    def of(self, found: Found) -> Found:
        """The detections with their segmentation of this kind and the area of the mask in pixels; boxes as they are."""
        written = []
        for one in found:
            if "segmentation" in one:
                runs = rle.to_runs(one["segmentation"])
                one = {**one, "area": rle.area(runs)}
                if self.kind == BOXES:
                    del one["segmentation"]
                elif self.kind == POLYGONS:
                    one["segmentation"] = self._polygons(runs, one["segmentation"])
            written.append(one)
        return written

    def _polygons(self, runs: np.ndarray, mask: dict) -> list[list[float]] | dict:
        height, width = mask["size"]
        polygons, iou = outline.simplified(runs, height, width, self.least)
        if polygons is None:
            self.kept += 1
            return mask
        self.points.append(sum(len(flat) // 2 for flat in polygons))
        self.lowest = min(self.lowest, iou)
        return polygons

    def about(self) -> str:
        """What the polygons are like, in a line; "" without any."""
        if not self.points:
            return ""
        left = f"; {counted(self.kept, 'mask')} kept (a hole, many parts, or a few pixels)" if self.kept else ""
        middle = f"{median(self.points):.0f} points in the middle"
        return f"outlines: {middle}, IoU with the mask {self.lowest:.3f} or more{left}"
