"""Start the real labelme on a folder, with labels validated and no image data in the files.

labelme (GPL-3.0) is started as a program and never imported. Only flags that 6.3 and 7.9 both take are used:
7 made --nodata, --autosave and --validatelabel errors, both keep image data out of the files by default.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from label_tools.text.command_line import add_command
from label_tools.text.errors import FINE, InputError, say


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "label", "start labelme on a folder", __doc__, run)
    parser.epilog = "The program is taken from $FRCNN_LABELME, from beside this Python, or from PATH."
    parser.add_argument("path", type=Path, metavar="DIR", help="a folder of images, or one image or label file")
    parser.add_argument(
        "--labels",
        type=Path,
        required=True,
        metavar="FILE",
        help="a file with one class a line; labelme takes no others",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where labels go (default: beside the images)")
    parser.add_argument("--print", action="store_true", dest="only_print", help="print the command, start nothing")


def run(args: argparse.Namespace) -> int:
    from label_tools.operations.start_labelme import find_labelme, labelme_command, start
    from label_tools.pictures.open_image import SUFFIXES
    from label_tools.readers.classes import read_labels

    read_labels(args.labels)  # labelme would open and accept a broken list without a word
    if not args.path.exists():
        raise InputError(f"{args.path}: no such file or folder")
    if args.path.is_dir() and not any(p.suffix.lower() in SUFFIXES for p in args.path.rglob("*")):
        raise InputError(f"{args.path}: no image in it")
    program = find_labelme()
    out = args.out or (args.path if args.path.is_dir() else args.path.parent)
    command = labelme_command(program, args.path, args.labels, out)
    if args.only_print:
        say(shlex.join(command))
        return FINE
    start(command, out)
    folder, labels = shlex.quote(str(out)), shlex.quote(str(args.labels))
    say(f"next: frcnn convert labelme {folder} --labels {labels} --out {folder}/annotations.json")
    return FINE
