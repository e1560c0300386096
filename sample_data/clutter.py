"""Things on the bench that are no parts: they get no label. Same form as the parts: window and surface."""

from __future__ import annotations

import cv2
import numpy as np

from sample_data.canvas import Canvas, Pose, Surface, fractal, noise


def distance(window, points: np.ndarray) -> np.ndarray:
    """Distance in fine pixels of every pixel of the window to a line through points [N,2] (x, y)."""
    rows, columns = window
    line = np.full((rows.stop - rows.start, columns.stop - columns.start), 255, np.uint8)
    if line.size == 0:
        return line.astype(np.float32)
    shifted = (points - (columns.start, rows.start)) * 16
    cv2.polylines(line, [np.rint(shifted).astype(np.int32).reshape(-1, 1, 2)], False, 0, 1, cv2.LINE_AA, 4)
    return cv2.distanceTransform((line > 128).astype(np.uint8), cv2.DIST_L2, 5).astype(np.float32)


def wire(canvas: Canvas, pose: Pose, points: np.ndarray, radius: float, albedo, metal: float, rough: float):
    """A round wire along points [N,2] in the thing's own frame."""
    cos, sin = np.cos(pose.angle), np.sin(pose.angle)
    placed = points @ np.array([[cos, sin], [-sin, cos]]) + (pose.x, pose.y)
    window = pose.window(canvas.shape)
    away = distance(window, placed)
    height = radius + np.sqrt(np.maximum(radius**2 - away**2, 0))
    return window, Surface(away <= radius, height.astype(np.float32), np.float32(albedo), metal, rough)


def arc(centre, radius: float, start: float, end: float) -> np.ndarray:
    angles = np.linspace(start, end, 14)
    return np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)


def paper_clip(rng, canvas: Canvas, x: float, y: float):
    length, wide = rng.uniform(62, 84), rng.uniform(8, 10)
    pose = Pose(x, y, rng.uniform(0, 2 * np.pi), length * 0.7)
    half, narrow = length / 2, wide * 0.72
    points = np.concatenate(
        [
            [[-half * 0.35, -wide]],
            arc((half - wide, 0), wide, -np.pi / 2, np.pi / 2),
            arc((-half + wide, wide - narrow), narrow, np.pi / 2, 3 * np.pi / 2),
            arc((half * 0.7 - narrow, wide * 0.3 - narrow * 0.2), narrow * 0.75, -np.pi / 2, np.pi / 2),
            [[-half * 0.3, wide * 0.3 + narrow * 0.55]],
        ]
    )
    colours = [((0.7, 0.72, 0.76), 1.0), ((0.5, 0.04, 0.04), 0.0), ((0.04, 0.12, 0.45), 0.0)]
    albedo, metal = colours[rng.choice(3, p=[0.6, 0.2, 0.2])]
    return wire(canvas, pose, points, 2.3, albedo, metal, 0.25)


def hex_key(rng, canvas: Canvas, x: float, y: float):
    long, short, radius = rng.uniform(130, 210), rng.uniform(45, 65), rng.uniform(4, 6.5)
    pose = Pose(x, y, rng.uniform(0, 2 * np.pi), long * 0.8)
    bend = 14
    points = np.concatenate([[[-long / 2, 0]], arc((long / 2 - bend, bend), bend, -np.pi / 2, 0), [[long / 2, short]]])
    dark = rng.random() < 0.6
    return wire(canvas, pose, points, radius, (0.06, 0.06, 0.065) if dark else (0.6, 0.6, 0.62), 1.0, 0.35)


def shavings(rng, canvas: Canvas, x: float, y: float):
    """A curl from the lathe or the drill."""
    count = int(rng.integers(30, 70))
    turn, grow = rng.uniform(0.35, 0.6), rng.uniform(1.0, 2.2)
    angles = np.arange(count) * turn
    loops = np.stack([np.cos(angles), 0.75 * np.sin(angles)], axis=1) * rng.uniform(5, 9)
    points = loops + np.stack([np.arange(count) * grow, 6 * np.sin(np.arange(count) * 0.09)], axis=1)
    points -= points.mean(axis=0)
    pose = Pose(x, y, rng.uniform(0, 2 * np.pi), 40 + count * grow * 0.6)
    colour = [(0.66, 0.66, 0.68), (0.75, 0.55, 0.2), (0.5, 0.52, 0.6)][rng.integers(3)]
    return wire(canvas, pose, points, rng.uniform(1.0, 1.6), colour, 1.0, 0.3)


