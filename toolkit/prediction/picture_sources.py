"""Pictures to detect in: files, folders, lists of files, patterns, standard input; images and arrays of Python."""

from __future__ import annotations

import glob
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from label_tools.pictures import open_image
from label_tools.pictures.find_image import refuse_links_out
from label_tools.pictures.own_output import is_drawing
from label_tools.pictures.tiff_windows import Windows
from label_tools.pictures.unread_files import not_read
from label_tools.text.errors import InputError
from label_tools.text.messages import near_paths

_LOG = logging.getLogger(__name__)
STANDARD_INPUT = "-"
_PATTERN = set("*?[")
_LABELS = (".json", ".xml", ".csv", ".yaml", ".yml")


@dataclass(frozen=True)
class Picture:
    """One picture to detect in. name: how results call it; pixels: [H,W,3] uint8 RGB where it is no file of its own;
    opening: keywords of `open_image.open_image` in place of the detector's own."""

    name: str
    path: Path | None = None
    pixels: np.ndarray | None = None
    opening: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)  # what results say of it beside its name

    def open(self, opening: Mapping[str, Any], *, by_windows: bool = False) -> np.ndarray:
        """[H,W,3] uint8 RGB; by_windows: a TIFF over the limit of pixels as `Windows`, which can be cut like an array.

        Raises ImageError naming the file.
        """
        if self.pixels is not None:
            return self.pixels
        assert self.path is not None, self.name
        opening = {**opening, **self.opening}
        try:
            return np.asarray(open_image.open_image(self.path, **opening))
        except open_image.ImageError as error:
            if not by_windows or error.code != "B66" or self.path.suffix.lower() not in (".tif", ".tiff"):
                raise
            found: Any = Windows(self.path, opening.get("max_value"))
            return found


def find_images(sources: Sequence[str | os.PathLike]) -> list[tuple[Path, Path]]:
    """(file, its name below the source) of every picture, in order; refused when there is none.

    sources: pictures; folders, with all below them; patterns such as "new/*.jpg"; text files (.txt) with a path a line;
    "-", such a list on standard input. Paths in a list start from the working directory, else from the list's folder,
    and are named from the folder that they have in common. What `frcnn predict` or `frcnn draw` left in a folder is no
    photograph.
    """
    found: list[tuple[Path, Path]] = []
    passed_over = not_read(p for s in sources if os.path.isdir(s) for p in Path(s).rglob("*"))
    for source in map(str, sources):
        path = Path(source)
        if source == STANDARD_INPUT:
            found += _listed(sys.stdin, Path(), "standard input")
        elif os.path.isdir(path):
            files = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in open_image.SUFFIXES and p.is_file()]
            below = [(p, p.relative_to(path)) for p in files if not is_drawing(p)]
            refuse_links_out(path, (name.as_posix() for _, name in below))
            found += below
        elif os.path.isfile(path) and path.suffix.lower() == ".txt":
            with open(path, encoding="utf-8-sig", errors="surrogateescape") as lines:
                found += _listed(lines, path.parent, str(path))
        elif os.path.isfile(path) and path.suffix.lower() in _LABELS:
            raise InputError(
                f"{source}: is no picture; needs pictures, a folder of them, or a .txt file with a path a line; "
                f"the pictures of a COCO file: `frcnn evaluate RUN --data {source}`"
            )
        elif os.path.isfile(path):
            found.append((path, Path(path.name)))
        elif _PATTERN & set(source) and (matches := sorted(glob.glob(source, recursive=True))):
            files = [Path(m) for m in matches if Path(m).is_file() and Path(m).suffix.lower() in open_image.SUFFIXES]
            found += _named([p for p in files if not is_drawing(p)])
        else:
            raise InputError(f"{source}: not found; needs a picture or a folder of pictures{near_paths(path)}")
    if not found:
        why = f"; {passed_over}" if passed_over else ""
        raise InputError(f"{', '.join(map(str, sources))}: holds no picture ({', '.join(open_image.SUFFIXES)}){why}")
    if passed_over:
        _LOG.warning("%s", passed_over)
    names: dict[Path, Path] = {}
    for path, name in found:
        if name in names:
            raise InputError(f"{path} and {names[name]}: would both become {name}; give folders one at a time")
        names[name] = path
    return found


def _listed(lines: Iterable[str], folder: Path, where: str) -> list[tuple[Path, Path]]:
    paths = []
    for number, line in enumerate(lines, 1):
        if not (text := line.strip()):
            continue
        path = next((p for p in (Path(text), folder / text) if os.path.isfile(p)), None)
        if path is None:
            raise InputError(f"{where}, line {number}: {text[:200]}: not found; needs the path of a picture")
        paths.append(path)
    return _named(list(dict.fromkeys(paths)))


def _named(paths: list[Path]) -> list[tuple[Path, Path]]:
    """Each with its name below the folder that all have in common."""
    if not paths:
        return []
    common = os.path.commonpath([path.absolute().parent for path in paths])
    return [(path, path.absolute().relative_to(common)) for path in paths]


def open_picture(source: Any, opening: Mapping[str, Any]) -> tuple[Path | Image.Image, Image.Image]:
    """-> (what `Detections` remembers, the picture in RGB) of a path, a PIL image or an array [H,W,3] uint8.

    opening: keywords of `open_image.open_image`, for a path.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        picture = open_image.open_image(path, **opening)
        return picture if opening else path, picture
    if isinstance(source, Image.Image):
        picture = open_image.upright_rgb(source)
        return picture, picture
    if isinstance(source, np.ndarray):
        shape, kind = list(source.shape), source.dtype
        if source.ndim != 3 or source.shape[2] != 3 or kind != np.uint8 or 0 in source.shape:
            raise InputError(f"predict: found an array {shape} {kind}, needs [height, width, 3] uint8, RGB")
        picture = Image.fromarray(source)
        return picture, picture
    raise InputError(
        f"predict: found a {type(source).__name__}, needs a path, a PIL image or an array [height, width, 3] uint8, "
        f"or a list of them"
    )
