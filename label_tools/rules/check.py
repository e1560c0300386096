"""Check a data set: run every rule on documents and folders; write a repaired copy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from label_tools.document import coco_file, repair
from label_tools.files.marked_folders import one_file
from label_tools.files.pause_gc import collector_paused
from label_tools.formats.export import export_labelme
from label_tools.pictures.open_image import sizes_below
from label_tools.readers.classes import read_labels
from label_tools.readers.labelme_folder import read_labelme
from label_tools.readers.open_labels import labelme_source
from label_tools.rules import across_parts
from label_tools.rules.image_files import ImageRules
from label_tools.rules.objects_and_classes import object_findings
from label_tools.text.errors import InputError, SetError
from label_tools.text.findings import ERROR, Finding, worst_first
from label_tools.text.messages import counted


@dataclass
class Checked:
    """One document after all rules. document: as repaired, or None when it is too ambiguous to repair."""

    name: str
    root: Path | None  # None: the images were not looked at
    findings: list[Finding]
    document: dict | None = None
    prints: list = field(default_factory=list)  # (file name, Fingerprint), when decoded
    images: int = 0
    objects: int = 0


def check_document(
    document: dict, image_root: str | os.PathLike | None, *, name: str = "annotations.json", decode: bool = False
) -> list[Finding]:
    """All findings about a COCO document and the images below `image_root`, worst first.

    document: as `coco_file.read_raw` gives it, repaired or not. image_root: None leaves the images alone.
    name: what findings call the file.
    """
    root = None if image_root is None else Path(image_root)
    return worst_first(examine(document, root, name, decode=decode).findings)


@collector_paused()
def examine(
    document: dict,
    root: Path | None,
    name: str,
    *,
    decode: bool = False,
    places: Mapping[int, tuple[str, str]] | None = None,
) -> Checked:
    """Run every rule on one document; the repaired document leaves out images that cannot be used.

    places: annotation id -> (file, place), when the document was made from other files.
    """
    from tqdm import tqdm

    read = repair.examine(document, name, sizes_below(root) if root is not None else None)
    result = Checked(name, root, read.findings, images=len(document["images"]), objects=len(document["annotations"]))
    if read.document is None:
        return result  # its ids or boxes are ambiguous: the rules below would mean nothing
    document = read.document
    result.document = document
    result.findings += object_findings(document, name, places)
    if root is None:
        return result
    rules = ImageRules(root, name, decode=decode, opening=coco_file.opening(document, name))
    # disable=None: a bar only on a terminal
    images = [rules.check(image) for image in tqdm(document["images"], "images", disable=None)]
    usable = {image["id"] for image in images if image is not None}
    result.document = {
        **document,
        "images": [image for image in images if image is not None],
        "annotations": [a for a in document["annotations"] if a["image_id"] in usable],
    }
    result.findings += rules.summary()
    result.findings += rules.duplicates()
    result.prints = rules.prints
    return result


def examine_files(
    paths: Sequence[str | os.PathLike],
    *,
    decode: bool = False,
    image_root: Path | None = None,
    images: bool = True,
    labels: Path | None = None,
) -> list[Checked]:
    """Examine COCO files and LabelMe folders; if there are several, also compare them.

    image_root: in place of the documents' own. images: False looks at the documents alone. labels: the classes
    that LabelMe files may hold.

    Findings about several stand with the file that they name. InputError: a file that is not a COCO document.
    """
    results = []
    for path in map(Path, paths):
        if path.is_dir():
            results.append(_examine_folder(path, decode, image_root, images, labels))
            continue
        document = coco_file.read_raw(path)
        root = (image_root or coco_file.image_root(document, path)) if images else None
        results.append(examine(document, root, os.fspath(path), decode=decode))
    whole = {r.name: r for r in results if r.document is not None}
    documents = {r.name: r.document for r in results if r.document is not None}
    if len(whole) > 1:
        shared = [*across_parts.classes_of_parts(documents)]
        shared += across_parts.files_in_two_parts(
            {name: (whole[name].root or Path(), one) for name, one in documents.items()}
        )
        shared += across_parts.pictures_in_two_parts({name: r.prints for name, r in whole.items()})
        for finding in shared:
            whole[finding.file].findings.append(finding)
    return results


def _examine_folder(folder: Path, decode: bool, image_root: Path | None, images: bool, labels: Path | None) -> Checked:
    """Examine all LabelMe files below a folder."""
    name = os.fspath(folder)
    wanted = read_labels(labels) if labels else None
    reading = read_labelme(folder, image_root=image_root)
    count = len(reading.records), reading.tally.objects_in
    faults: list[Finding] = []
    try:
        source = labelme_source(folder, reading, wanted)
    except SetError as error:  # a fault of the whole folder; what single files hold was found before
        faults = [Finding(error.code, ERROR, name, "", str(error).removeprefix(f"{name}: "))]
        if error.code not in ("B35", "B36"):
            return Checked(name, reading.image_root, [*reading.tally.findings, *faults], None, [], *count)
        source = labelme_source(folder, reading, merge_case=True)
    root = source.image_root if images else None
    result = examine(source.document, root, name, decode=decode, places=source.places)
    result.document = None if faults else result.document
    result.findings += faults
    result.findings += source.findings
    result.images, result.objects = count
    return result


def write_repaired(result: Checked, source: Path, out: Path | None = None) -> tuple[list[Finding], str]:
    """Write the repaired document. -> (findings about the copy, a line on what was left out). InputError: impossible.

    A LabelMe folder is repaired into a new folder of LabelMe files.
    """
    if result.document is None:
        raise InputError(f"{source}: not repaired: the errors above have more than one possible meaning")
    if source.is_dir():
        named = source if source.name.strip(".") else Path(os.path.abspath(source))  # `check . --fix`
        out = out or named.with_name(f"{named.name}.repaired")
        return _write_repaired_folder(result, result.document, source, out)
    out = out or source.with_name(f"{source.stem}.repaired.json")
    root = result.root or coco_file.image_root(result.document, source)
    document = coco_file.with_image_root(result.document, root, out.parent)
    with one_file(out, "repair", inputs=[source]) as made:
        coco_file.write(document, made)
    lost_images = result.images - len(document["images"])
    lost_objects = result.objects - len(document["annotations"])
    account = f"{out}: left out {counted(lost_images, 'image')} and {counted(lost_objects, 'annotation')}"
    return examine(document, result.root, str(out)).findings, account


def _write_repaired_folder(result: Checked, document: dict, source: Path, out: Path) -> tuple[list[Finding], str]:
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty; the repaired copy goes to a new folder: --out DIR")
    root = result.root or source
    with TemporaryDirectory() as folder:
        made = Path(folder) / "annotations.json"
        coco_file.write(coco_file.with_image_root(document, root, folder), made)
        counts = export_labelme(made, out)
    left_out = result.objects - counts["objects_out"]
    shapes = counted(left_out, "shape")
    account = f"{out}: {counted(counts['files'], 'file')}; {shapes} left out or joined with others"
    return examine(document, root, str(out)).findings, account
