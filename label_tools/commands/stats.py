"""Number, size and aspect ratio of the objects, in pixels of the file and of the model's input.

    stats annotations.json                              a table
    stats labelme_folder --min-size 600 --max-size 1000 --out stats.png

size = sqrt(width x height), aspect ratio = height / width. The size classes are COCO's: small below 32, large from
96 pixels, by box. The model's size is that of torchvision's GeneralizedRCNNTransform: the shorter side becomes
--min-size unless the longer one would pass --max-size.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from label_tools.files import links
from label_tools.files.pause_gc import collector_paused
from label_tools.text.command_line import add_command
from label_tools.text.errors import InputError, one_line, say
from label_tools.text.messages import counted, table_lines


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "stats", "counts, box sizes, aspect ratios", __doc__, run)
    what = "a COCO file, or a folder: its LabelMe files, else annotations.json"
    parser.add_argument("path", type=Path, metavar="PATH", help=what)
    parser.add_argument("--min-size", type=int, default=800, metavar="PX", help="default 800, as torchvision")
    parser.add_argument("--max-size", type=int, default=1333, metavar="PX", help="default 1333, as torchvision")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="the picture; its numbers go to FILE.json")
    links.add_option(parser)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


@collector_paused()
def run(args: argparse.Namespace) -> int:
    from label_tools.operations.stats import measure, save, summarise
    from label_tools.readers.open_labels import open_source

    for name in ("min_size", "max_size"):
        if not 1 <= getattr(args, name) <= 100_000:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)}: a number of pixels above 0")
    if args.out and args.out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"--out {args.out}: needs the ending .png, .svg or .pdf")
    source = open_source(args.path)
    boxes = measure(source.document, args.min_size, args.max_size)
    numbers = summarise(source, boxes, args.min_size, args.max_size)
    say(json.dumps(numbers, indent=1, ensure_ascii=False) if args.json else table(numbers))
    if args.out:
        save(source.name, boxes, numbers, args.out)
    return 0


def table(numbers: dict) -> str:
    """The numbers for a person: a row per class and one for all."""
    spread = "5 to 95 %"
    rows = [["class", "images", "objects", "size: median", spread, "small", "medium", "large"]]
    rows[0] += ["h/w: median", spread, "in the model: median", spread]
    groups = {**numbers["classes"], "all": numbers["all"]} if len(numbers["classes"]) != 1 else numbers["classes"]
    for name, group in groups.items():
        cells = [one_line(name), str(group["images"]), str(group["objects"])]
        for key, digits in (("size", 0), ("aspect_ratio", 2), ("model_size", 0)):
            q = group[key]
            cells.append(f"{q['median']:.{digits}f}" if q else "-")
            cells.append(f"{q['q05']:.{digits}f} to {q['q95']:.{digits}f}" if q else "-")
            if key == "size":
                cells += [str(group["small"]), str(group["medium"]), str(group["large"])]
        rows.append(cells)
    sizes = "no image"
    if numbers["images"]:
        wide, high = numbers["image_width"], numbers["image_height"]
        smallest, largest, middle = (f"{wide[key]:.0f} x {high[key]:.0f}" for key in ("min", "max", "median"))
        sizes = f"each {middle}" if smallest == largest else f"{smallest} to {largest}, median {middle}"
    images = (
        f"{counted(numbers['images'], 'image')} ({numbers['images_without_objects']} without objects), {sizes} pixels"
    )
    most = counted(numbers["most_objects_in_an_image"], "object")
    ignored = counted(numbers["ignore_regions"], "ignore region")
    resized = f"after resizing to {numbers['min_size']} (at most {numbers['max_size']})"
    return "\n".join(
        [
            *table_lines(rows),
            f"{images}; at most {most} in one; {ignored}",
            f"size = sqrt(width x height) in pixels; in the model: {resized}",
        ]
    )
