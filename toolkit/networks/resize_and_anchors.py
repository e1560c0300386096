"""The size of an image after the network's resize, its feature levels, and how well its anchors cover boxes.

All of it is asked of the network itself, here and nowhere else: training, `advise`, the report, the dry run and the
advice on memory give one answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from anchors.detector import STRIDE, TinyFasterRCNN
from anchors.grid import generate_cell_anchors
from toolkit.networks.mask_branch import FINE

SIDE = 256  # of the image that a network is asked with: a multiple of every stride
ROWS = 4096  # boxes at once, which bounds the memory
COVERED = 0.5  # an object whose best anchor has less IoU starts far from every anchor


@dataclass(frozen=True)
class Level:
    """One feature level: its stride and the sizes and aspect ratios (height / width) of its anchors, pixels."""

    stride: int
    sizes: tuple[float, ...]
    aspect_ratios: tuple[float, ...]


@dataclass(frozen=True)
class View:
    """The resize of a network, and its levels; () where nobody asked for them.

    image_size: shorter side of the resized image, None where a network only shrinks what is larger than max_size;
    max_size: longer side at most; multiple: of which both sides are padded. Anchors stand on whole strides plus
    `offset` of one, their half sides rounded to whole pixels where `rounded`.
    """

    image_size: int | None
    max_size: int
    levels: tuple[Level, ...] = ()
    multiple: int = 32
    offset: float = 0.0
    rounded: bool = True

    def seen(self, sizes: np.ndarray) -> np.ndarray:
        """Sizes [N,2] of images, (height, width) in pixels, after the resize and before the padding."""
        long = sizes.max(axis=1)
        if self.image_size is None:
            return np.maximum(1, np.round(sizes * np.minimum(1.0, self.max_size / long)[:, None])).astype(int)
        scale = np.minimum(self.image_size / sizes.min(axis=1), self.max_size / long)
        return np.floor(sizes * scale[:, None]).astype(int)

    def scale(self, sizes: np.ndarray) -> np.ndarray:
        """Factors [N,2] by which images of these (height, width) are resized; 1 where a size is unknown (0)."""
        known = (sizes > 0).all(axis=1)
        factors = np.ones((len(sizes), 2))
        factors[known] = self.seen(sizes[known]) / sizes[known]
        return factors

    def best_iou(self, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Best IoU [M] of each box [M,4] with any anchor on the grid over its image alone.

        boxes: XYXY in pixels of the images as they are; sizes [M,2]: (height, width) of the image of each box.
        """
        best = np.zeros(len(boxes))
        for start in range(0, len(boxes), ROWS):
            part = slice(start, start + ROWS)
            best[part] = self._best_iou(boxes[part].astype(np.float32).astype(float), sizes[part].astype(float))
        return best

    def _best_iou(self, boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """At every level the best anchor of a shape is in one of the four cells around the box's centre: the IoU falls
        as the centres part."""
        factors = self.scale(sizes)
        limit = np.where(sizes > 0, sizes, np.inf)
        scaled = torch.from_numpy(np.minimum(boxes.clip(0), limit[:, [1, 0, 1, 0]]) * factors[:, [1, 0, 1, 0]])
        centre = (scaled[:, :2] + scaled[:, 2:]) / 2
        padded = np.ceil(sizes * factors / self.multiple - 1e-9) * self.multiple
        best = torch.zeros(len(boxes), dtype=torch.float64)
        for level in self.levels:
            cells = np.ceil(padded / level.stride)
            # torchvision divides the padded side by its cells, without the rest: 61 at 800 px and 13 cells of 64
            stride = np.where(cells > 0, padded // np.maximum(cells, 1), level.stride)
            last, step = (torch.from_numpy(v[:, ::-1].copy()) for v in (np.where(cells > 0, cells - 1, np.inf), stride))
            low = torch.floor(centre / step - self.offset)
            shapes = generate_cell_anchors(level.sizes, level.aspect_ratios, rounded=self.rounded, dtype=torch.float64)
            for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
                cell = torch.minimum((low + torch.tensor(corner)).clamp(min=0), last)
                moved = shapes[None] + ((cell + self.offset) * step).repeat(1, 2)[:, None]
                best = torch.maximum(best, _paired_iou(scaled, moved).max(dim=1).values)
        return best.numpy()


def _paired_iou(boxes: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """IoU [M,A] of box i [M,4] with its own candidates [M,A,4]: `anchors.boxes.box_iou` row by row (tested equal),
    which over all pairs would be M times as much work."""
    top = torch.maximum(boxes[:, None, :2], candidates[..., :2])
    bottom = torch.minimum(boxes[:, None, 2:], candidates[..., 2:])
    overlap = (bottom - top).clamp(min=0).prod(dim=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)[:, None] + (candidates[..., 2:] - candidates[..., :2]).prod(dim=2)
    return overlap / (areas - overlap)


def coverage(best: np.ndarray) -> dict[str, float | int | None]:
    """Mean of the best IoUs [M] and the shares of COVERED and .7 or more; None where there are no objects."""
    shares = [float(v.mean()) if len(best) else None for v in (best, best >= COVERED, best >= 0.7)]
    return dict(zip(("mean_best_iou", "covered", "covered_at_0.7"), shares, strict=True)) | {"num_objects": len(best)}


def view_of(model: nn.Module) -> View | None:
    """How a detector sees an image; None where it has no anchors."""
    if isinstance(model, TinyFasterRCNN):
        sides = (model.cell_anchors[:, 2:] - model.cell_anchors[:, :2]).double().cpu()
        sizes = sides.prod(dim=1).sqrt().round(decimals=3).unique().tolist()
        ratios = (sides[:, 1] / sides[:, 0]).round(decimals=3).unique().tolist()
        level = Level(STRIDE, tuple(sizes), tuple(ratios))
        return View(None, model.max_side, (level,), STRIDE, offset=0.5, rounded=False)
    generator = getattr(getattr(model, "rpn", None), "anchor_generator", None)
    if generator is None:
        return None
    detector: Any = model  # torchvision's
    levels = tuple(
        Level(stride, tuple(sizes), tuple(ratios))
        for stride, sizes, ratios in zip(
            [s for name, s in strides(detector.backbone).items() if name != FINE],
            generator.sizes,
            generator.aspect_ratios,
            strict=True,
        )
    )
    transform = detector.transform
    return View(transform.min_size[-1], transform.max_size, levels, transform.size_divisible)


def strides(backbone: nn.Module) -> dict[str, int]:
    """{name: stride} of each feature map that a backbone gives, from its answer to an image of zeros."""
    parameter = next(backbone.parameters())
    was_training = backbone.training
    backbone.eval()
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, SIDE, SIDE, device=parameter.device, dtype=parameter.dtype))
    backbone.train(was_training)
    maps = maps if isinstance(maps, dict) else {"0": maps}
    return {name: SIDE // level.shape[-1] for name, level in maps.items()}