def cable(rng, canvas: Canvas, x: float, y: float):
    steps = np.linspace(-1, 1, 50)
    phase, bow = rng.uniform(0, 6.28), rng.uniform(15, 60)
    points = np.stack([steps * 320, bow * np.sin(steps * rng.uniform(1.5, 3.5) + phase)], axis=1)
    colour = [(0.03, 0.03, 0.03), (0.45, 0.03, 0.03), (0.03, 0.08, 0.35), (0.55, 0.45, 0.04)][rng.integers(4)]
    return wire(canvas, Pose(x, y, rng.uniform(0, np.pi), 340), points, rng.uniform(4, 8), colour, 0.0, 0.4)


def pencil(rng, canvas: Canvas, x: float, y: float):
    length, radius = rng.uniform(170, 420), rng.uniform(8.5, 11)
    pose = Pose(x, y, rng.uniform(0, 2 * np.pi), length / 2 + 4)
    window = pose.window(canvas.shape)
    u, v = pose.frame(window)
    end, across = length / 2, np.abs(v)
    cone = np.clip((end - u) / (3.4 * radius), 0, 1)  # 0 at the tip
    local = np.maximum(radius * np.minimum(cone + 0.04, 1), 0.6)
    paint = [(0.62, 0.38, 0.02), (0.5, 0.04, 0.03), (0.03, 0.16, 0.08), (0.03, 0.06, 0.25), (0.04, 0.04, 0.045)]
    body = np.float32(paint[rng.integers(len(paint))])
    six = 1.75 * radius - np.maximum(0, across - radius / 2) * 1.5
    height = np.where(cone < 1, radius * 0.9 + np.sqrt(np.maximum(local**2 - v**2, 0)), six)
    scallop = u > end - 3.4 * radius - 2.5 * np.abs(np.cos(v / radius * 3))
    bare = np.float32((0.6, 0.42, 0.24)) * (1 + 0.06 * noise(rng, u.shape, 2, 9))[..., None]
    albedo = np.where(scallop[..., None], bare, body * (1 + 0.05 * noise(rng, u.shape, 8))[..., None])
    albedo = np.where((cone < 0.27)[..., None], np.float32((0.05, 0.05, 0.055)), albedo)
    print_ = (u < end - 5 * radius) & (u > end - 9 * radius) & (across < 2.2) & (np.sin(u * 1.1) > -0.3)
    albedo = np.where(print_[..., None], np.float32((0.6, 0.5, 0.25)), albedo)
    inside = (np.abs(u) <= end) & (across <= np.where(cone < 1, local, radius))
    return window, Surface(inside, height.astype(np.float32), albedo.astype(np.float32), 0.0, 0.4)


def screwdriver(rng, canvas: Canvas, x: float, y: float):
    """Blade, shaft and handle; mostly it reaches in from the border."""
    length, radius, grip = rng.uniform(330, 460), rng.uniform(6, 9), rng.uniform(20, 28)
    pose = Pose(x, y, rng.uniform(0, 2 * np.pi), length / 2 + 4)
    window = pose.window(canvas.shape)
    u, v = pose.frame(window)
    across, end = np.abs(v), length / 2
    handle_end = end - rng.uniform(0.42, 0.5) * length
    blade = np.clip((end - u) / 26, 0, 1)
    wide = np.where(u > end - 26, radius * (1.25 - 0.25 * blade), radius)
    thick = np.where(u > end - 26, radius * (0.25 + 0.75 * blade), radius)
    fall = (grip - radius) * np.clip((u - handle_end) / 200, 0, 1)  # the shaft slopes down to the bench
    shaft = grip + thick * np.sqrt(np.maximum(1 - (v / wide) ** 2, 0)) - fall
    shoulder = np.clip((handle_end - u) / 22, 0, 1) * np.clip((u + end) / 26, 0, 1)
    ribs = grip * np.sqrt(np.clip(shoulder, 0.02, 1)) * (1 - 0.07 * np.clip(np.cos(v / grip * 9), 0, 1))
    on_handle = (u <= handle_end) & (across <= ribs)
    height = np.where(on_handle, grip + np.sqrt(np.maximum(ribs**2 - v**2, 0)), shaft)
    colours = [(0.55, 0.05, 0.03), (0.6, 0.4, 0.02), (0.03, 0.12, 0.4), (0.05, 0.25, 0.1), (0.05, 0.05, 0.055)]
    plastic = np.float32(colours[rng.integers(len(colours))])
    albedo = np.where(on_handle[..., None], plastic, np.float32((0.62, 0.63, 0.66)))
    inside = on_handle | ((u > handle_end) & (u <= end) & (across <= wide))
    metal = np.where(on_handle, 0.0, 1.0).astype(np.float32)
    return window, Surface(inside, height.astype(np.float32), albedo, metal, 0.28)


