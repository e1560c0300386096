"""Light on the bench: shading of the height field, shadows, the tilted view, and the camera.

Every surface point is shaded once where it lies; the tilted camera then only moves shaded points, because
light and view are directions (both far away) and so do not depend on the place in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sample_data.canvas import MARGIN, SUPERSAMPLE, Canvas, spread


@dataclass(frozen=True)
class Light:
    """key: unit vector to the lamp; colours [3]; lobes: (unit vector, width, colour) that metal mirrors."""

    key: np.ndarray
    key_colour: np.ndarray
    ambient: np.ndarray
    lobes: tuple
    tilt: np.ndarray  # shift in x, y of a point per unit of its height
    softness: float


def unit(azimuth: float, elevation: float) -> np.ndarray:
    level = np.cos(elevation)
    return np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], np.float32)


def draw_light(rng: np.random.Generator) -> Light:
    azimuth, warmth = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.09)
    key = unit(azimuth, np.radians(rng.uniform(34, 66)))
    warm = np.float32((1 + warmth, 1, 1 - 1.1 * warmth))
    balance = rng.uniform(0.45, 0.8)  # of the lamp against the sky
    lobes = [(key, 0.035, warm * 5.0)]
    for _ in range(rng.integers(2, 4)):  # windows, tubes, a white wall
        towards = unit(azimuth + rng.uniform(0.6, 5.7), np.radians(rng.uniform(15, 80)))
        lobes.append((towards, rng.uniform(0.05, 0.3), np.float32((1 - warmth, 1, 1 + warmth)) * rng.uniform(0.5, 1.5)))
    slant, direction = np.tan(np.radians(abs(rng.normal(0, 9)))), rng.uniform(0, 2 * np.pi)
    slant = min(slant, 0.36)
    tilt = slant * np.array([np.cos(direction), np.sin(direction)])
    ambient = np.float32((1 - warmth, 1, 1 + 1.1 * warmth)) * (1 - balance)
    return Light(key, warm * 1.45 * balance, ambient * 1.25, tuple(lobes), tilt, rng.uniform(0.12, 0.5))


def shadow(height: np.ndarray, light: Light) -> np.ndarray:
    """How much of the lamp each point sees, [H,W] 0..1; its edge softens with the distance of what hides it."""
    coarse = cv2.resize(height, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) / 2
    level = float(np.hypot(light.key[0], light.key[1]))
    rise = float(light.key[2]) / level
    step_x, step_y = light.key[0] / level, light.key[1] / level
    reach = int(min(float(coarse.max()) / rise, 90)) + 2
    padded = cv2.copyMakeBorder(coarse, reach, reach, reach, reach, cv2.BORDER_REPLICATE)
    rows, columns = coarse.shape
    blocked = np.full_like(coarse, -4.0)
    distance = 1.0
    while distance < reach:
        dx, dy = round(distance * step_x), round(distance * step_y)
        over = padded[reach + dy : reach + dy + rows, reach + dx : reach + dx + columns] - coarse
        over -= np.float32(distance * rise + 0.35)
        over *= np.float32(1 / (0.7 + light.softness * distance))
        np.maximum(blocked, over, out=blocked)
        distance += 1.0 if distance < 12 else 1.7
    seen = np.clip(0.5 - blocked * 0.5, 0, 1)
    seen = seen * seen * (3 - 2 * seen)
    return cv2.resize(seen, (height.shape[1], height.shape[0]), interpolation=cv2.INTER_LINEAR)


def openness(height: np.ndarray) -> np.ndarray:
    """Ambient occlusion, [H,W] 0..1: low where the neighbourhood stands higher."""
    small = cv2.resize(height, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) / 2
    hidden = np.zeros_like(small)
    for sigma, strength in ((2.0, 0.09), (5.0, 0.055), (12.0, 0.03)):
        size = int(sigma * 2) * 2 + 1
        around = cv2.blur(cv2.blur(small, (size, size)), (size, size))
        hidden += np.maximum(around - small, 0) * np.float32(strength)
    seen = np.exp(-hidden * 1.5)
    return cv2.resize(seen, (height.shape[1], height.shape[0]), interpolation=cv2.INTER_LINEAR)


def shade(canvas: Canvas, light: Light) -> np.ndarray:
    """Linear RGB [H,W,3] of the height field seen from straight above."""
    slope_x = cv2.Sobel(canvas.height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    slope_y = cv2.Sobel(canvas.height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    normal_z = 1 / np.sqrt(1 + slope_x**2 + slope_y**2)
    facing = np.maximum((light.key[2] - slope_x * light.key[0] - slope_y * light.key[1]) * normal_z, 0)
    lamp, sky = shadow(canvas.height, light), openness(canvas.height)
    direct, indirect = facing * lamp, sky * (0.55 + 0.45 * normal_z)
    colours = zip(light.key_colour, light.ambient)
    matte = cv2.merge([direct * key + indirect * ambient for key, ambient in colours])
    matte *= canvas.albedo
    table = canvas.albedo[::5, ::5][canvas.metal[::5, ::5] == 0].mean(axis=0)

    where = np.nonzero(canvas.metal > 0.5)
    if len(where[0]):
        nz = normal_z[where]
        normal = np.stack([-slope_x[where] * nz, -slope_y[where] * nz, nz])
        matte[where] = mirror(normal, canvas.albedo[where], canvas.rough[where], lamp[where], sky[where], light, table)
    return matte


def mirror(normal, albedo, rough, lamp, sky, light: Light, table) -> np.ndarray:
    """Colour [N,3] of metal with `normal` [3,N]: what it mirrors of lamps, sky and the table around it."""
    view = np.array([light.tilt[0], light.tilt[1], 1.0], np.float32)
    view /= np.linalg.norm(view)
    toward = view @ normal
    ray = 2 * toward * normal - view[:, None]
    up = np.clip(ray[2] * 1.3 + 0.1, 0, 1)
    brightness = np.float32(light.key_colour * light.key[2] + light.ambient)
    low = table * brightness * 0.7  # rays that go down meet the table
    high = light.ambient * 1.15 + 0.10 + 0.10 * light.key_colour
    side = 1 + 0.35 * (light.key[0] * ray[0] + light.key[1] * ray[1])  # the room is lighter towards the lamp
    seen = (low * (1 - up)[:, None] + high * (up * side)[:, None]) * (0.25 + 0.75 * sky)[:, None]
    for index, (towards, width, strength) in enumerate(light.lobes):
        spread = width + 0.35 * rough**2
        glow = np.exp((towards @ ray - 1) / spread) * (width / spread) ** 0.7
        seen += (glow * (lamp if index == 0 else sky))[:, None] * strength
    seen = seen / (0.88 + seen * 0.33)  # the glare of a flat face stays below what the camera can hold
    diffuse = np.maximum(light.key @ normal, 0) * lamp
    soft = diffuse[:, None] * light.key_colour + sky[:, None] * light.ambient
    dull = np.clip(rough * 0.9, 0.1, 0.7)[:, None]
    coat = 0.03 * (1 - dull) * seen  # black oxide still shines a little
    return albedo * (seen * (1 - dull) + soft * dull) + coat


def project(canvas: Canvas, colour: np.ndarray, tilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Look at the relief along the tilt: colour [h,w,3] and ids [h,w] of what is seen, margins cut off.

    Planes are tried from the bench upwards; plane j stands where a point is moved by j pixels, so the last
    plane that the relief reaches is the one that the eye meets first.
    """
    rows, columns = canvas.shape
    inner = (slice(MARGIN, rows - MARGIN), slice(MARGIN, columns - MARGIN))
    slant = float(np.hypot(*tilt))
    steps = min(int(float(canvas.height.max()) * slant), MARGIN - 1)
    if steps < 1:
        return colour[inner], canvas.ids[inner]
    direction = tilt / slant
    plane = np.zeros((rows - 2 * MARGIN, columns - 2 * MARGIN), np.float32)
    for j in range(1, steps + 1):
        dx, dy = round(float(direction[0] * j)), round(float(direction[1] * j))
        moved = canvas.height[MARGIN - dy : rows - MARGIN - dy, MARGIN - dx : columns - MARGIN - dx]
        plane[moved >= j / slant] = j
    y, x = np.mgrid[MARGIN : rows - MARGIN, MARGIN : columns - MARGIN].astype(np.float32)
    x -= np.rint(plane * np.float32(direction[0]))
    y -= np.rint(plane * np.float32(direction[1]))
    seen = cv2.remap(colour, x, y, cv2.INTER_NEAREST)
    top = cv2.remap(canvas.height, x, y, cv2.INTER_NEAREST)
    side = np.clip(plane / slant / np.maximum(top, 1), 0, 1)  # walls darken towards the bench
    wall = (top > 4) & (plane > 0) & (side < 0.93)
    seen *= spread(np.where(wall, 0.45 + 0.55 * side, 1.0), (1, 1, 1))
    return seen, cv2.remap(canvas.ids, x, y, cv2.INTER_NEAREST)


