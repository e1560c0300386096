"""The COCO files that a run trains on and is judged by: which they are, and whether they go together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from label_tools.text.errors import InputError
from toolkit.data.dataset import Index, read_index


def find_parts(data: Path, val: Path | None, test: Path | None) -> dict[str, Path]:
    """{train, val, test: COCO file}, those that exist."""
    if data.is_dir():
        parts = {name: data / f"{name}.json" for name in ("train", "val", "test")}
        if not parts["train"].is_file():
            raise InputError(f"{data}: holds no train.json; `frcnn convert` and `frcnn split` make one")
    elif data.is_file():
        parts = {"train": data}
    else:
        raise InputError(f"{data}: not found; needs a folder with train.json and val.json, or a COCO file")
    parts.update({name: path for name, path in (("val", val), ("test", test)) if path})
    for name, path in list(parts.items()):
        if not path.is_file():
            if path in (val, test):
                raise InputError(f"--{name} {path}: not found")
            del parts[name]
    return parts


def check_parts(train: Index, val: Index | None, parts: dict[str, Path]) -> None:
    """Refuse a training set that cannot teach, and classes that differ between the parts."""
    if not train.class_counts().sum():
        crowds = f" but {len(train.boxes)} crowds, which are no targets" if len(train.boxes) else ""
        raise InputError(f"{parts['train']}: has no object in {len(train)} images{crowds}; needs at least one")
    if val is None:
        print("warning: no val.json: no AP, no best checkpoint, no report; give --val", file=sys.stderr)
        return
    if val.classes != train.classes or val.category_ids != train.category_ids:
        raise InputError(
            f"{parts['val']}: has the classes {', '.join(val.classes)}; "
            f"{parts['train']} has {', '.join(train.classes)}; needs the same, in order"
        )
    if not val.class_counts().sum():
        print(
            f"warning: {parts['val']}: has no object, so AP is undefined: the last epoch will count as the best, "
            f"and nothing stops early",
            file=sys.stderr,
        )
    for name, here, there in zip(train.classes, train.class_counts(), val.class_counts(), strict=True):
        if there and not here:
            print(f"warning: class {name!r} is in val but never in train", file=sys.stderr)


def check_test(parts: dict[str, Path], images: Path | None, classes: Sequence[str]) -> None:
    """Refuse a test set that could not be judged when training is over: its images, its classes."""
    if "test" not in parts:
        return
    found = read_index(parts["test"], images).classes
    if set(found) != set(classes):
        raise InputError(
            f"{parts['test']}: has the classes {', '.join(found)}; "
            f"{parts['train']} has {', '.join(classes)}; needs the same"
        )
