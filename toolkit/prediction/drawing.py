"""Boxes drawn on pictures: `frcnn predict`'s output and `train_batch.jpg`, what the network really sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from toolkit.data.dataset import corners

# Okabe and Ito's palette: told apart by colour-blind readers too
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#FFFFFF")


def draw_boxes(image: Image.Image, boxes: list, texts: list[str], colours: list[str]) -> Image.Image:
    """A copy of `image` with XYXY boxes and their texts, line and type growing with the picture."""
    image = image.convert("RGB")
    draw = ImageDraw.Draw(image)
    line = max(1, round(max(image.size) / 300))
    font = ImageFont.load_default(size=max(10, round(max(image.size) / 45)))
    for box, colour in zip(boxes, colours, strict=True):
        x1, y1, x2, y2 = (float(v) for v in box)
        draw.rectangle([x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)], outline=colour, width=line)
    for box, text, colour in zip(boxes, texts, colours, strict=True):
        if not text:
            continue
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        width, height = right - left + 4, bottom - top + 4
        x = min(max(0.0, float(box[0])), max(0, image.width - width))
        y = float(box[1]) - height if box[1] >= height else float(box[1])
        draw.rectangle([x, y, x + width, y + height], fill=colour)
        draw.text((x + 2 - left, y + 2 - top), text, fill=_ink(colour), font=font)
    return image


def draw_detections(image: Image.Image, detections: list[dict[str, Any]]) -> Image.Image:
    """`image` with the detections of `predict.predict`."""
    boxes = corners([d["bbox"] for d in detections]).tolist()
    texts = [f"{d['label']} {d['score']:.2f}" for d in detections]
    return draw_boxes(image, boxes, texts, [colour_of(d["category_id"]) for d in detections])


def colour_of(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def batch_sheet(images: list, targets: list, classes: tuple[str, ...], cell: int = 320) -> Image.Image:
    """One picture of a training batch: augmented images [3,H,W] uint8 with the boxes that the network is taught."""
    columns = int(np.ceil(np.sqrt(len(images))))
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * cell, rows * cell), "#202020")
    for i, (tensor, target) in enumerate(zip(images, targets, strict=True)):
        image = Image.fromarray(tensor.permute(1, 2, 0).numpy())
        scale = cell / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
        labels = target["labels"].tolist()
        image = draw_boxes(
            image,
            (target["boxes"] * scale).tolist(),
            [classes[label - 1] for label in labels],
            [colour_of(label) for label in labels],
        )
        sheet.paste(image, ((i % columns) * cell, (i // columns) * cell))
    return sheet


def save_jpeg(image: Image.Image, path: Path) -> None:
    """Whole or not at all, with a comment that tells it from a photograph."""
    from label_tools.pictures.own_files import DRAWN
    from label_tools.text.atomic import atomic_write

    with atomic_write(path) as file:
        image.save(file, format="JPEG", quality=90, comment=DRAWN)


def _ink(colour: str) -> str:
    r, g, b = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * r + 0.587 * g + 0.114 * b > 140 else "#FFFFFF"
