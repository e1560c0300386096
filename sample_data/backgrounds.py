"""What the parts lie on: each function paints the bare canvas (colour, and relief of a pixel or less)."""

from __future__ import annotations

import cv2
import numpy as np

from sample_data.canvas import Canvas, fractal, noise, spread


def colour_of(values: np.ndarray, dark: tuple, light: tuple) -> np.ndarray:
    """[h,w] 0..1 -> [h,w,3] between two colours."""
    values = np.clip(values, 0, 1).astype(np.float32)
    return cv2.merge([values * np.float32(high - low) + np.float32(low) for low, high in zip(dark, light)])


def turned(rng: np.random.Generator, shape: tuple[int, int], angle: float, paint) -> np.ndarray:
    """A field drawn straight on a larger sheet, then turned by `angle` (radians) and cut to shape."""
    side = int(np.hypot(*shape)) + 2
    sheet = paint((side, side))
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), np.degrees(angle), 1.0)
    matrix[:, 2] += np.array([shape[1] - side, shape[0] - side]) / 2
    cut = (shape[1], shape[0])
    return cv2.warpAffine(sheet, matrix, cut, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


WOODS = (
    ((0.16, 0.075, 0.03), (0.36, 0.20, 0.095)),
    ((0.36, 0.21, 0.10), (0.62, 0.44, 0.25)),
    ((0.06, 0.032, 0.018), (0.17, 0.09, 0.05)),
    ((0.30, 0.24, 0.18), (0.50, 0.42, 0.33)),
)
MATS = ((0.012, 0.12, 0.075), (0.02, 0.085, 0.06), (0.02, 0.045, 0.13), (0.035, 0.037, 0.04))
CLOTHS = (
    (0.035, 0.08, 0.24),
    (0.28, 0.035, 0.03),
    (0.22, 0.22, 0.21),
    (0.05, 0.06, 0.08),
    (0.42, 0.36, 0.27),
)
PAINTS = (
    (0.10, 0.16, 0.21),
    (0.05, 0.13, 0.10),
    (0.30, 0.31, 0.30),
    (0.36, 0.10, 0.03),
    (0.40, 0.30, 0.08),
)


def wood(rng: np.random.Generator, canvas: Canvas) -> None:
    dark, light = WOODS[rng.integers(len(WOODS))]
    rings, board = rng.uniform(0.03, 0.07), rng.uniform(0, 500)

    def grain(shape):
        y = np.arange(shape[0], dtype=np.float32)[:, None] + board
        bend = noise(rng, shape, 170, 560) * 24 + noise(rng, shape, 45, 380) * 2
        wave = (y + bend) * rings
        late = (wave % 1.0) ** 2.2  # wood darkens slowly, then breaks to light
        fibre = noise(rng, shape, 2, 70) * 0.12 + noise(rng, shape, 1.4, 18) * 0.09
        fibre += noise(rng, shape, 90, 200) * 0.1
        pores = np.clip(noise(rng, shape, 1.5, 12) - 1.6, 0, 1) * 0.35
        return (0.72 - 0.42 * late + fibre - pores).astype(np.float32)

    field = turned(rng, canvas.shape, rng.choice([0, np.pi / 2]) + rng.normal(0, 0.25), grain)
    canvas.albedo[:] = colour_of(field, dark, light)
    canvas.height[:] = field * 1.1
    if rng.random() < 0.35:  # the gap between two boards
        h, w = canvas.shape
        across = np.arange(h, dtype=np.float32)[:, None] - rng.uniform(0.2, 0.8) * h
        across = across + (np.arange(w, dtype=np.float32)[None, :] - w / 2) * rng.normal(0, 0.12)
        gap = np.exp(-((across / 2.2) ** 2))
        canvas.albedo *= spread(1 - 0.85 * gap, (1, 1, 1))
        canvas.height -= 3 * gap


def brushed_metal(rng: np.random.Generator, canvas: Canvas) -> None:
    def strokes(shape):
        return noise(rng, shape, 1.4, 90) * 0.5 + noise(rng, shape, 3, 240) * 0.4 + noise(rng, shape, 60, 400) * 0.35

    field = turned(rng, canvas.shape, rng.uniform(0, np.pi), strokes)
    tone = rng.uniform(0.22, 0.42)
    tint = np.float32((1, 1, 1)) + rng.normal(0, 0.03, 3).astype(np.float32)
    sheen = noise(rng, canvas.shape, 260) * 0.12
    canvas.albedo[:] = spread(tone * (1 + 0.17 * field + sheen), tint)
    canvas.height[:] = field * 0.35


def cutting_mat(rng: np.random.Generator, canvas: Canvas) -> None:
    base = MATS[rng.integers(len(MATS))]
    h, w = canvas.shape
    angle, step = rng.normal(0, 0.5), rng.uniform(44, 80)
    y, x = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None, :]
    u, v = x * np.cos(angle) + y * np.sin(angle) + 9000, y * np.cos(angle) - x * np.sin(angle) + 9000
    line = np.zeros((h, w), np.float32)
    for field in (u, v):
        near = np.abs(field % step - step / 2)
        line = np.maximum(line, np.clip(1.6 - near, 0, 1) * 0.55)
    fifth = step / 5
    ruler = np.abs(v - 9000 - rng.uniform(0, h)) < 7
    line = np.maximum(line, (np.abs(u % fifth - fifth / 2) < 0.9) * ruler * 0.5)
    grainy = fractal(rng, (h, w), 60, 3) * 0.06 + noise(rng, (h, w), 1.5) * 0.07
    canvas.albedo[:] = spread(1 + grainy, base) + spread(line * (0.8 + grainy), (0.33, 0.36, 0.22))
    canvas.height[:] = noise(rng, (h, w), 1.6) * 0.28


