"""A contact sheet: pictures with their boxes, so that a person sees what a network is taught and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from label_tools.text.atomic import atomic_write
from toolkit.prediction.drawing import COLOURS, draw_boxes
from toolkit.single_object import grid
from toolkit.single_object.box_codes import usable
from toolkit.single_object.data.samples import Samples
from toolkit.single_object.predictions import Prediction

TRUTH, ANSWER = COLOURS[2], COLOURS[5]  # green and red


def contact_sheet(
    samples: Samples, rows: Sequence[int], answers: dict[int, list[tuple[Tensor, str]]] | None = None, cell: int = 180
) -> Image.Image:
    """The images `rows` of `samples`, true boxes green; answers {row: [(box XYXY, text)]} red."""
    height, width = samples.size
    scale = max(1.0, cell / max(height, width))
    cells = []
    for row in rows:
        picture = as_picture(samples.images[row]).resize(
            (round(width * scale), round(height * scale)), Image.Resampling.NEAREST
        )
        mine = (samples.owner == row).nonzero().squeeze(1).tolist()
        boxes = [(samples.boxes[i] * scale).tolist() for i in mine]
        texts = [samples.classes[int(samples.labels[i])] for i in mine]
        colours = [TRUTH] * len(mine)
        for box, text in (answers or {}).get(row, []):
            boxes.append((box * scale).tolist())
            texts.append(text)
            colours.append(ANSWER)
        cells.append(draw_boxes(picture, boxes, texts, colours))
    columns = max(1, int(np.ceil(np.sqrt(len(cells)))))
    lines = -(-len(cells) // columns)
    wide, high = round(width * scale) + 4, round(height * scale) + 4
    sheet = Image.new("RGB", (max(1, columns * wide), max(1, lines * high)), "#888888")
    for place, picture in enumerate(cells):
        sheet.paste(picture, (place % columns * wide + 2, place // columns * high + 2))
    return sheet


def answers_of(predicted: Prediction | Tensor, samples: Samples) -> dict[int, list[tuple[Tensor, str]]]:
    """{image: [(box, text)]} of what a network found: predictions, or the outputs [N,2,3,7] of a grid."""
    found: dict[int, list[tuple[Tensor, str]]] = {}
    if isinstance(predicted, Tensor):
        boxes = grid.boxes_of(predicted, samples.size)
        for row, y, x in (predicted[..., 0] > 0).nonzero().tolist():
            text = samples.classes[int(predicted[row, y, x, 5] > 0)]
            found.setdefault(row, []).append((usable(boxes[row, y, x][None], samples.size)[0], text))
        return found
    for row in predicted.found.nonzero().squeeze(1).tolist():
        text = samples.classes[int(predicted.labels[row])]
        found[row] = [(predicted.boxes[row], text)]
    return found


def save_png(image: Image.Image, path: Path) -> None:
    """Whole or not at all."""
    with atomic_write(path) as file:
        image.save(file, format="PNG")


def as_picture(image: Tensor) -> Image.Image:
    """[C,H,W] uint8, one or three channels -> RGB."""
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, 2)))
