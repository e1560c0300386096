"""Detect the format of the labels in a folder or file by their content, and say how it was recognised.

Folder names alone prove nothing: each format is recognised by the form of its files. Two formats in one folder
are an error that names both, since either could be meant.
"""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.files.strict_reading import loads, parse_xml
from label_tools.formats import cvat, label_studio, unity, unsupported, via, yolo
from label_tools.pictures.find_image import walk
from label_tools.pictures.open_image import SUFFIXES, ImageError, open_mask
from label_tools.pictures.own_output import is_ours
from label_tools.readers.classes import read_labels
from label_tools.readers.given_split import part_of_file
from label_tools.text.errors import InputError

TITLES = {
    "labelme": "LabelMe",
    "voc": "Pascal VOC",
    "yolo": "YOLO",
    "coco": "COCO",
    "masks": "masks",
    "cvat": "CVAT XML",
    "labelstudio": "Label Studio",
    "via": "VIA",
    "unity": "Unity Perception",
}
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".tgz", ".gz")
_FOLDERS = (
    ("images", "jpegimages", "image", "imgs", "img", "photos"),
    ("masks", "segmentationobject", "segmentationclass", "mask", "labels", "label", "gt", "annotations"),
)
_RECORDS = (".tfrecord", ".tfrecords", ".record")
_ENDINGS = (".json", ".ndjson", ".xml", ".csv", ".txt", *_RECORDS)
_SAMPLE = 24  # files of one ending that are looked into
_ENOUGH = 40  # masks that are looked into


class NotRead(InputError):
    """Labels of a known but unsupported program; the message says how to convert them."""


@dataclass(frozen=True)
class Detected:
    """format: a key of TITLES. source: what to read. why: how it is known, in words.

    options: keywords for the format's reader, where it needs some.
    """

    format: str
    source: Path
    why: str
    options: dict[str, Any] = field(default_factory=dict)


def detect(source: str | os.PathLike) -> Detected:
    """The program that wrote `source`, a file or a folder. Raises InputError: none, several, one that is not read."""
    source = Path(source)
    if source.is_file():
        if source.suffix.lower() in _ARCHIVES:
            raise InputError(f"{source}: is an archive; unpack it into a folder, and convert that")
        kind, why = _kind_of(str(source))
        return _choose({kind: [(source, why)]} if kind else {}, source)
    if not source.is_dir():
        raise InputError(f"{source}: no such file or folder")
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in _sample(walk(source, _ENDINGS)):
        kind, why = _kind_of(path)
        if kind:
            found.setdefault(kind, []).append((Path(path), why))
    return _choose(found, source)


