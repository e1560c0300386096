"""`python -m label_tools COMMAND`: the same commands that `frcnn` offers for labels."""

from __future__ import annotations

import argparse
import sys

from label_tools.text.command_line import Parser
from label_tools.text.errors import exit_code_of, logs_shown


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add every label command to an argparse sub-command group; imports nothing heavy."""
    from label_tools.commands import check, convert, draw, edit, export, frames, label, split, stats

    for command in (convert, export, check, split, draw, stats, edit, label, frames):
        command.add_commands(subparsers)


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m label_tools", description=__doc__)
    add_commands(parser.add_subparsers(dest="command", required=True, metavar="COMMAND"))
    args = parser.parse_args(argv)
    with logs_shown():
        return exit_code_of(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
