"""How `frcnn predict` and `frcnn prelabel` write the masks of a detector that has them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.prediction.mask_outlines import Outlines


def add(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--outlines",
        choices=("polygons", "masks", "boxes"),
        default=default,
        help=f"how a detector with masks writes them: polygons with few points, pixels, or not (default: {default})",
    )
    parser.add_argument(
        "--outline-iou", type=float, metavar="IOU", help="of a polygon with its mask, at least (default: 0.98)"
    )


def outlines(args: argparse.Namespace) -> Outlines:
    from toolkit.prediction.mask_outlines import Outlines

    found = Outlines(args.outlines) if args.outline_iou is None else Outlines(args.outlines, args.outline_iou)
    found.check()
    return found
