"""The RPN advisor: do the anchors reach the boxes, at the size that the network sees?

A box that no anchor overlaps by IoU .5 is learned only through rule (i) of Faster R-CNN 3.1.2 (the best anchor of a
box is positive whatever its IoU), from a single anchor; at .7 several anchors teach it. For every true box, resized as
torchvision's transform resizes its image, the best IoU over all anchors of all levels is computed with `anchors`; then
other image sizes and anchor sizes are tried that keep pretrained weights usable (the same number of anchors a cell).
Reach is not AP: on 160 raccoons anchors of twice the size raised it from 24 to 99 % and left AP as it was.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from anchors.grid import generate_cell_anchors
from toolkit.data.dataset import Index
from toolkit.networks import registry

BANDS = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # COCO's, original pixels
ANCHOR_SCALES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
IMAGE_SCALES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
GOOD_SHARE = 0.95  # of the boxes reached at IoU .5: nothing to mend


@dataclass(frozen=True)
class Level:
    """One feature level: its stride and the sizes and aspect ratios of its anchors, pixels."""

    stride: float
    sizes: tuple[float, ...]
    aspect_ratios: tuple[float, ...]


@dataclass(frozen=True)
class Coverage:
    """Share of the boxes that some anchor reaches, in all and by band; None where a band is empty."""

    reached: dict[str, dict[str, float | int | None]]  # {band: {"0.5", "0.7", "mean_iou", "num_objects"}}

    @property
    def at_50(self) -> float:
        return self.reached["all"]["0.5"] or 0.0


def levels_of(model: str, side: int = 512) -> list[Level]:
    """The anchors of a registered detector, read off the network itself."""
    network = registry.find(model).build(num_classes=2).eval()
    if not hasattr(network, "rpn"):
        from anchors.detector import STRIDE

        sides = (network.cell_anchors[:, 2:] - network.cell_anchors[:, :2]).double()
        sizes = sides.prod(dim=1).sqrt().round(decimals=3).unique().tolist()
        return [Level(STRIDE, tuple(sizes), tuple((sides[:, 1] / sides[:, 0]).round(decimals=3).unique().tolist()))]
    with torch.inference_mode():
        features = network.backbone(torch.zeros(1, 3, side, side))
    generator = network.rpn.anchor_generator
    return [
        Level(side / f.shape[-1], tuple(map(float, sizes)), tuple(map(float, ratios)))
        for f, sizes, ratios in zip(features.values(), generator.sizes, generator.aspect_ratios, strict=True)
    ]


def seen_scale(sizes: np.ndarray, image_size: int, max_size: int) -> np.ndarray:
    """[N] factor by which torchvision's transform resizes images of (height, width) [N,2]."""
    short, long = sizes.min(axis=1), sizes.max(axis=1)
    return np.minimum(image_size / short, max_size / long)


def best_iou(boxes: np.ndarray, image_sizes: np.ndarray, levels: list[Level]) -> np.ndarray:
    """[M] best IoU of each box [M,4] XYXY with any anchor of the grid over its image (height, width) [M,2].

    At every level only the four cells around the box's centre can hold the best anchor of a shape (IoU falls as the
    centres part), so four candidates a shape are enough. torchvision's grid: centres at whole multiples of the stride.
    """
    best = np.zeros(len(boxes))
    if not len(boxes):
        return best
    centre = torch.from_numpy((boxes[:, :2] + boxes[:, 2:]) / 2)
    exact = torch.from_numpy(boxes.astype(np.float64))
    for level in levels:
        cells = torch.from_numpy(np.ceil(image_sizes[:, ::-1] / level.stride).copy())  # columns, rows
        low = torch.floor(centre / level.stride)
        shapes = generate_cell_anchors(level.sizes, level.aspect_ratios, rounded=True, dtype=torch.float64)
        for dx in (0, 1):
            for dy in (0, 1):
                at = torch.minimum(torch.clamp(low + torch.tensor([dx, dy]), min=0), cells - 1) * level.stride
                moved = shapes[None] + at.repeat(1, 2)[:, None]
                for start in range(0, len(boxes), 4096):
                    part = slice(start, start + 4096)
                    iou = _paired_iou(exact[part], moved[part])
                    best[part] = np.maximum(best[part], iou.max(dim=1).values.numpy())
    return best


