"""Training over a frozen body: its maps of a few augmented views of each image are computed once and kept.

FPN and heads alone learn. A step costs a quarter of one through the body, at the price of seeing only so many views.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.data.dataset import Unreadable
from toolkit.networks import builder
from toolkit.training import engine
from toolkit.training.detection import Detection


@dataclass(frozen=True)
class Seen:
    """A view as the network sees it: padded size, size without padding, maps [C,h,w] by level, target in its pixels."""

    padded: tuple[int, int]
    size: tuple[int, int]
    maps: dict[str, torch.Tensor]
    target: dict[str, Any]


class FrozenBody(Detection):
    """`Detection` whose batches are kept maps, of `cached_views` views an image. Maps of an epoch's views are computed
    when they are first needed: what a batch holds depends on seed and epoch alone, as everywhere."""

    def _make_network(self, resume: checkpoint.Checkpoint | None) -> None:
        super()._make_network(resume)
        model, name = self.learner.model, self.config.model.model
        body = list(builder.body_of(model).parameters()) if hasattr(model, "backbone") else []
        if not hasattr(getattr(model, "backbone", None), "fpn") or self.architecture["norm"] != "frozen":
            raise InputError(f"--cached-views: needs a network with an FPN and frozen norms; {name} has others here")
        if any(p.requires_grad for p in body):
            raise InputError(
                f"--cached-views: needs --trainable-layers 0, found {self.config.model.trainable_layers}: a body that "
                f"learns gives other maps after every step"
            )
        if self.processes.world_size > 1:
            raise InputError("--cached-views: works in one process; leave it out, or torchrun")

    def _make_batches(self, unreadable: list[str]) -> None:
        super()._make_batches(unreadable)
        self.kept: dict[tuple[int, int], Seen] = {}

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        self.sampler.epoch, self.sampler.start = epoch, start
        views, seed = self.config.data.cached_views, self.config.run.seed
        for keys in self.sampler:
            batch = []
            for row, drawn in keys:
                view = drawn % views
                seen = self.kept.get((row, view))
                if seen is None:
                    item = self.loader.dataset[row, (seed * views + view) * len(self.train) + row]
                    if isinstance(item, Unreadable):
                        self.loader.leave_out([item.reason])
                        continue
                    seen = self.kept[row, view] = seen_by(self.learner.model, *item, self.device, self.dtype)
                batch.append(seen)
            yield batch, [seen.target for seen in batch]

    def losses(self, batch: Any) -> tuple[torch.Tensor, dict[str, float]] | None:
        if not batch[0]:
            return None
        with engine.autocast(self.device, self.dtype):
            return engine.total(losses_of(self.learner.model, batch[0]))

    def memory_advice(self, batch: Any) -> str:
        return super().memory_advice(None) + ", or fewer --cached-views"


@torch.no_grad()
def seen_by(model: Any, image: torch.Tensor, target: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Seen:
    """The body's maps of one image uint8 [3,H,W], as the FPN gets them, in half precision. `model` in train mode."""
    images, targets = engine.to_device([image], [target], device)
    given: list[dict[str, torch.Tensor]] = []
    hook = model.backbone.fpn.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        with engine.autocast(device, dtype):
            seen, resized = model.transform(images, targets)
            model.backbone(seen.tensors)
    finally:
        hook.remove()
    height, width = seen.tensors.shape[-2:]
    maps = {name: value[0].half() for name, value in given[0].items()}
    return Seen((height, width), seen.image_sizes[0], maps, {**resized[0], "image_id": target["image_id"]})


def losses_of(model: Any, batch: list[Seen]) -> dict[str, torch.Tensor]:
    """The detector's four losses from kept maps, smaller ones padded with zeros, as torchvision pads images."""
    height, width = (max(seen.padded[side] for seen in batch) for side in (0, 1))
    maps = {}
    for name in batch[0].maps:
        largest = [max(seen.maps[name].shape[side] for seen in batch) for side in (1, 2)]
        maps[name] = torch.stack([_padded(seen.maps[name], *largest) for seen in batch]).float()
    levels = model.backbone.fpn(maps)
    shape = torch.zeros(1, device=maps[name].device).expand(len(batch), 3, height, width)
    images = ImageList(shape, [seen.size for seen in batch])  # of which RPN and heads ask sizes alone
    targets = [seen.target for seen in batch]
    proposals, of_rpn = model.rpn(images, levels, targets)
    _, of_heads = model.roi_heads(levels, proposals, images.image_sizes, targets)
    return {**of_heads, **of_rpn}


def _padded(value: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return functional.pad(value, (0, width - value.shape[2], 0, height - value.shape[1]))
