"""A trained checkpoint on torch, ready to detect."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from label_tools.text.errors import InputError
from toolkit import checkpoint, device_and_seed
from toolkit.data.boxes import coco_results
from toolkit.data.tiles import Tiles
from toolkit.networks import builder, registry
from toolkit.prediction.detector import Found
from toolkit.prediction.tiles_and_tta import TrainedOnTiles
from toolkit.rank_and_cores import this_process
from toolkit.training import forward_pass


class TorchDetector(TrainedOnTiles):
    """A loaded checkpoint on a device: a `Detector`. Raises InputError for what cannot be loaded."""

    def __init__(self, run: Path, device: str = "auto") -> None:
        self.checkpoint = checkpoint.load(checkpoint.find(run))
        local_rank = this_process().local_rank % max(1, torch.cuda.device_count())  # torchrun's processes may share one
        self.device = device_and_seed.choose_device(device, local_rank)
        self.model = builder.restored(self.checkpoint).to(self.device)
        compact = registry.find(self.checkpoint.meta["architecture"]["name"]).compact
        self.dtype = device_and_seed.choose_precision("auto", self.device, compact)
        self.scale = 1.0
        self.name = str(self.checkpoint.folder)
        self.identity = self.checkpoint.meta["sha256"][checkpoint.WEIGHTS]
        self.categories = self.checkpoint.meta["classes"]
        self.score_thresholds = self.checkpoint.meta.get("score_thresholds", {})
        self.opening = self.checkpoint.meta.get("opening", {})
        tiles = self.checkpoint.meta.get("tiles")
        self.tiles = Tiles(*tiles) if tiles else None

    def at_scale(self, factor: float) -> TorchDetector:
        """The same network, for which pictures are resized to `factor` times the usual size."""
        if not hasattr(self.model, "transform"):
            raise InputError(f"--tta scales: {self.name}: this network has no resize of its own; needs --tta flip")
        other = copy.copy(self)
        other.scale = factor
        other.identity = f"{self.identity}, scale {factor:g}"
        return other

    def _detect(self, images: Sequence[np.ndarray]) -> list[Found]:
        tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
        batch = [(tensors, [{"image_id": number} for number in range(len(images))])]
        ids = tuple(category["id"] for category in self.categories)
        with self._resized():
            outputs = forward_pass.predict(self.model, batch, self.device, self.dtype)
            return [coco_results(number, output, ids) for number, output in outputs]

    @contextlib.contextmanager
    def _resized(self) -> Iterator[None]:
        """The network's own resize at this detector's scale."""
        if self.scale == 1:
            yield
            return
        resize: Any = self.model.transform
        before = resize.min_size, resize.max_size
        resize.min_size = tuple(round(self.scale * size) for size in before[0])
        resize.max_size = round(self.scale * before[1])
        try:
            yield
        finally:
            resize.min_size, resize.max_size = before