def coin(rng, canvas: Canvas, x: float, y: float):
    """A coin: round as a washer, but whole and with a head on it."""
    radius = rng.uniform(32, 44)
    pose = Pose(x, y, rng.uniform(0, 2 * np.pi), radius + 1)
    window = pose.window(canvas.shape)
    u, v = pose.frame(window)
    away = np.hypot(u, v)
    head = np.maximum(0, 1 - (((u + 3) / (0.42 * radius)) ** 2 + (v / (0.55 * radius)) ** 2)) ** 0.5 * 3.2
    neck = np.maximum(0, 1 - ((u / (0.5 * radius)) ** 2 + ((v - 0.62 * radius) / (0.22 * radius)) ** 2)) ** 0.5 * 2.4
    angle = np.arctan2(v, u)
    letters = (np.abs(away - 0.78 * radius) < 0.07 * radius) * (np.sin(angle * 21) + np.sin(angle * 34 + 1) > 0.2)
    rim = np.clip((away - 0.9 * radius) / 2, 0, 1) * 1.6
    relief = np.maximum(head, neck) * (1 + 0.2 * noise(rng, u.shape, 5)) + letters * 0.9 + rim
    edge = np.maximum(0, away - radius + 2) * 1.2
    colour = np.float32([(0.62, 0.33, 0.2), (0.66, 0.56, 0.32), (0.62, 0.61, 0.58)][rng.integers(3)])
    albedo = colour * (1 + 0.1 * noise(rng, u.shape, 12) - 0.12 * (relief < 0.5))[..., None]
    return window, Surface(away <= radius, (5 + relief - edge).astype(np.float32), albedo.astype(np.float32), 1.0, 0.38)


def sheet(rng, canvas: Canvas, x: float, y: float, long: float, short: float, colour, torn: float, rise: float):
    pose = Pose(x, y, rng.uniform(0, np.pi), np.hypot(long, short) / 2 + 4)
    window = pose.window(canvas.shape)
    u, v = pose.frame(window)
    rough_edge = torn * noise(rng, u.shape, 4)
    inside = (np.abs(u) + rough_edge <= long / 2) & (np.abs(v) <= short / 2)
    shade = 1 + 0.05 * fractal(rng, u.shape, 30, 3)
    height = rise + 0.35 * noise(rng, u.shape, 7, 30) + 0.3 * noise(rng, u.shape, 20)
    albedo = np.float32(colour) * shade[..., None]
    return window, Surface(inside, height.astype(np.float32), albedo.astype(np.float32), 0.0, 0.5)


def tape(rng, canvas: Canvas, x: float, y: float):
    colour = [(0.66, 0.56, 0.34), (0.03, 0.03, 0.033), (0.05, 0.16, 0.42), (0.62, 0.6, 0.55)][rng.integers(4)]
    return sheet(rng, canvas, x, y, rng.uniform(90, 240), rng.uniform(28, 44), colour, 2.0, 1.2)


def note(rng, canvas: Canvas, x: float, y: float):
    """A slip of paper with some writing."""
    long, short = rng.uniform(100, 170), rng.uniform(80, 110)
    colour = [(0.78, 0.70, 0.28), (0.78, 0.77, 0.74), (0.75, 0.42, 0.45)][rng.integers(3)]
    window, surface = sheet(rng, canvas, x, y, long, short, colour, 0.0, 2.0)
    ink = np.zeros(surface.inside.shape, np.float32)
    if ink.size:
        centre = np.array(ink.shape[::-1]) / 2
        for row in range(3):
            steps = np.arange(26)
            line = np.stack([steps * 3.0 - 40, rng.normal(0, 4, 26) + row * 19 - 20], axis=1) + centre
            cv2.polylines(ink, [np.rint(line * 16).astype(np.int32).reshape(-1, 1, 2)], False, 0.8, 1, cv2.LINE_AA, 4)
    surface.albedo *= 1 - ink[..., None] * np.float32((0.85, 0.8, 0.5))
    return window, surface


CLUTTER = {
    "pencil": (pencil, 0.16),
    "screwdriver": (screwdriver, 0.14),
    "coin": (coin, 0.07),
    "tape": (tape, 0.14),
    "paper clip": (paper_clip, 0.15),
    "hex key": (hex_key, 0.09),
    "shavings": (shavings, 0.11),
    "cable": (cable, 0.08),
    "note": (note, 0.06),
}


ON_TOP = ("pencil", "paper clip", "hex key", "cable", "tape")  # what may lie across parts


def draw_clutter(rng: np.random.Generator, canvas: Canvas, x: float, y: float, on_top: bool = False):
    names = ON_TOP if on_top else list(CLUTTER)
    weights = np.array([CLUTTER[name][1] for name in names])
    return CLUTTER[names[rng.choice(len(names), p=weights / weights.sum())]][0](rng, canvas, x, y)
