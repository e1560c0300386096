"""What the bench is before light falls on it: one height field with colours, and the noise that ages it.

All lengths here are fine pixels: the scene is drawn at SUPERSAMPLE times its size, with a MARGIN around
it, so that things outside the picture still throw their shadows into it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SUPERSAMPLE = 2
MARGIN = 24

# glibc hands large blocks back to the system at every free, and a scene spends a third of its time getting
# them anew. Having freed one large block once, it keeps them (its dynamic threshold); elsewhere no effect.
np.empty(30 << 20, np.uint8)


@dataclass
class Canvas:
    """height [H,W] float32; albedo [H,W,3] linear; metal, rough [H,W] 0..1; ids [H,W] uint8, 0 = no object."""

    height: np.ndarray
    albedo: np.ndarray
    metal: np.ndarray
    rough: np.ndarray
    ids: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.height.shape

    @classmethod
    def empty(cls, size: tuple[int, int]) -> Canvas:
        """A canvas for a picture of size (width, height)."""
        width, height = (SUPERSAMPLE * side + 2 * MARGIN for side in size)
        zeros = np.zeros((height, width), np.float32)
        colour = np.full((height, width, 3), 0.5, np.float32)
        return cls(zeros, colour, zeros.copy(), np.ones_like(zeros), np.zeros((height, width), np.uint8))


@dataclass
class Surface:
    """A thing in its own frame: fields over a patch; `inside` says where it is, `height` above its base."""

    inside: np.ndarray
    height: np.ndarray
    albedo: np.ndarray  # [3] or [h,w,3]
    metal: np.ndarray | float
    rough: np.ndarray | float
    hole: np.ndarray | None = None  # belongs to the thing's label, but one looks through it


@dataclass(frozen=True)
class Pose:
    """Where a thing lies: centre x, y in fine pixels, angle in radians, and a radius that holds all of it."""

    x: float
    y: float
    angle: float
    reach: float

    def window(self, shape: tuple[int, int]) -> tuple[slice, slice]:
        reach = int(np.ceil(self.reach)) + 2
        top, left = int(self.y) - reach, int(self.x) - reach
        rows = slice(min(max(top, 0), shape[0]), max(0, min(top + 2 * reach + 1, shape[0])))
        return rows, slice(min(max(left, 0), shape[1]), max(0, min(left + 2 * reach + 1, shape[1])))

    def frame(self, window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates u (along the thing), v (across) of every pixel of the window."""
        rows, columns = window
        y = (np.arange(rows.start, rows.stop, dtype=np.float32) - np.float32(self.y))[:, None]
        x = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(self.x))[None, :]
        cos, sin = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        return x * cos + y * sin, y * cos - x * sin


def stamp(canvas: Canvas, window: tuple[slice, slice], surface: Surface, identity: int) -> None:
    """Lay a thing on what is there already. It leans on the highest place it covers (see `lean`)."""
    inside = surface.inside
    height, ids = canvas.height[window], canvas.ids[window]
    height[inside] = (surface.height + lean(height, inside))[inside]
    ids[inside] = identity
    if surface.hole is not None:
        ids[surface.hole] = identity
    for field, value in (("metal", surface.metal), ("rough", surface.rough)):
        value = np.asarray(value, np.float32)
        getattr(canvas, field)[window][inside] = value[inside] if value.ndim else value
    albedo = np.asarray(surface.albedo, np.float32)
    canvas.albedo[window][inside] = albedo[inside] if albedo.ndim == 3 else albedo


def lean(height: np.ndarray, inside: np.ndarray) -> np.ndarray | float:
    """The base plane of a thing: up on what it covers, down on the bench at its far side."""
    covered = inside & (height > 3)
    if np.count_nonzero(covered) < 12:
        return 0.0
    top = float(np.percentile(height[covered], 92))
    rows, columns = np.nonzero(inside)
    centre = np.array([columns.mean(), rows.mean()])
    under_rows, under_columns = np.nonzero(covered)
    towards = np.array([under_columns.mean(), under_rows.mean()]) - centre
    distance = float(np.hypot(*towards))
    if distance < 4:  # it lies across: lifted as a whole
        return top
    direction = towards / distance
    x = np.arange(inside.shape[1], dtype=np.float32)[None, :] - centre[0]
    y = np.arange(inside.shape[0], dtype=np.float32)[:, None] - centre[1]
    along = (x * direction[0] + y * direction[1]) / distance
    return (top * np.clip(0.5 + 0.5 * along, 0.0, 1.15)).astype(np.float32)


def noise(rng: np.random.Generator, shape: tuple[int, int], cell: float, cell_x: float | None = None) -> np.ndarray:
    """Smooth noise [h,w], mean 0, deviation about 1, with features of `cell` (by `cell_x`) pixels."""
    cell_x = cell_x or cell
    rows, columns = max(2, round(shape[0] / cell) + 2), max(2, round(shape[1] / cell_x) + 2)
    small = rng.standard_normal((rows, columns), dtype=np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC) * np.float32(1.25)


def fractal(rng: np.random.Generator, shape: tuple[int, int], cell: float, octaves: int = 4) -> np.ndarray:
    """Noise on several scales, each half the size and 0.6 of the strength of the one before."""
    total, strength = np.zeros(shape, np.float32), 1.0
    for _ in range(octaves):
        total += np.float32(strength) * noise(rng, shape, max(cell, 1.5))
        cell, strength = cell / 2, strength * 0.6
    return total / np.float32(1.5)


def spread(field: np.ndarray, colour) -> np.ndarray:
    """field [h,w] times colour [3] -> [h,w,3]. By channel: several times as fast as broadcasting over three."""
    field = np.asarray(field, np.float32)
    return cv2.merge([field * np.float32(part) for part in colour])
