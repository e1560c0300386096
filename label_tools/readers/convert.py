"""Convert a folder or file of labels to a Conversion: the COCO document, `document(out)`, `write(out)`, and its report.

In the report, objects in = objects out + merged + dropped, each dropped one with its reason.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from label_tools.document import coco_file
from label_tools.document.stratified_split import PARTS
from label_tools.files import marked_folders
from label_tools.files.atomic_write import atomic_write
from label_tools.files.fast_json import sorted_line
from label_tools.files.pause_gc import collector_paused
from label_tools.formats.image_records import ImageRecord
from label_tools.formats.labelme import IGNORE_LABEL
from label_tools.pictures.open_image import image_info, open_image
from label_tools.pictures.to_rgb import nearly_black
from label_tools.pictures.unread_files import not_read_below
from label_tools.readers.classes import alike_finding, class_table
from label_tools.readers.coco_folder import read_coco
from label_tools.readers.labelme_folder import read_labelme
from label_tools.readers.masks_folder import read_masks
from label_tools.readers.program_folder import PROGRAMS, read_program, read_voc
from label_tools.readers.reading import Reading
from label_tools.readers.which_format import detect
from label_tools.readers.yolo_folder import read_yolo
from label_tools.shapes.instances import Instance
from label_tools.text.errors import InputError, SetError
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding, count_levels, titles, worst_first
from label_tools.text.messages import counted, unknown
from label_tools.text.rule_limits import MAX_PIXELS

READERS: dict[str, Callable[..., Reading]] = {
    "labelme": read_labelme,
    "masks": read_masks,
    "voc": read_voc,
    "yolo": read_yolo,
    "coco": read_coco,
    **{program: partial(read_program, program) for program in PROGRAMS},
}


def convert(
    source: str | os.PathLike,
    format: str | None = None,
    *,
    labels: Sequence[str] | None = None,
    merge_case: bool = False,
    strict: bool = False,
    **reading: Any,
) -> Conversion:
    """A folder or file of labels as a Conversion: `.findings`, `.document(out)`, `.write(out)`.

    format: a key of READERS; None: found out from the files. labels: the classes in their order; None: those that the
    set states, else those that are found, by alphabet. For YOLO, and masks of classes, they are the names by number.
    merge_case: labels that differ only in upper and lower case are one class. strict: refuse repairs and losses.
    reading: further keywords of the reader; a raised max_pixels is written into the file, for whatever reads it.
    Raises InputError: nothing to convert, an unknown format, unknown labels.
    """
    if format is None:
        found = detect(source)
        format, source, reading = found.format, found.source, {**found.options, **reading}
        stated = reading.pop("labels", None)
        labels = stated if labels is None else labels
    if format not in READERS:
        raise InputError(unknown("format", format, READERS))
    if format in ("yolo", "masks"):
        reading["labels"] = labels
    merge_case = merge_case and format != "yolo"  # classes are numbers there
    read = READERS[format](source, **reading)
    if (limit := reading.get("max_pixels", MAX_PIXELS)) > MAX_PIXELS:
        read.opening["max_pixels"] = max(limit, read.opening.get("max_pixels", limit))
    return to_conversion(read, labels=read.names if labels is None else labels, merge_case=merge_case, strict=strict)


KIND = "conversion"  # in the marker of a folder
_LOOKED_AT = 3  # pictures, to see whether they become black
_LOST = {  # what is skipped with an error -> its noun
    "images left out": "image",
    "label files that cannot be read": "file",
    "label files without an image": "file",
    "masks without an image": "mask",
}


@dataclass
class Conversion(Reading):
    """A Reading whose objects have classes: `document(out)` is the COCO document, `write(out)` puts it on disk."""

    names: list[str] = field(default_factory=list)
    spelling: dict[str, str] = field(default_factory=dict)  # label -> class name

    @property
    def findings(self) -> list[Finding]:
        return self.tally.findings

    def document(self, out: str | os.PathLike) -> coco_file.Document:
        """The COCO document as it is to be written to `out`, which decides how it names the image root."""
        return {
            "info": self._info(out),
            "images": list(self._images()),
            "annotations": list(self._annotations()),
            "categories": self._categories(),
        }

    def write(self, out: str | os.PathLike) -> dict:
        """Write `out` and its account beside it (`account_path`). Returns the account. Raises InputError.

        An existing `out` is only replaced when an earlier conversion wrote it, and nobody changed it since.
        """
        out = Path(out)
        if out.is_dir():
            raise InputError(f"{out}: is a folder, a file name is needed: --out {out / 'annotations.json'}")
        with marked_folders.one_file(out, KIND, inputs=[self.source]) as made:
            self._write_document(out, made)
            return _write_account(self.account(out), account_path(made))

    def write_parts(self, folder: str | os.PathLike, parts: Mapping[str, list[ImageRecord]]) -> dict:
        """Write folder/train.json, ... with the images of each part, all with the same classes, and one account.

        parts: as `given_parts` has them. Returns the account. Raises InputError.
        """
        folder = Path(folder)
        files = {name: f"{name}.json" for name in parts}
        account = self.account(folder / "annotations.json")
        account["annotations"] = files
        account["parts"] = {name: len(some) for name, some in parts.items()}
        others = set(marked_folders.written(folder, KIND)) - {f"{part}.json" for part in PARTS}
        with marked_folders.together(folder, KIND, inputs=[self.source], keep=others) as made:
            for name, file in files.items():
                replace(self, records=parts[name])._write_document(folder / file, made / file)
            return _write_account(account, made / "conversion.json")

    @collector_paused()
    def _write_document(self, out: Path, made: Path) -> None:
        content = {"info": self._info(out), "images": self._images(), "annotations": self._annotations(as_lines=True)}
        coco_file.write({**content, "categories": self._categories()}, made)

    def account(self, out: str | os.PathLike) -> dict:
        """The account as plain data: counts in and out, reasons, classes, findings. No clock, no absolute path."""
        counts = self.class_counts()
        ignored = sum(one.label == IGNORE_LABEL for record in self.records for one in record.instances)
        tally = self.tally
        files = {file: coco_file.relative(Path(file), Path(out).parent) for file in {f.file for f in tally.findings}}
        return {
            "annotations": Path(out).name,
            "source": coco_file.relative(self.source, Path(out).parent),
            "images": len(self.records),
            "images_without_objects": sum(not r.instances for r in self.records),
            "objects_in": tally.objects_in,
            "objects_out": sum(len(r.instances) for r in self.records),
            "merged": tally.merged,
            "dropped": {reason: tally.dropped[reason] for reason in sorted(tally.dropped)},
            "dropped_why": {r: titles().get(r, "") for r in sorted(tally.dropped)},
            "skipped": {reason: tally.skipped[reason] for reason in sorted(tally.skipped)},
            "classes": {name: counts[name] for name in self.names},
            # an ignore region belongs to no class: COCO has it once per class
            "ignore_regions": ignored,
            "annotations_written": sum(counts.values()) + ignored * len(self.names),
            "findings_by_level": count_levels(tally.findings),
            "findings": [{**f._asdict(), "file": files[f.file]} for f in worst_first(tally.findings)],
        }

    def look_over(self) -> None:
        """Add findings on the whole set: nothing to learn from, pictures that become black, picture files not read."""

        def say(code: str, file: object, text: str, fix: str = "") -> None:
            self.findings.append(Finding(code, WARNING, str(file), "", text, fix))

        if not any(not one.crowd for r in self.records for one in r.instances):
            say("B54", self.source, "no object that can be learned")
        for record in self.records[:: max(1, len(self.records) // _LOOKED_AT)][:_LOOKED_AT]:
            path = self.image_root / record.file_name
            try:
                bits = image_info(path, max_pixels=self.opening.get("max_pixels", MAX_PIXELS)).bits
                dark = nearly_black(bits, open_image(path, **self.opening)) if bits > 8 else ""
            except InputError as error:
                dark = str(error)
            if dark:
                say("B62", path, dark, "--max-value N says what is white, as 4095 for 12 bits")
                break
        if text := not_read_below(self.image_root):
            say("B64", self.image_root, text)

    def class_counts(self) -> Counter[str]:
        """Objects per class name, without the ignore regions that belong to no class."""
        labels = (one.label for record in self.records for one in record.instances if one.label != IGNORE_LABEL)
        return Counter(self.spelling.get(label, label) for label in labels)

    def _info(self, out: str | os.PathLike) -> dict:
        return {**self.opening, "image_root": coco_file.relative(self.image_root, Path(out).parent)}

    def _categories(self) -> list[dict]:
        return [{"id": i, "name": name} for i, name in enumerate(self.names, start=1)]

    def _images(self) -> Iterator[dict]:
        for number, r in enumerate(self.records, start=1):
            yield {"id": number, "file_name": r.file_name, "width": r.width, "height": r.height}

    def _annotations(self, as_lines: bool = False) -> Iterator[dict | str]:
        """The annotations; an ignore region, which belongs to no class, comes once per class.

        as_lines: as `coco_file.write` takes them, ready lines where an object has nothing special.
        """
        category_ids = {name: i for i, name in enumerate(self.names, start=1)}
        id_of = {label: category_ids[name] for label, name in self.spelling.items()}
        number = 0
        for image_id, record in enumerate(self.records, start=1):
            for one in record.instances:
                ignored = one.label == IGNORE_LABEL
                for category_id in category_ids.values() if ignored else (id_of[one.label],):
                    number += 1
                    if not as_lines or one.extra or one.rle or ignored:
                        yield _annotation(number, image_id, category_id, one)
                    else:
                        flats = [list(p) for p in one.polygons]
                        ids = number, image_id, category_id
                        yield coco_file.annotation_line(*ids, one.bbox, one.area, int(one.crowd), flats)


def to_conversion(
    reading: Reading, *, labels: Sequence[str] | None = None, merge_case: bool = False, strict: bool = False
) -> Conversion:
    """Give the objects their classes. Raises InputError: unknown labels, one image twice, findings when strict."""
    _refuse_one_image_twice(reading)
    counts = Counter(one.label for r in reading.records for one in r.instances)
    files: dict[str, list[str]] = {}  # that hold each label
    for record in reading.records:
        for label in {one.label for one in record.instances}:
            files.setdefault(label, []).append(record.source)
    names, spelling = class_table(counts, labels, merge_case=merge_case, where=f"{reading.source}: ", files=files)
    out = sum(len(r.instances) for r in reading.records)
    tally = reading.tally
    dropped = sum(tally.dropped.values())
    assert tally.objects_in == out + tally.merged + dropped, (tally.objects_in, out, tally.merged, tally.dropped)
    if strict and (bad := [f for f in worst_first(tally.findings) if f.level != NOTE]):
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise InputError(f"{bad[0].line()}{more}; --strict allows neither repairs nor losses")
    if not reading.records:
        bad = worst_first(tally.findings)
        more = f"; and {len(bad) - 1} more" if len(bad) > 1 else ""
        why = f" ({bad[0].line()}{more})" if bad else ""
        raise SetError("B34", f"{reading.source}: no labelled image found{why}")
    if labels is None:  # no list of names to compare with
        found: Counter[str] = Counter()
        for label, name in spelling.items():
            found[name] += counts[label]
        tally.findings += alike_finding(found, str(reading.source), "", annotations="FILE", files=files)
    return Conversion(**{**vars(reading), "names": names}, spelling=spelling)


def account_path(out: str | os.PathLike) -> Path:
    """conversion.json beside annotations.json, NAME.conversion.json beside any other NAME.json."""
    out = Path(out)
    return out.with_name("conversion.json" if out.name == "annotations.json" else f"{out.stem}.conversion.json")


def losses(account: dict) -> str:
    """Count what could not be used: `1 image, 2 objects`; "" if nothing was lost.

    What the user chose to leave out (--skip-labels, unreviewed drafts, copies) is not a loss.
    """
    errors = {f["code"] for f in account["findings"] if f["level"] == ERROR}
    lost = Counter(object=sum(n for why, n in account["dropped"].items() if why in errors))
    for what, n in account["skipped"].items():
        if noun := _LOST.get(what):
            lost[noun] += n
    return ", ".join(counted(lost[noun], noun) for noun in ("file", "image", "mask", "object") if lost[noun])


def report_lines(account: dict) -> list[str]:
    """Format the account for people."""
    classes = ", ".join(f"{name} {n}" for name, n in account["classes"].items())
    dropped = sum(account["dropped"].values())
    number_of_classes = counted(len(account["classes"]), "class", "classes")
    lines = [
        f"{counted(account['images'], 'image')} ({account['images_without_objects']} without objects), "
        f"{counted(account['objects_out'], 'object')}, {number_of_classes}: {classes}",
        f"objects in {account['objects_in']} = out {account['objects_out']} + merged {account['merged']} "
        f"+ dropped {dropped}",
    ]
    lines += [f"  dropped {n}: {why} {account['dropped_why'][why]}".rstrip() for why, n in account["dropped"].items()]
    for what, n in account["skipped"].items():
        name, bracket, why = what.partition(" (")
        lines.append(f"  {name}: {n}{bracket}{why}")
    if account["ignore_regions"]:
        lines.append(f"  ignore regions among them: {account['ignore_regions']}, written once per class with iscrowd 1")
    return lines


def _write_account(account: dict, path: Path) -> dict:
    """Write the account with one finding a line, by hand: Python's encoder needs ten times as long."""
    text = json.dumps({**account, "findings": []}, indent=1, sort_keys=True, ensure_ascii=False)
    lines = ",\n  ".join(map(sorted_line, account["findings"]))
    if lines:
        text = text.replace('"findings": []', f'"findings": [\n  {lines}\n ]', 1)
    with atomic_write(path) as file:
        file.write(text.encode() + b"\n")
    return account


def _annotation(number: int, image_id: int, category_id: int, one: Instance) -> dict:
    return {
        **(one.extra or {}),
        **({"label": IGNORE_LABEL} if one.label == IGNORE_LABEL else {}),
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(one.bbox),
        "area": one.area,
        "iscrowd": int(one.crowd),
        "segmentation": one.rle or [list(p) for p in one.polygons],
    }


def _refuse_one_image_twice(reading: Reading) -> None:
    seen: dict[str, str] = {}
    for record in reading.records:
        if other := seen.get(record.file_name):
            text = f'{other} and {record.source} both label the image "{record.file_name}"; delete or merge one'
            raise SetError("B33", text)
        seen[record.file_name] = record.source
