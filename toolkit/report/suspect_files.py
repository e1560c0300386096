"""Likely label errors as LabelMe files: open the folder in labelme, fix, save, done.

One file an image. Every label of the image is there as it was, outlines and masks too; what is doubted says so in
its description, and each detection that accuses a label is one more rectangle. `imagePath` leads to the image where
it lies.
"""

from __future__ import annotations

import os
from pathlib import Path

from label_tools.document.coco_file import is_inside
from label_tools.text.atomic import atomic_write
from label_tools.text.errors import InputError

MOST_FILES = 200
README = """LabelMe files of images whose labels are probably wrong; the number in a name is its place, worst first.

Open this folder in labelme. Labels are as they were. A label in doubt says so in its description; a rectangle whose
description starts with "suspect" is a detection that disagrees. Fix the label, or take the detection for it; delete
what is left of "suspect", save, and put the file where your labels are.
"""


def write_suspect_files(made: Path, folder: Path, evaluation, image_root: Path) -> None:
    """Write made/NNN_<image>.json for each image with suspects, worst first; nothing when there is none.

    The files will lie in `folder`, from where they point at the images.
    """
    by_image: dict = {}
    for suspect in evaluation.suspects:
        by_image.setdefault(suspect.image_id, []).append(suspect)
    rows = {image_id: row for row, image_id in enumerate(evaluation.tables.image_ids)}
    written = 0
    for image_id, found in list(by_image.items())[:MOST_FILES]:
        content = _labelme(folder, evaluation, image_root, rows[image_id], found)
        if content is None:
            continue
        from label_tools.formats.labelme_write import file_bytes

        written += 1
        stem = Path(found[0].file_name).stem[:80]
        with atomic_write(made / f"{written:03d}_{stem}.json") as file:
            file.write(file_bytes(content))
    if written:
        with atomic_write(made / "README.txt") as file:
            file.write(README.encode())


def _labelme(folder: Path, evaluation, image_root: Path, row: int, found: list) -> dict | None:
    """The LabelMe file of one image; None where the document does not say the image's size, or names no path."""
    from label_tools.formats.labelme_write import file_content

    tables = evaluation.tables
    width, height = (int(v) for v in tables.image_size[row])
    if not width or not height or not is_inside(tables.file_names[row]):
        return None
    image = {"width": width, "height": height}
    path = Path(os.path.relpath((image_root / tables.file_names[row]).resolve(), folder.resolve())).as_posix()
    names = dict(zip(tables.category_ids, tables.class_names))
    doubts = {s.annotation: f"in doubt: {s.text}" for s in found if s.annotation is not None}
    shapes: list[dict] = []
    for g in (tables.gt_image == row).nonzero()[0]:
        place = int(tables.gt_row[g])
        annotation = {
            **evaluation.document["annotations"][place],
            "category_id": tables.category_ids[tables.gt_class[g]],
        }
        for shape in _shapes(image, annotation, names, 1 + max((s["group_id"] or 0 for s in shapes), default=0)):
            if shape not in shapes:  # an ignore region stands in the document once per class
                shapes.append({**shape, "description": doubts.get(place, "")})
    for suspect in found:
        if suspect.bbox:
            detection = {"category_id": 0, "bbox": [round(v, 2) for v in suspect.bbox]}
            (shape,) = file_content(image, [detection], {0: suspect.class_name}, path)["shapes"]
            shapes.append({**shape, "description": f"suspect: {suspect.text}"})
    return {**file_content(image, [], names, path), "shapes": shapes}


def _shapes(image: dict, annotation: dict, names: dict, group: int) -> list[dict]:
    """The shapes of one label; its box where its outline cannot be read."""
    from label_tools.formats.labelme_write import file_content

    try:
        shapes = file_content(image, [annotation], names, "")["shapes"]
    except (InputError, ValueError, KeyError, TypeError, IndexError):
        bare = {k: v for k, v in annotation.items() if k != "segmentation"}
        shapes = file_content(image, [bare], names, "")["shapes"]
    return [{**shape, "group_id": group if shape["group_id"] else None} for shape in shapes]
