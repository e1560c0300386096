"""Flags that several commands share, their checks, and helpers to count images and print JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from label_tools.text.errors import InputError, say

if TYPE_CHECKING:
    from toolkit.prediction.mask_outlines import Outlines


def add_looks(parser: argparse.ArgumentParser) -> None:
    """Add the flags of toolkit.prediction.tiles_and_tta."""
    parser.add_argument(
        "--tiles",
        metavar="auto|PX",
        help="cut large pictures into overlapping tiles of so many pixels; auto: as large as the training images",
    )
    parser.add_argument("--tta", metavar="KINDS", help="look several times and fuse: flip, scales, or flip,scales")


def add_outlines(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the flags for writing the masks of a detector that has them."""
    parser.add_argument(
        "--outlines",
        choices=("polygons", "masks", "boxes"),
        default=default,
        help=f"how a detector with masks writes them: polygons with few points, pixels, or not (default: {default})",
    )
    parser.add_argument(
        "--outline-iou", type=float, metavar="IOU", help="of a polygon with its mask, at least (default: 0.98)"
    )


def outlines_of(args: argparse.Namespace) -> Outlines:
    from toolkit.prediction.mask_outlines import Outlines

    found = Outlines(args.outlines) if args.outline_iou is None else Outlines(args.outlines, args.outline_iou)
    found.check()
    return found


def picked(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """These options, as keywords of the function that they are named after."""
    return {name: getattr(args, name) for name in names}


def check_score(score: float | None) -> None:
    if score is not None and not 0 <= score <= 1:
        raise InputError(f"--score: found {score}, needs 0 to 1")


def at_least(args: argparse.Namespace, least: int, *names: str) -> None:
    """Raise InputError for an option, or one of its values, that is smaller."""
    for name in names:
        given = getattr(args, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and value < least:
                raise InputError(f"--{name.replace('_', '-')}: found {value}, needs {least} or more")


def image_counter(what: str) -> Callable[[int, int], None]:
    """each(done, total) that tells on stderr how far a command is; where nobody watches only the end."""

    def each(done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            say(f"{what}: {done}/{total} images", end="\n" if done == total else "\r", error=True)

    return each


def say_json(value: Any) -> None:
    say(json.dumps(value, sort_keys=True, indent=1))
