"""Figures 12 to 14: RoI pooling beside RoIAlign, the loss and a common mistake, detections during training."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F

from anchors.boxes import box_iou
from anchors.exercises.on_losses import sigma_inverted
from anchors.fast.roi_align import sample_points
from anchors.losses import beta_from_sigma, smooth_l1
from anchors.roi_pool import pool_bins, round_half_away
from anchors.walkthrough.picture import Picture
from anchors.walkthrough.style import (
    EXTRA,
    GT,
    INK,
    MARK,
    NEGATIVE,
    POSITIVE,
    SIZE_COLOURS,
    draw_box,
    draw_truth,
    label,
    note,
    picture_axes,
    square,
    titled_figure,
    window,
)
from anchors.walkthrough.train_on_picture import Learned
from anchors.walkthrough.worked_example import STRIDE

NUM_BINS = 7
THIRDS = ((0.02, 0.03, 0.342, 0.862), (0.342, 0.03, 0.657, 0.862), (0.657, 0.03, 0.985, 0.862))
SHOWN_SCORE, FOUND_SCORE, FOUND_IOU = 0.3, 0.5, 0.5
LOSSES = {
    "loss_objectness": ("RPN: object or not", POSITIVE),
    "loss_rpn_box_reg": ("RPN: box", "#56B4E9"),
    "loss_classifier": ("head: class", NEGATIVE),
    "loss_box_reg": ("head: box", "#E69F00"),
}


def example_roi(picture: Picture) -> torch.Tensor:
    """A typical proposal: the smallest object's box, a little off, with corners between cells."""
    sides = picture.boxes[:, 2:] - picture.boxes[:, :2]
    box = picture.boxes[int(sides.prod(dim=1).argmin())]
    size, middle = (box[2:] - box[:2]).clamp(min=120), ((box[:2] + box[2:]) / 2).clamp(min=150, max=650)
    return torch.cat((middle - size * 0.53 + 3.3, middle + size * 0.5 - 1.1))


def bins(path: Path, picture: Picture, learned: Learned) -> None:
    roi = example_roi(picture)
    on_map = roi / STRIDE
    features = F.avg_pool2d(
        (picture.pixels - F.avg_pool2d(picture.pixels[None], 31, 1, 15)[0]).abs().mean(0)[None, None], STRIDE
    )[0, 0]
    low, high = on_map[:2].floor() - 2, on_map[2:].ceil() + 2
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    corners = " ".join(f"{value:.2f}" for value in on_map.tolist())
    sentence = f"The RoI's corners on the map of 50 x 50 cells: {corners}. They are not whole numbers."
    with titled_figure(path, "12  A box of any size becomes 7 x 7", sentence, THIRDS) as figure:
        panels = {
            "exact": exact_bins,
            "RoI pooling: rounded twice": pooled_bins,
            "RoIAlign: nothing rounded": aligned_bins,
        }
        for i, (title, draw_bins) in enumerate(panels.items()):
            axes = square(figure, 0.035 + 0.315 * i, 0.26, 0.53)
            axes.imshow(
                features.sqrt().numpy(), extent=(0, 50, 50, 0), cmap="Greys", interpolation="nearest", alpha=0.55
            )
            window(axes, *(middle - half).tolist(), *(middle + half).tolist())
            for k in range(51):
                axes.axvline(k, color="#BDBDBD", lw=0.8)
                axes.axhline(k, color="#BDBDBD", lw=0.8)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(title, loc="left", pad=10, weight="bold", fontsize=14)
            draw_bins(axes, on_map, roi)
        moved = float((round_half_away(on_map) - on_map).abs().max()) * STRIDE
        note(figure, 0.035, 0.205, "7 x 7 equal parts of the box.")
        words = (
            "Corners to whole cells (moved by up to\n"
            f"{moved:.0f} pixels), then bins to whole cells,\n"
            "which overlap. The maximum of a bin."
        )
        note(figure, 0.35, 0.205, words)
        note(
            figure, 0.665, 0.205, "2 x 2 points in each bin, each between\nfour cells (bilinear). The mean of the four."
        )


