"""`frcnn crossval DATA`: train a network per fold, evaluate every image by one that never saw it, pool the folds."""

from __future__ import annotations

import argparse
from pathlib import Path

from label_tools.text.errors import say
from toolkit.commands import flags
from toolkit.commands.evaluate import say_first_step
from toolkit.experiments.jobs import prepare
from toolkit.training import run_folder


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "crossval",
        help="cross-validation, for small sets",
        description="DATA is one COCO file. Fold i is evaluated, the next chooses the best epoch, the others are "
        "learned from. Started again, it goes on where it was stopped. All flags of `frcnn train` apply.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="COCO file of all labelled images")
    parser.add_argument("--folds", type=int, default=5, help="3 or more (default: 5)")
    parser.add_argument("--group-by", metavar="REGEX", help="images with the same match stay in one fold")
    flags.add_images(parser)
    parser.add_argument("--name", default="crossval", help="folder in --runs (default: crossval)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where it goes (default: runs)")
    parser.add_argument("--json", action="store_true", help="print metrics.json")
    flags.add_jobs(parser)
    flags.add_recipe(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    run_folder.check_name(args.name)
    prepare("toolkit.experiments.crossval", "albumentations", **flags.at_once(args))
    from toolkit.experiments.crossval import crossval
    from toolkit.report import evaluation_text
    from toolkit.report.write_report import write_report

    out = args.runs / args.name
    options = {**flags.at_once(args), **flags.training_options(args)}
    metrics = crossval(args.data, out, args.folds, image_root=args.images, group_by=args.group_by, **options)
    if args.json:
        flags.say_json(metrics)
    else:
        say(evaluation_text.terminal(metrics))
    path = write_report(out, "")
    say_first_step(out, "", args.json)
    say(f"report: {path}", error=args.json)
    return 0
