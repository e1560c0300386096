"""Forward passes: the losses of a batch and of a validation set, the detections of a set. Tensors in, tensors out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from typing import Any

import torch
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

LOSSES = ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")
MASK_LOSS = "loss_mask"


class NonFiniteLoss(ArithmeticError):
    """A loss is NaN or infinite; nothing was changed by this batch."""

    def __init__(self, losses: dict[str, float]) -> None:
        super().__init__(", ".join(f"{k} {v:.4g}" for k, v in losses.items()))
        self.losses = losses


def to_device(images: list, targets: list, device: torch.device) -> tuple[list, list]:
    """uint8 [3,H,W] -> float 0..1 on `device`; boxes and labels too. Asserts what torchvision does not check:
    a NaN box or a label outside 1..K ends the process or trains silently."""
    floats = [image.to(device, non_blocking=True).float().div_(255) for image in images]
    moved = []
    for image, target in zip(images, targets, strict=True):
        boxes, labels = target["boxes"], target["labels"]
        assert len(boxes) == len(labels), f"image {target['image_id']}: {len(boxes)} boxes, {len(labels)} labels"
        if len(boxes):
            height, width = image.shape[1:]
            fine = torch.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
            fine = fine and bool(boxes[:, 2].max() <= width + 1) and bool(boxes[:, 3].max() <= height + 1)
            assert fine, f"image {target['image_id']}: boxes {boxes.tolist()} in {width} x {height} px"
            assert labels.min() >= 1, f"image {target['image_id']}: label {int(labels.min())}; 0 is background"
        kept = ("boxes", "labels", "packed_masks")
        moved.append({key: target[key].to(device, non_blocking=True) for key in kept if key in target})
    return floats, moved


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def training_losses(
    model: nn.Module, images: list, targets: list, device: torch.device, dtype: torch.dtype
) -> tuple[torch.Tensor, dict[str, float]]:
    """-> (sum of the losses, each as a float). Raises NonFiniteLoss before anything is changed."""
    images, targets = to_device(images, targets, device)
    with autocast(device, dtype):
        return total(model(images, targets))


def total(losses: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, float]]:
    """-> (sum of the losses, each as a float). Raises NonFiniteLoss."""
    values = dict(zip(losses, torch.stack([v.detach().float() for v in losses.values()]).tolist(), strict=True))
    if not math.isfinite(sum(values.values())):
        raise NonFiniteLoss(values)
    return reduce(torch.add, losses.values()), values


@torch.no_grad()
def validation_loss(
    model: nn.Module, loader: Iterable, device: torch.device, dtype: torch.dtype, stop: Callable[[], bool] = bool
) -> dict[str, float]:
    """Mean of each training loss per image over `loader`, with the norms and dropout of evaluation.

    torchvision's detectors return losses only in train mode, so the network is put there and its norms and dropouts
    back to eval; the sampling of anchors and RoIs draws from its own generator, the global one is left as it was.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    still = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, GeneralizedRCNNTransform)
    for module in model.modules():
        if isinstance(module, still):  # the transform too: multi-scale is for training
            module.eval()
    sums: dict[str, float] = {}
    count = 0
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(0)
            for images, targets in loader:
                if not images:
                    continue
                floats, moved = to_device(images, targets, device)
                with autocast(device, dtype):
                    losses = model(floats, moved)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * len(images)
                count += len(images)
                if stop():
                    break
    finally:
        for module, training in modes:
            module.training = training
    return {name: value / count for name, value in sums.items()} if count else {}


@torch.inference_mode()
def predict(
    model: nn.Module, loader: Iterable, device: torch.device, dtype: torch.dtype, stop: Callable[[], bool] = bool
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(image_id, {boxes [n,4] XYXY in the image's own pixels, labels [n], scores [n], size (height, width)}) for every
    image; of a network with masks also masks [n,1,28,28], probabilities in each box."""
    was_training = model.training
    model.eval()
    try:
        for images, targets in loader:
            if not images:
                continue
            floats = [image.to(device, non_blocking=True).float().div_(255) for image in images]
            with autocast(device, dtype):
                outputs = model(floats)
            for image, target, output in zip(images, targets, outputs, strict=True):
                found = {k: v.float().cpu() if k != "labels" else v.cpu() for k, v in output.items()}
                yield target["image_id"], {**found, "size": tuple(image.shape[-2:])}
            if stop():
                break
    finally:
        model.train(was_training)
