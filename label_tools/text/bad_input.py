"""Everything that is wrong with labels and images in the wild, and what becomes of it: one table.

The codes are those of all findings. `bad_input.md` is made of this table (`python -m label_tools.text.bad_input`), and
`tests/label_tools/test_bad_input.py` builds every row as a file and holds the tools to the outcome that stands here.

Outcomes: accept, as it is; note, accepted and said; repair, with one finding that says how; leave out, that object,
image or file, counted and said, the rest is written and the exit code is 1; refuse, the whole run, with one line and
exit code 2. With --strict, every repair and everything left out is refused.
"""

# ruff: noqa: E501 (the table)
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ACCEPT, NOTED, REPAIR, LEAVE_OUT, REFUSE = "accept", "note", "repair", "leave out", "refuse"
SECTIONS = {
    "B0": "Shapes",
    "B1": "Shapes",
    "B2": "Files, names, JSON",
    "B3": "Files, names, JSON",
    "B4": "COCO files",
    "B5": "COCO files",
    "B6": "Images",
    "B7": "Images",
    "B8": "Masks",
    "B9": "Masks",
}


@dataclass(frozen=True, slots=True)
class Row:
    """code; title: in a few words, for counts; found: what it looks like; outcome: what is done, and why."""

    code: str
    title: str
    found: str
    outcome: str


