"""Figures 6 to 8: positive, negative, ignored; the sampled 256; deltas as arrows."""

from __future__ import annotations

from pathlib import Path

import torch

from anchors.deltas import encode
from anchors.walkthrough.example import GRID, HIGH, LOW, NUM_CELL, NUM_SAMPLES, Anchoring, cell_centres
from anchors.walkthrough.picture import Picture
from anchors.walkthrough.style import (
    GT,
    IGNORED,
    INK,
    NEGATIVE,
    POSITIVE,
    QUIET,
    draw_box,
    draw_boxes,
    draw_truth,
    fact,
    note,
    picture_axes,
    rows,
    titled_figure,
    window,
)


def labels(path: Path, picture: Picture, found: Anchoring) -> None:
    counts = {label: int((found.labels == label).sum()) for label in (1, 0, -1)}
    sentence = (
        f"IoU below {LOW:g}: background. At least {HIGH:g}, or the best of some object: positive. Between: ignored."
    )
    with titled_figure(path, "6  Positive, negative, ignored", sentence) as figure:
        axes = picture_axes(figure, 0.035, 0.05, 0.79, picture.pixels, strength=0.35)
        draw_boxes(axes, rows(found.anchors[found.where(1)], 60), POSITIVE, width=1.4, alpha=0.8)
        draw_truth(axes, found.boxes, picture.names)
        middle = 0.5 * (found.anchors[:, :2] + found.anchors[:, 2:])
        points = middle[found.where(1)]
        axes.plot(points[:, 0], points[:, 1], "o", color=POSITIVE, ms=7, mec="white", zorder=9)
        state = torch.full((len(found.anchors),), -2)
        state[found.inside_idxs] = found.labels
        state = state.reshape(*GRID, NUM_CELL)
        panel = picture_axes(figure, 0.53, 0.30, 0.50, picture.pixels, strength=0.15)
        y, x = cell_centres()
        shown = ((0, NEGATIVE, ".", 3.0), (-1, IGNORED, "s", 3.2), (1, POSITIVE, "o", 6.5))
        for label, colour, mark, size in shown:
            here = (state == label).any(dim=2)
            panel.plot(x[here], y[here], mark, color=colour, ms=size, mew=0 if label != 1 else 0.8, mec="white")
        figure.text(0.53, 0.82, "each cell: its most object-like anchor", fontsize=12.5, color=QUIET)
        fact(figure, 0.53, 0.225, f"{counts[1]:,}", "positive", POSITIVE, mark="●")
        fact(figure, 0.68, 0.225, f"{counts[0]:,}", "negative", NEGATIVE, mark="•")
        fact(figure, 0.83, 0.225, f"{counts[-1]:,}", "ignored", IGNORED, mark="■")
        high = int((found.iou.amax(dim=0) >= HIGH).sum())
        tied = (found.iou == found.best[:, None]).sum(dim=1).tolist()
        words = " + ".join(map(str, tied)) if len(tied) <= 8 else f"{sum(tied)}"
        note(figure, 0.53, 0.115, f"{high} anchors reach 0.7. Best of an object, ties included: {words}.")


def sample(path: Path, picture: Picture, found: Anchoring) -> None:
    positive, negative = len(found.positives), len(found.negatives)
    sentence = f"At most half of {NUM_SAMPLES} are positive. Where positives are few, negatives take their place."
    with titled_figure(path, f"7  {positive} + {negative} of them train in this step", sentence) as figure:
        axes = picture_axes(figure, 0.035, 0.05, 0.79, picture.pixels, strength=0.35)
        draw_boxes(axes, found.anchors[found.inside_idxs[found.negatives]], NEGATIVE, width=0.8, alpha=0.5)
        draw_boxes(axes, found.anchors[found.inside_idxs[found.positives]], POSITIVE, width=2.2)
        draw_truth(axes, found.boxes, picture.names)
        everyone = [int((found.labels == label).sum()) for label in (1, 0, -1)]
        bars = figure.add_axes((0.56, 0.36, 0.40, 0.42))
        rows_of_bars = ((1.0, everyone, "all inside"), (0.0, (positive, negative, 0), "the sample"))
        for y, values, name in rows_of_bars:
            left, whole = 0.0, sum(values) or 1
            for value, colour in zip(values, (POSITIVE, NEGATIVE, IGNORED)):
                bars.barh([y], [value / whole], left=left, color=colour, height=0.5)
                if value / whole > 0.06:
                    middle = left + value / whole / 2
                    bars.text(middle, y, f"{value:,}", ha="center", va="center", color="white", weight="bold")
                left += value / whole
            bars.text(0, y + 0.34, f"{name}: {sum(values):,}", fontsize=13)
        bars.set_xlim(0, 1)
        bars.set_ylim(-0.5, 1.6)
        bars.axis("off")
        share, sampled = everyone[0] / max(sum(everyone), 1), positive / max(positive + negative, 1)
        words = f"Positives are {share:.1%} of all, and {sampled:.0%} of the sample."
        note(figure, 0.56, 0.37, words, size=14, colour=INK)
        note(
            figure,
            0.56,
            0.29,
            "128 positives are the most, not the rule.\nThe others get label -1 in this step: no loss.",
        )
        note(figure, 0.56, 0.175, "■  positive", colour=POSITIVE)
        note(figure, 0.65, 0.175, "■  negative", colour=NEGATIVE)
        note(figure, 0.745, 0.175, "■  ignored", colour=IGNORED)


