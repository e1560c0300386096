"""The forward of a torchvision detector that ONNX can hold: traceable operators, right at every image size.

Our own operators (RoIAlign as a table, the RPN's convolutions, channels-last) are made for training on a CPU; traced,
they would freeze the sizes of one picture. So a copy of the network goes back to torchvision's.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign

from label_tools.text.errors import InputError
from toolkit.networks.cpu_operators import FewCellsConv2d, TableRoIAlign

TORCHVISIONS: dict[type, type] = {TableRoIAlign: MultiScaleRoIAlign, FewCellsConv2d: nn.Conv2d}  # in place of ours


def exportable(model: Any, name: str) -> Any:
    """A copy of a detector with torchvision's own operators, in eval mode on the CPU. Raises InputError."""
    if not isinstance(model, GeneralizedRCNN):
        raise InputError(f"{name}: does not export to ONNX; needs a network of torchvision's kind (fasterrcnn_...)")
    if model.roi_heads.has_mask():
        raise InputError(f"{name}: does not export to ONNX, because it has masks; needs a network of boxes alone")
    plain = copy.deepcopy(model).cpu().eval().to(memory_format=torch.contiguous_format)
    for module in plain.modules():
        module.__class__ = TORCHVISIONS.get(type(module), type(module))
    return plain


def detect(model: Any, image: Tensor) -> list[Tensor]:
    """boxes, labels, scores of a network of torchvision's kind in one picture, uint8 [H,W,3]: its `forward` with a
    resize of ours in place of `transform`'s."""
    transform = model.transform
    small = resized(image, transform.min_size[-1], transform.max_size)
    mean, std = (torch.tensor(v)[:, None, None] for v in (transform.image_mean, transform.image_std))
    small = (small.permute(2, 0, 1) - mean) / std
    sizes = [tuple(small.shape[-2:])]
    batch = ImageList(transform.batch_images([small], transform.size_divisible), sizes)
    features = model.backbone(batch.tensors)
    features = {"0": features} if isinstance(features, Tensor) else features
    proposals, _ = model.rpn(batch, features)
    found, _ = model.roi_heads(features, proposals, sizes)
    (found,) = transform.postprocess(found, sizes, [tuple(image.shape[:2])])
    return [found["boxes"], found["labels"], found["scores"]]


def resized(image: Tensor, min_size: int, max_size: int) -> Tensor:
    """uint8 [H,W,3] -> float [h,w,3] in 0..1, the shorter side min_size, the longer one at most max_size: to a rounding
    what torchvision's `interpolate` gives.

    ONNX's own Resize places the points to a single precision of the whole picture (4e-5 of a value), and torchvision
    traced computes the size in single precision too: 428 x 640 becomes 319 pixels instead of 320.
    """
    sides = torch._shape_as_tensor(image)[:2].double()  # never single numbers, of which the exporter makes floats
    # not `min_size / sides`, which torch computes as a reciprocal and a product: one rounding more, a pixel less
    least, most = (torch.tensor([float(side)], dtype=torch.float64) for side in (min_size, max_size))
    factor = torch.minimum(least / sides.amin(0, keepdim=True), most / sides.amax(0, keepdim=True))
    new = torch.floor(sides * factor)
    low, high, share = _neighbours(sides[:1], new[:1])
    share = share[:, None, None]
    rows = image[low].float() / 255 * (1 - share) + image[high].float() / 255 * share
    low, high, share = _neighbours(sides[1:], new[1:])
    share = share[None, :, None]
    return rows[:, low] * (1 - share) + rows[:, high] * share


def _neighbours(old: Tensor, new: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel of a side of `new` pixels: the two of `old` that it lies between, and the share of the second.
    As torch computes it: the factor in single precision, one rounding of the product and the half together."""
    factor = (old.float() / new.float()).double()
    count: Any = new.long()[0]  # a tensor: the tracer must not see a number
    at = ((torch.arange(count).double() + 0.5) * factor - 0.5).float().clamp(min=0)
    low = at.floor()
    return low.long(), torch.minimum(low.long() + 1, old.long() - 1), at - low
