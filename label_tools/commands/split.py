"""Split annotations.json into train.json, val.json and test.json, and write the manifest split.json.

    split annotations.json --train .7 --val .2 --test .1 --seed 0 --group-by 'clip_(\\d+)_'

The files go to the folder of annotations.json, or to `--out DIR`. split.json lists which image went where and why, so
that a split can be read, published and continued: `--keep split.json` leaves every image where it was and distributes
only the new ones.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from label_tools.document.stratified_split import SHARES
from label_tools.files import links
from label_tools.text.command_line import add_command
from label_tools.text.errors import one_line, say
from label_tools.text.messages import table_lines


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "split", "annotations.json -> train.json, val.json, test.json", __doc__, run)
    parser.add_argument("annotations", type=Path, help="a COCO file, or a folder with annotations.json")
    for part, share in SHARES.items():
        parser.add_argument(f"--{part}", type=float, default=share, metavar="SHARE", help=f"default {share}")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives another split (default 0)")
    words = "images whose file_name gives the same match (its first group, if it has one) stay together; "
    parser.add_argument("--group-by", metavar="REGEX", help=f"{words}the word `folder` keeps each folder together")
    words = (
        "images that stay together: those that look alike (near, the default), only equal pixels (exact), none (off)"
    )
    parser.add_argument("--duplicates", choices=("near", "exact", "off"), default="near", help=words)
    parser.add_argument("--near-distance", type=int, metavar="BITS", help="how many of 64 bits may differ (default 8)")
    parser.add_argument("--keep", type=Path, metavar="SPLIT.JSON", help="images of this split stay in their part")
    words = "keep the split that the images' folders make, which are named train, val and test"
    parser.add_argument("--keep-given", action="store_true", help=words)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: the folder of the COCO file")
    parser.add_argument("--image-root", type=Path, metavar="DIR", help="where file_name starts from")
    parser.add_argument("--jobs", type=int, default=1, help="processes that decode images (default 1)")
    links.add_option(parser)
    parser.add_argument("--json", action="store_true", help="print the manifest instead of the table")


def run(args: argparse.Namespace) -> int:
    from label_tools.operations.split import split_file

    names = ("seed", "group_by", "duplicates", "near_distance", "keep", "keep_given", "out", "image_root", "jobs")
    options = {name: getattr(args, name) for name in names}
    shares = {part: getattr(args, part) for part in SHARES}
    manifest = split_file(args.annotations, fractions=shares, **options)
    for warning in manifest["warnings"]:
        say(f"warning: {one_line(warning)}", error=True)
    say(json.dumps(manifest, indent=1, ensure_ascii=False) if args.json else table(manifest))
    return 0


def table(manifest: dict) -> str:
    """The manifest for people: images and objects per part, and per class the objects."""
    parts = manifest["parts"]
    classes = list(next(iter(parts.values()))["classes"])
    rows = [("", *parts)]
    for words, key in (("images", "images"), ("  without objects", "images_without_objects"), ("objects", "objects")):
        rows.append((words, *(str(s[key]) for s in parts.values())))
    for name in classes:
        rows.append((f"  {one_line(name)}", *(str(s["classes"][name]["objects"]) for s in parts.values())))
    why = Counter(tie["why"] for tie in manifest["kept_together"])
    tied = ", ".join(f"{number} {reason}" for reason, number in sorted(why.items())) or "no pictures"
    return "\n".join([*table_lines(rows), f"kept together: {tied}"])
