"""The mask branch on our compact detectors, and how masks pass through torchvision's resize in less memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign

from toolkit.data.outlines import unpack

WIDTH, LAYERS = 64, 3  # of the compact mask head
CELLS = 14  # of its RoIAlign; the mask has twice as many
FINEST = ["0"]  # masks of all objects come from stride 8: an outline is lost on coarser maps


def add_masks(detector: Any, num_classes: int) -> Any:
    """A compact FasterRCNN with a mask branch: convolutions of 64 channels, masks of 28 x 28 per class."""
    heads = detector.roi_heads
    heads.mask_roi_pool = MultiScaleRoIAlign(FINEST, CELLS, 2)
    heads.mask_head = MaskRCNNHeads(detector.backbone.out_channels, (WIDTH,) * LAYERS, 1)
    heads.mask_predictor = MaskRCNNPredictor(WIDTH, WIDTH, num_classes)
    return detector


class MaskTransform(GeneralizedRCNNTransform):
    """torchvision's resize for targets with `packed_masks`, and detections whose masks stay in their boxes.

    torchvision resizes masks as float at the size of the photograph and pastes every detected mask into a whole image;
    both are gigabytes for a photograph with a hundred objects. The masks that reach the network are the same.
    """

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, dict[str, Tensor] | None]:
        packed = target.pop("packed_masks", None) if target is not None else None
        image, target = super().resize(image, target)
        if packed is not None and target is not None:
            size = tuple(image.shape[-2:])
            if len(packed):
                packed = functional.interpolate(packed[None], size=size, mode="nearest")[0]
            masks = [unpack(packed, number) for number in range(len(target["boxes"]))]
            target["masks"] = torch.stack(masks) if masks else image.new_zeros((0, *size), dtype=torch.uint8)
        return image, target

    def postprocess(
        self, result: list[dict[str, Tensor]], image_shapes: list[Any], original_image_sizes: list[Any]
    ) -> list[dict[str, Tensor]]:
        if self.training:
            return result
        masks = [one.pop("masks") for one in result]
        result = super().postprocess(result, image_shapes, original_image_sizes)
        for one, mask in zip(result, masks, strict=True):
            one["masks"] = mask
        return result
