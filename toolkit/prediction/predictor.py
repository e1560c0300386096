"""A trained checkpoint on torch, ready to detect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from toolkit import checkpoint, runtime
from toolkit.data.dataset import coco_results
from toolkit.networks import builder, registry
from toolkit.prediction.detector import Found
from toolkit.training import engine


class Predictor:
    """A loaded checkpoint on a device: a `Detector`. Raises InputError for what cannot be loaded."""

    def __init__(self, run: Path, device: str = "auto", precision: str = "auto") -> None:
        self.checkpoint = checkpoint.load(checkpoint.find(run))
        self.device = runtime.choose_device(device)
        self.model = builder.restored(self.checkpoint).to(self.device)
        compact = registry.find(self.checkpoint.meta["architecture"]["name"]).compact
        self.dtype = runtime.choose_precision(precision, self.device, compact)
        self.name = str(self.checkpoint.folder)
        self.identity = self.checkpoint.meta["sha256"][checkpoint.WEIGHTS]
        self.categories = self.checkpoint.meta["classes"]
        self.score_thresholds = self.checkpoint.meta.get("score_thresholds", {})
        self.opening = self.checkpoint.meta.get("opening", {})

    def detect(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Every detection in each image [H,W,3] uint8 RGB."""
        tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
        batch = [(tensors, [{"image_id": number} for number in range(len(images))])]
        ids = tuple(category["id"] for category in self.categories)
        outputs = engine.predict(self.model, batch, self.device, self.dtype)
        return [coco_results(number, output, ids) for number, output in outputs]