def cloth(rng: np.random.Generator, canvas: Canvas) -> None:
    base = CLOTHS[rng.integers(len(CLOTHS))]
    h, w = canvas.shape
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(4.0, 6.5)
    y, x = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None, :]
    warp = noise(rng, (h, w), 70) * 2.5
    u = (x * np.cos(angle) + y * np.sin(angle) + warp) * (2 * np.pi / pitch)
    v = (y * np.cos(angle) - x * np.sin(angle) + warp) * (2 * np.pi / pitch)
    twill = rng.random() < 0.5
    weave = np.sin(u + v) * 0.6 + 0.4 * np.sin(u - v) if twill else np.sin(u) * np.sin(v)
    thread = noise(rng, (h, w), 2) * 0.16
    canvas.albedo[:] = spread(1 + 0.24 * weave + thread + 0.1 * fractal(rng, (h, w), 90, 2), base)
    canvas.height[:] = 0.5 * weave + noise(rng, (h, w), 75) * rng.uniform(0.6, 2.2)


def concrete(rng: np.random.Generator, canvas: Canvas) -> None:
    tone = rng.uniform(0.2, 0.42)
    tint = np.float32((1.0, 0.98, 0.94)) + rng.normal(0, 0.015, 3).astype(np.float32)
    field = fractal(rng, canvas.shape, 110, 6) * 0.13 + noise(rng, canvas.shape, 1.6) * 0.09
    pits = np.clip(noise(rng, canvas.shape, 4.5) - 2.1, 0, 1)
    canvas.albedo[:] = spread(tone * (1 + field - 0.5 * pits), tint)
    canvas.height[:] = field * 2.4 - 4 * pits


def paper(rng: np.random.Generator, canvas: Canvas) -> None:
    h, w = canvas.shape
    fibre = fractal(rng, (h, w), 9, 2) * 0.012
    white = np.float32((0.80, 0.79, 0.76)) * rng.uniform(0.82, 1.0)
    canvas.albedo[:] = spread(1 + fibre, white)
    angle, step = rng.normal(0, 0.3), rng.uniform(20, 40)
    y, x = np.arange(h, dtype=np.float32)[:, None], np.arange(w, dtype=np.float32)[None, :]
    ruling = rng.choice(["blank", "squares", "lines"])
    fields = [y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)]
    for field in fields[: {"blank": 0, "lines": 1, "squares": 2}[ruling]]:
        near = np.abs((field + 9000) % step - step / 2)
        line = np.clip(1.5 - near, 0, 1) * 0.5
        canvas.albedo *= 1 - spread(line, (0.55, 0.4, 0.2))
    canvas.height[:] = fractal(rng, (h, w), 9, 2) * 0.12 + noise(rng, (h, w), 140) * 3


def cardboard(rng: np.random.Generator, canvas: Canvas) -> None:
    pitch = rng.uniform(13, 20)

    def flutes(shape):
        y = np.arange(shape[0], dtype=np.float32)[:, None]
        return np.sin((y + noise(rng, shape, 60) * 0.8) * (2 * np.pi / pitch)) + noise(rng, shape, 1.5, 9) * 0.5

    field = turned(rng, canvas.shape, rng.uniform(0, np.pi), flutes)
    flecks = np.clip(noise(rng, canvas.shape, 3, 6) - 1.7, 0, 1)
    shade = 1 + 0.035 * field + fractal(rng, canvas.shape, 50, 4) * 0.05 - 0.35 * flecks
    canvas.albedo[:] = spread(shade * rng.uniform(0.75, 1.1), (0.47, 0.315, 0.18))
    canvas.height[:] = field * 0.45


