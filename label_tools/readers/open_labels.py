"""Open labels for the commands that inspect them: a COCO file, or a folder of LabelMe files, as one document."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from label_tools.document import coco_file
from label_tools.files.strict_reading import loads
from label_tools.formats.labelme import IGNORE_LABEL
from label_tools.formats.labelme_shapes import Options
from label_tools.pictures.find_image import walk
from label_tools.pictures.open_image import sizes_below
from label_tools.readers.convert import to_conversion
from label_tools.readers.given_split import parts_in
from label_tools.readers.labelme_folder import read_labelme
from label_tools.readers.reading import Reading
from label_tools.text.errors import InputError
from label_tools.text.findings import Finding


@dataclass(frozen=True)
class Source:
    """A document and where its images lie.

    findings: what reading it left out or repaired. places: annotation id -> (file, place in it), for LabelMe.
    """

    name: str
    document: dict
    image_root: Path
    findings: list[Finding] = field(default_factory=list)
    places: dict[int, tuple[str, str]] = field(default_factory=dict)

    def path_of(self, image: dict) -> Path:
        """The file of an entry of document["images"]. InputError when its name leads out of the root."""
        return coco_file.image_path({"info": {"image_root": "."}}, self.image_root / self.name, image)


def open_source(path: str | os.PathLike, *, image_root: Path | None = None) -> Source:
    """Read labels to inspect them: a COCO file, or all LabelMe files below a folder, drafts that nobody reviewed among
    them; of a folder without LabelMe files its annotations.json. Unusable annotations become findings.

    image_root: in place of the one that the COCO file names. Raises InputError: nothing that can be read.
    """
    files = label_files_at(path)
    if len(files) > 1:
        raise InputError(f"{path}: holds {', '.join(map(str, files))}; name one of them")
    path = files[0]
    if path.is_dir():
        options = Options(include_unreviewed=True)
        return labelme_source(path, read_labelme(path, image_root=image_root, options=options))
    findings: list[Finding] = []
    document = coco_file.read(path, findings, sizes=sizes_below, images=image_root)
    return Source(path.name, document, image_root or coco_file.image_root(document, path), findings)


def label_files_at(path: str | os.PathLike) -> list[Path]:
    """The files to read: `path`, or for a folder without LabelMe files its COCO file, or those of train, val and test.

    Label files come first, because people edit those. Raises InputError for a folder with neither.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]
    others = [Path(file) for file in walk(path, (".json",))]
    if not others:
        raise InputError(f"{path}: no LabelMe file (*.json) and no {coco_file.FILE_NAME} in it")
    inside = coco_file.files_in(path)[:1] or list(parts_in(path).values())
    if not inside or any(_may_be_labelme(file) for file in others if file not in inside):
        return [path]
    return inside


def _may_be_labelme(path: Path) -> bool:
    """Whether a file has shapes, or cannot be read (so that the error is reported)."""
    try:
        content = loads(path.read_bytes(), str(path))
    except (OSError, InputError):
        return True
    return isinstance(content, dict) and "shapes" in content


def labelme_source(
    folder: Path, reading: Reading, labels: list[str] | None = None, *, merge_case: bool = False
) -> Source:
    """A Reading as one document. Raises InputError: unknown labels, two spellings, one image labelled twice."""
    conversion = to_conversion(reading, labels=labels, merge_case=merge_case)
    document = conversion.document(folder / "annotations.json")
    # the document has the objects in the order of the reading, an ignore region once per class
    places: dict[int, tuple[str, str]] = {}
    for record in reading.records:
        for one in record.instances:
            for _ in conversion.names if one.label == IGNORE_LABEL else (one,):
                places[len(places) + 1] = record.source, one.place
    return Source(folder.name or str(folder), document, conversion.image_root, conversion.findings, places)