ROWS = (
    Row("B01", "no extent", "a box with width or height 0, a circle of radius 0", "leave out"),
    Row(
        "B02",
        "corners swapped",
        "negative width or height (COCO), xmax < xmin (VOC)",
        "repair: corners are sorted. A LabelMe rectangle may be drawn from any corner: accept",
    ),
    Row(
        "B03",
        "rectangle without two corners",
        "a LabelMe rectangle of 1, 3, 4 or more points",
        "four corners of an upright rectangle: repair; else leave out",
    ),
    Row("B04", "outside the image", "an object wholly outside the image", "leave out"),
    Row(
        "B05",
        "hangs over the edge",
        "an object partly outside the image",
        "repair: clipped to the image; leave out when less than a quarter of its area remains",
    ),
    Row("B06", "not finite", "NaN or infinity, also as 1e999", "leave out; nothing of it reaches compiled code"),
    Row("B07", "far outside", "a coordinate beyond 100,000 or ten times the image", "leave out"),
    Row(
        "B08",
        "polygon without area",
        "fewer than three different points, all on one line",
        "leave out; COCO, beside a sound bbox: repair, the box is kept",
    ),
    Row(
        "B09",
        "odd coordinates",
        "COCO: an odd number of coordinates, or one list instead of a list of lists",
        "one even list of six or more: repair; odd beside a sound bbox: repair, the box is kept; else leave out",
    ),
    Row(
        "B10",
        "crosses itself",
        "a polygon that crosses itself (bow-tie)",
        "note: box from the points, area from the pixels that it fills even-odd",
    ),
    Row(
        "B11",
        "points repeated",
        "a point that repeats the one before, a ring closed by its first point",
        "repair: repeated points are left out",
    ),
    Row(
        "B12",
        "the same object twice",
        "equal class, box and outline in one image",
        "repair: the second is left out. Nearly equal ones: a warning of `check`",
    ),
    Row(
        "B13",
        "groups",
        "LabelMe group_id: pieces of one object; group_id that is not a whole number; two labels in a group",
        "pieces of one label and group become one object; no whole number: leave out; two labels: warned, kept apart",
    ),
    Row(
        "B14",
        "shape without area",
        "line, linestrip, point, points, key points of any program; a type nobody knows",
        "leave out and count; --thicken-lines and --point-box make them objects",
    ),
    Row(
        "B15",
        "mask shape off its points",
        "LabelMe mask whose PNG differs from its two points, or hangs over the edge",
        "repair: whole-number points name the first and last pixel and cut the PNG to it, fractional ones are rounded "
        "and leave it whole; clipped to the image; no readable PNG: leave out",
    ),
    Row(
        "B16",
        "one pixel too many",
        "boxes made by tools that count the last pixel twice (20 x 30 becomes 21 x 31)",
        "never made here: width is right - left. `check` looks for the pattern in COCO files",
    ),
    Row("B17", "under a pixel", "a box thinner than 1 pixel after clipping", "leave out"),
    Row("B18", "very long", "a box over 100 times as long as wide", "note"),
    Row(
        "B19",
        "no labels but detections",
        "YOLO lines with a confidence, or a confidence and a track, behind the box",
        "refuse: what a detector found is not taken for the truth",
    ),
    Row(
        "B20",
        "unreadable label file",
        "empty, cut off, a list at the top, shapes null; broken XML",
        "leave out the file, with line and column",
    ),
    Row(
        "B21",
        "another kind of file",
        "JSON without shapes, XML that is not an annotation",
        "note: skipped. What our own commands leave in the folder is passed over without a word, drawings too",
    ),
    Row("B22", "UTF-8 with BOM", "a byte order mark at the start", "repair: read all the same"),
    Row("B23", "UTF-16 or UTF-32", "another Unicode encoding", "repair: read all the same"),
    Row(
        "B24",
        "no Unicode text",
        "GBK, cp1252 and other old encodings",
        "leave out the file; where the bytes happen to be valid, the unknown label stops the run (B35)",
    ),
    Row(
        "B25",
        "hostile JSON",
        "nested thousands deep, numbers of thousands of digits, a key twice, half a surrogate",
        "leave out the file",
    ),
    Row(
        "B26",
        "wrong type",
        "a label that is a number, points of one number, true as a coordinate, flags as a list",
        "leave out the object, or the file where it concerns all of it",
    ),
    Row(
        "B27",
        "sizes disagree",
        "imageWidth and imageHeight are not those of the image; imageData is not an image",
        "leave out; the size before EXIF rotation: see B60. Broken imageData beside a good file: note",
    ),
    Row("B28", "embedded image differs", "imageData and the image file differ in size", "leave out"),
    Row("B29", "backslashes", "imagePath or file_name with backslashes (Windows)", "repair: read as slashes"),
    Row(
        "B30",
        "absolute image path",
        "imagePath of another machine: C:\\..., /home/...",
        "repair: the file of that name beside the label file, or the only one that can be meant; else leave out",
    ),
    Row(
        "B31",
        "path leads out",
        "../../etc/passwd, //server/a.jpg, NUL, a symbolic link out of the folder; an absolute info.image_root in a COCO file",
        "leave out; --image-root or --follow-links where it is meant. In a COCO file: refuse, in every command that opens pictures",
    ),
    Row(
        "B32",
        "image missing",
        "no such image: renamed, moved, another extension, in other case or composition, percent-encoded",
        "exactly one file can be meant: repair; several or none: leave out, and say where was looked",
    ),
    Row(
        "B33",
        "one image, two label files",
        "two JSON files for one image; a.jpg beside a.png where names must differ",
        "refuse, naming both. Equal names in different folders: accept",
    ),
    Row(
        "B34",
        "without labels",
        "an image without label file; a label file without shapes",
        "without shapes: an image without objects, accept. Without label file: counted, not used; "
        "--unlabeled-is-negative uses it. An image whose label file was refused is never taken as one without objects",
    ),
    Row(
        "B35",
        "unknown label",
        "a label that the labels file does not have",
        "refuse, with the list, counts and suggestions; --skip-labels leaves them out",
    ),
    Row(
        "B36",
        "spelling",
        "blanks around a label, decomposed Unicode; `Cat` beside `cat`; `cats` beside `cat`",
        "blanks, composition: repair. Case: refuse with a suggestion; --merge-case reads them as one. Nearly alike: a warning where no labels file says that both are meant",
    ),
    Row(
        "B37",
        "label that is not a name",
        "empty, over 200 characters, with control characters; __ignore__, _background_",
        "leave out; the name of a class in a COCO file, for which many objects stand: refuse; __ignore__ is an ignore "
        "region, _background_ no object. A label is never used as a path, never printed raw, and in "
        "a CSV file no formula",
    ),
    Row(
        "B38",
        "unusual file names",
        "Unicode, blanks, emoji, 245 characters, a leading minus",
        "accept; bytes that are not UTF-8, a name of over 255 bytes: leave out",
    ),
    Row(
        "B39",
        "files that cannot be read or written",
        "no permission; the output is the input, or somebody's file",
        "unreadable input: leave out the file; output: refuse",
    ),
    Row("B40", "annotation ids twice", "COCO: ids repeated or missing", "repair: renumbered from 1"),
    Row(
        "B41",
        "annotation id 0",
        "COCO: ids from 0, with which the evaluators lose a match",
        "repair: renumbered from 1",
    ),
    Row(
        "B42", "image twice", "COCO: an image id or file_name given twice", "the same entry twice: repair; else refuse"
    ),
    Row(
        "B43",
        "points nowhere",
        "COCO: an annotation of an unknown image or category, or with a category_id of null",
        "image: leave out; category: refuse; null: repair where there is one class, else leave out",
    ),
    Row(
        "B44",
        "category ids",
        "COCO: ids with gaps or from 0; a name twice",
        "accept, `convert coco` numbers them from 1; a name twice of which one is unused: repair; a name or an id twice: refuse",
    ),
    Row(
        "B45",
        "label out of range",
        "training: label 0, -1 or beyond the classes",
        "cannot arise: labels are made from the categories; each batch is checked, refuse",
    ),
    Row(
        "B46",
        "boxes and labels differ in number",
        "training: targets of unequal length",
        "each target is checked, refuse",
    ),
    Row(
        "B47",
        "corners instead of extent",
        "COCO: bbox is [x1, y1, x2, y2]",
        "refuse when most boxes leave their image as x, y, w, h and fit as corners",
    ),
    Row("B48", "fractions instead of pixels", "COCO: all boxes within 0..1", "refuse"),
    Row(
        "B49",
        "ids as text",
        'COCO: image_id "7" for 7, ids such as "img_a", iscrowd null, true or "0", bbox ["1", "2", "3", "4"]',
        "repair: read as numbers; texts are numbered",
    ),
    Row("B50", "area or iscrowd missing", "COCO: no area, no iscrowd, no bbox but a segmentation", "repair: computed"),
    Row(
        "B51",
        "run lengths",
        "COCO: RLE that does not fill the image, negative, of a huge size; iscrowd",
        "malformed, found before any compiled code sees it: the box is kept where there is a sound one, else leave out; "
        "iscrowd 1: kept, no target in training, ignored in evaluation",
    ),
    Row(
        "B52",
        "size of the image",
        "COCO, VOC: width and height are missing, or not those of the file",
        "missing: repair, taken from the picture; others: leave out the image",
    ),
    Row(
        "B53",
        "one picture in two parts",
        "the same pixels, or nearly, in train and val",
        "`split` keeps them together, `check` of two files finds them; training: the same file, under any name, refuse",
    ),
    Row(
        "B54",
        "parts that cannot work",
        "a class only in val, no training image, no validation image",
        "empty: refuse; else a warning of `split` and `check`",
    ),
    Row(
        "B55",
        "half of a set",
        "the files of a split, an evaluation or a conversion, of which some are of another run: it was killed while they "
        "moved into place, or somebody replaced one",
        "refuse in every command that reads them; the same command again puts them right",
    ),
    Row(
        "B57",
        "turned box",
        "COCO of CVAT: `attributes.rotation` beside the box before the turn",
        "repair: the upright box around the turned one",
    ),
    Row(
        "B58",
        "crowds that may be objects",
        "COCO: iscrowd 1 at a tenth of the objects or more, as CVAT's brush writes it",
        "note, and a warning of `train` and `split`: they stay crowds; `convert coco --crowd-as-object` makes objects of them",
    ),
    Row(
        "B59",
        "outline elsewhere",
        "COCO: an outline that is not where its box is (the box around it has an IoU under 0.3 with bbox), or outside the image",
        "repair: the box is kept, the outline is left out; a mask network then says how many have none",
    ),
    Row(
        "B60",
        "EXIF rotation",
        "orientation 2 to 8 in JPEG, PNG, TIFF, WebP",
        "accept: applied everywhere alike. Labels made on the unturned picture, told by the size: repair, points turned; "
        "its mask shapes: leave out",
    ),
    Row("B61", "broken EXIF", "an orientation of 99, a corrupt block", "accept, read as 1"),
    Row(
        "B62",
        "colour modes",
        "grey, palette, alpha, CMYK, 16 bits, float, LAB",
        "accept: 8-bit modes become RGB, transparency is dropped; 16 bits a channel are scaled by the value of "
        "--max-value, else by the highest that a TIFF states, else by 65535; 32-bit and float grey by --max-value, else from "
        "its lowest to its highest value; pixels without data become black; `convert` and `check` warn of what becomes "
        "nearly black. More than four bands, no way to RGB: leave out",
    ),
    Row(
        "B63",
        "several frames",
        "animated GIF, WebP, PNG; TIFF pages; MPO of a phone",
        "accept: the first; a note of `check`",
    ),
    Row(
        "B64",
        "HEIC, AVIF",
        "formats that are not read",
        "leave out, with the way to convert them; HEIC is read where pillow-heif is installed",
    ),
    Row(
        "B65",
        "damaged image",
        "cut off, empty, zeros, a web page named .jpg",
        "leave out; `check` finds a JPEG or PNG that ends too early, `check --decode` all other damage among the pixels, and "
        "training, which names the file. Inputs are never rewritten, damage is never filled up",
    ),
    Row(
        "B66",
        "too many pixels",
        "more than 100 million pixels by the header",
        "leave out before decoding; --max-pixels",
    ),
    Row(
        "B67",
        "other formats",
        "EPS, PDF, PSD, FITS ... by their content",
        "leave out: seven formats are read, no others",
    ),
    Row("B68", "wrong extension", "a PNG named .jpg", "accept; a note of `check`"),
    Row(
        "B69",
        "tiny or very long image",
        "under 16 pixels a side; over 100 times as long as wide",
        "leave out; very long: note",
    ),
    Row(
        "B70", "file changes", "an image that vanishes or changes during training", "refuse: the message names the file"
    ),
    Row(
        "B80",
        "mask of another size",
        "mask and photograph differ in size",
        "equal before EXIF rotation: repair, turned; else leave out. Never resized",
    ),
    Row("B81", "palette", "a palette PNG, whose colours are not its ids", "accept: indices are read raw"),
    Row("B82", "ids over 255", "16-bit PNG", "accept up to 65,535; beyond: refuse"),
    Row(
        "B83",
        "smeared ids",
        "masks as JPEG; grey edges by smoothing",
        "lossy format: refuse; more edge values than objects: refuse with a histogram; binary: note, threshold 128",
    ),
    Row(
        "B84",
        "wrong mode",
        "0 and 255 read as ids, class ids without names",
        "the mode is named by the user; what contradicts it: refuse",
    ),
    Row("B85", "one pixel", "an object of one pixel or one pixel wide", "accept: the box reaches to max + 1, so 1 x 1"),
    Row("B86", "empty mask", "a mask without any object", "accept: an image without objects"),
    Row(
        "B87",
        "colours",
        "RGB masks, masks with transparency",
        "colours with --colors: accept; without, or see-through: refuse",
    ),
    Row(
        "B88",
        "pairing",
        "a mask without photograph, a photograph without mask, two candidates",
        "without photograph: leave out; without mask: as B34; two candidates: refuse",
    ),
    Row(
        "B89",
        "scattered id",
        "one id in several unconnected parts",
        "note: one object; --components makes them several",
    ),
    Row(
        "B90",
        "masks too large",
        "training: an image whose masks need over 2 GB in a step: thousands of objects, a huge --image-size",
        "refuse, naming the image, before a run folder is made",
    ),
)
_BY_CODE = {row.code: row for row in ROWS}

