"""`frcnn export onnx RUN --out model.onnx`: a trained detector as one file for onnxruntime, proven equal."""

from __future__ import annotations

import argparse
from pathlib import Path

from label_tools.text.errors import say
from toolkit.commands.flags import add_images, at_least, image_counter, picked

PROGRAMS = ("x-anylabeling",)


def add(subparsers: argparse._SubParsersAction) -> None:
    """Add `onnx` to the formats of `frcnn export`."""
    formats = next(
        action for action in subparsers.choices["export"]._actions if isinstance(action, argparse._SubParsersAction)
    )
    parser = formats.add_parser(
        "onnx",
        help="a trained detector for onnxruntime, proven equal (extra: onnx)",
        description="Writes the best checkpoint of RUN as one ONNX file that takes a picture of any size and gives its "
        "detections. The file is written only when it finds what the run finds in every validation picture, at other "
        "sizes and in a picture without objects: boxes within .01 pixels, scores within .0001.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="RUN", help="run folder, or a checkpoint in it")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write, model.onnx")
    parser.add_argument("--data", type=Path, metavar="FILE", help="COCO file to compare on (default: RUN/val.json)")
    add_images(parser)
    parser.add_argument("--image-size", type=int, metavar="PX", help="shorter side the network sees (default: RUN's)")
    parser.add_argument("--proposals", type=int, metavar="N", help="boxes it looks at closely (default: RUN's)")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="in 8-bit integers, calibrated on these pictures; written only when AP falls by .01 at most",
    )
    parser.add_argument(
        "--for",
        dest="program",
        default="",
        choices=PROGRAMS,
        metavar="PROGRAM",
        help="x-anylabeling: the form that it loads, and a YAML file beside it",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from toolkit.deployment import export

    at_least(args, 1, "image_size", "proposals")
    given = picked(args, "data", "image_size", "proposals", "int8", "program")
    each = image_counter("comparing")
    result = export.export_onnx(args.checkpoint, args.out, image_root=args.images, each=each, **given)
    say("\n".join(export.summary(args.out, result)))
    return 0
