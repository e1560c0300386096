"""The style of all figures: a title and a sentence, the picture pale behind, few colours with one meaning each.

The colours are Okabe and Ito's, which people who see colours differently can tell apart; positives and negatives also
differ in line and mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from torch import Tensor

POSITIVE, NEGATIVE, IGNORED, GT, EXTRA, MARK = "#0072B2", "#D55E00", "#8C8C8C", "#111111", "#009E73", "#CC79A7"
SIZE_COLOURS = ("#56B4E9", "#E69F00", "#009E73")
HEAT = "cividis"
INK, QUIET = "#1B1B1B", "#5A5A5A"
WIDE, HIGH, DPI = 12.8, 7.2, 125  # 1600 x 900 pixels
HALVES = ((0.02, 0.03, 0.515, 0.862), (0.515, 0.03, 0.985, 0.862))  # left, bottom, right, top; in shares
Parts = Sequence[tuple[float, float, float, float]]
SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "axes.titlesize": 13,
    "axes.edgecolor": "#9A9A9A",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def titled_figure(path: Path, title: str, sentence: str, parts: Parts = HALVES) -> Iterator:
    """A figure of 1600 x 900 pixels to draw in; written to `path` in the end, and closed. No window is opened.

    parts: the figure without its title in pieces (left, bottom, right, top) that can be read one below the other on a
    phone; they are written beside it, NAME_a.png, NAME_b.png, ... The sentence is in the PNG as its Description.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS):
        figure = Figure(figsize=(WIDE, HIGH), dpi=DPI)
        FigureCanvasAgg(figure)
        figure.text(0.035, 0.945, title, fontsize=23, weight="bold", va="center")
        figure.text(0.035, 0.885, sentence, fontsize=14, color=QUIET, va="center")
        yield figure
        figure.savefig(path, metadata={"Software": None, "Title": title, "Description": sentence})
    write_parts(path, parts)


def write_parts(path: Path, parts: Parts) -> None:
    """Cut the parts out of the PNG and trim their white edges."""
    from PIL import Image, ImageChops, ImageOps

    with Image.open(path) as opened:
        whole = opened.convert("RGB")
    width, height = whole.size
    for letter, (left, bottom, right, top) in zip(ascii_lowercase, parts):
        part = whole.crop((int(left * width), int((1 - top) * height), int(right * width), int((1 - bottom) * height)))
        drawn = ImageChops.difference(part, Image.new("RGB", part.size, "white")).getbbox()
        ImageOps.expand(part.crop(drawn), round(0.006 * width), "white").save(
            path.with_name(f"{path.stem}_{letter}.png")
        )


def square(figure, left: float, bottom: float, height: float):
    """Axes as wide as high."""
    return figure.add_axes((left, bottom, height * HIGH / WIDE, height))


def window(axes, x1: float, y1: float, x2: float, y2: float) -> None:
    """Show this part of the axes, y downwards."""
    axes.set_xlim(x1, x2)
    axes.set_ylim(y2, y1)


def picture_axes(figure, left: float, bottom: float, height: float, pixels: Tensor, *, strength: float):
    """Axes with the picture [3,S,S] in them, greyer and closer to white, so that lines on it can be read."""
    axes = square(figure, left, bottom, height)
    mixed = 0.5 * pixels + 0.5 * pixels.mean(dim=0)
    pale = (1 - strength * (1 - mixed)).permute(1, 2, 0).clamp(0, 1)
    axes.imshow(pale.numpy(), extent=(0, pixels.shape[2], pixels.shape[1], 0), interpolation="bilinear")
    bare(axes)
    return axes


def bare(axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_box(axes, box, colour: str, *, width: float = 2.0, dashes: str = "-", fill: float = 0.0, zorder: int = 3):
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = (float(value) for value in box)
    place = (x1, y1), x2 - x1, y2 - y1
    if fill:
        axes.add_patch(Rectangle(*place, facecolor=colour, alpha=fill, lw=0, zorder=zorder - 1))
    axes.add_patch(Rectangle(*place, fill=False, ec=colour, lw=width, ls=dashes, zorder=zorder))


def draw_boxes(axes, boxes: Tensor, colour: str, *, width: float = 1.0, alpha: float = 1.0, zorder=3) -> None:
    """Many boxes at once."""
    from matplotlib.collections import LineCollection

    corners = [[(a, b), (c, b), (c, d), (a, d), (a, b)] for a, b, c, d in boxes.tolist()]
    axes.add_collection(LineCollection(corners, colors=colour, linewidths=width, alpha=alpha, zorder=zorder))


def draw_truth(axes, boxes: Tensor, names=(), *, width: float = 3.0) -> None:
    """The true boxes: black with a white border, with their names."""
    for i, box in enumerate(boxes):
        draw_box(axes, box, "white", width=width + 2.5, zorder=6)
        draw_box(axes, box, GT, width=width, zorder=7)
        if i < len(names):
            label(axes, float(box[0]), float(box[1]), names[i], GT, zorder=11)


def label(
    axes, x: float, y: float, text: str, colour: str, *, size: float = 11, zorder=8, va: str = "bottom", ha="left"
):
    box = {"facecolor": colour, "edgecolor": "none", "pad": 2.5}
    axes.text(x, y, text, color="white", fontsize=size, weight="bold", va=va, ha=ha, zorder=zorder, bbox=box)


def note(figure, x: float, y: float, lines: str, *, size: float = 13, colour: str = QUIET, va: str = "top") -> None:
    figure.text(x, y, lines, fontsize=size, color=colour, va=va, linespacing=1.55)


def fact(
    figure, x: float, y: float, number: str, words: str, colour: str = INK, *, gap: float = 0.052, mark: str = ""
) -> None:
    """A large number, and below it the mark that stands for it in the figure and a few words."""
    figure.text(x, y, number, fontsize=30, weight="bold", color=colour, va="center")
    figure.text(x, y - gap, mark, fontsize=13, color=colour, va="center")
    figure.text(x + (0.018 if mark else 0), y - gap, words, fontsize=13, color=QUIET, va="center")


def rows(tensor: Tensor, most: int) -> Tensor:
    """Choose at most `most` rows, evenly spaced."""
    if len(tensor) <= most:
        return tensor
    return tensor[torch.linspace(0, len(tensor) - 1, most).round().long()]
