"""The worked example: every count for a picture of 800 x 800 pixels and its boxes. Nothing is drawn or trained here.

50 * 50 * 9 = 22,500 anchors, 8,940 of them inside; with the example's two boxes 18 positive, 7,690 negative and 1,232
ignored, and 18 + 238 in the sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anchors.boxes import box_iou
from anchors.deltas import encode
from anchors.grid import generate_cell_anchors, grid_anchors, inside_image, legacy_cell_anchors
from anchors.matching import match_anchors
from anchors.sampling import sample_labels

IMAGE_SIZE = (800, 800)
STRIDE = 16
GRID = (IMAGE_SIZE[0] // STRIDE, IMAGE_SIZE[1] // STRIDE)
SIZES, RATIOS = (128, 256, 512), (0.5, 1.0, 2.0)
NUM_CELL = len(SIZES) * len(RATIOS)
BOXES = torch.tensor([[30.0, 20.0, 500.0, 400.0], [400.0, 300.0, 600.0, 500.0]])
HIGH, LOW, NUM_SAMPLES, FRACTION = 0.7, 0.3, 256, 0.5


@dataclass(frozen=True)
class Anchoring:
    """anchors [22500,4]; inside [22500] bool; of the N inside ones: inside_idxs [N], iou [M,N], gt_idxs and labels
    [N] (1, 0, -1), best [M] (each box's best IoU); positives, negatives: the sample, indices into the N;
    target_deltas of positives."""

    boxes: Tensor
    anchors: Tensor
    inside: Tensor
    inside_idxs: Tensor
    iou: Tensor
    gt_idxs: Tensor
    labels: Tensor
    best: Tensor
    positives: Tensor
    negatives: Tensor
    target_deltas: Tensor

    def where(self, label: int) -> Tensor:
        """Indices (into all anchors) of those with this label."""
        return self.inside_idxs[self.labels == label]

    def per_template(self) -> list[int]:
        """How many of each of the nine shapes lie inside, ratio slow and size fast."""
        return self.inside.reshape(-1, NUM_CELL).sum(0).tolist()


def anchoring(boxes: Tensor, seed: int) -> Anchoring:
    """From boxes [M,4] to the sampled anchors, step by step."""
    anchors = grid_anchors(generate_cell_anchors(SIZES, RATIOS), GRID, STRIDE)
    inside = inside_image(anchors, IMAGE_SIZE)
    inside_idxs = inside.nonzero().squeeze(1)
    iou = box_iou(boxes, anchors[inside_idxs])
    gt_idxs, labels = match_anchors(iou, high_thresh=HIGH, low_thresh=LOW, low_quality=True)
    generator = torch.Generator().manual_seed(seed)
    positives, negatives = sample_labels(
        labels, num_samples=NUM_SAMPLES, positive_fraction=FRACTION, generator=generator
    )
    targets = encode(boxes[gt_idxs[positives]], anchors[inside_idxs[positives]])
    return Anchoring(
        boxes, anchors, inside, inside_idxs, iou, gt_idxs, labels, iou.amax(dim=1), positives, negatives, targets
    )


def other_counts() -> dict[str, list[int]]:
    """Counts inside for each shape, for two other grids: torchvision's, 9,321 in all, and the paper's code, 9,132."""
    torchvision = grid_anchors(generate_cell_anchors(SIZES, RATIOS, rounded=True), GRID, STRIDE, offset=0.0)
    legacy = grid_anchors(legacy_cell_anchors((8, 16, 32), RATIOS, base_size=16), GRID, STRIDE, offset=0.0)
    masks = {
        "torchvision": inside_image(torchvision, IMAGE_SIZE),
        "paper_code": inside_image(legacy, IMAGE_SIZE, last_pixel=True),
    }
    return {name: mask.reshape(-1, NUM_CELL).sum(0).tolist() for name, mask in masks.items()}


def fits_along_a_side() -> dict[str, int]:
    """For each length of a side: at how many of the 50 places along an axis it fits. The count of a shape is a
    product of two of these."""
    cell = generate_cell_anchors(SIZES, RATIOS, dtype=torch.float64)
    lengths = {round(length, 1): length for length in (cell[:, 2:] - cell[:, :2]).flatten().tolist()}
    centres = (torch.arange(GRID[0], dtype=torch.float64) + 0.5) * STRIDE
    return {
        f"{rounded:g}": int(((centres >= length / 2) & (centres + length / 2 <= IMAGE_SIZE[0])).sum())
        for rounded, length in sorted(lengths.items())
    }


def cell_centres() -> tuple[Tensor, Tensor]:
    """y and x, each [50,50], of the cells' centres in pixels."""
    along = (torch.arange(GRID[0]) + 0.5) * STRIDE
    y, x = torch.meshgrid(along, along, indexing="ij")
    return y, x


def transposed_best(found: Anchoring) -> list[int]:
    """The best anchor of each box if the grid looped over x outside and y inside, a common mistake."""
    order = torch.arange(len(found.anchors)).reshape(*GRID, NUM_CELL).transpose(0, 1).reshape(-1)
    turned = found.anchors[order]
    inside = inside_image(turned, IMAGE_SIZE)
    return box_iou(found.boxes, turned[inside]).argmax(dim=1).tolist()


def numbers(found: Anchoring) -> dict:
    """All counts as plain numbers, for numbers.json and its tests."""
    positive = found.labels == 1
    other = other_counts()
    tied = (found.iou == found.best[:, None]) & (found.best[:, None] > 0)
    return {
        "anchors": {
            "map": list(GRID),
            "per_cell": NUM_CELL,
            "all": len(found.anchors),
            "stride_taken_for_cells_16_16_9": STRIDE * STRIDE * NUM_CELL,
            "inside": int(found.inside.sum()),
            "inside_per_template": found.per_template(),
            "fits_along_a_side": fits_along_a_side(),
            "inside_torchvision": sum(other["torchvision"]),
            "inside_torchvision_per_template": other["torchvision"],
            "inside_paper_code": sum(other["paper_code"]),
            "inside_paper_code_per_template": other["paper_code"],
        },
        "labels": {
            "positive": int(positive.sum()),
            "negative": int((found.labels == 0).sum()),
            "ignored": int((found.labels == -1).sum()),
            "at_least_0.7": int((found.iou.amax(dim=0) >= HIGH).sum()),
            "best_iou": [round(float(v), 6) for v in found.best],
            "best_index": found.iou.argmax(dim=1).tolist(),
            "best_index_x_outer": transposed_best(found),
            "positive_by_tie": tied.sum(dim=1).tolist(),
        },
        "sample": {"positive": len(found.positives), "negative": len(found.negatives), "wanted": NUM_SAMPLES},
        "head": {"inputs": 7 * 7 * 512, "hidden": 4096, "rois": 128},
        "shapes": {
            "anchors": list(found.anchors.shape),
            "iou": list(found.iou.shape),
            "labels": list(found.labels.shape),
            "target_deltas": list(found.target_deltas.shape),
        },
    }
