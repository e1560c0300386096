"""Flips, turns and colours of a batch on its device; the boxes follow. The post's three transforms.

A turned box is the tightest upright box around the turned ellipse inside it: the box around the turned corners
would be sure to hold the object, but grows by a sixth at 10 degrees and makes targets that are too large.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

DEGREES = 10.0
JITTER = 0.2  # brightness, contrast and saturation, each by a factor of 1 +- this
_LEAST_SIDE = 2.0  # pixels of a box that must stay in the picture, or the turn is not made


def augment(images: Tensor, boxes: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """images [B,3,H,W] in 0..1, boxes [B,4] XYXY pixels -> the same, each picture flipped, turned and coloured."""
    count = len(images)

    def draw() -> Tensor:
        return torch.rand(count, generator=generator).to(images.device)

    images, boxes = flip(images, boxes, draw() < 0.5)
    images, boxes = turn(images, boxes, (draw() * 2 - 1) * DEGREES)
    factors = torch.stack([1 + (draw() * 2 - 1) * JITTER for _ in range(3)], 1)
    return colour(images, factors), boxes


def flip(images: Tensor, boxes: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Mirror left and right where `which` [B] bool is set. Boxes of zeros stay zeros."""
    width = images.shape[-1]
    objects = which & ~(boxes == 0).all(1)
    mirrored = torch.stack((width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]), 1)
    images = torch.where(which.view(-1, 1, 1, 1), images.flip(-1), images)
    return images, torch.where(objects[:, None], mirrored, boxes)


def turn(images: Tensor, boxes: Tensor, degrees: Tensor) -> tuple[Tensor, Tensor]:
    """Turn each picture clockwise about its centre by `degrees` [B]; black comes in at the corners.

    A picture whose box would leave it (less than 2 pixels stay) is left as it was. Boxes of zeros stay zeros.
    """
    height, width = images.shape[-2:]
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    middle = boxes.new_tensor([width / 2, height / 2])
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2 - middle, (boxes[:, 2:] - boxes[:, :2]) / 2
    moved = torch.stack((cos * centre[:, 0] - sin * centre[:, 1], sin * centre[:, 0] + cos * centre[:, 1]), 1) + middle
    # an ellipse x = a cos t, y = b sin t, turned, reaches sqrt(a^2 cos^2 + b^2 sin^2) to either side
    reach = torch.stack(
        (torch.hypot(half[:, 0] * cos, half[:, 1] * sin), torch.hypot(half[:, 0] * sin, half[:, 1] * cos)), 1
    )
    edge = boxes.new_tensor([width, height, width, height])
    new = torch.cat((moved - reach, moved + reach), 1).clamp(min=0).minimum(edge)
    empty = (boxes == 0).all(1)
    stays = ((new[:, 2:] - new[:, :2]) >= _LEAST_SIDE).all(1) | empty
    angle_kept = torch.where(stays, angle, 0.0)
    new = torch.where((stays & ~empty)[:, None], new, boxes)
    return _sample(images, angle_kept), new


def _sample(images: Tensor, angle: Tensor) -> Tensor:
    """Each output pixel looks up the input at the place turned back."""
    height, width = images.shape[-2:]
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # affine_grid's coordinates run from -1 to 1 along both sides, so x and y need the sides' ratio
    rows = torch.stack(
        (torch.stack((cos, sin * height / width, zero), 1), torch.stack((-sin * width / height, cos, zero), 1)), 1
    )
    places = functional.affine_grid(rows, list(images.shape), align_corners=False)
    return functional.grid_sample(images, places, align_corners=False)


def colour(images: Tensor, factors: Tensor) -> Tensor:
    """Brightness, contrast, saturation by factors [B,3]; the result stays in 0..1."""
    brightness, contrast, saturation = (factors[:, i].view(-1, 1, 1, 1) for i in range(3))
    images = images * brightness
    weights = images.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (images * weights).sum(1, keepdim=True)
    mean = grey.mean((2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = mean + (grey - mean) * contrast
    return (grey + (images - grey) * saturation).clamp(0, 1)
