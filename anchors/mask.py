"""Masks: which pixels of a box belong to the object. Mask R-CNN adds this to Faster R-CNN.

    head     RoIAlign to 14 x 14, four 3x3 convolutions, doubled to 28 x 28: one logit map for each class
    target   RoIAlign of the object's own 0/1 mask over the RoI, to 28 x 28
    loss     the mean over foreground RoIs and their 28 x 28 cells of
             binary_cross_entropy(sigmoid(logit of the RoI's own class), target)
    paste    sigmoid of the predicted class's map, resized to the box, put in its place; 0.5 or more is the object

Every class has a map and a sigmoid of its own, so classes do not compete for a pixel; the box head decides the class.
The maps of the other classes get no gradient.

Limits: a RoI inside the object has target 1 everywhere, one beside it 0. Logits 0 have loss ln 2. No foreground: loss
0. 28 x 28 cells lose what is thinner than a cell: in a box of 400 pixels, 14 pixels.

Worked example: of 128 RoIs 32 are foreground; they train 32 * 28 * 28 = 25,088 cells.

Place: Mask R-CNN 3 and 3.1. The mask loss is added to the four others with weight 1. At test the masks of the final
detections are computed, not those of all proposals.

Where others differ: Detectron rounds the target to 0 or 1; torchvision, and this, keep RoIAlign's fraction.
torchvision truncates the box to whole pixels when it pastes, with a border of one cell of zeros around the map so that
the edge fades out; so does this.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anchors.arguments import check_boxes, check_count, check_labels, check_pair, check_real, check_tensor
from anchors.fast.roi_align import roi_align

NO_MASK = "0 is background, which has no mask"


class MaskHead(nn.Sequential):
    """Pooled features [R,C,14,14] -> mask logits [R,num_classes,28,28]. (Mask R-CNN fig. 4, right)"""

    def __init__(self, channels: int, hidden: int, num_classes: int) -> None:
        check_count(num_classes, "num_classes", low=2)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(4):
            layers[f"conv{i}"] = nn.Conv2d(hidden if i else channels, hidden, 3, padding=1)
            layers[f"relu{i}"] = nn.ReLU()
        layers["up"] = nn.ConvTranspose2d(hidden, hidden, 2, stride=2)
        layers["relu"] = nn.ReLU()
        layers["logits"] = nn.Conv2d(hidden, num_classes, 1)
        super().__init__(layers)
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def mask_targets(gt_masks: Tensor, rois: Tensor, gt_idxs: Tensor, *, size: int = 28) -> Tensor:
    """Targets [R,size,size] in 0..1: of each RoI [R,4] XYXY the part of its gt's mask. (Mask R-CNN 3)

    gt_masks [M,H,W] bool or 0..1, in the pixels of the RoIs; gt_idxs [R] int64 as `sample_rois` gives them.
    """
    check_tensor(gt_masks, "gt_masks", ("M", "H", "W"))
    rois = check_boxes(rois, "rois", order="weak")
    check_labels(gt_idxs, "gt_idxs", len(rois), "rois")
    check_count(size, "size", low=1)
    if len(gt_idxs) and not 0 <= int(gt_idxs.min()) <= int(gt_idxs.max()) < len(gt_masks):
        raise ValueError(f"gt_idxs: found {int(gt_idxs.max())}, needed 0 to {len(gt_masks) - 1}, a row of gt_masks")
    if not len(rois):
        return rois.new_zeros(0, size, size)
    with_gt = torch.cat((gt_idxs[:, None].to(rois.dtype), rois), dim=1)  # each mask is an "image" of one channel
    maps = gt_masks[:, None].to(rois.dtype)
    return roi_align(maps, with_gt, size, 1.0, sampling_ratio=0, aligned=False)[:, 0]


def mask_loss(mask_logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Loss of mask_logits [R,num_classes,S,S] for foreground RoIs: labels [R] in 1..K, targets [R,S,S]. A scalar.

    The caller leaves out background RoIs, which have no mask. (Mask R-CNN 3)
    """
    mask_logits = check_tensor(mask_logits, "mask_logits", ("R", "num_classes", "S", "S"))
    num_rois, num_classes, height, width = mask_logits.shape
    check_labels(labels, "labels", num_rois, "mask_logits", within=(1, num_classes - 1), why=NO_MASK)
    check_real(check_tensor(targets, "targets", (num_rois, height, width)), "targets")
    if num_rois == 0:
        return mask_logits.sum() * 0
    own_class = mask_logits[torch.arange(num_rois, device=labels.device), labels]
    return F.binary_cross_entropy_with_logits(own_class, targets)


