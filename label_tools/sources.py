"""What the commands that look at labels take: a COCO file, or a folder of LabelMe files, as one document."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from label_tools import coco
from label_tools.findings import Finding


@dataclass(frozen=True)
class Source:
    """A document and where its images lie. findings: what reading it left out or repaired."""

    name: str
    document: dict
    image_root: Path
    findings: list[Finding] = field(default_factory=list)

    def path_of(self, image: dict) -> Path:
        """The file of an entry of document["images"]. InputError when its name leads out of the root."""
        return coco.image_path({"info": {"image_root": "."}}, self.image_root / self.name, image)


def open_source(path: str | os.PathLike, *, image_root: Path | None = None) -> Source:
    """Read a COCO file, or all LabelMe files below a folder. Unusable annotations become findings.

    image_root: in place of the one that the COCO file names. Raises InputError: nothing that can be read.
    """
    path = Path(path)
    if path.is_dir():
        return _labelme(path, image_root)
    findings: list[Finding] = []
    document = coco.read(path, findings)
    return Source(path.name, document, image_root or coco.image_root(document, path), findings)


def _labelme(folder: Path, image_root: Path | None) -> Source:
    from tqdm import tqdm

    from label_tools.conversion import convert
    from label_tools.labelme import Options
    from label_tools.labelme_folder import read_folder

    # disable=None: a bar only where a person watches
    reading = read_folder(
        folder,
        image_root=image_root,
        # whoever looks wants to see what a model labelled, too
        options=Options(include_unreviewed=True),
        progress=lambda items, total: tqdm(items, "labels", total, disable=None),
    )
    conversion = convert(reading)
    document = conversion.document(folder / "annotations.json")
    return Source(folder.name, document, conversion.image_root, conversion.findings)