def rubber(rng: np.random.Generator, canvas: Canvas) -> None:
    pitch = rng.uniform(9, 16)

    def ribs(shape):
        y = np.arange(shape[0], dtype=np.float32)[:, None] + np.zeros(shape, np.float32)
        return np.clip(np.abs((y / pitch) % 1.0 - 0.5) * 5 - 1.0, -0.5, 0.5)

    field = turned(rng, canvas.shape, rng.uniform(0, np.pi), ribs)
    dust = np.clip(fractal(rng, canvas.shape, 40, 5), 0, 2) * 0.25
    base = [(0.03, 0.03, 0.032), (0.05, 0.05, 0.055), (0.12, 0.05, 0.035)][rng.integers(3)]
    canvas.albedo[:] = spread(1 + 0.25 * field + dust + 0.1 * noise(rng, canvas.shape, 1.6), base)
    canvas.height[:] = field * 1.6


def painted(rng: np.random.Generator, canvas: Canvas) -> None:
    """A sheet of painted steel: hammered, with chips."""
    base = PAINTS[rng.integers(len(PAINTS))]
    bumps = noise(rng, canvas.shape, 7) * 0.4 + noise(rng, canvas.shape, 3) * 0.15
    canvas.albedo[:] = spread(1 + 0.05 * bumps + 0.08 * fractal(rng, canvas.shape, 80, 3), base)
    chips = np.clip((fractal(rng, canvas.shape, 26, 4) - 2.1) * 9, 0, 1)
    canvas.albedo *= spread(1 - chips, (1, 1, 1))
    canvas.albedo += spread(chips, (0.22, 0.2, 0.18))
    canvas.height[:] = bumps * rng.uniform(0.2, 0.7) - chips
    canvas.rough[:] = 0.35


BACKGROUNDS = {
    "wood": (wood, 0.24),
    "brushed metal": (brushed_metal, 0.11),
    "cutting mat": (cutting_mat, 0.14),
    "cloth": (cloth, 0.13),
    "concrete": (concrete, 0.11),
    "paper": (paper, 0.09),
    "cardboard": (cardboard, 0.08),
    "rubber": (rubber, 0.04),
    "painted": (painted, 0.06),
}


def stains(rng: np.random.Generator, canvas: Canvas) -> None:
    """The marks of use: oil, the ring of a mug, scratches, a pencil line."""
    h, w = canvas.shape
    if rng.random() < 0.35:  # oil
        oil = np.clip(fractal(rng, (h, w), 120, 4) * 1.3 - 1.1, 0, 1) * rng.uniform(0.2, 0.5)
        canvas.albedo *= 1 - spread(oil, (0.75, 0.85, 1.0))
    marks = np.zeros((h, w), np.float32)
    if rng.random() < 0.10:  # a mug stood here: a ring far larger than any washer
        centre = (int(rng.uniform(0, w)), int(rng.uniform(0, h)))
        cv2.circle(marks, centre, int(rng.uniform(120, 190)), 0.6, int(rng.uniform(3, 7)), cv2.LINE_AA)
        marks *= np.clip(0.55 + 0.4 * noise(rng, (h, w), 40), 0, 1)
        canvas.albedo *= 1 - spread(marks, (0.35, 0.5, 0.65))
    if rng.random() < 0.5:  # scratches
        marks = np.zeros((h, w), np.float32)
        for _ in range(rng.integers(2, 9)):
            start, angle = rng.uniform(0, 1, 2) * (w, h), rng.uniform(0, np.pi)
            end = start + rng.uniform(20, 160) * np.array([np.cos(angle), np.sin(angle)])
            ends = tuple(map(int, start)), tuple(map(int, end))
            cv2.line(marks, *ends, float(rng.uniform(0.2, 0.9)), 1, cv2.LINE_AA)
        light = 1.0 if rng.random() < 0.6 else -0.7
        canvas.albedo += spread(marks * 0.22 * light, (1, 1, 1)) * (0.35 + canvas.albedo)
        canvas.height -= 0.9 * marks


def paint(rng: np.random.Generator, canvas: Canvas) -> None:
    """Choose a background and paint it on the canvas, with its stains."""
    names = list(BACKGROUNDS)
    weights = np.array([BACKGROUNDS[name][1] for name in names])
    BACKGROUNDS[names[rng.choice(len(names), p=weights / weights.sum())]][0](rng, canvas)
    stains(rng, canvas)
    np.clip(canvas.albedo, 0.008, 0.92, out=canvas.albedo)
