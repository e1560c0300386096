"""Endless drawn scenes that the starter weights are trained on: shaded shapes on textured grounds, overlapping, with
shadows, clutter, blur and noise.

`scene(rng, side)` -> (image [side,side,3] uint8, boxes [N,4] float32 XYXY of what is visible, labels [N] 1..16, its N
masks [side,side] bool). About 10 ms each; numpy and OpenCV only.

None of the sixteen shapes is a part of the sample data, so that what the demo reaches is fine-tuning and not memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import cv2
import numpy as np

MIN_VISIBLE = 0.3

Visible = tuple[tuple[int, int, int, int], np.ndarray, int]  # XYXY of what is seen of a mask, which pixels, all its own


def scene(rng: np.random.Generator, side: int = 224) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    """One picture with 1 to 7 shapes (one in twelve has none)."""
    labels: list[int] = []

    def masks() -> Iterator[np.ndarray]:  # drawn one by one, between what `compose` draws: the order is part of a seed
        for _ in range(0 if rng.random() < 1 / 12 else int(rng.integers(1, 8))):
            labels.append(int(rng.integers(1, len(SHAPES) + 1)))
            size = float(np.exp(rng.uniform(np.log(0.09), np.log(0.45)))) * side
            yield placed(OUTLINES[SHAPES[labels[-1] - 1]](rng), size, rng, side)

    image, found = compose(rng, side, masks())
    kept = [i for i, (_, seen, area) in enumerate(found) if seen.sum() >= max(20, MIN_VISIBLE * area)]
    boxes = np.array([found[i][0] for i in kept], np.float32).reshape(-1, 4)
    return image, boxes, np.array([labels[i] for i in kept], np.int64), [found[i][1] for i in kept]


def compose(
    rng: np.random.Generator, side: int, masks: Iterable[np.ndarray], patterns: Iterable[np.ndarray | None] = ()
) -> tuple[np.ndarray, list[Visible]]:
    """A ground, clutter, and a shaded body in each of `masks` [side,side] 0..1, later ones over earlier ones;
    `patterns` [side,side,3], where there are any, are added to the colour of the bodies.

    -> (image [side,side,3] uint8, what of each body is visible)
    """
    image = ground(rng, side)
    light = _unit(rng.uniform(0, 2 * np.pi))
    for _ in range(int(rng.integers(0, 4))):
        _clutter(image, rng)
    solid: list[np.ndarray] = []
    patterns = list(patterns)
    for mask in masks:
        _paint(image, mask, light, rng, patterns[len(solid)] if patterns else None)
        solid.append(mask > 0.5)
    if rng.random() < 0.3:
        _clutter(image, rng)
    return _camera(image, rng), visible(solid)


def visible(solid: Sequence[np.ndarray]) -> list[Visible]:
    """Of masks [H,W] bool, later ones over earlier ones; the box of something hidden is all zeros."""
    found = []
    covered = np.zeros(solid[0].shape if solid else (), bool)
    for mask in reversed(solid):
        seen = mask & ~covered
        ys, xs = np.nonzero(seen)
        box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1) if len(xs) else (0, 0, 0, 0)
        found.append((box, seen, int(mask.sum())))
        covered |= mask
    return found[::-1]


def ground(rng: np.random.Generator, side: int) -> np.ndarray:
    """[side,side,3] float32 0..1: a colour with clouds, grain, stripes, checks or a grid."""
    base = rng.uniform(0.1, 0.9, 3) if rng.random() < 0.5 else np.full(3, rng.uniform(0.1, 0.9))
    image = np.ones((side, side, 3), np.float32) * base.astype(np.float32)
    for cells in (3, 12, 50):
        image += rng.uniform(0.01, 0.08) * _cloud(rng, side, cells)[..., None]
    if rng.random() < 0.5:
        image += 0.05 * np.stack([_cloud(rng, side, 4) for _ in range(3)], axis=2)
    ys, xs = np.mgrid[:side, :side].astype(np.float32)
    kind = rng.integers(0, 5)
    direction = _unit(rng.uniform(0, 2 * np.pi))
    along = xs * direction[0] + ys * direction[1]
    if kind == 0:  # grain, as of wood
        along = along + 12 * _cloud(rng, side, 3)
        image += rng.uniform(0.02, 0.12) * np.sin(along * rng.uniform(0.2, 1.2))[..., None]
    elif kind == 1:  # lines of a mat
        step, across = rng.uniform(12, 40), ys * direction[0] - xs * direction[1]
        lines = (along % step < 1.2) | (across % step < 1.2)
        image[lines] += rng.uniform(-0.3, 0.3)
    elif kind == 2:
        step = rng.uniform(8, 40)
        image += rng.uniform(-0.12, 0.12) * (((along // step) + (ys // step)) % 2)[..., None]
    return image


def placed(
    polygons: list[np.ndarray], size: float, rng: np.random.Generator, side: int, margin: float = 0.12
) -> np.ndarray:
    """[side,side] float32 0..1: the shape turned, tilted and put somewhere, its middle `margin` of the side from the
    edge or more; with the usual margin a quarter of it may leave the image."""
    angle, squeeze = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    tilt = np.array([[1.0, 0.0], [0.0, squeeze]])
    centre = rng.uniform(margin * side, (1 - margin) * side, 2)
    mask = np.zeros((side, side), np.uint8)
    for i, polygon in enumerate(polygons):
        points = polygon @ turn.T @ tilt * (size / 2) + centre
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255 if i == 0 else 0, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def _paint(
    image: np.ndarray, mask: np.ndarray, light: np.ndarray, rng: np.random.Generator, pattern: np.ndarray | None = None
) -> None:
    """Put a shaded body and its shadow onto `image`, in place."""
    side = len(image)
    reach = rng.uniform(1, 6)
    shift = np.array([[1, 0, -light[0] * reach], [0, 1, -light[1] * reach]], np.float32)
    shadow = cv2.GaussianBlur(cv2.warpAffine(mask, shift, (side, side)), (0, 0), rng.uniform(1, 4))
    image *= (1 - rng.uniform(0.2, 0.6) * shadow)[..., None]
    body = np.ones((side, side, 3), np.float32)
    body *= (rng.uniform(0.1, 0.95, 3) if rng.random() < 0.6 else np.full(3, rng.uniform(0.15, 0.9))).astype(np.float32)
    body += rng.uniform(0, 0.12) * _cloud(rng, side, int(rng.integers(4, 60)))[..., None]
    height = cv2.GaussianBlur(mask, (0, 0), rng.uniform(1.0, 4.0))  # rounded edges catch the light
    slope = cv2.Sobel(height, cv2.CV_32F, 1, 0) * light[0] + cv2.Sobel(height, cv2.CV_32F, 0, 1) * light[1]
    body -= rng.uniform(0.1, 0.6) * slope[..., None]
    if rng.random() < 0.3:  # threads or teeth
        ys, xs = np.mgrid[:side, :side].astype(np.float32)
        way = _unit(rng.uniform(0, 2 * np.pi))
        body += 0.1 * np.sin((xs * way[0] + ys * way[1]) * rng.uniform(0.6, 2))[..., None]
    if pattern is not None:
        body += pattern
    image += (body - image) * mask[..., None]


def _clutter(image: np.ndarray, rng: np.random.Generator) -> None:
    """A stroke, a smear or a crumb that is not an object, in place."""
    side = len(image)
    colour = tuple(float(v) for v in rng.uniform(0, 1, 3))
    if rng.random() < 0.6:
        points = np.cumsum(np.vstack([rng.uniform(0, side, 2), rng.normal(0, side / 6, (4, 2))]), axis=0)
        cv2.polylines(image, [points.astype(np.int32)], False, colour, int(rng.integers(1, 5)), cv2.LINE_AA)
    else:
        cloud = np.clip(_cloud(rng, side, 4) - 0.6, 0, 1)
        image += rng.uniform(-0.8, 0.8) * cloud[..., None]


def _camera(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, white balance, blur and noise -> uint8."""
    image = image * (rng.uniform(0.7, 1.25) * rng.uniform(0.92, 1.08, 3)).astype(np.float32)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3))
    image += rng.normal(0, rng.uniform(0.003, 0.03), image.shape[:2]).astype(np.float32)[..., None]
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def _cloud(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    small = rng.standard_normal((cells, cells)).astype(np.float32)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


def _circle(radius: float, corners: int = 40) -> np.ndarray:
    angle = np.arange(corners) * 2 * np.pi / corners
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _spikes(count: int, inner: float) -> np.ndarray:
    points = _circle(1, 2 * count)
    points[1::2] *= inner
    return points


def _box(width: float, height: float) -> np.ndarray:
    return np.array([(-width, -height), (width, -height), (width, height), (-width, height)])


def _unit(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)], np.float32)


