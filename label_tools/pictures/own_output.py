"""Recognise our own output among photographs: drawings that are no photographs, JSON files that are no labels.

They are recognised by their content, so they may be renamed and moved.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from label_tools.text.errors import InputError

DRAWN = "drawn by frcnn, no photograph"  # a comment in the file
_HEAD = 2048  # bytes at the start of a picture, where the comment stands
_KEYS = (  # some keys of each kind, which no other program writes together
    {"objects_in", "objects_out", "findings_by_level"},  # conversion.json
    {"annotations_sha256", "kept_together", "parts"},  # split.json
    {"images_without_objects", "most_objects_in_an_image"},  # the numbers of `stats`
    {"files", "counts", "findings"},  # `check --json`
    {"files", "objects_in", "objects_out"},  # `export --json`
    {"frcnn_loop", "rounds", "trainings"},  # loop.json
)
_DETECTION = {"image_id", "category_id", "bbox", "score"}


def is_ours(content: Any) -> bool:
    """Whether a JSON document is one of ours: a COCO file with an image root, detections, an account."""
    if isinstance(content, list):  # detections.json of `predict` and `evaluate`
        return bool(content) and isinstance(content[0], dict) and content[0].keys() >= _DETECTION
    if not isinstance(content, dict) or "shapes" in content:
        return False
    info = content.get("info")
    if isinstance(info, dict) and "image_root" in info and {"images", "annotations", "categories"} <= content.keys():
        return True
    return any(keys <= content.keys() for keys in _KEYS)


def is_drawing(path: str | os.PathLike) -> bool:
    """Whether `draw`, `stats`, `export masks`, `predict` or `train` drew this picture; False for an unreadable one."""
    try:
        with open(path, "rb") as file:
            return DRAWN.encode() in file.read(_HEAD)
    except OSError:
        return False


def drawing_paths(folder: Path, pictures: Mapping[str, Path]) -> dict[str, Path]:
    """The drawing's path in `folder` for each picture {name: its file}: a JPEG keeps its name, other names get .jpg
    appended, so that a.jpg and a.png stay apart.

    Raises InputError, before anything is written, when a file lies there that is none of our drawings.
    """
    names = {name.lower() for name in pictures}
    paths = {}
    for name, source in pictures.items():
        low = name.lower()
        keeps = low.endswith(".jpeg") or (low.endswith(".jpg") and low.removesuffix(".jpg") not in names)
        path = paths[name] = folder / (name if keeps else f"{name}.jpg")
        if path.exists() and path.samefile(source):
            raise InputError(f"{path}: is the image itself, and is never overwritten; use another --out")
        refuse_undrawn(path)
    return paths


def refuse_undrawn(path: Path) -> None:
    """Raise InputError if `path` exists and is not one of our drawings."""
    if path.exists() and not is_drawing(path):
        raise InputError(f"{path}: was not drawn by frcnn, and is never overwritten; use another --out")
