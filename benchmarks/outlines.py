"""Points of the polygons that stand for masks, at a given IoU, beside Douglas and Peucker's alone.

python benchmarks/outlines.py ../shared/data/pennfudan/masks
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from label_tools.shapes import outline, rle
from label_tools.text.errors import say


def masks(folder: Path) -> list[tuple[np.ndarray, int, int]]:
    """(runs, height, width) of every object of every picture of object numbers."""
    found = []
    for path in sorted(folder.glob("*.png")):
        pixels = np.array(Image.open(path))
        found += [(rle.encode(pixels == k), *pixels.shape) for k in range(1, int(pixels.max()) + 1)]
    return found


def main(folder: Path) -> None:
    drawn = masks(folder)
    say(f"{len(drawn)} masks of {folder}")
    say("| IoU at least | points, median | by Douglas and Peucker alone | lowest IoU | stay masks | ms a mask |")
    say("|---|---|---|---|---|---|")
    for least in (0.9, 0.95, 0.98, 0.99):
        started = time.process_time()
        found = [outline.simplified(*mask, least) for mask in drawn]
        milliseconds = 1000 * (time.process_time() - started) / len(drawn)
        moved, outline._moved = outline._moved, lambda line, rows, _: line[rows]
        alone = [outline.simplified(*mask, least) for mask in drawn]
        outline._moved = moved
        points, points_alone = ([sum(len(f) // 2 for f in p) for p, _ in some if p] for some in (found, alone))
        lowest = min(iou for polygons, iou in found if polygons)
        kept = sum(polygons is None for polygons, _ in found)
        say(
            f"| {least} | {np.median(points):.0f} | {np.median(points_alone):.0f} | {lowest:.4f} | {kept} "
            f"| {milliseconds:.0f} |"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
