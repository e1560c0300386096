"""The RPN advisor: do the anchors reach the boxes, at the size that the network sees?

A box that no anchor overlaps by IoU .5 is learned only through rule (i) of Faster R-CNN 3.1.2 (the best anchor of a
box is positive whatever its IoU), from a single anchor; at .7 several anchors learn it. For every true box, resized as
the network resizes its image, the best IoU over all anchors of all levels is computed (`view`); then
other image sizes and anchor sizes are tried that keep pretrained weights usable (the same number of anchors a cell).
Reach is not AP: on 160 raccoons anchors of twice the size raised it from 24 to 99 % and left AP as it was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from label_tools.text.errors import InputError
from toolkit.data.dataset import Index
from toolkit.networks import registry
from toolkit.networks import resize_and_anchors as views
from toolkit.networks.resize_and_anchors import View

BANDS = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # COCO's, original pixels
ANCHOR_SCALES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
IMAGE_SCALES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
GOOD_SHARE = 0.95  # of the boxes reached at IoU .5: nothing to improve


@dataclass(frozen=True)
class Coverage:
    """Share of the boxes that some anchor reaches, in all and by band; None where a band is empty."""

    reached: dict[str, dict[str, float | int | None]]  # {band: {"0.5", "0.7", "mean_iou", "num_objects"}}

    @property
    def at_50(self) -> float:
        return self.reached["all"]["0.5"] or 0.0


def coverage(index: Index, view: View) -> Coverage:
    """How well the anchors cover the boxes of a set."""
    real = ~index.crowd
    owner = np.repeat(np.arange(len(index)), np.diff(index.first))[real]
    boxes = index.boxes[real]
    iou = view.best_iou(boxes, index.sizes[owner])
    area = (boxes[:, 2:] - boxes[:, :2]).astype(float).prod(axis=1)
    reached = {}
    for name, (low, high) in {"all": (0, float("inf")), **BANDS}.items():
        found = views.coverage(iou[(area >= low) & (area < high)])
        reached[name] = {
            "0.5": found["covered"],
            "0.7": found["covered_at_0.7"],
            "mean_iou": found["mean_best_iou"],
            "num_objects": found["num_objects"],
        }
    return Coverage(reached)


def advise(index: Index, model: str, image_size: int, max_size: int) -> dict:
    """-> {"model", "image_size", "coverage", "advice": [text], "tried": [...]}, as JSON can hold it."""
    view = registered_view(model, image_size, max_size)
    now = coverage(index, view)
    tried = []
    for factor in ANCHOR_SCALES:
        levels = tuple(replace(v, sizes=tuple(size * factor for size in v.sizes)) for v in view.levels)
        reached = coverage(index, replace(view, levels=levels)).at_50
        tried.append({"change": "anchor sizes", "factor": factor, "reached": reached})
    for factor in IMAGE_SCALES:
        size, largest = round(image_size * factor), round(max_size * factor)
        larger = replace(view, image_size=None if view.image_size is None else size, max_size=largest)
        reached = coverage(index, larger).at_50
        limits = {"image_size": size, "max_size": largest}
        tried.append({"change": "image size", "factor": factor, **limits, "reached": reached})
    return {
        "model": model,
        "image_size": image_size,
        "max_size": max_size,
        "anchors": [vars(level) for level in view.levels],
        "coverage": now.reached,
        "tried": tried,
        "advice": _advice(index, view, now, tried, registry.find(model).fixed_anchors),
    }


def registered_view(model: str, image_size: int, max_size: int) -> View:
    """How the registered detector of this name sees images at this size."""
    sizes = {"min_size": image_size, "max_size": max_size}
    view = views.view_of(registry.find(model).build(num_classes=2, **sizes))
    if view is None:
        raise InputError(f"{model}: has no anchors to advise on; needs a detector with an RPN")
    return view


def _advice(index: Index, view: View, now: Coverage, tried: list[dict], fixed_anchors: bool) -> list[str]:
    boxes = index.boxes[~index.crowd]
    if not len(boxes):
        return ["no objects, nothing to advise"]
    if now.at_50 >= GOOD_SHARE:
        enough = f"the anchors reach {now.at_50:.0%} of the boxes at IoU 0.5: nothing to change"
        strict = now.reached["all"]["0.7"] or 0.0
        if strict < GOOD_SHARE / 2:
            enough += f". Only {strict:.0%} at 0.7 is no fault: the network moves its boxes from there"
        return [enough]
    text = [f"the anchors reach {now.at_50:.0%} of the boxes at IoU 0.5; the rest is learned from single anchors"]
    shapes = [t for t in tried if t["change"] == "anchor sizes" and t["reached"] > now.at_50 + 0.02]
    if shapes and not fixed_anchors:
        best = max(shapes, key=lambda t: (round(t["reached"], 2), -abs(np.log(t["factor"]))))
        new = ", ".join("/".join(f"{s * best['factor']:.0f}" for s in level.sizes) for level in view.levels)
        text.append(
            f"--anchor-scale {best['factor']:g} (sizes {new}) would reach {best['reached']:.0%} "
            f"at the same cost; pretrained weights stay usable (on two sets it brought no AP that could be shown)"
        )
    # a smaller image reaches more large boxes, too, but loses detail: larger anchors do it without
    sizes = [t for t in tried if t["change"] == "image size" and t["reached"] > now.at_50 + 0.02]
    sizes = [t for t in sizes if t["factor"] > 1 or fixed_anchors]
    if sizes:
        best = max(sizes, key=lambda t: (round(t["reached"], 2), -t["factor"]))
        flags = f"--image-size {best['image_size']} --max-size {best['max_size']}"
        text.append(f"{flags} would reach {best['reached']:.0%} (about {best['factor'] ** 2:.1f} times the computing)")
    if len(text) > 1:
        text.append("reach is not AP: train both ways before you decide")
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    scale = float(np.median(view.scale(index.sizes)))
    smallest = min(s for level in view.levels for s in level.sizes)
    if np.median(sides) * scale < smallest / 2 and scale < 0.8:
        median = np.median(sides)
        tile = round(scale * float(np.median(index.sizes.min(axis=1))))
        text.append(
            f"the median object is {median:.0f} px wide and shrinks to {median * scale:.0f} px: "
            f"`frcnn evaluate RUN --tiles {tile}` tells whether tiles pay"
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
