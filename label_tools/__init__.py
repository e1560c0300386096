"""Label tools: convert the files of labelling programs to one COCO file, check it, split it, export it again.

    from label_tools import convert, split
    labels = convert("photos", labels=["bolt", "nut"])
    labels.write("photos/annotations.json")
    split("photos/annotations.json")

Imports numpy, Pillow and pycocotools.mask, each on first use; never torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "convert": "readers.convert",
    "detect": "readers.which_format",
    "open_source": "readers.open_labels",
    "check_document": "rules.check",
    "examine_files": "rules.check",
    "split": "operations.split:split_file",
    "merge_files": "operations.edit",
    "remap": "operations.edit",
    "measure": "operations.stats",
    **{f"export_{name}": "formats.export" for name in ("labelme", "voc", "yolo", "cvat", "coco", "masks")},
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(f"{__name__}.{module}"), attribute or name)
