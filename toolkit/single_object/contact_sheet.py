"""Contact sheets: pictures with their labels and a network's answers; answers.png of a trained baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from label_tools.files.atomic_write import atomic_write
from label_tools.pictures.fonts import Letters, shorten
from label_tools.pictures.name_tags import legend
from label_tools.pictures.palette import Colour
from toolkit import checkpoint
from toolkit.prediction.draw_boxes_and_batches import ANSWER, TRUTH, draw_boxes
from toolkit.single_object import evaluate_baseline, grid_cells
from toolkit.single_object.baselines import restored
from toolkit.single_object.data.samples import Samples
from toolkit.single_object.network_outputs import Prediction, usable

_LINE = 15  # pixels of a line of text
_CELL = 180  # pixels of a picture's longer side, which smaller ones are enlarged to
_PAPER: Colour = (250, 250, 250)
MOST = 25  # pictures


def contact_sheet(
    samples: Samples, rows: Sequence[int], answers: dict[int, list[tuple[Tensor, str]]] | None = None
) -> Image.Image:
    """The images `rows` of `samples` with their boxes, and the classes below: labels green, answers red.

    answers: {row: [(box XYXY, class)]}; with them there is a legend.
    """
    height, width = samples.size
    scale = max(1.0, _CELL / max(height, width))
    cells = []
    for row in rows:
        size = (round(width * scale), round(height * scale))
        picture = as_picture(samples.images[row]).resize(size, Image.Resampling.NEAREST)
        mine = (samples.owner == row).nonzero().squeeze(1).tolist()
        found = (answers or {}).get(row, [])
        boxes = [(samples.boxes[i] * scale).tolist() for i in mine] + [(box * scale).tolist() for box, _ in found]
        colours = [TRUTH] * len(mine) + [ANSWER] * len(found)
        lines = [([samples.classes[int(samples.labels[i])] for i in mine], TRUTH)]
        lines += [([name for _, name in found], ANSWER)] if answers is not None else []
        cells.append(_with_text(draw_boxes(picture, boxes, [""] * len(boxes), colours), lines))
    columns = max(1, int(np.ceil(np.sqrt(len(cells)))))
    return grid_of(cells, columns, {} if answers is None else {"label": TRUTH, "answer": ANSWER})


def grid_of(cells: list[Image.Image], columns: int, kinds: dict[str, Colour]) -> Image.Image:
    """Cells in rows from left to right, and above them a legend {text: colour}."""
    wide, high = (4 + max((getattr(one, side) for one in cells), default=0) for side in ("width", "height"))
    strip = legend(list(kinds.items()), columns * wide - 4, _LINE - 3) if kinds and cells else None
    top = strip.height + 4 if strip else 0
    sheet = Image.new("RGB", (columns * wide, top + max(1, -(-len(cells) // columns)) * high), _PAPER)
    if strip:
        sheet.paste(strip, (2, 4))
    for place, one in enumerate(cells):
        sheet.paste(one, (place % columns * wide + 2, top + place // columns * high + 2))
    return sheet


def _with_text(picture: Image.Image, lines: list[tuple[list[str], Colour]]) -> Image.Image:
    """`picture` with a line of class names below it for each (names, colour); what is too long is cut."""
    cell = Image.new("RGB", (picture.width, picture.height + _LINE * len(lines)), _PAPER)
    cell.paste(picture, (0, 0))
    letters = Letters(_LINE - 3)
    for number, (names, colour) in enumerate(lines):
        text = shorten(", ".join(names) or "none", letters, picture.width - 4)
        letters.write(cell, (2, picture.height + number * _LINE), text, colour)
    return cell


def answers_of(predicted: Prediction | Tensor, samples: Samples) -> dict[int, list[tuple[Tensor, str]]]:
    """{image: [(box, text)]} of what a network found: predictions, or the outputs [N,2,3,7] of a grid."""
    found: dict[int, list[tuple[Tensor, str]]] = {}
    if isinstance(predicted, Tensor):
        boxes = grid_cells.boxes_of(predicted, samples.size)
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


def draw_answers(folder: Path, val: Samples) -> None:
    """Write answers.png into a run folder, from its last weights."""
    baseline, network = restored(checkpoint.load(checkpoint.find(folder, "last")))
    few = val.first(MOST)
    _, predicted = evaluate_baseline.evaluate(network, baseline, few, torch.device("cpu"))
    save_png(contact_sheet(few, range(len(few)), answers_of(predicted, few)), folder / "answers.png")
