"""Read folders of photographs and their masks into a Reading.

    SRC/images/street/a.jpg     SRC/masks/street/a.png          one class, named by class_name
    SRC/images/street/a.jpg     SRC/masks/cat/street/a.png      one folder per class

A mask belongs to the photograph of the same relative path without its ending; `a_mask.png` belongs to `a.jpg` too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from label_tools.files.strict_reading import read_lines
from label_tools.formats.image_records import ImageRecord, Tally, new_record, without_copies
from label_tools.formats.masks import MODES, Color, MaskOptions, read_mask
from label_tools.pictures.find_image import ImageFolder, walk
from label_tools.pictures.open_image import SUFFIXES
from label_tools.pictures.own_output import is_drawing
from label_tools.readers.classes import NO_CLASSES
from label_tools.readers.reading import UNLABELED, Reading, with_bar
from label_tools.shapes.instances import RefusedError
from label_tools.text.clean_label import clean_label
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, Finding
from label_tools.text.rule_limits import MAX_PIXELS

DEFAULT_SUFFIXES = ("", "_mask")


def read_masks(
    source: str | os.PathLike,
    *,
    mode: str,
    class_name: str = "",
    labels: Sequence[str] | None = None,
    colors: Mapping[Color, str] | None = None,
    void: int | None = None,
    components: bool = False,
    images: str | os.PathLike | None = None,
    masks: str | os.PathLike | None = None,
    mask_suffixes: Sequence[str] = DEFAULT_SUFFIXES,
    unlabeled_is_negative: bool = False,
    follow_links: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Reading:
    """Read all photographs below `images` (default: source/images) with the masks below `masks` (source/masks).

    mode, void, colors, components: of MaskOptions. labels: in class mode the k-th of them is the value k.
    class_name: without it, modes instance and binary take the first folder below `masks` as the class.
    mask_suffixes: what a mask's name may add to its photograph's. Raises InputError.
    """
    if mode not in MODES:
        raise InputError(f"mode {mode!r}, needs one of {', '.join(MODES)}")
    names = dict(enumerate([n for n in labels or () if n not in NO_CLASSES], start=1)) if mode == "class" else {}
    if mode == "class" and not names and not colors:
        raise InputError("--mode class needs --labels FILE (the k-th label is the value k) or --colors FILE")
    options = MaskOptions(mode, class_name, names, colors or {}, void, components, max_pixels)
    source = Path(source)
    image_root = Path(images) if images is not None else source / "images"
    mask_root = Path(masks) if masks is not None else source / "masks"
    for folder, option in ((image_root, "--images"), (mask_root, "--masks")):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; {option} DIR names it")
    finder = ImageFolder(image_root, max_pixels=options.max_pixels, follow_links=follow_links)
    mask_folder = ImageFolder(mask_root, max_pixels=options.max_pixels, follow_links=follow_links)
    masks_of, tally = _pair(image_root, mask_root, options, mask_suffixes)
    records = []
    for image, its_masks in with_bar(masks_of.items()):
        if not its_masks and not unlabeled_is_negative:
            tally.skipped[UNLABELED] += 1
            continue
        record = _read_image(image, its_masks, finder, mask_folder, options, tally)
        if record is not None:
            records.append(record)
    return Reading(source, image_root, records, tally)


def read_colors(path: Path) -> dict[Color, str]:
    """{(r, g, b): class} of lines `R G B name`. Raises InputError, also for one colour of two classes."""
    colors: dict[Color, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.split(maxsplit=3)
        if not parts or line.lstrip().startswith("#"):
            continue
        if len(parts) != 4 or not all(p.isdecimal() and int(p) < 256 for p in parts[:3]):
            raise InputError(f"{path}, line {number}: {line!r}, needs `R G B name` with numbers from 0 to 255")
        red, green, blue = map(int, parts[:3])
        name, problem = clean_label(parts[3])
        if not problem and colors.setdefault((red, green, blue), name) != name:
            problem = f'{red} {green} {blue} is the colour of "{colors[red, green, blue]}" already'
        if problem:
            raise InputError(f"{path}, line {number}: {problem}")
    if not colors:
        raise InputError(f"{path}: no colour in it; lines are `R G B name`")
    return colors


def _read_image(
    image: str,
    masks: list[tuple[str, str]],
    finder: ImageFolder,
    mask_folder: ImageFolder,
    options: MaskOptions,
    tally: Tally,
) -> ImageRecord | None:
    try:
        path = os.path.abspath(image)
        finder.check_links(path, image)
        info = finder.info(path)
        record = new_record(finder, path, info, image, tally.remarks(image))
    except RefusedError as error:
        tally.drop_image(error, image, "", 0)
        return None
    for mask, class_name in masks:
        try:
            mask_folder.check_links(os.path.abspath(mask), mask)
            objects = read_mask(mask, info, replace(options, class_name=class_name), tally.remarks(mask))
            tally.objects_in += len(objects)
            record.instances += objects
        except RefusedError as error:
            # with only some of its objects, an image would teach the model that the others are background
            tally.drop_image(error, mask, "", len(record.instances))
            return None
    record.instances = without_copies(record.instances, tally, image)
    return record


def _pair(
    image_root: Path, mask_root: Path, options: MaskOptions, suffixes: Sequence[str]
) -> tuple[dict[str, list[tuple[str, str]]], Tally]:
    """({photograph: [(mask, class)]}, masks without a photograph as findings). Raises InputError for two candidates."""
    tally = Tally()
    by_stem: dict[str, str] = {}
    pairs: dict[str, list[tuple[str, str]]] = {}
    inside = {os.path.abspath(mask_root)} if mask_root.resolve() != image_root.resolve() else set()
    for path in walk(image_root, SUFFIXES):
        if any(os.path.abspath(path).startswith(m + os.sep) for m in inside) or is_drawing(path):
            continue
        stem = os.path.splitext(os.path.relpath(path, image_root))[0]
        if stem in by_stem:
            raise InputError(f"{by_stem[stem]} and {path}: two images of one name; their masks cannot be told apart")
        by_stem[stem] = path
        pairs[path] = []
    taken: dict[tuple[str, str], str] = {}
    by_folder = not options.class_name and options.mode != "class"
    for path in walk(mask_root, SUFFIXES):
        stem = os.path.splitext(os.path.relpath(path, mask_root))[0]
        class_name = options.class_name
        if by_folder:
            class_name, _, stem = stem.partition(os.sep)
            if not stem:
                raise InputError(f"{path}: of which class? --class NAME, or one folder per class below {mask_root}")
            class_name, problem = clean_label(class_name)
            if problem:
                raise InputError(f"{path}: the folder's name as a class: {problem}")
        owners = {s for s in (stem.removesuffix(x) for x in suffixes if stem.endswith(x)) if s in by_stem}
        if not owners:
            tally.skipped["masks without an image"] += 1
            text = "no image of this name" + _hint(stem, by_stem)
            tally.findings.append(Finding("B88", ERROR, path, "", text, "restore the image or delete the mask"))
            continue
        image = by_stem[max(owners, key=len)]
        if other := taken.get((image, class_name)):
            raise InputError(f"{other} and {path}: two masks of one image; --mask-suffix says which one counts")
        taken[image, class_name] = path
        pairs[image].append((path, class_name))
    return pairs, tally


def _hint(stem: str, by_stem: dict[str, str]) -> str:
    """Suggest a suffix that would find a mask: `; --mask-suffix _gt would find one`; else ""."""
    for cut in range(len(stem) - 1, 0, -1):
        if stem[:cut] in by_stem:
            return f"; --mask-suffix={stem[cut:]} would find {Path(by_stem[stem[:cut]]).name}"
    return ""
