"""dominant and largest, drawn: shaded shapes on textured grounds, from the scenes of the starter weights.

For use without labelled pictures; `--data DIR` takes the user's own.

    dominant   three classes, each with a shape, a texture and a hue that it tends to; exactly one object whose box
               takes 200 * 200 / (640 * 480) of the picture or more, and up to three smaller ones of the same classes.
               After homework 5: COCO's bus, cat and pizza
    largest    six classes, each with a shape and a hue that it tends to, two to five objects; asked for is the one
               with the largest box, which is a quarter larger than the next, so that there is no doubt. With
               `keep_empty` one picture in twelve shows no object. After the post: the largest object of a VOC picture

Boxes are those of what is visible: an object may be half hidden by another, or hang over the edge a little.
"""

from __future__ import annotations

import math

import numpy as np

from label_tools.text.errors import InputError
from toolkit.data.pretraining_scenes import MIN_VISIBLE, OUTLINES, compose, placed, visible
from toolkit.single_object.data.samples import Object, Samples

CLASSES = {
    "dominant": ("ellipse", "star", "arrow"),  # striped and reddish, spotted and greenish, checked and bluish
    "largest": ("disc", "square", "triangle", "star", "cross", "ring"),
}
DOMINANT_SHARE = 200 * 200 / (640 * 480)  # of the picture: COCO's pictures are 640 x 480, the homework asks for 200^2
CLEARLY = 1.25  # the largest box is so many times as large as the next one
LEAST_SIDE = 32  # pixels: in smaller pictures nobody could tell the shapes apart
_EMPTY = 1 / 12

Layout = tuple[list[np.ndarray], list[int], int]  # masks [side,side] 0..1, their labels, which one is asked for


def draw(kind: str, count: int, *, side: int, seed: int, keep_empty: bool = False) -> Samples:
    """`count` pictures [3,side,side] of `kind`, dominant or largest. Same arguments, same pixels; the first ones of
    more are the same, too."""
    if side < LEAST_SIDE:
        raise InputError(f"--size {side}: drawn pictures need {LEAST_SIDE} pixels or more")
    images = np.zeros((count, 3, side, side), np.uint8)
    objects: list[Object] = []
    for row in range(count):
        random = np.random.default_rng([29 if kind == "dominant" else 31, seed, row])
        if keep_empty and random.random() < _EMPTY:
            layout: Layout = ([], [], -1)
        else:
            layout = dominant_layout(random, side) if kind == "dominant" else largest_layout(random, side)
        masks, names, chosen = layout
        patterns = [look(kind, label, random, side) for label in names]
        picture, found = compose(random, side, masks, patterns)
        images[row] = picture.transpose(2, 0, 1)
        if chosen >= 0:
            objects.append((row, names[chosen], found[chosen][0]))
    return Samples.of(f"drawn_{kind}", CLASSES[kind], images, objects)


def dominant_layout(random: np.random.Generator, side: int) -> Layout:
    """One large shape and up to three small ones, in any order of depth, of which only one is dominant."""
    while True:
        count = 1 + int(random.integers(0, 4))
        chosen = int(random.integers(0, count))
        sizes = _log_uniform(random, 0.1, 0.3, count)
        sizes[chosen] = _log_uniform(random, 0.42, 0.85, 1)[0]
        margins = [0.3 if i == chosen else 0.12 for i in range(count)]
        masks, labels = _shapes(random, side, "dominant", sizes, margins)
        areas = seen_areas(masks)
        if areas is not None and [i for i, a in enumerate(areas) if a >= DOMINANT_SHARE * side * side] == [chosen]:
            return masks, labels, chosen


def largest_layout(random: np.random.Generator, side: int) -> Layout:
    """Two to five shapes; the one with the largest box is asked for."""
    while True:
        count = int(random.integers(2, 6))
        masks, labels = _shapes(random, side, "largest", _log_uniform(random, 0.14, 0.6, count), [0.15] * count)
        areas = seen_areas(masks)
        if areas is None:
            continue
        *_, second, first = sorted(areas)
        if first >= CLEARLY * second:
            return masks, labels, areas.index(first)


def seen_areas(masks: list[np.ndarray]) -> list[int] | None:
    """Areas in pixels of the boxes of what is visible; None when something is nearly hidden or hardly there."""
    found = visible([mask > 0.5 for mask in masks])
    if any(seen.sum() < max(12, 2 * MIN_VISIBLE * area) for _, seen, area in found):
        return None
    return [(x2 - x1) * (y2 - y1) for (x1, y1, x2, y2), _, _ in found]


def look(kind: str, label: int, random: np.random.Generator, side: int) -> np.ndarray:
    """[side,side,3] float32 to add to a colour: the class's texture, if it has one, and a shift to its hue, the first
    class's red and the others' evenly round the wheel. From shapes alone no class is learned with few pictures."""
    classes = CLASSES[kind]
    pattern = texture(classes[label], random, side) if kind == "dominant" else np.zeros((side, side))
    hue = np.cos(2 * math.pi * (label / len(classes) - np.arange(3) / 3))
    return (pattern[..., None] + random.uniform(0.2, 0.5) * hue).astype(np.float32)


def texture(shape: str, random: np.random.Generator, side: int) -> np.ndarray:
    """[side,side] stripes, spots or checks in any direction, five to eight across the picture: HW5Net halves its map
    four times without a ReLU, finer ones are lost on it."""
    angle, waves, contrast = random.uniform(0, 2 * math.pi), random.uniform(5, 8), random.uniform(0.1, 0.25)
    phase = random.uniform(0, 2 * math.pi, 2)
    ys, xs = np.mgrid[:side, :side].astype(np.float32) * (2 * math.pi * waves / side)
    along = np.sin(xs * math.cos(angle) + ys * math.sin(angle) + phase[0])
    across = np.sin(ys * math.cos(angle) - xs * math.sin(angle) + phase[1])
    return contrast * {"ellipse": along, "star": np.minimum(along + across, 0), "arrow": np.sign(along * across)}[shape]


def _shapes(
    random: np.random.Generator, side: int, kind: str, sizes: np.ndarray, margins: list[float]
) -> tuple[list[np.ndarray], list[int]]:
    labels = [int(label) for label in random.integers(0, len(CLASSES[kind]), len(sizes))]
    masks = [
        placed(OUTLINES[CLASSES[kind][label]](random), size * side, random, side, margin)
        for label, size, margin in zip(labels, sizes.tolist(), margins, strict=True)
    ]
    return masks, labels


def _log_uniform(random: np.random.Generator, low: float, high: float, count: int) -> np.ndarray:
    return np.exp(random.uniform(math.log(low), math.log(high), count))
