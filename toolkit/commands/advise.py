"""`frcnn advise annotations.json`: do the anchors reach the boxes at the size that the network sees?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from label_tools.text.errors import say


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("advise", help="do the anchors reach your boxes?")
    parser.add_argument("annotations", type=Path, help="a COCO file, or the folder that holds annotations.json")
    parser.add_argument("--model", default="auto", help="detector (default: what `frcnn train` would take)")
    parser.add_argument("--image-size", "--size", type=int, help="shorter side seen by the network (default: recipe)")
    parser.add_argument("--max-size", type=int, help="longer side at most (default: the recipe's)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from toolkit import config
    from toolkit.data import coco_index
    from toolkit.fine_tune import with_model
    from toolkit.networks import advise

    folder = args.annotations.is_dir()
    path = args.annotations / "annotations.json" if folder else args.annotations
    index = coco_index.read_index(path, check_files=False)
    model = with_model({"model": args.model}, {})["model"]
    flags = {"model": model, "image_size": args.image_size, "max_size": args.max_size}
    flags = {k: v for k, v in flags.items() if v is not None}
    if args.image_size and not args.max_size:
        flags["max_size"] = round(args.image_size * 1333 / 800)
    recipe = config.resolve(len(index), flags).model
    result = advise.advise(index, model, recipe.image_size, recipe.max_size)
    say(json.dumps(result, indent=1) if args.json else f"model: {model}\n{advise.as_text(result)}")
    return 0
