"""Figure 15: the mask of an object, its 28 x 28 target, and that target pasted back into the picture."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from anchors.boxes import box_area
from anchors.mask import mask_targets, paste_masks
from anchors.walkthrough.figures_head import THIRDS
from anchors.walkthrough.picture import SIDE, Picture
from anchors.walkthrough.style import (
    NEGATIVE,
    POSITIVE,
    bare,
    draw_box,
    note,
    picture_axes,
    square,
    titled_figure,
    window,
)
from anchors.walkthrough.train_on_picture import Learned

SIZE = 28


class RoundTrip(NamedTuple):
    """An object's mask [800,800] bool, its target [28,28], the mask that the target gives back, and their IoU."""

    row: int
    mask: Tensor
    target: Tensor
    pasted: Tensor
    iou: float


def round_trip(picture: Picture) -> RoundTrip:
    """Make the round trip for the object that fills its box least, where a mask adds most to the box."""
    areas = torch.tensor([picture.area(i) for i in range(len(picture.boxes))])
    index = int((areas / box_area(picture.boxes)).argmin())
    box, mask = picture.boxes[index : index + 1], picture.mask(index)
    target = mask_targets(mask[None], box, torch.tensor([0]), size=SIZE)
    pasted = paste_masks(target, box, (SIDE, SIDE))[0] >= 0.5
    union = int((mask | pasted).sum())
    return RoundTrip(index, mask, target[0], pasted, int((mask & pasted).sum()) / max(union, 1))


def mask(path: Path, picture: Picture, learned: Learned) -> None:
    found = round_trip(picture)
    box = picture.boxes[found.row]
    width, height = (round(float(side)) for side in box[2:] - box[:2])
    sentence = (
        "Mask R-CNN adds one map of 28 x 28 logits for each class; only the map of the RoI's own class is trained."
    )
    with titled_figure(path, "15  A mask for each object", sentence, THIRDS) as figure:
        axes = [
            picture_axes(figure, 0.035, 0.26, 0.53, picture.pixels, strength=0.5),
            square(figure, 0.35, 0.26, 0.53),
            picture_axes(figure, 0.665, 0.26, 0.53, picture.pixels, strength=0.5),
        ]
        titles = (
            "the object's mask, and the RoI",
            f"target: RoIAlign to {SIZE} x {SIZE}",
            "pasted back, at 0.5: close up",
        )
        for panel, title in zip(axes, titles):
            panel.set_title(title, loc="left", pad=10, weight="bold", fontsize=14)
        axes[0].imshow(painted({POSITIVE: found.mask}), extent=(0, SIDE, SIDE, 0), zorder=4)
        draw_box(axes[0], box, NEGATIVE, width=2.5, zorder=6)
        axes[1].imshow(found.target.numpy(), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        bare(axes[1])
        both, off = found.mask & found.pasted, found.mask ^ found.pasted
        axes[2].imshow(painted({POSITIVE: both, NEGATIVE: off}), extent=(0, SIDE, SIDE, 0), zorder=4)
        side = max(int(0.3 * float((box[2:] - box[:2]).max())), 8)  # close up, where most differs: it is thin
        x, y = where_most(off, side)
        window(axes[2], x, y, x + side, y + side)
        words = (
            f"{picture.names[found.row]:.20}: {width} x {height} pixels.",
            "White 0, black 1; cells that the\nedge crosses are between.",
            f"Blue: both. Orange: one of the two.\nIoU with the true mask {found.iou:.3f}.",
        )
        for i, text in enumerate(words):
            note(figure, 0.035 + 0.315 * i, 0.205, text)


def where_most(mask: Tensor, side: int) -> tuple[int, int]:
    """The corner (x, y) of the square that holds most of a mask."""
    place = int(F.avg_pool2d(mask[None, None].double(), side, stride=1).argmax())
    y, x = divmod(place, SIDE - side + 1)
    return x, y


def painted(masks: dict[str, Tensor]):
    """[800,800,4]: each mask in its colour, a little transparent."""
    from matplotlib.colors import to_rgb

    layer = torch.zeros(SIDE, SIDE, 4)  # the colour of a pixel
    for colour, mask in masks.items():
        layer[mask] = torch.tensor([*to_rgb(colour), 0.7])
    return layer.numpy()