def _frame(inner: float) -> list[np.ndarray]:
    return [_box(1, 1), _box(inner, inner)]


def _cross(w: float) -> list[np.ndarray]:
    arm = np.array([(-w, -1), (w, -1), (w, -w)])
    quarter = np.array([(0, 1), (-1, 0)])
    return [np.concatenate([arm, arm @ quarter, -arm, -arm @ quarter])]


def _tee(w: float) -> list[np.ndarray]:
    low = -1 + 2 * w
    return [np.array([(-0.7, -1), (0.7, -1), (0.7, low), (w, low), (w, 1), (-w, 1), (-w, low), (-0.7, low)])]


def _ell(w: float) -> list[np.ndarray]:
    right, top = -0.8 + 2 * w, 1 - 2 * w
    return [np.array([(-0.8, -1), (right, -1), (right, top), (0.8, top), (0.8, 1), (-0.8, 1)])]


def _arrow(w: float) -> list[np.ndarray]:
    return [np.array([(0, -1), (0.7, -0.2), (w, -0.2), (w, 1), (-w, 1), (-w, -0.2), (-0.7, -0.2)])]


# polygons [n,2] in -1..1, the first filled, those after it holes; in the order of the labels 1..16
OUTLINES: dict[str, Callable[[np.random.Generator], list[np.ndarray]]] = {
    "disc": lambda rng: [_circle(1)],
    "ring": lambda rng: [_circle(1), _circle(rng.uniform(0.35, 0.7))],
    "square": lambda rng: [_box(1, 1)],
    "bar": lambda rng: [_box(1, rng.uniform(0.12, 0.35))],
    "triangle": lambda rng: [_circle(1, 3)],
    "pentagon": lambda rng: [_circle(1, 5)],
    "hexagon": lambda rng: [_circle(1, 6)],
    "frame": lambda rng: _frame(rng.uniform(0.4, 0.7)),
    "star": lambda rng: [_spikes(5, rng.uniform(0.38, 0.5))],
    "gear": lambda rng: [_spikes(int(rng.integers(9, 14)), rng.uniform(0.72, 0.82))],
    "cross": lambda rng: _cross(rng.uniform(0.2, 0.35)),
    "tee": lambda rng: _tee(rng.uniform(0.2, 0.35)),
    "ell": lambda rng: _ell(rng.uniform(0.2, 0.35)),
    "crescent": lambda rng: [_circle(1), _circle(0.85) + np.array([rng.uniform(0.35, 0.5), 0])],
    "arrow": lambda rng: _arrow(rng.uniform(0.2, 0.35)),
    "ellipse": lambda rng: [_circle(1) * [1, rng.uniform(0.4, 0.65)]],
}
SHAPES = tuple(OUTLINES)
