"""`--follow-links`: follow links out of a folder of images, and an absolute `image_root`, only when the user asks.

A downloaded data set could otherwise name any picture of this machine. One setting for a command and the processes
that it starts: `--follow-links`, or FRCNN_FOLLOW_LINKS=1.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

VARIABLE = "FRCNN_FOLLOW_LINKS"
REMEDY = "pass --follow-links if that is meant"


def followed() -> bool:
    """Whether the user asked to follow links."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def add_option(*parsers: argparse.ArgumentParser) -> None:
    """`--follow-links` for commands that open pictures."""
    text = "open pictures behind links that lead out of the image folder"
    for parser in parsers:
        parser.add_argument("--follow-links", action=_Follow, nargs=0, default=False, help=text)


class _Follow(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, *_: Any) -> None:
        setattr(namespace, self.dest, True)
        os.environ[VARIABLE] = "1"
