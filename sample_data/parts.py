"""The three kinds of parts as height fields: hex nuts, bolts lying on their side, washers."""

from __future__ import annotations

import numpy as np

from sample_data.canvas import Canvas, Pose, Surface, noise

# reflectance of the metal (linear RGB), roughness, how often
FINISHES = {
    "steel": ((0.56, 0.56, 0.57), 0.32, 0.30),
    "bright zinc": ((0.66, 0.68, 0.72), 0.22, 0.26),
    "yellow zinc": ((0.74, 0.58, 0.27), 0.26, 0.13),
    "brass": ((0.78, 0.53, 0.18), 0.22, 0.13),
    "black oxide": ((0.055, 0.055, 0.06), 0.40, 0.13),
    "copper": ((0.72, 0.36, 0.22), 0.28, 0.05),
}


def finish(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A metal with its age: reflectance [h,w,3] and roughness [h,w]."""
    names = list(FINISHES)
    weights = np.array([FINISHES[name][2] for name in names])
    colour, rough, _ = FINISHES[names[rng.choice(len(names), p=weights / weights.sum())]]
    worn = noise(rng, shape, 14) * 0.07 + noise(rng, shape, 3) * 0.05 * rng.uniform(0.4, 1.6)
    tone = np.float32(rng.uniform(0.85, 1.1))
    albedo = np.asarray(colour, np.float32) * tone * (1 + worn)[..., None].astype(np.float32)
    roughness = rough * rng.uniform(0.8, 1.4) + 0.06 * noise(rng, shape, 10)
    if rng.random() < 0.18 and colour[0] < 0.7:  # rust, in patches
        patch = np.clip((noise(rng, shape, 16) + 0.5 * noise(rng, shape, 4) - 0.7) * 1.4, 0, 0.85)[..., None]
        albedo = albedo * (1 - patch) + np.float32((0.20, 0.085, 0.035)) * patch
        roughness = roughness + 0.4 * patch[..., 0]
    return np.clip(albedo, 0.02, 1).astype(np.float32), np.clip(roughness, 0.12, 0.9).astype(np.float32)


def hexagon(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The apothem of the hexagon through (u, v); flats face +-u."""
    slant = np.float32(np.sqrt(3) / 2)
    return np.maximum(np.abs(u), np.maximum(np.abs(0.5 * u + slant * v), np.abs(0.5 * u - slant * v)))


def nut(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float) -> tuple[tuple, Surface]:
    """A hex nut of `size` across its corners: plain, with a flange, or with a nylon ring."""
    kind = rng.choice(["plain", "flange", "lock"], p=[0.74, 0.12, 0.14])
    apothem = size * 0.433 * (0.82 if kind == "flange" else 1.0)
    pose = Pose(x, y, rng.uniform(0, np.pi), size * 0.56)
    window = pose.window(canvas.shape)
    u, v = pose.frame(window)
    radius, flat = np.hypot(u, v), hexagon(u, v)
    thick = apothem * rng.uniform(0.7, 1.05)
    bore = apothem * rng.uniform(0.52, 0.62)
    albedo, rough = finish(rng, radius.shape)
    metal = np.ones_like(radius)
    inside = flat <= apothem
    cone = np.maximum(0, radius - 0.95 * apothem) * 0.7
    height = thick - cone - np.maximum(0, flat - apothem + 1.5) * 0.8 + noise(rng, flat.shape, 14) * 0.25
    if kind == "flange":
        reach = apothem * 1.3
        skirt = 0.18 * thick + np.maximum(0, reach - radius) * 0.42
        height = np.where(inside, np.maximum(height, skirt), np.where(radius > reach - 1.5, 0.6, 1.0) * skirt)
        inside = radius <= reach
    if kind == "lock":
        collar = radius < apothem * 0.86
        height = height + np.where(collar, np.minimum((apothem * 0.86 - radius) * 0.8, 0.28 * apothem), 0)
        nylon = (radius < bore * 1.22) & (radius > bore * 0.9)
        ring = np.float32(rng.choice([(0.12, 0.25, 0.55), (0.75, 0.74, 0.7)]))
        albedo = np.where(nylon[..., None], ring, albedo)
        metal = np.where(nylon, 0.0, metal)
        bore *= 0.92
    countersink = np.maximum(0, bore * 1.16 - radius) * 0.8
    turns = np.sin((radius - bore) * 1.7) * 0.8
    wall = thick - countersink - np.maximum(0, bore - radius) * 5 + turns * (radius < bore)
    height = np.where(radius < bore * 1.16, np.minimum(height, wall), height)
    through = radius < bore * 0.86
    height = np.where(radius < bore, np.maximum(height, 1), height)
    height, metal = height.astype(np.float32), metal.astype(np.float32)
    return window, Surface(inside & ~through, height, albedo, metal, rough, hole=through)


def washer(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float) -> tuple[tuple, Surface]:
    """A flat ring of `size` across; some are spring washers with a cut."""
    outer = size / 2
    spring = rng.random() < 0.14
    inner = outer * (rng.uniform(0.58, 0.64) if spring else rng.uniform(0.40, 0.57))
    pose = Pose(x, y, rng.uniform(0, 2 * np.pi), outer + 1)
    window = pose.window(canvas.shape)
    u, v = pose.frame(window)
    radius = np.hypot(u, v)
    thick = outer * (rng.uniform(0.2, 0.26) if spring else rng.uniform(0.09, 0.16)) + 1
    inside = (radius <= outer) & (radius >= inner)
    edge = np.minimum(outer - radius, radius - inner)
    height = thick - np.maximum(0, 2.2 - edge) * rng.uniform(0.3, 0.8)
    if spring:
        slot = (u < 0) & (np.abs(v + 0.25 * (u + 0.8 * outer)) < outer * 0.045)
        inside &= ~slot
        height = height + np.arctan2(v, u) * outer * 0.025  # its ends stand apart
    elif rng.random() < 0.5:  # pressed: slightly domed
        height = height + np.sqrt(np.maximum(0, 1 - (radius / outer) ** 2)) * outer * rng.uniform(0.03, 0.1)
    albedo, rough = finish(rng, radius.shape)
    lathe = noise(rng, (1, 256), 1, 3)[0][np.minimum(radius * 2, 255).astype(int)] * rng.uniform(0.0, 0.12)
    height = height + lathe + u * rng.uniform(-0.05, 0.05) + noise(rng, radius.shape, 18) * 0.5
    if rng.random() < 0.65:  # turned metal shines in a bow tie, across its grooves
        bow = (u**2 - v**2) / np.maximum(radius**2, 1) * rng.uniform(0.1, 0.38)
        albedo = albedo * (0.9 + bow)[..., None].astype(np.float32)
    return window, Surface(inside, np.maximum(height, 1).astype(np.float32), albedo, 1.0, rough)


def bolt(rng: np.random.Generator, canvas: Canvas, x: float, y: float, size: float) -> tuple[tuple, Surface]:
    """A bolt of `size` from head to tip, on its side: hexagon head or cylinder head with a socket."""
    socket = rng.random() < 0.3
    shank = size * rng.uniform(0.085, 0.125)  # radius
    head = shank * (1.55 if socket else 1.75)
    deep = 2 * shank * (rng.uniform(0.9, 1.1) if socket else rng.uniform(0.62, 0.78))
    pose = Pose(x, y, rng.uniform(0, 2 * np.pi), size / 2 + head * 0.3)
    window = pose.window(canvas.shape)
    u, v = pose.frame(window)
    start, end = -size / 2, size / 2
    neck = start + deep
    across = np.abs(v)
    axis = head + (shank - head) * np.clip((u - neck) / (end - neck), 0, 1) * 0.8
    # thread: V grooves that run askew across the shank
    pitch = max(0.42 * shank, 4.2)
    threaded = u > neck + (end - neck) * rng.choice([0.04, 0.3, 0.45])
    phase = ((u + 0.22 * v) / pitch) % 1.0
    groove = np.abs(phase * 2 - 1) * 0.17 * shank * threaded
    chamfer = np.maximum(0, u - end + 0.55 * shank) * 0.75
    local = np.maximum(shank - 0.55 * groove - chamfer, 0.1)
    round_top = np.sqrt(np.maximum(local**2 - v**2, 0))
    on_shank = (u >= neck) & (u <= end) & (across <= local)
    height = axis + round_top * (1 - 0.6 * groove / shank)
    if socket:
        bevel = np.maximum(0, neck - deep * 0.82 - u) * 0.6
        wide = np.maximum(head - bevel, 1)
        on_head = (u >= start) & (u < neck) & (across <= wide)
        knurl = np.sin(np.arcsin(np.clip(v / head, -1, 1)) * 26) * 0.5 * (u > start + deep * 0.25)
        top = head + np.sqrt(np.maximum(wide**2 - v**2, 0)) + knurl
    else:
        corner = head * 1.0
        slope = np.maximum(0, across - corner / 2) * 1.732
        crown = np.maximum(0, start + 0.3 * deep - u) * (0.25 + 0.8 * across / corner)
        on_head = (u >= start) & (u < neck) & (across <= corner - 0.4 * crown)
        top = 1.866 * head - slope - crown
    height = np.where(on_head, top, height)
    inside = on_head | on_shank
    albedo, rough = finish(rng, u.shape)
    metal = 1.0
    if socket:
        albedo = albedo * np.where(on_head, 0.9, 1.0)[..., None].astype(np.float32)
    albedo = albedo * (1 - 1.6 * (groove / shank) * on_shank)[..., None].astype(np.float32)
    return window, Surface(inside, np.maximum(height, 1).astype(np.float32), albedo, metal, rough)


PARTS = {"bolt": bolt, "hex_nut": nut, "washer": washer}
