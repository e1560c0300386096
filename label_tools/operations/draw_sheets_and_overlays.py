"""Draw contact sheets, and every picture with its objects painted on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw
from tqdm import tqdm

from label_tools.document import coco_file
from label_tools.files.atomic_write import atomic_write
from label_tools.pictures.find_image import refuse_links_out
from label_tools.pictures.fonts import Letters, class_texts, shorten
from label_tools.pictures.name_tags import legend
from label_tools.pictures.open_image import open_image
from label_tools.pictures.own_output import DRAWN, drawing_paths, refuse_undrawn
from label_tools.pictures.paint_objects import paint
from label_tools.pictures.palette import class_colour
from label_tools.readers.open_labels import Source
from label_tools.text.errors import InputError
from label_tools.text.messages import counted

MARGIN, CAPTION, GAP = 16, 22, 8  # pixels of a contact sheet
LONGEST, SHORTEST = 1600, 640  # pixels: overlays are brought to a longer side between these two


@dataclass(frozen=True)
class Picture:
    """One image to draw, and the path of its file."""

    file_name: str
    path: Path
    annotations: list[dict]


def choose(source: Source, sample: int | None, seed: int, classes: Sequence[str] | None) -> list[Picture]:
    """The images to draw, by file name. InputError: an unknown class, or nothing left."""
    document = source.document
    known = {category["name"]: category["id"] for category in document["categories"]}
    for name in classes or ():
        if name not in known:
            raise InputError(f"--class {name}: no class of {source.name}; it has {', '.join(known) or 'none'}")
    wanted = {known[name] for name in classes or ()}
    annotations = coco_file.by_image(document)
    chosen = [
        Picture(image["file_name"], source.path_of(image), annotations[image["id"]])
        for image in sorted(document["images"], key=lambda image: image["file_name"])
        if not wanted or wanted & {a["category_id"] for a in annotations[image["id"]]}
    ]
    if sample is not None and sample < len(chosen):
        # by hash, not by random.sample: the same pictures on every Python
        order = sorted(chosen, key=lambda p: hashlib.sha256(f"{seed}\n{p.file_name}".encode()).digest())
        chosen = sorted(order[:sample], key=lambda p: p.file_name)
    if not chosen:
        raise InputError(f"{source.name}: no image to draw")
    refuse_links_out(source.image_root, (picture.file_name for picture in chosen), source.name)
    return chosen


class Painter:
    """Paints the pictures of one document; `problems` collects those that could not be opened."""

    def __init__(self, document: dict, *, ids: bool = False) -> None:
        categories = sorted(document["categories"], key=lambda category: category["id"])
        self.names = {category["id"]: category["name"] for category in categories}
        self.opening = coco_file.opening(document)
        self.ids = ids
        self.problems: list[str] = []

    def paint(self, picture: Picture, *, longest: int, shortest: int = 1, labels: bool = True, legend: bool = True):
        """Paint the picture, its longer side between `shortest` and `longest`; None if it cannot be opened."""
        try:
            image = open_image(picture.path, **self.opening)
        except InputError as error:
            if str(error) not in self.problems:
                self.problems.append(str(error))
            return None
        longer = max(image.size)
        scale = min(longest / longer, max(1.0, shortest / longer))
        return paint(image, picture.annotations, self.names, scale=scale, labels=labels, ids=self.ids, legend=legend)


def overlays(painter: Painter, pictures: Sequence[Picture], folder: Path) -> int:
    """Write every picture to `folder`, sub-folders kept, named by `drawing_paths`. Returns how many were written."""
    count = 0
    targets = drawing_paths(folder, {picture.file_name: picture.path for picture in pictures})
    for picture in tqdm(pictures, "overlays", disable=None):
        painted = painter.paint(picture, longest=LONGEST, shortest=SHORTEST)
        if painted is None:
            continue
        _save(painted, targets[picture.file_name])
        count += 1
    return count


def contact_sheets(
    painter: Painter, pictures: Sequence[Picture], title: str, folder: Path, columns: int, rows: int, tile: int
) -> list[Path]:
    """Write contact_sheet.jpg, or contact_sheet_1.jpg, ... when there are more pictures than places."""
    pages = [pictures[i : i + columns * rows] for i in range(0, len(pictures), columns * rows)]
    paths = []
    with tqdm(total=len(pictures), desc="contact sheet", disable=None) as bar:
        for number, page in enumerate(pages, start=1):
            many = len(pages) > 1
            heading = f"{title} · page {number} of {len(pages)}" if many else title
            sheet = _sheet(painter, page, pictures, heading, columns, tile, bar.update)
            paths.append(folder / (f"contact_sheet_{number}.jpg" if many else "contact_sheet.jpg"))
            _save(sheet, paths[-1])
    return paths


def _sheet(
    painter: Painter, page: Sequence[Picture], every: Sequence[Picture], heading: str, columns: int, tile: int, step
):
    columns = min(columns, len(page))
    width = max(2 * MARGIN + columns * (tile + GAP) - GAP, 480)
    strip = legend(_kinds(painter, every), width - 2 * MARGIN)
    # with one class the colour is enough, and names would hide small objects
    labels = len(painter.names) > 1 or painter.ids
    shown = []
    for picture in page:
        shown.append(painter.paint(picture, longest=tile, shortest=tile, labels=labels, legend=False))
        step()
    # a row is as high as its highest picture: pictures of 4 : 3 waste nothing
    rows = [shown[i : i + columns] for i in range(0, len(page), columns)]
    heights = [max((one.height if one is not None else tile // 2) for one in row) for row in rows]
    tops = [MARGIN + 30 + strip.height + GAP]
    for height in heights:
        tops.append(tops[-1] + height + CAPTION + GAP)
    sheet = Image.new("RGB", (width, tops[-1] + MARGIN - GAP), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    objects = sum(not a.get("iscrowd") for p in every for a in p.annotations)
    heading += f" · {counted(len(every), 'image')}, {counted(objects, 'object')}"
    bold, small = Letters(18, bold=True), Letters(12)
    bold.write(sheet, (MARGIN, MARGIN), shorten(heading, bold, width - 2 * MARGIN), (20, 20, 20))
    sheet.paste(strip, (MARGIN, MARGIN + 30))
    for index, (picture, painted) in enumerate(zip(page, shown, strict=True)):
        x, y, height = MARGIN + index % columns * (tile + GAP), tops[index // columns], heights[index // columns]
        draw.rectangle((x, y, x + tile - 1, y + height - 1), fill=(228, 228, 228))
        if painted is None:
            small.write(sheet, (x + tile / 2, y + height / 2), "cannot be opened", (180, 0, 0), "mm")
        else:
            sheet.paste(painted, (x + (tile - painted.width) // 2, y + (height - painted.height) // 2))
        count = counted(sum(not a.get("iscrowd") for a in picture.annotations), "object")
        small.write(sheet, (x + tile, y + height + 4), count, (90, 90, 90), "ra")
        name = shorten(picture.file_name, small, tile - small.getlength(count) - 10)
        small.write(sheet, (x, y + height + 4), name, (20, 20, 20))
    return sheet


def _kinds(painter: Painter, pictures: Iterable[Picture]) -> list[tuple[str, tuple[int, int, int]]]:
    """The legend's entries: each class with its number of objects and its colour."""
    counts = Counter(a["category_id"] for p in pictures for a in p.annotations if not a.get("iscrowd"))
    texts = class_texts(painter.names)
    return [(f"{texts[number]} {counts[number]}", class_colour(number)) for number in painter.names]


def _save(image, path: Path) -> None:
    refuse_undrawn(path)
    buffer = BytesIO()
    # no chroma subsampling: coloured letters and thin lines would smear
    image.save(buffer, "JPEG", quality=90, subsampling=0, comment=DRAWN)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
