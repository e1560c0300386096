"""Training over a frozen body: its maps of a few augmented views of each image are computed once and kept.

FPN and heads alone learn. A step costs a quarter of one through the body, at the price of seeing only so many views.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.data.dataset import Unreadable
from toolkit.networks import builder, kept_maps
from toolkit.networks.kept_maps import Seen
from toolkit.training import engine
from toolkit.training.detection_task import Detection


class FrozenBody(Detection):
    """`Detection` whose batches are kept maps, of `cached_views` views an image. Maps of an epoch's views are computed
    when they are first needed: what a batch holds depends on seed and epoch alone, as everywhere."""

    def _make_network(self, resume: checkpoint.Checkpoint | None) -> None:
        super()._make_network(resume)
        model, options, name = self.learner.model, self.config.model, self.config.model.model
        body = list(builder.body_of(model).parameters()) if hasattr(model, "backbone") else []
        if not hasattr(getattr(model, "backbone", None), "fpn") or self.architecture["norm"] != "frozen":
            raise InputError(f"--cached-views: needs a network with an FPN and frozen norms; {name} has others here")
        if any(p.requires_grad for p in body):
            raise InputError(
                f"--cached-views: needs --trainable-layers 0 and first weights, found {options.trainable_layers} "
                f"and {options.weights}: a body that learns gives other maps after every step"
            )
        if self.processes.world_size > 1:
            raise InputError("--cached-views: works in one process; needs --cached-views 0 here")

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
                    seen = self.kept[row, view] = self._seen(*item)
                batch.append(seen)
            yield batch, [seen.target for seen in batch]

    def _seen(self, image: torch.Tensor, target: dict[str, Any]) -> Seen:
        images, targets = engine.to_device([image], [target], self.device)
        with engine.autocast(self.device, self.dtype):
            return kept_maps.seen_by(self.learner.model, images[0], {**targets[0], "image_id": target["image_id"]})

    def losses(self, batch: Any) -> tuple[torch.Tensor, dict[str, float]] | None:
        if not batch[0]:
            return None
        with engine.autocast(self.device, self.dtype):
            return engine.total(kept_maps.losses_of(self.learner.model, batch[0]))

    def memory_advice(self, batch: Any) -> str:
        return super().memory_advice(None) + ", or fewer --cached-views"
