"""Read a folder of YOLO files, in the layout of any program that writes them, into a Reading.

images/train/a.jpg   labels/train/a.txt    data.yaml        Ultralytics
train/images/a.jpg   train/labels/a.txt    data.yaml        Roboflow
images/train/a.jpg   labels/train/a.txt    config.yaml      LightlyTrain
obj_train_data/a.jpg obj_train_data/a.txt  obj.names        CVAT, darknet
a.jpg                a.txt                 classes.txt      labelImg
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from label_tools.files.strict_reading import read_lines
from label_tools.formats import yolo
from label_tools.formats.image_records import Tally
from label_tools.pictures.find_image import ImageFolder, walk
from label_tools.pictures.open_image import SUFFIXES
from label_tools.readers.reading import Reading, add_unlabeled, read_each
from label_tools.shapes.instances import RefusedError
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding
from label_tools.text.rule_limits import MAX_PIXELS


def read_yolo(
    source: str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    images: str | os.PathLike | None = None,
    unlabeled_is_negative: bool = False,
    follow_links: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Reading:
    """Read the labels of all images, and the class names in the order of their numbers. Raises InputError.

    labels: the class names by number; default: those of classes.txt or data.yaml. images: the folder of the images,
    default: source/images where there is one, else `source`. A label file lies at one of `yolo.label_places`.
    """
    source = Path(source)
    tally = Tally()
    image_root = Path(images) if images is not None else _image_folder(source, tally)
    for folder in (source, image_root):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
    classes = yolo.Classes(dict(enumerate(labels))) if labels is not None else yolo.read_classes(source)
    finder = ImageFolder(image_root, max_pixels=max_pixels, follow_links=follow_links)
    found = walk(image_root, SUFFIXES)
    if not found:
        raise InputError(f"{image_root}: no image in it; --images DIR names the folder of the images")
    taken: dict[str, str] = {}  # label file -> its picture
    for path in found:
        file = _labels_of(path, source, image_root)
        if file is None:
            continue
        if other := taken.get(file):
            raise InputError(f"{other} and {path}: two images of one name; {file} cannot belong to both")
        taken[file] = os.path.abspath(path)
    labelled = set(taken.values())
    for file in _without_image(source, image_root, taken):
        if image := _found_image(file, finder, labelled, tally):
            taken[file] = image
            labelled.add(image)
    records = read_each(list(taken), lambda file: yolo.read_file(file, taken[file], finder, classes), tally)
    if classes.key_points:
        text = "kpt_shape: a pose set; the boxes are read, the key points are left out"
        tally.findings.append(Finding("B14", NOTE, classes.file, "", text))
    add_unlabeled(records, finder, unlabeled_is_negative, tally)
    return Reading(source, image_root, records, tally, list(classes.names.values()))


def _image_folder(source: Path, tally: Tally) -> Path:
    """source/images, or the target if it is a link that git wrote as a text file; else `source`."""
    folder = source / "images"
    if folder.is_file() and folder.stat().st_size < 200:
        target = folder.read_bytes().decode("utf-8", "replace").strip()
        linked = Path(os.path.normpath(source / target))
        if linked.is_dir() and linked.is_relative_to(os.path.normpath(source.parent)):
            text = f'is the file that git writes for a link to "{target}"; the images there are taken'
            tally.findings.append(Finding("B32", WARNING, str(folder), "", text))
            return linked
    return folder if folder.is_dir() else source


def _labels_of(path: str, source: Path, image_root: Path) -> str | None:
    """The label file of a picture: as the layouts have it below `source`, else in source/labels as below the images."""
    relative = os.path.relpath(path, source)
    below = os.path.splitext(os.path.relpath(path, image_root))[0] + ".txt"
    places = [] if relative.startswith("..") else yolo.label_places(relative)
    for place in dict.fromkeys((*places, f"labels/{below}", below)):
        file = os.path.join(source, place)
        if os.path.isfile(file):
            return file
    beside = os.path.splitext(path)[0] + ".txt"
    return beside if os.path.isfile(beside) else None


def _without_image(source: Path, image_root: Path, taken: Iterable[str]) -> list[str]:
    """Label files without an image of their name. A text file is one where its first line can be one of YOLO's, or
    where it is empty in a folder of labels; so README.txt, classes.txt and lists of images are not."""
    root = _label_folder(source, image_root)
    same = {os.path.abspath(file) for file in taken}
    return [path for path in walk(root, (".txt",)) if os.path.abspath(path) not in same and _is_label_file(path)]


def _found_image(labels: str, finder: ImageFolder, labelled: Collection[str], tally: Tally) -> str | None:
    """The only picture that a label file can mean if none has its name: in other upper and lower case, with its
    accents composed, percent-encoded, a.jpg.txt. None: there is none, which is an error, or it has its own labels."""
    said: list[Finding] = []

    def remark(level: str, code: str, text: str) -> None:
        said.append(Finding(code, level, labels, "", text))

    text, fix = "no image of this name", "restore the image or delete the file"
    folder, name = os.path.split(os.path.abspath(labels))
    try:
        path = finder.find(os.path.splitext(name)[0], folder, remark, name)
        if path not in labelled:
            tally.findings += said
            return path
    except RefusedError as error:
        text = error.text if "files may be meant" in error.text else text
        fix = f"{error.fix.partition('? Else ')[0]}? Else {fix}" if "is it meant?" in error.fix else fix
    tally.skipped["label files without an image"] += 1
    tally.findings.append(Finding("B32", ERROR, labels, "", text, fix))
    return None


def _label_folder(source: Path, image_root: Path) -> Path:
    """Where label files of the images below `image_root` may lie: with --images images/train, labels/train alone."""
    relative = os.path.relpath(image_root, source)
    if not relative.startswith(".."):
        folder = source / os.path.dirname(yolo.label_places(os.path.join(relative, "x"))[0])
        if folder.is_dir() and image_root.name != "images":
            return folder
    return source / "labels" if (source / "labels").is_dir() else source


def _is_label_file(path: str) -> bool:
    try:
        lines = [line.split() for line in read_lines(path) if line.strip()]
    except InputError:
        return "labels" in Path(path).parent.parts
    return yolo.is_labels(lines[0]) if lines else "labels" in Path(path).parent.parts
