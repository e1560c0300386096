"""Load a checkpoint's network to measure or export it: in full precision, perhaps at another speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from label_tools.text.errors import InputError
from toolkit import checkpoint, device_and_seed
from toolkit.networks import builder, onnx_forward

DRAWS, NOISE = 6, 1e-6  # how often a network is shaken, and by how much: 8 times the last bit of a value


@dataclass(frozen=True)
class Loaded:
    """A checkpoint and its network, perhaps at another size or with fewer proposals than it was trained with."""

    found: checkpoint.Checkpoint
    model: Any
    name: str

    @classmethod
    def of(
        cls,
        run: Path,
        image_size: int | None = None,
        proposals: int | None = None,
        device: str = "cpu",
        threads: int = 0,
    ) -> Loaded:
        """threads: of torch on a CPU; 0: as they are."""
        if threads:
            torch.set_num_threads(threads)
        found = checkpoint.load(checkpoint.find(run))
        model = builder.restored(found)
        set_speed(model, image_size, proposals)
        return cls(found, model.to(device_and_seed.choose_device(device)), found.meta["architecture"]["name"])

    @property
    def thresholds(self) -> list[float]:
        """[K] score thresholds of the labels 1..K."""
        stored = self.found.meta.get("score_thresholds", {})
        return [stored.get(name, 0.5) for name in self.found.classes]

    def detect(self, image: np.ndarray) -> list[np.ndarray]:
        """boxes [N,4] XYXY pixels, labels [N] 1..K, scores [N] of an image [H,W,3] uint8."""
        return _detect(self.model, image)

    def detect_otherwise(self, image: np.ndarray) -> Iterator[list[np.ndarray]]:
        """`detect` with other roundings, by torchvision's operators on the CPU: in double precision, and DRAWS times
        with pixels and weights off by NOISE, as far as two programs in single precision are apart after a few layers.
        """
        yield _detect(self._plain.double(), image)
        random = torch.Generator().manual_seed(0)
        weights = {name: value.clone() for name, value in self._plain.float().state_dict().items()}

        def shaken(value: torch.Tensor) -> torch.Tensor:
            return value * (1 + NOISE * torch.randn(value.shape, generator=random))

        for _ in range(DRAWS):
            for name, value in self._plain.named_parameters():
                value.data = shaken(weights[name])
            yield _detect(self._plain, image, shaken)
        self._plain.load_state_dict(weights)

    @cached_property
    def _plain(self) -> Any:
        return onnx_forward.exportable(self.model, self.name)


@torch.inference_mode()
def _detect(model: Any, image: np.ndarray, change: Callable = lambda pixels: pixels) -> list[np.ndarray]:
    weight = next(model.parameters())
    pixels = torch.from_numpy(image.copy()).to(weight.device)
    (found,) = model([change(pixels.permute(2, 0, 1).to(weight.dtype).div_(255))])
    return [found[key].cpu().numpy() for key in ("boxes", "labels", "scores")]


def set_speed(model: Any, image_size: int | None, proposals: int | None) -> None:
    """Let a network of torchvision's kind see images of another size (the shorter side, the longest in proportion), or
    look at fewer proposals. None: as it is."""
    if (image_size or proposals) and not hasattr(model, "transform"):
        raise InputError("--image-size, --proposals: not for this network, which has a resize of its own")
    if image_size:
        model.transform.max_size = round(model.transform.max_size * image_size / model.transform.min_size[-1])
        model.transform.min_size = (image_size,)
    if proposals:
        model.rpn._post_nms_top_n["testing"] = proposals
