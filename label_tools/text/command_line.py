"""The command line of every command: an option is meant only by its whole name, and one that nobody knows is refused in
one line with the nearest names."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from label_tools.text.errors import BAD_INPUT, one_line


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose sub-commands are such parsers too (argparse makes them of their parent's class)."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple:
        # before argparse, which would take a beginning for the option, or speak first of what is required and missing
        for word in sys.argv[1:] if args is None else args:
            name = word.partition("=")[0]
            if word == "--" or (self._subparsers and not word.startswith("-")):
                break  # what follows are no options, or those of a sub-command
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                self._refuse(name)
        return super().parse_known_args(args, namespace)

    def _refuse(self, name: str) -> None:
        known = [option for option in self._option_string_actions if option.startswith("--")]
        near = [option for option in known if option.startswith(name)] or get_close_matches(name, known, n=1)
        hint = f"did you mean {' or '.join(near[:3])}? " if near else ""
        self.exit(BAD_INPUT, f"error: {self.prog} {one_line(name)}: unknown option; {hint}all: {self.prog} --help\n")