def expose(rng: np.random.Generator, linear: np.ndarray) -> np.ndarray:
    """The camera: fine linear RGB -> uint8 RGB at picture size; blur, focus, vignette, balance, noise."""
    size = (linear.shape[1] // SUPERSAMPLE, linear.shape[0] // SUPERSAMPLE)
    picture = cv2.resize(np.minimum(linear, 3.0), size, interpolation=cv2.INTER_AREA)
    width, height = size
    y = (np.arange(height, dtype=np.float32)[:, None] / height - 0.5) * 2
    x = (np.arange(width, dtype=np.float32)[None, :] / width - 0.5) * 2
    glare = cv2.GaussianBlur(np.maximum(picture - 0.9, 0), (0, 0), 2.5)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.35, 0.7)) + 0.35 * glare
    if rng.random() < 0.45:  # a shallow focus: a band is sharp
        angle, centre = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5)
        away = np.abs(x * np.cos(angle) + y * np.sin(angle) - centre) - rng.uniform(0.2, 0.5)
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(1.0, 2.0))
        weight = spread(np.clip(away * 1.4, 0, 1), (1, 1, 1))
        picture = picture * (1 - weight) + soft * weight
    angle = rng.uniform(0, 2 * np.pi)
    falloff = 1 + rng.uniform(0.05, 0.3) * (x * np.cos(angle) + y * np.sin(angle))  # the lamp is nearer on one side
    falloff = falloff * (1 - rng.uniform(0.04, 0.2) * (x**2 + y**2))
    balance = 1 + rng.normal(0, 0.045, 3) * np.array([1, 0.3, 1])
    few = picture[::3, ::3].mean(axis=2)
    gain = (0.2 / float(np.exp(np.log(few + 0.02).mean()))) ** 0.45  # half-way to automatic exposure
    gain = min(gain, 1.15 / float(np.percentile(few, 97))) * np.exp(rng.normal(0, 0.16))
    picture = picture * spread(falloff * gain, balance)
    grain = rng.standard_normal((*picture.shape[:2], 3), dtype=np.float32)
    grain += cv2.GaussianBlur(grain, (0, 0), 0.8) * 1.2  # raw noise is smeared by the camera's own processing
    picture += grain * np.sqrt(np.maximum(picture, 0) + 0.02) * np.float32(rng.uniform(0.0024, 0.013))
    picture = np.maximum(picture, 0)
    picture = picture * (1 + picture / 2.6) / (1 + picture)  # shoulder: highlights roll off
    encoded = cv2.pow(np.clip(picture * np.float32(1.18), 0, 1), 1 / 2.2)
    contrast = np.float32(rng.uniform(0.05, 0.3))
    encoded = encoded * (1 - contrast) + contrast * encoded * encoded * (3 - 2 * encoded)
    return np.clip(encoded * 255 + 0.5, 0, 255).astype(np.uint8)
