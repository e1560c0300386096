"""The pictures of a folder and what their LabelMe files say: labelled, a draft, broken, or nothing yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_tools.document.coco_values import are_numbers
from label_tools.files import strict_reading
from label_tools.pictures.find_image import walk
from label_tools.pictures.open_image import SUFFIXES
from label_tools.pictures.own_output import is_drawing, is_ours
from label_tools.text.errors import InputError

LABELLED, DRAFT, BROKEN, NOTHING = "labelled", "draft", "broken", "nothing"


@dataclass(frozen=True)
class Picture:
    """name: from the folder, with slashes. problem: why its label file is broken."""

    name: str
    path: Path
    state: str
    labels: tuple[str, ...] = ()  # one a shape
    problem: str = ""


def scan(folder: Path) -> tuple[list[Picture], list[Path]]:
    """(every picture below `folder` by name, LabelMe files without a picture); hidden folders are passed over."""
    found, labels = [], set(map(Path, walk(folder, (".json",))))
    for path in map(Path, walk(folder, SUFFIXES)):
        if is_drawing(path):
            continue
        labels.discard(path.with_suffix(".json"))
        found.append(_picture(path, path.relative_to(folder).as_posix()))
    lonely = []
    for path in sorted(labels):
        content, _ = read_label_file(path)
        if content is not None:
            lonely.append(path)
    return found, lonely


def _picture(path: Path, name: str) -> Picture:
    file = path.with_suffix(".json")
    if not file.exists():
        return Picture(name, path, NOTHING)
    content, problem = read_label_file(file)
    if content is None:
        return Picture(name, path, BROKEN, problem=problem)
    labels = tuple(shape["label"] for shape in content["shapes"])
    return Picture(name, path, LABELLED if is_reviewed(content) else DRAFT, labels)


def is_reviewed(content: dict[str, Any]) -> bool:
    """False only for a draft: a file whose flag `reviewed` is there and off."""
    flags = content.get("flags")
    return not (isinstance(flags, dict) and flags.get("reviewed") is False)


def read_label_file(path: Path) -> tuple[dict[str, Any] | None, str]:
    """(a LabelMe file's content, "") or (None, what is wrong with it): its shapes have labels and points."""
    try:
        content, _ = strict_reading.read(path.read_bytes(), str(path))
    except InputError as error:
        return None, str(error)
    except OSError as error:
        return None, f"{path}: cannot be read: {error.strerror or error}"
    if is_ours(content) or not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        return None, f'{path}: not a LabelMe file, needs an object with a list "shapes"'
    problem = _problem(content["shapes"])
    return (None, f"{path}, {problem}") if problem else (content, "")


def _problem(shapes: list) -> str:
    for i, shape in enumerate(shapes):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            return f"shapes[{i}]: needs a label"
        points = shape.get("points")
        if not isinstance(points, list) or not points or not all(are_numbers(point, 2) for point in points):
            return f'shapes[{i}] "{shape["label"]}": needs points [[x, y], ...]'
    return ""


def read_drafts(folder: Path) -> dict[str, list]:
    """{file name: shapes as they were drafted} of drafts.json; what cannot be read there is left out."""
    try:
        found, _ = strict_reading.read((folder / "drafts.json").read_bytes(), "drafts.json")
    except (OSError, InputError):
        return {}
    entries = found.items() if isinstance(found, dict) else ()
    return {name: shapes for name, shapes in entries if isinstance(shapes, list) and not _problem(shapes)}