def exact_bins(axes, on_map, roi) -> None:
    x1, y1, x2, y2 = on_map.tolist()
    for k in range(NUM_BINS + 1):
        axes.plot([x1, x2], [y1 + k * (y2 - y1) / NUM_BINS] * 2, color=GT, lw=1.6)
        axes.plot([x1 + k * (x2 - x1) / NUM_BINS] * 2, [y1, y2], color=GT, lw=1.6)


def pooled_bins(axes, on_map, roi) -> None:
    found = pool_bins(torch.cat((torch.zeros(1), roi))[None], (50, 50), NUM_BINS, 1 / STRIDE)
    for top, bottom in zip(found.y_start[0].tolist(), found.y_end[0].tolist()):
        for left, right in zip(found.x_start[0].tolist(), found.x_end[0].tolist()):
            draw_box(axes, (left, top, right, bottom), NEGATIVE, width=0, fill=0.16, zorder=4)
            draw_box(axes, (left + 0.1, top + 0.1, right - 0.1, bottom - 0.1), NEGATIVE, width=1.3, zorder=4)
    draw_box(axes, on_map, GT, width=2.5, zorder=6)


def aligned_bins(axes, on_map, roi) -> None:
    exact_bins(axes, on_map, roi)
    start, size = on_map[:2] - 0.5, on_map[2:] - on_map[:2]
    xs, _ = sample_points(start[:1], size[:1], NUM_BINS, 2)
    ys, _ = sample_points(start[1:], size[1:], NUM_BINS, 2)
    # the half cell that aligned=True takes off is where a cell's value sits: drawn in box coordinates again
    y, x = torch.meshgrid(ys.flatten() + 0.5, xs.flatten() + 0.5, indexing="ij")
    axes.plot(x.flatten(), y.flatten(), "o", color=POSITIVE, ms=4, zorder=6)


def losses(path: Path, picture: Picture, learned: Learned) -> None:
    sentence = "Left: smooth L1 for the RPN, sigma 3. Right: the four losses of the tiny network in training."
    with titled_figure(path, "13  Smooth L1, right and with a common slip", sentence) as figure:
        curve = figure.add_axes((0.065, 0.30, 0.41, 0.46))
        x = torch.linspace(-1.2, 1.2, 4801)
        sigma = 3
        slip = sigma_inverted(x, sigma)
        slip[(x.abs() - 1 / 9).abs() < 3e-4] = float("nan")  # the jump is not a line
        curve.axhline(0, color="#BDBDBD", lw=1)
        curve.plot(x, smooth_l1(x, beta=beta_from_sigma(sigma)), color=POSITIVE, lw=3.5)
        curve.plot(x, slip, color=NEGATIVE, lw=3, ls="--")
        for sign in (-1, 1):
            curve.plot([sign / 9] * 2, [-0.389, 0.0007], color=NEGATIVE, lw=1, ls=":")
        curve.set_xlabel("x = predicted delta - target")
        curve.set_xlim(-1.2, 1.2)
        curve.set_ylim(-0.5, 1.15)
        note(figure, 0.065, 0.835, "right:  ½ σ² x²  if |x| < 1/σ²,  else  |x| - ½/σ²", va="center", colour=POSITIVE)
        note(figure, 0.065, 0.795, "slip:  ½ x²/σ²  if |x| < 1/σ²,  else  |x| - ½", va="center", colour=NEGATIVE)
        curve.annotate("-0.389", (1 / 9, -0.389), (0.2, -0.40), fontsize=12, color=NEGATIVE, va="center")
        note(
            figure,
            0.065,
            0.19,
            "The slip jumps at 1/9 from +0.0007 to -0.389 and is\n"
            "negative up to ½: being wrong by 0.2 would be rewarded.\n"
            "The right one has no step and no corner.",
            size=12.5,
        )
        panel = figure.add_axes((0.575, 0.30, 0.39, 0.46))
        steps = range(1, len(learned.history) + 1)
        for name, (words, colour) in LOSSES.items():
            values = torch.tensor([losses[name] for losses in learned.history])
            panel.plot(steps, values, color=colour, lw=0.7, alpha=0.3)
            panel.plot(steps, running_mean(values), color=colour, lw=3, label=words)
        panel.set_xlabel("step")
        panel.set_ylim(bottom=0)
        panel.set_xlim(1, max(len(learned.history), 2))
        first, last = (sum(learned.history[step].values()) for step in (0, -1))
        panel.legend(loc="lower left", bbox_to_anchor=(-0.03, 1.01), ncols=2, fontsize=12)  # above: on no line
        note(
            figure,
            0.575,
            0.19,
            "Four losses, added with weight 1; thick: the mean of 15\n"
            f"steps. Their sum goes from {first:.2f} to {last:.2f} in {len(learned.history)} steps.",
            size=12.5,
        )


