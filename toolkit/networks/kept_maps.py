"""Keep the feature maps of a frozen body: all that RPN and heads need of an image when the body does not learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

from label_tools.text.errors import InputError
from toolkit.config import Model as ModelOptions
from toolkit.data.packed_masks import pack
from toolkit.networks import builder
from toolkit.networks.mask_branch import with_masks


@dataclass(frozen=True)
class Seen:
    """A view as the network sees it: padded size, size without padding, maps [C,h,w] by level, target in its pixels,
    its masks packed eight to a byte."""

    padded: tuple[int, int]
    size: tuple[int, int]
    maps: dict[str, torch.Tensor]
    target: dict[str, Any]


def check_frozen(model: Any, norm: str, options: ModelOptions) -> None:
    """Raise InputError when `model`'s body, with such norms, does not give the same maps of a view after every step."""
    if not hasattr(getattr(model, "backbone", None), "fpn") or norm != "frozen":
        raise InputError(
            f"--preset quick, --cached-views: need a network with an FPN and frozen norms; {options.model} has others "
            "here. --model fasterrcnn_efficientnet_lite0_fpn is one (extra: pretrained)"
        )
    if any(p.requires_grad for p in builder.body_of(model).parameters()):
        raise InputError(
            f"--cached-views: needs --trainable-layers 0 and first weights, found {options.trainable_layers} "
            f"and {options.weights}: a body that learns gives other maps after every step"
        )


@torch.no_grad()
def seen_by(model: Any, image: torch.Tensor, target: dict[str, Any]) -> Seen:
    """The body's maps of one image float [3,H,W] in 0..1, as the FPN gets them, in half precision. For train mode."""
    given: list[dict[str, torch.Tensor]] = []
    hook = model.backbone.fpn.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        seen, resized = model.transform([image], [target])
        model.backbone(seen.tensors)
    finally:
        hook.remove()
    height, width = seen.tensors.shape[-2:]
    maps = {name: value[0].half() for name, value in given[0].items()}
    target = dict(resized[0])
    if (masks := target.pop("masks", None)) is not None:
        packed = pack(list(masks.cpu().numpy().astype(bool)), *seen.image_sizes[0])
        target["packed_masks"] = torch.from_numpy(packed).to(masks.device)
    return Seen((height, width), seen.image_sizes[0], maps, target)


def losses_of(model: Any, batch: list[Seen]) -> dict[str, torch.Tensor]:
    """The detector's losses from kept maps, smaller ones padded with zeros, as torchvision pads images."""
    height, width = (max(seen.padded[side] for seen in batch) for side in (0, 1))
    maps = {}
    for name in batch[0].maps:
        largest = [max(seen.maps[name].shape[side] for seen in batch) for side in (1, 2)]
        # autocast to bf16 cannot stack maps in half precision
        maps[name] = torch.stack([_padded(seen.maps[name].float(), *largest) for seen in batch])
    levels = model.backbone.fpn(maps)
    shape = torch.zeros(1, device=maps[name].device).expand(len(batch), 3, height, width)
    images = ImageList(shape, [seen.size for seen in batch])  # of which RPN and heads ask sizes alone
    targets = [with_masks(seen.target, seen.size) for seen in batch]
    proposals, of_rpn = model.rpn(images, levels, targets)
    _, of_heads = model.roi_heads(levels, proposals, images.image_sizes, targets)
    return {**of_heads, **of_rpn}


def _padded(value: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return functional.pad(value, (0, width - value.shape[2], 0, height - value.shape[1]))
