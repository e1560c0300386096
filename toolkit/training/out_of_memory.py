"""Advice when memory runs out, and the largest image as the network sees it, which decides how much a step needs."""

from __future__ import annotations

import numpy as np

from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.config import Config, Model
from toolkit.data.coco_index import Index
from toolkit.networks import registry
from toolkit.networks.resize_and_anchors import View

MOST_MASK_BYTES = 2**31  # of the masks of one image while a step computes their loss


def mask_memory(index: Index, model: Model) -> tuple[int, int]:
    """(bytes, row) of the image whose masks need most: torchvision holds them as float at the network's size."""
    each = _seen(index, model).prod(axis=1).astype(np.int64) * np.diff(index.first) * 4
    row = int(each.argmax())
    return int(each[row]), row


def check_mask_memory(index: Index, model: Model) -> None:
    """Refuse an image whose masks would need more than MOST_MASK_BYTES."""
    most, row = mask_memory(index, model)
    if most > MOST_MASK_BYTES:
        objects = index.first[row + 1] - index.first[row]
        raise InputError(
            f"{index.path(row)}: the masks of its {objects} objects need {most / 2**30:.1f} GB in a step at "
            f"--image-size {model.image_size}, at most {MOST_MASK_BYTES / 2**30:.0f} GB; needs a smaller --image-size "
            f"or --max-size, or smaller pictures"
        )


def largest(index: Index, model: Model) -> str:
    """`photo.jpg, 4000x3000 px, 1066x800 px in the network`: the image of most pixels after the largest resize
    that multi-scale draws."""
    seen = _seen(index, model)
    row = int(seen.prod(axis=1).argmax())
    (height, width), (high, wide) = index.sizes[row].tolist(), seen[row].tolist()
    return f"{index.path(row).name}, {width}x{height} px, {wide}x{high} px in the network"


def _seen(index: Index, model: Model) -> np.ndarray:
    """Sizes [N,2] of the images after the largest resize that multi-scale draws."""
    shorter = None if registry.find(model.model).only_shrinks else round(model.image_size * (1 + model.multi_scale))
    return View(shorter, model.max_size).seen(index.sizes)


def advice(config: Config, train: Index, images: list, targets: list) -> str:
    """For a step that ran out of memory: its batch, the largest image, what to try."""
    sizes = ", ".join(f"{i.shape[2]}x{i.shape[1]}" for i in images)
    boxes = ", ".join(str(len(t["boxes"])) for t in targets)
    return (
        f"batch of {counted(len(images), 'image')} ({sizes} px; {boxes} boxes) "
        f"at --image-size {config.model.image_size}; the largest image is {largest(train, config.model)}; try a "
        f"smaller --batch-size with --accumulate, a smaller --image-size or --max-size, --precision bf16 where the "
        f"device has it, or --roi-batch 128"
    )
