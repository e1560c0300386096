"""The palette: a class has the same colour in `draw`, in `predict`, in a report and in every figure."""

from __future__ import annotations

import colorsys

Colour = tuple[int, int, int]

# Six of Okabe and Ito's colours with a violet and a brown: told apart by colour-blind readers (at least 15 CIELAB units
# for each kind of colour blindness), and readable on white and on black pages
PAGE_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#A56EFF", "#A0693C")
_ON_PICTURES = (*PAGE_COLOURS, "#F0E442", "#E5E5E5", "#B3DE69", "#FFB3D9")
IGNORED: Colour = (150, 150, 150)


def rgb(colour: str) -> Colour:
    """`rgb("#D55E00")` -> (213, 94, 0)."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def class_colour(category_id: int) -> Colour:
    """The colour of a class, by its id in the COCO file; it never changes when classes are added."""
    index = max(category_id - 1, 0)  # our ids start at 1
    if index < len(_ON_PICTURES):
        return rgb(_ON_PICTURES[index])
    hue = index * 0.618033988749895 % 1  # golden ratio: the next hue falls into the widest gap
    saturation, value = ((0.75, 1.0), (0.55, 0.8), (0.9, 0.65))[index % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def ink(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour (ITU-R BT.601 brightness)."""
    return (0, 0, 0) if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140 else (255, 255, 255)