OTHER = (  # what the commands read beside labels and images: kind, what is wrong, outcome, tests that hold it to that
    (
        "first weights",
        "empty, cut off, of another network, with code in it",
        "refuse; nothing in it is run",
        "weight_files",
    ),
    (
        "checkpoint",
        "cut off, changed, sealed anew with other shapes",
        "refuse; --resume takes the one before",
        "checkpoint",
    ),
    ("recipe", "no YAML, a date or type that does not exist, a key twice, nested without end", "refuse", "config"),
    (
        "run folder",
        "a damaged CSV, gallery or metrics file; markup or scripts in a number",
        "the report says which and goes on without it; everything is escaped",
        "hostile_run_files",
    ),
    (
        "plans, drafts, suspects, loop.json, manifests",
        "cut off, of another kind, nested without end",
        "refuse, or go on with the rest, said",
        "hostile_run_files",
    ),
    (
        "parts of a split",
        "an image in two parts; a split that was killed, of another annotations.json",
        "refuse (B53)",
        "whole",
    ),
    (
        "output folder",
        "files that this program did not write; a link; a file in its place; its own inputs",
        "refuse; nothing is deleted or replaced",
        "nothing_lost",
    ),
    (
        "file_name, image_root",
        "out of the image root: absolute, with .., behind a link",
        "refuse; --follow-links allows links",
        "links",
    ),
    (
        "names",
        "escape sequences, line breaks, markup, formulas, bidirectional marks, 255 bytes",
        "shown escaped everywhere; class names: B37, B38",
        "hostile_names",
    ),
    (
        "disk and memory",
        "full, read-only, no memory, a killed process",
        "exit code 4, or 2 where the place cannot be written; no half file stays",
        "faults",
    ),
    (
        "stopping",
        "Ctrl-C, SIGTERM, kill -9 at any moment",
        "whole old or whole new files; the same command goes on or begins anew",
        "signals",
    ),
)


def title(code: str) -> str:
    """The row's few words, or "" for a reason that is not a row."""
    return _BY_CODE[code].title if code in _BY_CODE else ""


def page() -> str:
    """The documentation page `bad_input.md`."""
    head = (__doc__ or "").split("\n\n")
    lines = ["# Bad input, and what becomes of it", "", " ".join(head[2].split()), ""]
    section = ""
    for row in ROWS:
        if SECTIONS[row.code[:2]] != section:
            section = SECTIONS[row.code[:2]]
            lines += [f"## {section}", "", "| code | what | for example | outcome |", "|---|---|---|---|"]
        cells = (row.code, row.title, row.found, row.outcome)
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
        if row is ROWS[-1] or SECTIONS[ROWS[ROWS.index(row) + 1].code[:2]] != section:
            lines.append("")
    lines += ["## What commands read beside labels", "", "| what | wrong | outcome | tests |", "|---|---|---|---|"]
    lines += [
        f"| {what} | {wrong} | {outcome} | `tests/toolkit/test_{tests}.py` |" for what, wrong, outcome, tests in OTHER
    ]
    lines += [""]
    lines.append(
        "Made from `label_tools/text/bad_input.py` by `python -m label_tools.text.bad_input`; a test keeps them equal."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