def deltas(path: Path, picture: Picture, found: Anchoring) -> None:
    sentence = "A delta says how to move and stretch an anchor. It is measured in the anchor's own width and height."
    parts = ((0.02, 0.05, 0.41, 0.862), (0.41, 0.05, 0.80, 0.862), (0.80, 0.05, 0.985, 0.862))
    with titled_figure(path, "8  From the anchor to the object: four numbers", sentence, parts) as figure:
        left = picture_axes(figure, 0.035, 0.20, 0.64, picture.pixels, strength=0.35)
        positive = found.inside_idxs[found.labels == 1]
        own = found.gt_idxs[found.labels == 1]
        busiest = int(own.bincount().argmax())
        mine = rows(found.anchors[positive[own == busiest]], 40)
        for anchor in mine:
            arrow(left, anchor, found.boxes[busiest], width=1.8)
        close_up(left, mine, found.boxes[busiest])
        m = int(found.best.argmax())
        anchor, box = found.anchors[found.inside_idxs[found.iou[m].argmax()]], found.boxes[m]
        right = picture_axes(figure, 0.425, 0.20, 0.64, picture.pixels, strength=0.35)
        draw_truth(right, box[None])
        draw_box(right, anchor, POSITIVE, width=3, dashes="--", zorder=8)
        arrow(right, anchor, box, width=3)
        d = encode(box[None], anchor[None])[0].tolist()
        a, g = sides(anchor), sides(box)
        lines = [
            ("dx", f"({g[0]:.0f} - {a[0]:.0f}) / {a[2]:.0f}", d[0]),
            ("dy", f"({g[1]:.0f} - {a[1]:.0f}) / {a[3]:.0f}", d[1]),
            ("dw", f"ln({g[2]:.0f} / {a[2]:.0f})", d[2]),
            ("dh", f"ln({g[3]:.0f} / {a[3]:.0f})", d[3]),
        ]
        for i, (name, formula, value) in enumerate(lines):
            y = 0.72 - 0.125 * i
            figure.text(0.81, y, name, fontsize=17, weight="bold")
            figure.text(0.965, y, f"{value:+.3f}", fontsize=17, ha="right", color=POSITIVE, weight="bold")
            figure.text(0.81, y - 0.04, "= " + formula, fontsize=12, color=QUIET)
        name = picture.names[busiest]
        words = (
            f"Close up: the centres of {len(mine)} positive anchors,\nand the centre + of their object ({name:.20})."
        )
        note(figure, 0.035, 0.16, words)
        note(figure, 0.425, 0.16, "Dashed: the best anchor of an object;\nits four numbers.")


def close_up(axes, anchors, box) -> None:
    """Zoom in on the centres of the anchors and of the box."""
    middle = torch.cat((0.5 * (anchors[:, :2] + anchors[:, 2:]), 0.5 * (box[None, :2] + box[None, 2:])))
    low, high = middle.amin(dim=0), middle.amax(dim=0)
    half = max(float((high - low).max()) / 2 + 12, 24)
    centre = (low + high) / 2
    window(axes, *(centre - half).tolist(), *(centre + half).tolist())


def sides(box) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.tolist()
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def arrow(axes, anchor, box, *, width: float) -> None:
    (ax, ay, _, _), (gx, gy, _, _) = sides(anchor), sides(box)
    style = {"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 9, "mutation_scale": 6 + 4 * width}
    axes.annotate("", (gx, gy), (ax, ay), arrowprops={**style, "color": POSITIVE, "lw": width}, zorder=9)
    axes.plot([ax], [ay], "o", color=POSITIVE, ms=3 + 1.5 * width, mec="white", mew=0.8, zorder=10)
    axes.plot([gx], [gy], "+", color=GT, ms=10, mew=2, zorder=11)