def running_mean(values: torch.Tensor, reach: int = 15) -> torch.Tensor:
    """The mean of each value and up to reach - 1 values before it."""
    return torch.stack([values[max(end - reach, 0) : end].mean() for end in range(1, len(values) + 1)])


def objects_found(picture: Picture, found: dict[str, torch.Tensor]) -> int:
    """Count the true boxes that have a detection of their class with a score above 0.5 and an IoU of at least 0.5."""
    sure = found["scores"] > FOUND_SCORE
    fits = box_iou(picture.boxes, found["boxes"][sure]) >= FOUND_IOU
    return int((fits & (picture.labels[:, None] == found["labels"][sure])).any(dim=1).sum())


def detections(path: Path, picture: Picture, learned: Learned) -> None:
    sentence = (
        f"Scores above {SHOWN_SCORE:g}, at most eight. "
        f"Found: right class, score above {FOUND_SCORE:g}, IoU at least {FOUND_IOU:g}."
    )
    tiles = [(0.03 + 0.225 * column, 0.03 + 0.41 * row) for row in (1, 0) for column in range(3)]
    parts = [*((x, y, x + 0.223, y + 0.415) for x, y in tiles), (0.715, 0.03, 0.985, 0.862)]
    palette = (POSITIVE, NEGATIVE, EXTRA, MARK, *SIZE_COLOURS)
    with titled_figure(path, "14  Detections as training goes on", sentence, parts) as figure:
        for i, (step, found) in enumerate(learned.snapshots[:6]):
            row, column = divmod(i, 3)
            axes = picture_axes(figure, 0.035 + 0.225 * column, 0.45 - 0.415 * row, 0.36, picture.pixels, strength=0.55)
            draw_truth(axes, picture.boxes, width=1.2)
            sure = (found["scores"] > SHOWN_SCORE).nonzero().squeeze(1)[:8]
            if not len(sure):
                axes.text(400, 700, f"none above {SHOWN_SCORE:g}", ha="center", fontsize=12)
            taken: list[tuple[float, float]] = []
            for k in sure.tolist():
                colour = palette[(int(found["labels"][k]) - 1) % len(palette)]
                draw_box(axes, found["boxes"][k], colour, width=2.6, zorder=9)
                if corner := free_corner(found["boxes"][k].tolist(), taken):
                    x, y, ha, va = corner
                    label(axes, x, y, f"{float(found['scores'][k]):.2f}", colour, size=8.5, va=va, ha=ha, zorder=10)
            when = "before training" if step == 0 else f"after {step} steps"
            count = f"{objects_found(picture, found)} of {len(picture.boxes)} found"
            axes.set_title(f"{when}: {count}", loc="left", fontsize=12, pad=5)
        for i, name in enumerate(picture.classes[:8]):
            colour = palette[i % len(palette)]
            note(figure, 0.73, 0.79 - 0.055 * i, f"■  {name}", size=16, colour=colour)
        y = 0.79 - 0.055 * min(len(picture.classes), 8) - 0.02
        note(figure, 0.73, y, "thin black: the true boxes", colour=INK)
        note(
            figure,
            0.73,
            y - 0.08,
            "Half a million weights that have\nseen one picture and copies of it:\na demonstration, not a detector.",
        )


def free_corner(box: list[float], taken: list[tuple[float, float]]) -> tuple[float, float, str, str] | None:
    """A corner inside the box for its score, where no other score stands: (x, y, ha, va); None where all are taken."""
    wide, high = 110, 60  # pixels of the picture under one score
    x1, y1, x2, y2 = box
    for x, ha in ((x1, "left"), (x2, "right")):
        for y, va in ((y1, "top"), (y2, "bottom")):
            centre = x + (wide / 2 if ha == "left" else -wide / 2), y + (high / 2 if va == "top" else -high / 2)
            if all(abs(centre[0] - a) >= wide or abs(centre[1] - b) >= high for a, b in taken):
                taken.append(centre)
                return x, y, ha, va
    return None
