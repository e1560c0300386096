"""The RPN advisor: do the anchors reach the boxes, at the size that the network sees?

A box that no anchor overlaps by IoU .5 is learned only through rule (i) of Faster R-CNN 3.1.2 (the best anchor of a
box is positive whatever its IoU), from a single anchor; at .7 several anchors learn it. For every true box, resized as
the network resizes its image, the best IoU over all anchors of all levels is computed (`view`); then
other image sizes and anchor sizes are tried that keep pretrained weights usable (the same number of anchors a cell).
Reach is not AP: on 160 raccoons anchors of twice the size raised it from 24 to 99 % and left AP as it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from label_tools.text.errors import InputError
from toolkit.data.coco_index import Index
from toolkit.networks import registry
from toolkit.networks import resize_and_anchors as views
from toolkit.networks.resize_and_anchors import View

BANDS = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}  # COCO's, original pixels
ANCHOR_SCALES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
IMAGE_SCALES = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
GOOD_SHARE = 0.95  # of the boxes reached at IoU .5, and half as many at .7: nothing to improve
ANCHORS, IMAGES = "anchor sizes", "image size"
MEASURED = {  # docs/measurements/training.md, "Larger images, other anchors"
    IMAGES: "a larger image that reached more boxes brought AP",
    ANCHORS: "other anchors that reached more boxes brought no AP that could be shown",
}


def coverage(index: Index, view: View) -> dict[str, dict[str, float | int | None]]:
    """{band: {"0.5", "0.7", "mean_iou", "num_objects"}}: shares of boxes that some anchor reaches; None if empty."""
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
    return reached


def advise(index: Index, model: str, image_size: int, max_size: int) -> dict:
    """-> {"model", "image_size", "coverage", "tried", "proposals", "advice": [text]}, as JSON can hold it."""
    view = registered_view(model, image_size, max_size)
    real = ~index.crowd
    boxes, sizes = index.boxes[real], index.sizes[np.repeat(np.arange(len(index)), np.diff(index.first))[real]]
    tried = reach_of_others(boxes, sizes, view)
    proposed = proposals(boxes, sizes, view, tried)
    return {
        "model": model,
        "image_size": image_size,
        "max_size": max_size,
        "anchors": [vars(level) for level in view.levels],
        "coverage": coverage(index, view),
        "tried": tried,
        "proposals": proposed,
        "advice": _advice(index, view, tried, proposed),
    }


def registered_view(model: str, image_size: int, max_size: int) -> View:
    """How the registered detector of this name sees images at this size."""
    sizes = {"min_size": image_size, "max_size": max_size}
    view = views.view_of(registry.find(model).build(num_classes=2, **sizes))
    if view is None:
        raise InputError(f"{model}: has no anchors to advise on; needs a detector with an RPN")
    return view


def reach_of_others(boxes: np.ndarray, sizes: np.ndarray, view: View) -> list[dict]:
    """The share of boxes [M,4] that other anchors and other image sizes reach; sizes [M,2]: of the image of each box.

    [{"change", "factor", "reached", "reached_at_0.7"}], with "limits" {"image_size", "max_size"} where those change.
    """

    def reach(other: View) -> dict[str, float]:
        found = views.coverage(other.best_iou(boxes, sizes))
        return {"reached": found["covered"] or 0.0, "reached_at_0.7": found["covered_at_0.7"] or 0.0}

    tried = []
    for factor in ANCHOR_SCALES:
        levels = tuple(replace(v, sizes=tuple(size * factor for size in v.sizes)) for v in view.levels)
        tried.append({"change": ANCHORS, "factor": factor, **reach(replace(view, levels=levels))})
    for factor in IMAGE_SCALES:
        limits: dict[str, Any] = {"max_size": round(view.max_size * factor)}
        if view.image_size is not None:
            limits = {"image_size": round(view.image_size * factor), **limits}
        tried.append({"change": IMAGES, "factor": factor, "limits": limits, **reach(replace(view, **limits))})
    return tried


def proposals(
    boxes: np.ndarray, sizes: np.ndarray, view: View, tried: list[dict], anchor_scale: float = 1.0
) -> list[dict]:
    """What to try, first what brought AP where it was measured; none where the anchors reach enough, or nothing helps.

    [{"flags", "reached", "reached_at_0.7", "cost", "measured"}]; anchor_scale: what the network's anchors have now.
    """
    now = _now(tried)
    if not len(boxes) or _is_good(now):
        return []

    def best(change: str, least: float, more_than: float = 0.0) -> dict | None:
        """Of those that reach more; the nearest to 1 among equals."""
        found = [
            t for t in tried if t["change"] == change and t["factor"] > more_than and _reach(t) > _reach(now) + least
        ]
        return max(found, key=lambda t: (round(_reach(t), 2), -abs(np.log(t["factor"]))), default=None)

    made = []
    fixed_anchors = view.image_size is None  # the network of `anchors`
    # a smaller image reaches more large boxes, too, but loses detail: larger anchors do it without
    image = best(IMAGES, 0.02, 0.0 if fixed_anchors else 1.0)
    if image:
        flags = " ".join(f"--{name.replace('_', '-')} {size}" for name, size in image["limits"].items())
        made.append({"flags": flags, **_shares(image), "cost": image["factor"] ** 2, "measured": MEASURED[IMAGES]})
    anchors = None if fixed_anchors else best(ANCHORS, 0.02)
    if anchors:
        flags = f"--anchor-scale {anchor_scale * anchors['factor']:g}"
        made.append({"flags": flags, **_shares(anchors), "cost": 1.0, "measured": MEASURED[ANCHORS]})
    return made


def _now(tried: list[dict]) -> dict:
    """What the anchors reach as they are."""
    return next(t for t in tried if t["change"] == ANCHORS and t["factor"] == 1)


def _is_good(now: dict) -> bool:
    return now["reached"] >= GOOD_SHARE and now["reached_at_0.7"] >= GOOD_SHARE / 2


def _reach(tried: dict) -> float:
    """Boxes under IoU .5 and between .5 and .7 are both learned from one anchor; the former from a worse one."""
    return (tried["reached"] + tried["reached_at_0.7"]) / 2


def _shares(tried: dict) -> dict[str, float]:
    return {key: tried[key] for key in ("reached", "reached_at_0.7")}


def _advice(index: Index, view: View, tried: list[dict], proposed: list[dict]) -> list[str]:
    boxes = index.boxes[~index.crowd]
    if not len(boxes):
        return ["no objects, nothing to advise"]
    now = _now(tried)
    text = [f"the anchors reach {now['reached']:.0%} of the boxes at IoU 0.5 and {now['reached_at_0.7']:.0%} at 0.7"]
    if _is_good(now):
        return [f"{text[0]}: nothing to change"]
    text[0] += "; the rest is learned from a single anchor each"
    if proposed:
        text += ["worth a try, in the order of the AP that each brought in our measurements:"]
        text += [f"  {n}. {proposal_text(one)}" for n, one in enumerate(proposed, 1)]
        text.append("reach is not AP: train both ways before you decide")
    else:
        text.append("no other image or anchor size reaches more: the boxes differ too much in size or shape")
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    scale = float(np.median(view.scale(index.sizes)))
    smallest = min(s for level in view.levels for s in level.sizes)
    if np.median(sides) * scale < smallest / 2 and scale < 0.8:
        median = np.median(sides)
        tile = round(scale * float(np.median(index.sizes.min(axis=1))))
        text.append(
            f"the median object is {median:.0f} px wide and shrinks to {median * scale:.0f} px: "
            f"`frcnn train DATA --tiles {tile}` learns from tiles, in which nothing shrinks, and "
            f"`frcnn evaluate RUN --tiles {tile}` tells whether they pay for a run that you have"
        )
    return text


def proposal_text(one: dict) -> str:
    """A proposal in a line, for the terminal and the report."""
    cost = "the same computing" if one["cost"] == 1 else f"about {one['cost']:.1f} times the computing"
    reach = f"reaches {one['reached']:.0%} at IoU 0.5, {one['reached_at_0.7']:.0%} at 0.7, for {cost}"
    return f"{one['flags']}: {reach}; {one['measured']}"


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
