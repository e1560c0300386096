"""Figures 1 to 5: the grid, nine anchors, all centres, inside and outside, IoU as heat."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from anchors.grid import generate_cell_anchors
from anchors.walkthrough import worked_example
from anchors.walkthrough.picture import SIDE, Picture
from anchors.walkthrough.style import (
    EXTRA,
    GT,
    HEAT,
    INK,
    MARK,
    NEGATIVE,
    POSITIVE,
    QUIET,
    SIZE_COLOURS,
    bare,
    draw_box,
    draw_truth,
    fact,
    label,
    note,
    picture_axes,
    square,
    titled_figure,
    window,
)
from anchors.walkthrough.worked_example import GRID, NUM_CELL, RATIOS, SIZES, STRIDE, Anchoring, cell_centres

DASHES = ("-", "--", ":")


def templates() -> list[tuple[str, float, float]]:
    """(title, width, height) of the nine shapes, ratio slow and size fast."""
    cell = generate_cell_anchors(SIZES, RATIOS)
    sides = (cell[:, 2:] - cell[:, :2]).tolist()
    return [(f"{w:.0f} x {h:.0f}", w, h) for w, h in sides]


def grid(path: Path, picture: Picture, found: Anchoring) -> None:
    sentence = "800 pixels at stride 16 are 50 cells: each cell stands for 16 x 16 pixels."
    with titled_figure(path, "1  The feature map is a grid over the picture", sentence) as figure:
        axes = picture_axes(figure, 0.035, 0.05, 0.79, picture.pixels, strength=0.75)
        for k in range(GRID[0] + 1):
            axes.axhline(k * STRIDE, color="white", lw=0.7, alpha=0.8)
            axes.axvline(k * STRIDE, color="white", lw=0.7, alpha=0.8)
        row, column = 25, 25
        cell = (column * STRIDE, row * STRIDE, (column + 1) * STRIDE, (row + 1) * STRIDE)
        draw_box(axes, cell, NEGATIVE, width=2.5, fill=0.5)
        zoom = picture_axes(figure, 0.53, 0.31, 0.525, picture.pixels, strength=0.6)
        window(zoom, *(side - 2 * STRIDE for side in cell[:2]), *(side + 2 * STRIDE for side in cell[2:]))
        for k in range(column - 2, column + 4):
            zoom.axvline(k * STRIDE, color="white", lw=1.5)
            zoom.axhline(k * STRIDE, color="white", lw=1.5)
        draw_box(zoom, cell, NEGATIVE, width=3, fill=0.3)
        zoom.plot([cell[0] + 8], [cell[1] + 8], "o", color=NEGATIVE, ms=9, mec="white", mew=1.5, zorder=9)
        zoom.annotate(
            "centre (408, 408)\n= (25 + ½) · 16",
            (cell[0] + 8, cell[1] + 8),
            (cell[0] + 10, cell[1] - 14),
            fontsize=12,
            arrowprops={"arrowstyle": "-", "color": NEGATIVE},
            bbox={"fc": "white", "ec": "none", "pad": 3},
            zorder=10,
        )
        fact(figure, 0.53, 0.22, "50 x 50", "cells, 2,500 places")
        fact(figure, 0.72, 0.22, "16", "the stride, in pixels")
        note(figure, 0.53, 0.11, "Not 16 · 16 places: 16 is the stride.")


def nine(path: Path, picture: Picture, found: Anchoring) -> None:
    sentence = "Three sizes and three ratios (height : width). Anchors of one size have one area."
    with titled_figure(path, "2  Nine anchors at one cell", sentence) as figure:
        axes = picture_axes(figure, 0.035, 0.05, 0.79, picture.pixels, strength=0.4)
        centre = torch.tensor([408.0, 408.0, 408.0, 408.0])
        cell = generate_cell_anchors(SIZES, RATIOS) + centre
        for r in range(3):
            for s in (2, 1, 0):
                draw_box(axes, cell[3 * r + s], SIZE_COLOURS[s], width=3, dashes=DASHES[r])
        axes.plot([408], [408], "o", color=GT, ms=9, mec="white", mew=1.5, zorder=9)
        names = templates()
        for s, size in enumerate(SIZES):
            left = 0.53 + 0.147 * s
            figure.text(left, 0.80, f"size {size}", fontsize=16, weight="bold", color=SIZE_COLOURS[s])
            for r, ratio in enumerate(("1:2", "1:1", "2:1")):
                y = 0.66 - 0.155 * r
                title, w, h = names[3 * r + s]
                shape = square(figure, left, y - 0.045, 0.11)
                window(shape, -370, -370, 370, 370)
                bare(shape)
                draw_box(shape, (-w / 2, -h / 2, w / 2, h / 2), SIZE_COLOURS[s], width=2.5, dashes=DASHES[r], fill=0.15)
                figure.text(left + 0.066, y + 0.025, title, fontsize=12, va="center")
                figure.text(left + 0.066, y - 0.01, f"ratio {ratio}", fontsize=11, color=QUIET, va="center")
        note(figure, 0.53, 0.225, "width = size / √ratio      height = size · √ratio", size=15, colour=INK)
        note(figure, 0.53, 0.165, "Order: the ratio is the slow index, the size the fast one.")


def centres(path: Path, picture: Picture, found: Anchoring) -> None:
    sentence = "2,500 places with nine anchors each: 50 · 50 · 9 = 22,500 anchors."
    with titled_figure(path, "3  The same nine at every cell", sentence) as figure:
        axes = picture_axes(figure, 0.035, 0.05, 0.79, picture.pixels, strength=0.4)
        y, x = cell_centres()
        axes.plot(x.flatten(), y.flatten(), "o", color=POSITIVE, ms=2.6, mew=0)
        first = found.anchors.reshape(*GRID, NUM_CELL, 4)
        for row, column in ((10, 8), (24, 25), (40, 42)):
            for k in (0, 3, 6):
                draw_box(axes, first[row, column, k], NEGATIVE, width=2)
        axes.plot([136, 408, 680], [168, 392, 648], "o", color=NEGATIVE, ms=6, mec="white")
        zoom = square(figure, 0.56, 0.43, 0.33)
        window(zoom, -8, -8, 52, 52)
        zoom.set_aspect("equal")
        for k in range(4):
            zoom.plot([0, 48], [16 * k] * 2, color="#C4C4C4", lw=1)
            zoom.plot([16 * k] * 2, [0, 48], color="#C4C4C4", lw=1)
        for n in range(9):
            i, j = divmod(n, 3)
            zoom.plot([16 * j + 8], [16 * i + 8], "o", color=POSITIVE, ms=7)
            zoom.text(16 * j + 9.5, 16 * i + 6.5, str(n), fontsize=12, color=POSITIVE, weight="bold")
            zoom.plot([16 * j], [16 * i], "s", mfc="none", color=MARK, ms=7)
        zoom.annotate(
            "", (47, -4), (0, -4), arrowprops={"arrowstyle": "->", "color": QUIET, "lw": 1.5}, annotation_clip=False
        )
        bare(zoom)
        figure.text(0.56, 0.79, "the upper left corner: x runs first", fontsize=12.5, color=QUIET)
        note(figure, 0.56, 0.40, "●  here: in the cells' middles, (i + ½) · 16", colour=POSITIVE)
        note(figure, 0.56, 0.35, "□  torchvision: at the cells' corners, i · 16", colour=MARK)
        note(
            figure,
            0.56,
            0.27,
            "The anchors run over (y, x, anchor), as the network's\n"
            "output does. With x outside and y inside, targets and\n"
            "predictions are transposed; a square picture hides it.",
            colour=INK,
        )


def inside(path: Path, picture: Picture, found: Anchoring) -> None:
    sentence = "A dot is a centre. Blue: this anchor lies inside. Only these train the RPN (Faster R-CNN 3.3)."
    num_inside = int(found.inside.sum())
    with titled_figure(path, f"4  {num_inside:,} of 22,500 anchors lie inside the picture", sentence) as figure:
        masks = found.inside.reshape(*GRID, NUM_CELL)
        y, x = cell_centres()
        for k, (title, w, h) in enumerate(templates()):
            r, s = divmod(k, 3)
            axes = square(figure, 0.035 + 0.165 * s, 0.605 - 0.278 * r, 0.225)
            window(axes, 0, 0, SIDE, SIDE)
            bare(axes)
            draw_box(axes, (0, 0, SIDE, SIDE), "#9A9A9A", width=1)
            mask = masks[..., k]
            axes.plot(x[~mask], y[~mask], "o", color="#D0D0D0", ms=1.1, mew=0)
            axes.plot(x[mask], y[mask], "o", color=POSITIVE, ms=1.6, mew=0)
            middle = (400 - w / 2, 400 - h / 2, 400 + w / 2, 400 + h / 2)
            if s == 0:  # light blue on blue dots
                draw_box(axes, middle, "white", width=5)
            draw_box(axes, middle, SIZE_COLOURS[s], width=2.2)
            axes.set_title(f"{title}:  {int(mask.sum()):,}", fontsize=12, pad=4)
        note(figure, 0.56, 0.815, "How many centres are far enough from the edges", size=15, colour=INK)
        figure.text(0.56, 0.735, "side", fontsize=12, color=QUIET)
        figure.text(0.56, 0.690, "places", fontsize=12, color=QUIET)
        for i, (length, count) in enumerate(worked_example.fits_along_a_side().items()):
            column = 0.635 + 0.05 * i
            figure.text(column, 0.735, str(math.floor(float(length) + 0.5)), fontsize=12, ha="center", color=QUIET)
            figure.text(column, 0.690, str(count), fontsize=14, ha="center", weight="bold")
        note(figure, 0.56, 0.65, "128 x 128: 42 · 42 = 1,764     362 x 181: 28 · 38 = 1,064", size=12)
        other = worked_example.other_counts()
        note(figure, 0.56, 0.555, "Three right answers", size=15, colour=INK)
        entries = [
            (num_inside, "centres in the cells' middles, real side lengths", POSITIVE),
            (sum(other["torchvision"]), "torchvision: centres at the corners, half sides rounded", MARK),
            (sum(other["paper_code"]), "the paper's code: +1 widths, rounded sides, x2 < W", EXTRA),
        ]
        for i, (count, words, colour) in enumerate(entries):
            fact(figure, 0.56, 0.46 - 0.135 * i, f"{count:,}", words, colour, gap=0.047)


def heat(path: Path, picture: Picture, found: Anchoring) -> None:
    sentence = "A pixel of a map is one anchor; its colour the best IoU with a true box. Blank: it leaves the picture."
    with titled_figure(path, "5  Where which shape fits", sentence) as figure:
        best = torch.full((len(found.anchors),), float("nan"))
        best[found.inside_idxs] = found.iou.amax(dim=0)
        maps = best.reshape(*GRID, NUM_CELL)
        top = max(float(found.best.max()), 0.1)
        for k, (title, _, _) in enumerate(templates()):
            r, s = divmod(k, 3)
            axes = square(figure, 0.035 + 0.165 * s, 0.605 - 0.278 * r, 0.225)
            shown = axes.imshow(
                maps[..., k].numpy(), extent=(0, SIDE, SIDE, 0), cmap=HEAT, vmin=0, vmax=top, interpolation="nearest"
            )
            draw_box(axes, (0, 0, SIDE, SIDE), "#9A9A9A", width=1)
            values = maps[..., k][~maps[..., k].isnan()]
            axes.set_title(f"{title}:  best {float(values.max()) if len(values) else 0:.3f}", fontsize=12, pad=4)
            for box in found.boxes:
                draw_box(axes, box, "#9A9A9A", width=2.6)  # to be seen where the map is blank
                draw_box(axes, box, "white", width=1.4)
            bare(axes)
        bar = figure.add_axes((0.535, 0.05, 0.012, 0.785))
        figure.colorbar(shown, cax=bar)
        bar.set_title("IoU", fontsize=12)
        axes = picture_axes(figure, 0.62, 0.28, 0.555, picture.pixels, strength=0.5)
        draw_truth(axes, found.boxes, picture.names)
        for m in range(min(len(found.boxes), 6)):
            anchor = found.anchors[found.inside_idxs[found.iou[m].argmax()]]
            draw_box(axes, anchor, POSITIVE, width=3, dashes="--", zorder=9)
            x, y = float(anchor[0]), float(anchor[3])
            label(axes, x, y, f"{float(found.best[m]):.3f}", POSITIVE, zorder=10, va="top")
        reach = int((found.iou.amax(dim=0) >= 0.7).sum())
        note(figure, 0.62, 0.245, "Dashed: the best anchor of each box.", size=14, colour=POSITIVE)
        nothing = "No anchor reaches 0.7: by that threshold\nalone, nothing would be positive."
        note(figure, 0.62, 0.19, f"{reach:,} anchors reach 0.7." if reach else nothing)
