"""The command `frames`: pictures of a film to label, as unlike each other as possible.

frames film.mp4 --out photos --number 100
"""

from __future__ import annotations

import argparse
from pathlib import Path

from label_tools.text.command_line import add_command
from label_tools.text.errors import FINE, say
from label_tools.text.messages import counted


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    description = "Writes FILM_frame000123.jpg, names by which `frcnn split` keeps the pictures of a film together."
    parser = add_command(subparsers, "frames", "pictures of a film to label, unlike each other", description, run)
    parser.add_argument("film", type=Path, nargs="+", metavar="FILM")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument("--number", type=int, default=100, metavar="N", help="pictures of each film (default 100)")


def run(args: argparse.Namespace) -> int:
    from label_tools.operations.frames import extract

    for film in args.film:
        files, total = extract(film, args.out, args.number)
        say(f"{film}: {counted(len(files), 'picture')} of {counted(total, 'frame')}: {args.out}")
        if len(files) < args.number:
            say(f"note: {film}: no more than {len(files)} of its frames differ", error=True)
    return FINE
