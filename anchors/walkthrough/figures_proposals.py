"""Figures 9 to 11: proposals before NMS, after it with who suppressed whom, and the sampled RoIs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from anchors.boxes import box_iou
from anchors.walkthrough.picture import Picture
from anchors.walkthrough.style import (
    IGNORED,
    INK,
    NEGATIVE,
    POSITIVE,
    QUIET,
    draw_box,
    draw_boxes,
    draw_truth,
    label,
    note,
    picture_axes,
    rows,
    titled_figure,
)
from anchors.walkthrough.train_on_picture import SHRINK, Learned

NMS_THRESH = 0.7


def suppressed_by(boxes: Tensor, keep: Tensor) -> Tensor:
    """[C]: for each candidate (best first) the kept one that suppressed it; itself if kept, -1 beyond the limit."""
    answer = torch.full((len(boxes),), -1)
    iou = box_iou(boxes[keep], boxes)
    for place_, kept in enumerate(keep.tolist()):
        free = (answer == -1) & (torch.arange(len(boxes)) > kept) & (iou[place_] > NMS_THRESH)
        answer[free] = kept
        answer[kept] = kept
    return answer


def two_apart(boxes: Tensor, ranked: list[int]) -> list[int]:
    """The first of the ranked and the next that hardly overlaps it: another object; failing that, the second."""
    first = ranked[0]
    overlap = box_iou(boxes[first : first + 1], boxes)[0]
    apart = [k for k in ranked[1:] if overlap[k] < 0.2] or ranked[1:]
    return [first, *apart[:1]]


def before(path: Path, picture: Picture, learned: Learned) -> None:
    found = learned.test["candidates"]
    boxes, chance = found.boxes * SHRINK, found.scores.sigmoid()
    sentence = f"After {len(learned.history)} steps. Each anchor is moved by its deltas, clipped, ranked by its score."
    with titled_figure(path, f"9  The best {len(boxes)} proposals, before NMS", sentence) as figure:
        axes = picture_axes(figure, 0.035, 0.05, 0.79, picture.pixels, strength=0.4)
        likely = chance > 0.5
        draw_boxes(axes, boxes[~likely], IGNORED, width=0.7, alpha=0.6)
        draw_boxes(axes, boxes[likely], POSITIVE, width=1.3, alpha=0.65, zorder=4)
        draw_truth(axes, picture.boxes, width=2.5)
        panel = figure.add_axes((0.575, 0.50, 0.385, 0.27))
        panel.plot(torch.arange(1, len(chance) + 1), chance, color=POSITIVE, lw=3)
        panel.fill_between(torch.arange(1, len(chance) + 1), chance, color=POSITIVE, alpha=0.12)
        panel.set_xlabel("rank")
        panel.set_title("objectness, by rank", loc="left")
        panel.set_ylim(0, 1.03)
        note(figure, 0.535, 0.40, f"{int(likely.sum())} with a chance above ½ in blue, the others grey.")
        table = [
            ("here, at test", [len(learned.test["anchors"]), len(boxes), len(learned.test["nms_keep"])]),
            ("800 px, training", [22_500, 12_000, 2_000]),
            ("800 px, test", [22_500, 6_000, 300]),
        ]
        for x, word in zip((0.745, 0.845, 0.945), ("anchors", "into NMS", "after it")):
            figure.text(x, 0.325, word, fontsize=13, color=QUIET, ha="right")
        for i, (name, counts) in enumerate(table):
            y = 0.265 - 0.06 * i
            figure.text(0.535, y, name, fontsize=14)
            for x, count in zip((0.745, 0.845, 0.945), counts):
                figure.text(
                    x, y, f"{count:,}", fontsize=15, ha="right", weight="bold", color=POSITIVE if i == 0 else INK
                )
        words = "800 px: the 22,500 anchors, the limits of the paper's code."
        note(figure, 0.535, 0.105, words)


def after(path: Path, picture: Picture, learned: Learned) -> None:
    found, keep = learned.test["candidates"], learned.test["nms_keep"]
    boxes = found.boxes * SHRINK
    by = suppressed_by(found.boxes, keep)
    victims = {k: int((by == k).sum()) - 1 for k in keep.tolist()}
    most = two_apart(found.boxes, sorted(victims, key=lambda k: (-victims[k], k)))
    sentence = (
        f"The best box stays and drops every box whose IoU with it is above {NMS_THRESH:g}; then the next one left."
    )
    parts = (
        (0.02, 0.22, 0.335, 0.862),
        (0.335, 0.22, 0.65, 0.862),
        (0.65, 0.22, 0.985, 0.862),
        (0.02, 0.03, 0.6, 0.215),
    )
    with titled_figure(path, f"10  NMS: {len(boxes)} boxes become {len(keep)}", sentence, parts) as figure:
        for i, kept in enumerate(most):
            axes = picture_axes(figure, 0.035 + 0.31 * i, 0.28, 0.51, picture.pixels, strength=0.35)
            mine = (by == kept).nonzero().squeeze(1)
            draw_boxes(axes, boxes[mine[mine != kept]], NEGATIVE, width=1.0, alpha=0.75)
            draw_box(axes, boxes[kept], POSITIVE, width=3.5, zorder=8)
            label(axes, float(boxes[kept, 0]), float(boxes[kept, 1]), f"no. {kept + 1}", POSITIVE, va="top", zorder=10)
            axes.set_title(f"no. {kept + 1} suppresses {victims[kept]}", loc="left", pad=14)
        bars = figure.add_axes((0.715, 0.28, 0.24, 0.51))
        first = keep[:14].tolist()
        bars.barh(range(len(first)), [victims[k] for k in first], color=NEGATIVE, height=0.62)
        for y, k in enumerate(first):
            bars.text(victims[k] + 0.3, y, str(victims[k]), va="center", fontsize=11, color=QUIET)
        bars.set_yticks(range(len(first)), [f"no. {k + 1}" for k in first], color=POSITIVE, fontsize=11, weight="bold")
        bars.invert_yaxis()
        bars.set_xticks([])
        bars.spines["bottom"].set_visible(False)
        bars.set_title(f"the first {len(first)} kept: boxes dropped", loc="left", pad=14)
        lost = int((by == -1).sum())
        text = f"{len(keep)} kept, {sum(victims.values())} suppressed"
        text += f", {lost} not looked at: {len(keep)} was the limit." if lost else "."
        note(figure, 0.035, 0.195, text, colour=INK)
        note(
            figure,
            0.035,
            0.13,
            "A suppressed box suppresses nothing:\nno. 2 drops no. 3 only if it has survived no. 1 itself.",
        )


def rois(path: Path, picture: Picture, learned: Learned) -> None:
    sample = learned.train["roi_sample"]
    boxes, foreground = sample.rois * SHRINK, sample.labels > 0
    num_fg, num_bg = int(foreground.sum()), int((~foreground).sum())
    sentence = (
        "IoU of at least 0.5 with an object: foreground, of its class. At most a quarter; background fills the rest."
    )
    with titled_figure(path, f"11  {num_fg} + {num_bg} RoIs train the head", sentence) as figure:
        axes = picture_axes(figure, 0.035, 0.05, 0.79, picture.pixels, strength=0.35)
        draw_boxes(axes, rows(boxes[~foreground], 80), NEGATIVE, width=1.1, alpha=0.75)
        draw_truth(axes, picture.boxes)
        draw_boxes(axes, rows(boxes[foreground], 40), POSITIVE, width=2.2, zorder=9)
        figure.text(0.55, 0.765, f"{num_fg}", fontsize=30, weight="bold", color=POSITIVE, va="center")
        figure.text(0.62, 0.765, "foreground: a class, and deltas to the object", fontsize=14, va="center")
        figure.text(0.55, 0.665, f"{num_bg}", fontsize=30, weight="bold", color=NEGATIVE, va="center")
        figure.text(0.62, 0.665, "background: class 0, no box", fontsize=14, va="center")
        panel = figure.add_axes((0.59, 0.30, 0.37, 0.25))
        iou = box_iou(picture.boxes, boxes).amax(dim=0)
        edges = torch.linspace(0, 1, 21).tolist()
        panel.hist(
            [iou[~foreground].tolist(), iou[foreground].tolist()], bins=edges, stacked=True, color=[NEGATIVE, POSITIVE]
        )
        panel.axvline(0.5, color=INK, lw=1.5, ls="--")
        panel.set_title("IoU with the best object", loc="left")
        panel.set_xlim(0, 1)
        drawn = int((box_iou(picture.boxes, boxes).amax(dim=1) > 0.999).sum())
        words = (
            "The true boxes joined the proposals before the draw\n"
            f"(IoU 1; {drawn} of {len(picture.boxes)} were drawn): at first no proposal comes\n"
            "near an object, and the head would never see one.\n"
            "The paper draws 128: 32 + 96."
        )
        note(figure, 0.55, 0.215, words)
