"""Figures 6 to 11: the labels, the sample and the deltas that train the RPN; its proposals, NMS, the sampled RoIs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from anchors.boxes import box_iou
from anchors.deltas import encode
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
    label,
    note,
    picture_axes,
    rows,
    titled_figure,
    window,
)
from anchors.walkthrough.train_on_picture import SHRINK, Learned
from anchors.walkthrough.worked_example import GRID, HIGH, LOW, NUM_CELL, NUM_SAMPLES, Anchoring, cell_centres

NMS_THRESH = 0.7


def rpn_labels(path: Path, picture: Picture, found: Anchoring) -> None:
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


def rpn_sample(path: Path, picture: Picture, found: Anchoring) -> None:
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


def rpn_deltas(path: Path, picture: Picture, found: Anchoring) -> None:
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


def suppressed_by(boxes: Tensor, keep: Tensor) -> Tensor:
    """[C]: for each candidate (best first) the kept one that suppressed it; itself if kept, -1 beyond the limit."""
    answer = torch.full((len(boxes),), -1)
    iou = box_iou(boxes[keep], boxes)
    for row, kept in enumerate(keep.tolist()):
        free = (answer == -1) & (torch.arange(len(boxes)) > kept) & (iou[row] > NMS_THRESH)
        answer[free] = kept
        answer[kept] = kept
    return answer


def two_apart(boxes: Tensor, ranked: list[int]) -> list[int]:
    """The best-ranked and the next that hardly overlaps it (another object); if there is none, the second."""
    first = ranked[0]
    overlap = box_iou(boxes[first : first + 1], boxes)[0]
    apart = [k for k in ranked[1:] if overlap[k] < 0.2] or ranked[1:]
    return [first, *apart[:1]]


def proposals_before_nms(path: Path, picture: Picture, learned: Learned) -> None:
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


def proposals_after_nms(path: Path, picture: Picture, learned: Learned) -> None:
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


def sampled_rois(path: Path, picture: Picture, learned: Learned) -> None:
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
