"""One photograph: what lies where, drawn, lit and seen, with the label of every part that a person would see."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from sample_data import backgrounds, light
from sample_data.canvas import MARGIN, SUPERSAMPLE, Canvas, stamp
from sample_data.clutter import draw_clutter
from sample_data.parts import PARTS

LABELS = tuple(PARTS)
# the longest side in picture pixels, for a scene of middling magnification
SIZES = {"bolt": (52, 86), "hex_nut": (33, 58), "washer": (31, 62)}
SHARES = (0.36, 0.33, 0.31)
NUMBER_OF_PARTS = (0.07, 0.12, 0.20, 0.22, 0.19, 0.12, 0.08)  # chances of 0 to 6
SEEN_AT_LEAST = 0.42  # of a part's own area: a part hidden more than that is not laid down
HIGHEST_REST = 34  # fine pixels: a part does not balance on anything higher, such as a handle
CRUMB = 14  # picture pixels: a smaller separate piece of a part is no part of its label


@dataclass
class Part:
    label: str
    whole: float  # fine pixels of its footprint, inside the picture or not


def scene(
    rng_seed, size: tuple[int, int] = (224, 224), count: int | None = None
) -> tuple[Image.Image, list[tuple[str, np.ndarray, np.ndarray]]]:
    """Draw the scene number `rng_seed` at size (width, height).

    Returns the RGB picture and, per part that can be seen, (label, box [4] float32 XYXY in pixels, mask [H,W]
    bool of what is visible of it). The box is the tight one around the mask. `rng_seed` is whatever numpy's
    default_rng takes: the same one gives the same pixels. `count` is how many parts to lay down (fewer where
    there is no room), else it is drawn.
    """
    rng = np.random.default_rng(rng_seed)
    while True:
        canvas = Canvas.empty(size)
        backgrounds.paint(rng, canvas)
        wanted = count if count is not None else rng.choice(len(NUMBER_OF_PARTS), p=NUMBER_OF_PARTS)
        parts = lay_down(rng, canvas, int(wanted))
        lamps = light.draw_light(rng)
        colour = light.shade(canvas, lamps)
        seen, ids = light.project(canvas, colour, lamps.tilt)
        labelled = labels_of(ids, parts)
        if labelled is not None and bool(labelled) == bool(wanted):
            return Image.fromarray(light.expose(rng, seen)), labelled


def lay_down(rng: np.random.Generator, canvas: Canvas, wanted: int) -> list[Part]:
    """Clutter below, parts (touching and overlapping at times), now and then clutter on top."""
    inner = np.array(canvas.shape[::-1]) - 2 * MARGIN
    for _ in range(rng.choice(4, p=[0.3, 0.38, 0.22, 0.1]) + (wanted == 0)):
        window, surface = draw_clutter(rng, canvas, *(rng.uniform(-0.05, 1.05, 2) * inner + MARGIN))
        stamp(canvas, window, surface, 0)
    parts: list[Part] = []
    zoom = rng.uniform(0.9, 1.18)
    centres: list[tuple[float, float, float]] = []
    for label in rng.choice(LABELS, wanted, p=SHARES):
        overlapping = rng.random() < 0.4
        for attempt in range(14):
            length = SUPERSAMPLE * zoom * rng.uniform(*SIZES[label])
            x, y = place(rng, inner, centres, length)
            window, surface = PARTS[label](rng, canvas, x, y, length)
            if fits(canvas, window, surface, parts, may_cover=overlapping or attempt > 9):
                parts.append(Part(str(label), float(np.count_nonzero(surface.inside))))
                centres.append((x, y, length))
                stamp(canvas, window, surface, len(parts))
                break
    if wanted and rng.random() < 0.1:  # something fell on top
        x, y = centres[0][:2] if centres and rng.random() < 0.7 else rng.uniform(0.1, 0.9, 2) * inner + MARGIN
        window, surface = draw_clutter(rng, canvas, x + rng.normal(0, 20), y + rng.normal(0, 20), on_top=True)
        if fits(canvas, window, surface, parts, may_cover=True, is_part=False):
            stamp(canvas, window, surface, 0)
    return parts


def place(rng: np.random.Generator, inner: np.ndarray, centres: list, length: float) -> tuple[float, float]:
    """Somewhere in the picture, or, at times, close to a part that lies there already."""
    if centres and rng.random() < 0.38:
        x, y, other = centres[rng.integers(len(centres))]
        angle, away = rng.uniform(0, 2 * np.pi), (length + other) * rng.uniform(0.22, 0.6)
        return x + away * np.cos(angle), y + away * np.sin(angle)
    x, y = rng.uniform(0.02, 0.98, 2) * inner + MARGIN
    return float(x), float(y)


def fits(canvas: Canvas, window, surface, parts: list[Part], may_cover: bool, is_part: bool = True) -> bool:
    """May this be laid down? It must be well inside the picture and leave enough of every part in view."""
    inside = surface.inside
    rows, columns = window
    if is_part:
        frame = np.zeros(inside.shape, bool)
        top, left = max(MARGIN - rows.start, 0), max(MARGIN - columns.start, 0)
        bottom = min(canvas.shape[0] - MARGIN - rows.start, inside.shape[0])
        right = min(canvas.shape[1] - MARGIN - columns.start, inside.shape[1])
        frame[top : max(bottom, 0), left : max(right, 0)] = True
        # the window is cut at the canvas, so a part that leaves the canvas is out as well
        cut = 0 in (rows.start, columns.start) or rows.stop == canvas.shape[0] or columns.stop == canvas.shape[1]
        if cut or np.count_nonzero(inside & frame) < 0.62 * np.count_nonzero(inside):
            return False
        if canvas.height[window][inside].max() > HIGHEST_REST:
            return False
    below = canvas.ids[window]
    if not below.any():
        return True
    if not may_cover:
        return not below[inside].any()
    for identity, part in enumerate(parts, start=1):
        mine = canvas.ids == identity
        before = np.count_nonzero(mine)
        hidden = np.count_nonzero(mine[window] & inside)
        if hidden and (before - hidden) < SEEN_AT_LEAST * part.whole:
            return False
        if is_part and hidden > 0.55 * np.count_nonzero(inside):
            return False
    return True


def labels_of(ids: np.ndarray, parts: list[Part]) -> list[tuple[str, np.ndarray, np.ndarray]] | None:
    """Masks and boxes at picture size from fine ids [h,w]. None: a part is hidden too much to be labelled."""
    size = (ids.shape[1] // SUPERSAMPLE, ids.shape[0] // SUPERSAMPLE)
    labelled = []
    for identity, part in enumerate(parts, start=1):
        share = cv2.resize((ids == identity).astype(np.float32), size, interpolation=cv2.INTER_AREA)
        mask = without_crumbs(share > 0.5)
        area = np.count_nonzero(mask) * SUPERSAMPLE**2
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if area < 0.3 * part.whole or min(len(columns), len(rows)) < 8:
            return None
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
        labelled.append((part.label, box, mask))
    return labelled


def without_crumbs(mask: np.ndarray) -> np.ndarray:
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    kept = [piece for piece in range(1, count) if stats[piece, cv2.CC_STAT_AREA] >= CRUMB]
    return np.isin(pieces, kept)