def _sample(paths: Iterable[str]) -> list[str]:
    """Sample files evenly from each folder and file ending, so that no part of a set is overlooked."""
    of_kind: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        of_kind.setdefault((os.path.dirname(path), os.path.splitext(path)[1].lower()), []).append(path)
    return [p for some in of_kind.values() for p in some[:: max(1, len(some) // _SAMPLE)]]


def _choose(found: dict[str, list[tuple[Path, str]]], source: Path) -> Detected:
    read = {kind: files for kind, files in found.items() if kind in TITLES}
    if len(read) > 1:
        kinds = "; ".join(f"{TITLES[kind]} ({files[0][0]}: {files[0][1]})" for kind, files in read.items())
        choice = " or ".join(f"`frcnn convert {kind} {shlex.quote(str(source))}`" for kind in read)
        raise InputError(f"{source}: labels of several programs: {kinds}; say which count: {choice}")
    for kind, files in read.items():
        return _as_read(kind, [path for path, _ in files], source, f"{_relative(files[0][0], source)}: {files[0][1]}")
    detections = found.pop("detections", None)  # beside labels they are no second kind: every run leaves some
    for kind, files in found.items():
        if kind in unsupported.WAYS_OUT:
            raise _not_read(kind, files[0][0])
    if "ours" in found:
        return _as_read("coco", [path for path, _ in found["ours"]], source, "a COCO file that frcnn wrote")
    if source.is_dir() and (masks := _masks(source)) is not None:
        return masks
    if broken := found.get("broken"):
        raise InputError(f"{broken[0][1]}; and no labels of a program that is known in {source}")
    if source.is_dir() and (packed := walk(source, _ARCHIVES)):
        name = os.path.basename(packed[0])
        raise InputError(f"{source}: no labels, but {name}, an archive; unpack it and convert what is in it")
    if source.is_dir() and (folders := _masks_elsewhere(source)):
        given = " ".join(f"--{key} {shlex.quote(str(folder))}" for key, folder in zip(("images", "masks"), folders))
        text = f"photographs in {folders[0].name} and what may be their masks in {folders[1].name}"
        raise InputError(
            f"{source}: {text}: `frcnn convert masks {shlex.quote(str(source))} {given} --mode instance|class|binary`"
        )
    if detections:
        error = _not_read("detections", detections[0][0])
        raise InputError(str(error)) if source.is_dir() else error  # of a folder, they are no reason for another error
    known = ", ".join(TITLES.values())
    way = "export one of them, or COCO; `frcnn convert FORMAT SRC` where they are labels of these"
    raise InputError(f"{source}: no labels of a program that is known: {known}; {way}")


def _not_read(kind: str, file: Path) -> NotRead:
    return NotRead(f"{file}: {kind}, which is not read; {unsupported.WAYS_OUT[kind]}")


def _as_read(kind: str, files: list[Path], source: Path, why: str) -> Detected:
    """Choose what to read: for one VOC or YOLO file its folder; of a folder's COCO files one or all."""
    if kind in ("voc", "yolo") and source.is_file():
        return Detected(kind, source.parent, why)
    if kind != "coco" or source.is_file():
        return Detected(kind, source, why)
    files = [file for file in files if file.name.startswith("instances")] or files  # beside key points and stuff
    if len(files) == 1:
        return Detected(kind, files[0], why, {"search": source})
    parts = [part_of_file(file, source) for file in files]
    if None in parts or len(set(parts)) < len(parts):
        listed = ", ".join(_relative(file, source) for file in files[:6])
        command = f"frcnn convert coco {shlex.quote(str(files[0]))}"
        raise InputError(f"{source}: {len(files)} COCO files: {listed}; say which: `{command}`")
    return Detected(kind, source, f"{why}; parts: {', '.join(map(str, parts))}", {"files": files, "search": source})


def _kind_of(path: str) -> tuple[str, str]:
    """(a key of TITLES or of WAYS_OUT, "ours" or "broken"; the mark it is known by). ("", ""): no label file."""
    ending = os.path.splitext(path)[1].lower()
    try:
        if ending == ".xml":
            return _kind_of_xml(path)
        if ending == ".csv":
            return _kind_of_csv(path)
        if ending == ".txt":
            return _kind_of_txt(path)
        if ending in _RECORDS:
            return "TFRecord", ""
        return _kind_of_json(loads(Path(path).read_bytes(), path))
    except InputError as error:
        return "broken", str(error)
    except OSError:
        return "", ""


def _kind_of_json(content: Any) -> tuple[str, str]:
    if isinstance(content, dict) and is_ours(content):
        return ("ours", "") if "annotations" in content else ("", "")
    if isinstance(content, dict) and isinstance(content.get("shapes"), list):
        xany = any(isinstance(s, dict) and "difficult" in s for s in content["shapes"])
        return "labelme", "`shapes`, " + ("as X-AnyLabeling writes them" if xany else "as LabelMe writes them")
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        some = content["annotations"][:_SAMPLE] if isinstance(content["annotations"], list) else []
        if some and not any(isinstance(a, dict) and (a.get("bbox") or a.get("segmentation")) for a in some):
            return "COCO without objects", ""
        return "coco", "`images`, `annotations` and `categories`"
    for name, test, mark in (
        ("via", via.is_via, "`regions` of images, as VIA writes them"),
        ("unity", unity.is_unity, "`captures` of a Unity camera"),
        ("labelstudio", label_studio.is_label_studio, "a list of Label Studio's tasks"),
    ):
        if test(content):
            return name, mark
    return unsupported.foreign_json(content) or "", ""


def _kind_of_xml(path: str) -> tuple[str, str]:
    root = parse_xml(path)
    if cvat.is_cvat(root):
        return "cvat", "<annotations> with images or tracks, as CVAT writes them"
    if root.tag == "annotation":
        turned = " with turned boxes, as roLabelImg writes them" * (root.find("object/robndbox") is not None)
        drawn = " with outlines, as LabelMe on the web writes them" * (root.find("object/polygon/pt") is not None)
        return "voc", "<annotation>" + (turned or drawn)
    return "", ""


def _kind_of_csv(path: str) -> tuple[str, str]:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        head = file.readline().strip().removeprefix("#")
    if head == via.CSV_HEAD:
        return "via", "the header of VIA's table"
    return unsupported.foreign_csv(head) or "", ""


def _kind_of_txt(path: str) -> tuple[str, str]:
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        row = next((line.split() for line in file if line.strip()), [])
    if yolo.is_dota(row) or (row and row[0].startswith(("imagesource:", "gsd:"))):
        return "DOTA", ""
    if program := unsupported.foreign_txt(row):
        return program, ""
    if yolo.is_labels(row) or (len(row) == 5 and yolo.is_labels(["0", *row[1:]])):  # or with a class name
        return "yolo", f"lines of a class and {len(row) - 1} fractions"
    return "", ""


def _masks(source: Path) -> Detected | None:
    """Detect masks (photographs in images/, masks in masks/) and their mode, if all values have only one meaning."""
    root = source / "masks"
    if not (source / "images").is_dir() or not root.is_dir():
        return None
    paths = walk(root, SUFFIXES)
    below = (Path(path).relative_to(root).parts for path in paths)  # CLASS/sub/a.png, or sub/a.png as in images/
    folders = {parts[0] for parts in below if len(parts) > 1 and not (source / "images" / parts[0]).is_dir()}
    values = []
    for path in paths[:: max(1, len(paths) // _ENOUGH)]:
        try:
            pixels = open_mask(path)[0]
        except ImageError:
            continue
        values.append([int(v) for v in np.unique(pixels) if v] if pixels.ndim == 2 else [])
    listed = source / "label_names.txt"  # of `export masks`, and of labelme's own scripts
    if not folders and listed.is_file():
        options = {"mode": "class", "labels": read_labels(listed)}
        return Detected("masks", source, f"masks/ with the classes of {listed.name}", options)
    values = [some for some in values if some] if folders else values  # an image without objects of a class
    if not values or not all(values):
        return None
    names: dict[str, Any] = {} if folders else {"class_name": "object"}
    if folders and listed.is_file():
        names["labels"] = read_labels(listed)
    said = "" if folders else '; all are "object": --class NAME says of which class'
    counts = Counter(map(len, values))
    if all(len(v) == 1 for v in values) and len({v[0] for v in values}) == 1:
        why = f"masks/ with one value, {values[0][0]}, beside 0: one object a mask" + said
        return Detected("masks", source, why, {"mode": "binary", **names})
    if (folders or len(counts) > 1) and all(v == list(range(1, len(v) + 1)) for v in values):
        most = max(counts)
        why = f"masks/ numbered from 1 to at most {most} without gaps: one object a number" + said
        return Detected("masks", source, why, {"mode": "instance", **names})
    raise InputError(
        f"{source}: photographs and masks, whose values can mean objects or classes; say which: "
        f"`frcnn convert masks {shlex.quote(str(source))} --mode instance --class NAME` or `--mode class --labels FILE`"
    )


def _masks_elsewhere(source: Path) -> list[Path]:
    """[the folder of photographs, the folder of masks] by the names that people give them; [] where there is none."""
    below = {path.name.lower(): path for path in sorted(source.iterdir()) if path.is_dir() and walk(path, SUFFIXES)}
    folders = [below[first] for names in _FOLDERS if (first := next(filter(below.get, names), ""))]
    return folders if len(folders) == 2 else []


def _relative(path: Path, source: Path) -> str:
    return path.name if path == source else path.relative_to(source).as_posix()
