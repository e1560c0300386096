"""The largest image of a data set as the network sees it, which decides how much memory a step needs; and the advice
when there was too little."""

from __future__ import annotations

from label_tools.text.messages import counted
from toolkit.config import Config, Model
from toolkit.data.dataset import Index
from toolkit.networks import registry
from toolkit.networks.view import View


def largest(index: Index, model: Model) -> str:
    """`photo.jpg, 4000x3000 px, 1066x800 px in the network`: the image of most pixels after the largest resize
    that multi-scale draws."""
    shorter = None if registry.find(model.model).only_shrinks else round(model.image_size * (1 + model.multi_scale))
    seen = View(shorter, model.max_size).seen(index.sizes)
    row = int(seen.prod(axis=1).argmax())
    (height, width), (high, wide) = index.sizes[row].tolist(), seen[row].tolist()
    return f"{index.path(row).name}, {width}x{height} px, {wide}x{high} px in the network"


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
