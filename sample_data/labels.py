"""Labels as a person would leave them: masks of what is visible -> LabelMe files, or instance-mask PNGs."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
from PIL import Image

POINTS = {"bolt": 22, "hex_nut": 12, "washer": 16}  # the most that one piece of an outline gets


def labelme(rng: np.random.Generator, name: str, size: tuple[int, int], parts: list) -> dict:
    """The LabelMe document (format 5.5) of image `name` of size (width, height) and scene's parts."""
    shapes, groups = [], 0
    for label, box, mask in parts:
        pieces = outlines(mask)
        chance = rng.random()
        if len(pieces) > 1:
            groups += 1
            shapes += [polygon(rng, label, piece, size, group=groups) for piece in pieces]
        elif label == "washer" and chance < 0.72 and is_disc(box, pieces[0], size):
            shapes.append(circle(rng, label, box))
        elif chance > 0.90:
            shapes.append(mask_shape(label, mask))
        elif chance > 0.82:
            corners = box.reshape(2, 2) + rng.uniform(-0.6, 0.6, (2, 2))
            shapes.append(shape(label, "rectangle", np.clip(corners, 0, size)))
        else:
            shapes.append(polygon(rng, label, pieces[0], size))
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": size[1],
        "imageWidth": size[0],
    }


def shape(label: str, kind: str, points: np.ndarray, group: int | None = None, mask: str | None = None) -> dict:
    rounded = [[round(float(x), 2), round(float(y), 2)] for x, y in points]
    return {
        "label": label,
        "points": rounded,
        "group_id": group,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": mask,
    }


def outlines(mask: np.ndarray) -> list[np.ndarray]:
    """The outer outline [N,2] of each separate piece, along pixel edges, the largest piece first."""
    fine = 4
    large = np.kron(np.pad(mask, 1), np.ones((fine, fine), np.uint8)).astype(np.uint8)
    found, _ = cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    found = sorted(found, key=cv2.contourArea, reverse=True)
    return [(piece[:, 0].astype(np.float32) + 0.5) / fine - 1 for piece in found]


def polygon(rng, label: str, outline: np.ndarray, size: tuple[int, int], group: int | None = None) -> dict:
    """As few points as follow the outline, each set with an unsteady hand, and not always from the top."""
    tolerance = 0.7
    while True:
        points = cv2.approxPolyDP(outline[:, None], tolerance, True)[:, 0]
        if len(points) <= POINTS[label] or tolerance > 3:
            break
        tolerance *= 1.15
    apart = np.hypot(*(points - np.roll(points, 1, axis=0)).T) > 2.2  # nobody clicks twice on one spot
    apart |= (points == points.min(axis=0)).any(axis=1) | (points == points.max(axis=0)).any(axis=1)
    points = points[apart]
    points = np.roll(points, rng.integers(len(points)), axis=0)
    points = np.clip(points + rng.normal(0, 0.4, points.shape).clip(-0.9, 0.9), 0, size)
    return shape(label, "polygon", points, group)


def is_disc(box: np.ndarray, outline: np.ndarray, size: tuple[int, int]) -> bool:
    """Is all of the disc in view, and free of the border? Then a person draws a circle."""
    if box[:2].min() < 1 or (box[2:] > np.array(size) - 1).any():
        return False
    radius = float(box[2:].sum() - box[:2].sum()) / 4
    centre = (box[:2] + box[2:]) / 2
    return float(np.abs(np.hypot(*(outline - centre).T) - radius).max()) < 1.7


def circle(rng, label: str, box: np.ndarray) -> dict:
    """LabelMe's circle: the centre and one point on the edge."""
    centre = (box[:2] + box[2:]) / 2 + rng.normal(0, 0.25, 2).clip(-0.5, 0.5)
    radius = float(box[2:].sum() - box[:2].sum()) / 4 + rng.uniform(-0.4, 0.4)
    angle = rng.uniform(0, 2 * np.pi)
    return shape(label, "circle", [centre, centre + radius * np.array([np.cos(angle), np.sin(angle)])])


def mask_shape(label: str, mask: np.ndarray) -> dict:
    """LabelMe's mask: the first and last pixel of the box, and that cut of the mask as a PNG."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    crop = Image.fromarray((mask[top : bottom + 1, left : right + 1] * 255).astype(np.uint8))
    stream = io.BytesIO()
    crop.convert("1").save(stream, "PNG", optimize=True)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return shape(label, "mask", np.array([[left, top], [right, bottom]]), mask=text)


def instance_masks(size: tuple[int, int], parts: list) -> dict[str, np.ndarray]:
    """Per label an image [H,W] uint8 of instance ids: 1 to n over all labels, 0 elsewhere."""
    images: dict[str, np.ndarray] = {}
    for identity, (label, _, mask) in enumerate(parts, start=1):
        image = images.setdefault(label, np.zeros((size[1], size[0]), np.uint8))
        image[mask] = identity
    return images
