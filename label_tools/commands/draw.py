"""Look before you train: contact sheets, and every picture with its objects painted on it.

draw annotations.json --out pictures            contact sheets and one overlay per image
draw labelme_folder --out pictures --sheet-only straight from LabelMe files
draw annotations.json --out pictures --sample 60 --class cat
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from label_tools.files import links
from label_tools.text.command_line import add_command
from label_tools.text.errors import FINDINGS, FINE, InputError, one_line, say
from label_tools.text.messages import counted


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "draw", "contact sheets and pictures with their objects", __doc__, run)
    what = "a COCO file, or a folder: its LabelMe files, else annotations.json"
    parser.add_argument("path", type=Path, metavar="PATH", help=what)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="contact_sheet.jpg, overlays/")
    parser.add_argument("--sheet-only", action="store_true", help="no overlays")
    parser.add_argument("--sample", type=int, metavar="N", help="N images, chosen by --seed")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        metavar="NAME",
        help="only images that hold this class; may be given several times",
    )
    parser.add_argument("--columns", type=int, default=6, help="of a contact sheet (default 6)")
    parser.add_argument("--rows", type=int, default=6, help="of a contact sheet (default 6)")
    parser.add_argument("--tile", type=int, default=320, metavar="PX", help="side of its pictures (default 320)")
    parser.add_argument("--ids", action="store_true", help="write annotation ids, as `check` names them")
    parser.add_argument("--image-root", type=Path, metavar="DIR", help="where file_name starts from")
    links.add_option(parser)


def run(args: argparse.Namespace) -> int:
    from label_tools.operations.draw_sheets_and_overlays import Painter, choose, contact_sheets, overlays
    from label_tools.pictures.unread_files import not_read_below
    from label_tools.readers.open_labels import open_source

    for name, low, high in (("columns", 1, 50), ("rows", 1, 50), ("tile", 64, 2000), ("sample", 1, 10**9)):
        value = getattr(args, name)
        if value is not None and not low <= value <= high:
            raise InputError(f"--{name} {value}: a number from {low} to {high}")
    source = open_source(args.path, image_root=args.image_root)
    pictures = choose(source, args.sample, args.seed, args.classes)
    if not any(os.path.isfile(picture.path) for picture in pictures):
        raise InputError(
            f"{args.path}: none of the {counted(len(pictures), 'image')} is there, the first would be "
            f"{pictures[0].path}; --image-root DIR names their folder"
        )
    if text := not_read_below(source.image_root):
        say(f"warning: {one_line(source.image_root)}: {one_line(text)}", error=True)
    painter = Painter(source.document, ids=args.ids)
    sheets = contact_sheets(painter, pictures, source.name, args.out, args.columns, args.rows, args.tile)
    say("\n".join(str(path) for path in sheets))
    if not args.sheet_only:
        count = overlays(painter, pictures, args.out / "overlays")
        say(f"{args.out / 'overlays'}: {counted(count, 'picture')}")
    for line in painter.problems[:_MOST_LINES]:
        say(f"warning: {one_line(line)}", error=True)
    if more := painter.problems[_MOST_LINES:]:
        say(f"warning: ... and {counted(len(more), 'more picture')} that cannot be opened", error=True)
    return FINDINGS if painter.problems else FINE


_MOST_LINES = 20  # pictures that cannot be opened, named one by one