def _paired_iou(boxes: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """IoU [M,A] of box i [M,4] with its own candidates [M,A,4]: `anchors.boxes.box_iou` row by row (tested equal),
    which over all pairs would be M times as much work."""
    top = torch.maximum(boxes[:, None, :2], candidates[..., :2])
    bottom = torch.minimum(boxes[:, None, 2:], candidates[..., 2:])
    overlap = (bottom - top).clamp(min=0).prod(dim=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)[:, None] + (candidates[..., 2:] - candidates[..., :2]).prod(dim=2)
    return overlap / (areas - overlap)


def coverage(index: Index, levels: list[Level], image_size: int, max_size: int) -> Coverage:
    """How well `levels` cover the boxes of a set at this size."""
    real = ~index.crowd
    owner = np.repeat(np.arange(len(index)), np.diff(index.first))[real]
    boxes = index.boxes[real].astype(np.float64)
    scale = seen_scale(index.sizes, image_size, max_size)[owner]
    iou = best_iou(boxes * scale[:, None], index.sizes[owner] * scale[:, None], levels)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    reached = {}
    for name, (low, high) in {"all": (0, float("inf")), **BANDS}.items():
        here = iou[(area >= low) & (area < high)]
        some = len(here) > 0
        reached[name] = {
            "0.5": float((here >= 0.5).mean()) if some else None,
            "0.7": float((here >= 0.7).mean()) if some else None,
            "mean_iou": float(here.mean()) if some else None,
            "num_objects": len(here),
        }
    return Coverage(reached)


def advise(index: Index, model: str, image_size: int, max_size: int) -> dict:
    """-> {"model", "image_size", "coverage", "advice": [text], "tried": [...]}, as JSON can hold it."""
    levels = levels_of(model)
    now = coverage(index, levels, image_size, max_size)
    tried = []
    for scale in ANCHOR_SCALES:
        scaled = [Level(v.stride, tuple(s * scale for s in v.sizes), v.aspect_ratios) for v in levels]
        tried.append(
            {"change": "anchor sizes", "factor": scale, "reached": coverage(index, scaled, image_size, max_size).at_50}
        )
    for scale in IMAGE_SCALES:
        size, largest = round(image_size * scale), round(max_size * scale)
        tried.append(
            {
                "change": "image size",
                "factor": scale,
                "image_size": size,
                "max_size": largest,
                "reached": coverage(index, levels, size, largest).at_50,
            }
        )
    return {
        "model": model,
        "image_size": image_size,
        "max_size": max_size,
        "anchors": [vars(level) for level in levels],
        "coverage": now.reached,
        "tried": tried,
        "advice": _advice(index, levels, now, tried, image_size, max_size, registry.find(model).fixed_anchors),
    }


def _advice(
    index: Index,
    levels: list[Level],
    now: Coverage,
    tried: list[dict],
    image_size: int,
    max_size: int,
    fixed_anchors: bool,
) -> list[str]:
    boxes = index.boxes[~index.crowd]
    if not len(boxes):
        return ["no objects, nothing to advise"]
    if now.at_50 >= GOOD_SHARE:
        return [f"the anchors reach {now.at_50:.0%} of the boxes at IoU 0.5: nothing to change"]
    text = [f"the anchors reach {now.at_50:.0%} of the boxes at IoU 0.5; the rest is taught by single anchors"]
    sizes = [t for t in tried if t["change"] == "image size" and t["reached"] > now.at_50 + 0.02]
    if sizes:
        best = max(sizes, key=lambda t: (round(t["reached"], 2), -t["factor"]))
        flags = f"--image-size {best['image_size']} --max-size {best['max_size']}"
        text.append(f"{flags} would reach {best['reached']:.0%} (about {best['factor'] ** 2:.1f} times the computing)")
    shapes = [t for t in tried if t["change"] == "anchor sizes" and t["reached"] > now.at_50 + 0.02]
    if shapes and not fixed_anchors:
        best = max(shapes, key=lambda t: (round(t["reached"], 2), -abs(np.log(t["factor"]))))
        new = ", ".join("/".join(f"{s * best['factor']:.0f}" for s in level.sizes) for level in levels)
        text.append(
            f"--anchor-scale {best['factor']:g} (sizes {new}) would reach {best['reached']:.0%} "
            f"at the same cost; pretrained weights stay usable"
        )
    if len(text) > 1:
        text.append("reach is not AP: train both ways before you decide")
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    scale = float(np.median(seen_scale(index.sizes, image_size, max_size)))
    smallest = min(s for level in levels for s in level.sizes)
    if np.median(sides) * scale < smallest / 2 and scale < 0.8:
        median = np.median(sides)
        text.append(
            f"the median object is {median:.0f} px wide and shrinks to {median * scale:.0f} px: "
            f"cut the images into tiles before labelling and training"
        )
    if len(text) == 1:
        text.append("no other image or anchor size would reach more; the boxes' aspect ratios are the likely cause")
    return text


def as_text(result: dict) -> str:
    """The table and the advice, for a terminal."""
    lines = [
        f"{result['model']} at --image-size {result['image_size']} --max-size {result['max_size']}",
        "",
        f"{'':8}{'objects':>9}{'IoU>=0.5':>10}{'IoU>=0.7':>10}{'mean IoU':>10}",
    ]
    for band, row in result["coverage"].items():
        shown = ["n/a" if row[k] is None else f"{row[k]:.0%}" for k in ("0.5", "0.7")]
        mean = "n/a" if row["mean_iou"] is None else f"{row['mean_iou']:.2f}"
        lines.append(f"{band:8}{row['num_objects']:>9}{shown[0]:>10}{shown[1]:>10}{mean:>10}")
    return "\n".join([*lines, "", *result["advice"]])
