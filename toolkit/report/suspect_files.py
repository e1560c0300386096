"""Likely label errors as LabelMe files: open the folder in labelme, mend, save, done.

One file an image. Every label of the image is there as it was (its box); each detection that accuses a label is
one more rectangle, with what is doubted in its description. `imagePath` leads to the image where it lies.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np

from label_tools.atomic import atomic_write

MOST_FILES = 200
README = """LabelMe files of images whose labels are probably wrong, worst first by name.

Open this folder in labelme. Labels are as they were; a rectangle whose description starts with "suspect" is a
detection that disagrees: keep it, or delete it, and mend the label beside it. Save, then put the file where your
labels are (imagePath leads to the image from here; `frcnn check` finds paths that do not).
"""


def write_suspect_files(folder: Path, evaluation, image_root: Path) -> None:
    """Write folder/NNN_<image>.json for each image with suspects, worst first; nothing when there is none."""
    shutil.rmtree(folder, ignore_errors=True)
    by_image: dict = {}
    for suspect in evaluation.suspects:
        by_image.setdefault(suspect.image_id, []).append(suspect)
    for number, (image_id, found) in enumerate(list(by_image.items())[:MOST_FILES], 1):
        content = _labelme(folder, evaluation, image_root, image_id, found)
        stem = Path(found[0].file_name).stem[:80]
        with atomic_write(folder / f"{number:03d}_{stem}.json") as file:
            file.write(json.dumps(content, indent=2, ensure_ascii=False).encode())
    if by_image:
        with atomic_write(folder / "README.txt") as file:
            file.write(README.encode())


def _labelme(folder: Path, evaluation, image_root: Path, image_id, found: list) -> dict:
    tables = evaluation.tables
    row = tables.image_ids.index(image_id)
    doubts = {s.annotation: s.text for s in found if s.annotation is not None}
    shapes = []
    for g in np.flatnonzero(tables.gt_image == row):
        doubt = doubts.get(int(tables.gt_row[g]), "")
        name = tables.class_names[tables.gt_class[g]]
        shapes.append(_rectangle(name, tables.gt_bbox[g], f"in doubt: {doubt}" if doubt else ""))
    for suspect in found:
        if suspect.bbox:
            shapes.append(_rectangle(suspect.class_name, suspect.bbox, f"suspect: {suspect.text}"))
    image = (image_root / tables.file_names[row]).resolve()
    width, height = tables.image_size[row]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(os.path.relpath(image, folder.resolve())).as_posix(),
        "imageData": None,
        "imageHeight": int(height),
        "imageWidth": int(width),
    }


def _rectangle(label: str, bbox, description: str) -> dict:
    x, y, w, h = (round(float(v), 2) for v in bbox)
    return {
        "label": label,
        "points": [[x, y], [round(x + w, 2), round(y + h, 2)]],
        "group_id": None,
        "description": description,
        "shape_type": "rectangle",
        "flags": {},
    }
