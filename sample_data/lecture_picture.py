"""Draw the picture of the lesson: python sample_data/lecture_picture.py FILE.jpg

800 x 800 pixels, a bolt and a washer whose tight boxes are the lecture's two, [30, 20, 500, 400] and
[400, 300, 600, 500]. It is the default picture of `frcnn anchors walkthrough`; the committed file is the truth.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

if __package__ in (None, ""):  # started as a file: the folder above holds the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sample_data import backgrounds, light
from sample_data.canvas import MARGIN, SUPERSAMPLE, Canvas, stamp
from sample_data.parts import bolt, washer

SIZE = 800
BOXES = {"bolt": (30, 20, 500, 400), "washer": (400, 300, 600, 500)}
SEEDS = {"bolt": 5, "washer": 12, "bench": 21, "lamp": 79, "camera": 4}  # a high lamp: short shadows, in the boxes


class Placed:
    """A generator whose first angle is given: the parts draw their pose with the first uniform over a turn."""

    def __init__(self, seed: int, angle: float):
        self.rng, self.angle = np.random.default_rng(seed), angle

    def uniform(self, low=0.0, high=1.0, size=None):
        drawn = self.rng.uniform(low, high, size)
        return self.angle if size is None and abs(high - 2 * np.pi) < 1e-9 else drawn

    def __getattr__(self, name):
        return getattr(self.rng, name)


def tight(window, surface) -> np.ndarray:
    """Box [x1, y1, x2, y2] of a surface in picture pixels."""
    y, x = np.nonzero(surface.inside)
    corners = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], float)
    return (corners + np.array([window[1].start, window[0].start] * 2) - MARGIN) / SUPERSAMPLE


def lay(canvas: Canvas, draw, seed: int, wanted) -> np.ndarray:
    """Stamp a part so that its box is `wanted`: correct place, length and angle until it is."""
    wanted = np.array(wanted, float)
    sides = wanted[2:] - wanted[:2]
    centre, length = (wanted[:2] + wanted[2:]) / 2, float(np.hypot(*sides)) if draw is bolt else sides[0]
    angle = np.pi - np.arctan2(sides[1], sides[0])  # from the upper right to the lower left
    for _ in range(200):
        x, y = centre * SUPERSAMPLE + MARGIN
        window, surface = draw(Placed(seed, angle), canvas, x, y, length * SUPERSAMPLE)
        box = tight(window, surface)
        found = box[2:] - box[:2]
        if np.abs(box - wanted).max() <= 0.5:
            break
        centre = centre + ((wanted[:2] + wanted[2:]) - (box[:2] + box[2:])) / 2
        length *= float(np.sqrt((sides**2).sum() / (found**2).sum()))
        if draw is bolt:
            angle -= 0.3 * (np.arctan2(*sides[::-1]) - np.arctan2(*found[::-1]))
    stamp(canvas, window, surface, 1)
    return box


def main() -> None:
    canvas = Canvas.empty((SIZE, SIZE))
    backgrounds.wood(np.random.default_rng(SEEDS["bench"]), canvas)
    for name, draw in (("bolt", bolt), ("washer", washer)):
        print(name, lay(canvas, draw, SEEDS[name], BOXES[name]).tolist())
    lamp = light.draw_light(np.random.default_rng(SEEDS["lamp"]))
    picture = light.shade(canvas, lamp)[MARGIN:-MARGIN, MARGIN:-MARGIN]  # from straight above: boxes stay
    pixels = light.expose(np.random.default_rng(SEEDS["camera"]), picture)
    Image.fromarray(pixels).save(sys.argv[1], quality=88)


if __name__ == "__main__":
    main()
