"""The mask branch on our compact detectors, and how masks pass through torchvision's resize in less memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from toolkit.data.packed_masks import unpack

WIDTH, LAYERS = 64, 3  # of the compact mask head
CELLS = 14  # of its RoIAlign; the mask has twice as many
FINE = "fine"  # name of the map of stride 4 that masks of all objects come from: an outline is lost on coarser ones
LEARNED = ("backbone.fpn.fine.", "roi_heads.mask_")  # what of a network's weights is the mask branch


def add_masks(detector: Any, num_classes: int) -> Any:
    """A compact FasterRCNN with a mask branch: a map of stride 4, convolutions of 64 channels, masks of 28 x 28 per
    class. RPN and box head stay as they are, on their maps."""
    backbone, heads = detector.backbone, detector.roi_heads
    backbone.fpn.__class__ = FinePyramid
    backbone.fpn.fine = nn.Conv2d(backbone.fine_channels, backbone.out_channels, 1)
    detector.rpn.__class__ = CoarseProposals
    heads.mask_roi_pool = MultiScaleRoIAlign([FINE], CELLS, 2)
    heads.mask_head = MaskRCNNHeads(backbone.out_channels, (WIDTH,) * LAYERS, 1)
    heads.mask_predictor = MaskRCNNPredictor(WIDTH, WIDTH, num_classes)
    return detector


def loss_in_boxes(model: Any, images: Any, targets: list[dict], boxes: list[Tensor], rows: list[Tensor]) -> Tensor:
    """The mask loss of resized `images` in given boxes [N,4], each for one object of its target: its row [N]."""
    heads = model.roi_heads
    pooled = heads.mask_roi_pool(model.backbone(images.tensors), boxes, images.image_sizes)
    logits = heads.mask_predictor(heads.mask_head(pooled))
    return maskrcnn_loss(logits, boxes, [t["masks"] for t in targets], [t["labels"] for t in targets], rows)


class FinePyramid(FeaturePyramidNetwork):
    """An FPN that is also given the body's map "fine"; it answers with that plus its own finest level, enlarged."""

    fine: nn.Conv2d

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        levels = super().forward({name: value for name, value in x.items() if name != FINE})
        finest = functional.interpolate(levels["0"], size=x[FINE].shape[-2:], mode="bilinear")
        levels[FINE] = self.fine(x[FINE]) + finest
        return levels


class CoarseProposals(RegionProposalNetwork):
    """torchvision's RPN, on all maps but "fine"."""

    def forward(self, images: Any, features: dict[str, Tensor], targets: Any = None) -> Any:
        return super().forward(images, {name: value for name, value in features.items() if name != FINE}, targets)


def with_masks(target: dict[str, Any], size: Sequence[int]) -> dict[str, Any]:
    """A target whose "packed_masks", where it has them, are "masks" [N,H,W] uint8. size: (H, W)."""
    target = dict(target)
    if (packed := target.pop("packed_masks", None)) is not None:
        masks = [unpack(packed, number) for number in range(len(target["boxes"]))]
        target["masks"] = torch.stack(masks) if masks else packed.new_zeros((0, *size))
    return target


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
            target = with_masks({**target, "packed_masks": packed}, size)
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
