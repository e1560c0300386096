"""Boxes drawn on pictures: `frcnn predict`'s output and `train_batch.jpg`, what the network really sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from label_tools.files.atomic_write import atomic_write
from label_tools.pictures.fonts import class_texts
from label_tools.pictures.name_tags import Tag, write_tags
from label_tools.pictures.own_output import DRAWN
from label_tools.pictures.paint_objects import paint_shapes
from label_tools.pictures.palette import PAGE_COLOURS, Colour, class_colour, rgb
from toolkit.data.boxes import bbox

# for what is no class: a sheet's true boxes, answers and a second network's answers
TRUTH, ANSWER, OTHER = rgb(PAGE_COLOURS[2]), rgb(PAGE_COLOURS[0]), rgb(PAGE_COLOURS[5])


def draw_boxes(image: Image.Image, boxes: Sequence, texts: Sequence[str], colours: Sequence[Colour]) -> Image.Image:
    """A copy of `image` with XYXY boxes, each with its text and in its colour."""
    corners = [(float(x1), float(y1), float(x2), float(y2)) for x1, y1, x2, y2 in boxes]
    shapes = [{"bbox": bbox(box)} for box in corners]
    picture = paint_shapes(image, shapes, colours)
    write_tags(picture, [Tag(*tag) for tag in zip(corners, texts, colours, strict=True)])
    return picture


def batch_sheet(images: list, targets: list, classes: tuple[str, ...]) -> Image.Image:
    """One picture of a training batch: augmented images [3,H,W] uint8 with the boxes that the network is taught."""
    cell = 320  # pixels of the longer side of an image
    names = class_texts(dict(enumerate(classes, start=1)))
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * cell), "#202020")
    for i, (tensor, target) in enumerate(zip(images, targets, strict=True)):
        image = Image.fromarray(tensor.permute(1, 2, 0).numpy())
        scale = cell / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        labels = target["labels"].tolist()
        texts, colours = [names[label] for label in labels], [class_colour(label) for label in labels]
        image = draw_boxes(image, (target["boxes"] * scale).tolist(), texts, colours)
        sheet.paste(image, ((i % columns) * cell, (i // columns) * cell))
    return sheet


def save_jpeg(image: Image.Image, path: Path) -> None:
    """Whole or not at all, with a comment that tells it from a photograph."""
    with atomic_write(path) as file:
        image.save(file, format="JPEG", quality=90, comment=DRAWN)