def mask_probabilities(mask_logits: Tensor, labels: Tensor) -> Tensor:
    """Probabilities [D,S,S] of the detected classes' maps: mask_logits [D,num_classes,S,S], labels [D] in 1..K."""
    mask_logits = check_tensor(mask_logits, "mask_logits", ("D", "num_classes", "S", "S"))
    within = (1, mask_logits.shape[1] - 1)
    check_labels(labels, "labels", len(mask_logits), "mask_logits", within=within, why=NO_MASK)
    return mask_logits[torch.arange(len(labels), device=labels.device), labels].sigmoid()


def paste_masks(probabilities: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Probabilities [D,S,S] of boxes [D,4] XYXY, each in its place of a (height, width) image -> [D,height,width].

    The object is where the result is at least 0.5. (Mask R-CNN 3.1)
    """
    probabilities = check_tensor(probabilities, "probabilities", ("D", "S", "S"))
    check_boxes(boxes, "boxes", order="weak")
    if len(boxes) != len(probabilities):
        raise ValueError(f"boxes: found {len(boxes)} rows, needed {len(probabilities)}, one for each of probabilities")
    height, width = check_pair(image_size, "image_size")
    pasted = probabilities.new_zeros(len(boxes), height, width)
    if not len(boxes):
        return pasted
    size = probabilities.shape[-1]
    bordered = F.pad(probabilities, (1, 1, 1, 1))  # a cell of zeros all around, and the boxes larger to match
    centre, half = (boxes[:, :2] + boxes[:, 2:]) * 0.5, (boxes[:, 2:] - boxes[:, :2]) * 0.5 * ((size + 2) / size)
    corners = torch.cat((centre - half, centre + half), dim=1).long().tolist()
    for k, (x1, y1, x2, y2) in enumerate(corners):
        sides = (y2 - y1 + 1, x2 - x1 + 1)  # whole pixels: the last one counts
        mask = F.interpolate(bordered[k, None, None], size=sides, mode="bilinear", align_corners=False)[0, 0]
        top, bottom, left, right = max(y1, 0), min(y2 + 1, height), max(x1, 0), min(x2 + 1, width)
        if top < bottom and left < right:
            pasted[k, top:bottom, left:right] = mask[top - y1 : bottom - y1, left - x1 : right - x1]
    return pasted


__test__ = {
    "tiny numbers": """
    The left half of the mask is the object; a RoI of the whole mask, 4 x 4 cells. The second column of cells reaches
    half a pixel past the object's edge (there is no half-pixel offset), where the bilinear value falls from 1 to 0.

    >>> mask = torch.zeros(1, 8, 8)
    >>> mask[:, :, :4] = 1
    >>> whole = torch.tensor([[0.0, 0, 8, 8]])
    >>> mask_targets(mask, whole, torch.tensor([0]), size=4)[0, 0]
    tensor([1.0000, 0.7500, 0.0000, 0.0000])

    Logits 0: ln 2, whatever the target. Only the map of the own class counts.

    >>> logits = torch.zeros(1, 3, 4, 4)
    >>> logits[:, 1] = 9.0
    >>> mask_loss(logits, torch.tensor([2]), torch.ones(1, 4, 4))
    tensor(0.6931)

    Pasted into an image of 8 x 12 pixels at the RoI's place: the left half, and a pixel more (the last one counts).

    >>> pasted = paste_masks(torch.tensor([[[1.0, 1, 0, 0]] * 4]), torch.tensor([[2.0, 0, 10, 8]]), (8, 12))
    >>> (pasted[0, 4] >= 0.5).int()
    tensor([0, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], dtype=torch.int32)
    """
}
