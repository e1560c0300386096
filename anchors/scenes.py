"""Small drawn scenes: 1 to 3 rectangles, ellipses and triangles on a noisy ground, with their true boxes and masks.

A scene is determined by its seed: the same seed gives the same pixels on every machine. Nothing is read from disk, so
the detector of this package can be trained and shown anywhere in a minute.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.arguments import check_count
from anchors.boxes import box_iou

CLASSES = ("rectangle", "ellipse", "triangle")
MAX_OVERLAP = 0.1


def _mask(label: int, box: Tensor, size: int) -> Tensor:
    """True [size,size] on the pixels whose centre lies in the shape that fills the box."""
    centre = torch.arange(size) + 0.5
    x1, y1, x2, y2 = box.tolist()
    u = ((centre - x1) / (x2 - x1))[None, :]  # 0..1 across the box
    v = ((centre - y1) / (y2 - y1))[:, None]
    inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    if CLASSES[label - 1] == "ellipse":
        return (2 * u - 1) ** 2 + (2 * v - 1) ** 2 <= 1
    if CLASSES[label - 1] == "triangle":  # its tip in the middle of the upper side
        return inside & ((2 * u - 1).abs() <= v)
    return inside


def draw_scene(
    seed: int, *, size: int = 96, max_objects: int = 3, smallest: int = 20, largest: int = 48
) -> tuple[Tensor, dict[str, Tensor]]:
    """Image [3,size,size] float32 in 0..1, and {"boxes" [N,4] XYXY, "labels" [N] int64 in 1..3,
    "masks" [N,size,size] bool}: the pixels of an object that no later one covers.

    Objects hardly overlap (IoU <= 0.1), so that each can be seen. Boxes have whole-number corners.
    """
    check_count(seed, "seed")
    check_count(size, "size", low=largest)
    check_count(max_objects, "max_objects", low=1)
    random = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    ground = torch.rand(3, 1, 1, generator=random) * 0.6 + 0.2
    image = ground + torch.randn(3, size, size, generator=random) * 0.04
    labels: list[int] = []
    boxes, masks = torch.zeros(0, 4), torch.zeros(0, size, size, dtype=torch.bool)
    for _ in range(whole(1, max_objects)):
        for _ in range(50):  # tries to find a free place; a full scene has one object less
            w, h = whole(smallest, largest), whole(smallest, largest)
            x, y = whole(0, size - w), whole(0, size - h)
            box = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32)
            if not (box_iou(boxes, box) > MAX_OVERLAP).any():
                break
        else:
            continue
        label = whole(1, len(CLASSES))
        colour = torch.rand(3, generator=random)
        while (colour - ground.flatten()).abs().max() < 0.35:  # visible against the ground
            colour = torch.rand(3, generator=random)
        mask = _mask(label, box[0], size)
        texture = torch.randn(3, int(mask.sum()), generator=random) * 0.04
        image[:, mask] = colour[:, None] + texture
        boxes, labels, masks = torch.cat((boxes, box)), [*labels, label], torch.cat((masks & ~mask, mask[None]))
    return image.clamp(0, 1), {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), "masks": masks}


def draw_scenes(first_seed: int, count: int, **options) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """`count` scenes of consecutive seeds."""
    check_count(count, "count")
    return [draw_scene(seed, **options) for seed in range(first_seed, first_seed + count)]
