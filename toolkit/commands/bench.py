"""`frcnn bench RUN`: speed against AP on the user's own images, and which setting to take."""

from __future__ import annotations

import argparse
from pathlib import Path

from label_tools.text.errors import say
from toolkit.commands.flags import add_images, at_least, picked, say_json

FORMS = ("torch", "onnx", "int8")


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "bench",
        help="speed against AP: image size, proposals, torch or ONNX",
        description="Runs the best checkpoint on its validation images at every combination, each in a process of its "
        "own, and writes bench.json, bench.csv and bench.html with the settings that no other one beats. "
        "`frcnn export onnx RUN --image-size PX --proposals N` exports one of them.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="RUN", help="run folder, or a checkpoint in it")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where it goes (default: RUN/bench)")
    parser.add_argument(
        "--image-size",
        type=int,
        nargs="+",
        default=[],
        metavar="PX",
        help="shorter sides of the image (default: the run's own, 3/4 and 1/2 of it)",
    )
    parser.add_argument(
        "--proposals",
        type=int,
        nargs="+",
        default=[],
        metavar="N",
        help="numbers of proposals (default: the run's own and a quarter of it)",
    )
    parser.add_argument(
        "--format", nargs="+", choices=FORMS, default=["torch", "onnx"], help="forms to measure (default: torch onnx)"
    )
    parser.add_argument("--data", type=Path, metavar="FILE", help="COCO file to measure on (default: RUN/val.json)")
    add_images(parser)
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of the CPU (default: one a core)")
    parser.add_argument("--device", default="cpu", help="of the torch format: cpu | cuda | cuda:N (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print bench.json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from toolkit.deployment import bench
    from toolkit.training.progress import Progress

    at_least(args, 1, "image_size", "proposals")
    at_least(args, 0, "threads")
    out = args.out or args.checkpoint / "bench"
    progress = Progress()

    def each(done: int, total: int, text: str) -> None:
        progress.step(f"{done + 1}/{total} {text}", done, total)

    try:
        given = {"image_sizes": args.image_size, "forms": args.format, "image_root": args.images}
        given |= picked(args, "proposals", "data", "device", "threads")
        result = bench.bench(args.checkpoint, out, each=each, **given)
    finally:
        progress.close()
    if args.json:
        say_json(result)
        return 0
    say(bench.table(result))
    say(bench.advice(result))
    say(f"page: {out / 'bench.html'}")
    return 0
