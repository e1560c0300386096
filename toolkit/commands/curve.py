"""`frcnn curve DATA`: AP against the number of labelled images: would more labels help?"""

from __future__ import annotations

import argparse
from pathlib import Path

from label_tools.text.errors import say
from toolkit.commands import flags
from toolkit.experiments.jobs import prepare
from toolkit.training import run_folder


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "curve",
        help="would more labels help?",
        description="Trains on parts of DATA/train.json and evaluates each on test.json, else val.json. Started again, "
        "it goes on where it was stopped. All flags of `frcnn train` apply, --seed aside.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with train.json and val.json")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs="+",
        default=[0.25, 0.5, 0.75, 1.0],
        metavar="F",
        help="shares of the training images (default: 0.25 0.5 0.75 1)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2],
        metavar="S",
        help="each draws other images and other weights (default: 0 1 2)",
    )
    flags.add_images(parser)
    parser.add_argument("--name", default="curve", help="folder in --runs (default: curve)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where it goes (default: runs)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and the time of all trainings, and stop")
    parser.add_argument("--json", action="store_true", help="print curve.json")
    flags.add_jobs(parser)
    flags.add_recipe(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    run_folder.check_name(args.name)
    if args.dry_run:
        return _plan(args)
    prepare("toolkit.experiments.label_curve", "albumentations", **flags.at_once(args))
    from toolkit.experiments.label_curve import label_curve
    from toolkit.metrics.label_curve_fit import UNSURE

    out = args.runs / args.name
    options = flags.training_options(args, leave_out=("seed",))
    result = label_curve(
        args.data, out, args.fractions, args.seeds, image_root=args.images, **flags.at_once(args), **options
    )
    if args.json:
        flags.say_json(result)
        return 0
    say(f"AP on the {result['split']} split, of networks trained on so many pictures")
    say("images  objects  seed  AP     AP50")
    for point in result["points"]:
        shown = ["n/a  " if point[key] is None else f"{point[key]:.3f}" for key in ("AP", "AP50")]
        say(f"{point['num_images']:6d}  {point['num_objects']:7d}  {point['seed']:4d}  {shown[0]}  {shown[1]}")
    fit = result["fit"]
    say(fit["answer"] if fit else "no fit: it needs trainings with two different numbers of images")
    if not fit or fit["answer"].startswith(UNSURE):
        say("the same command with more --fractions or --seeds keeps what is trained, and adds to it")
    say(f"page: {out / 'curve.html'}")
    return 0


def _plan(args: argparse.Namespace) -> int:
    """The plan of a training on all images, and the time of all of them: each has as many steps."""
    from toolkit import fine_tune
    from toolkit.commands.train import recipe_of
    from toolkit.experiments.label_curve import check_parts
    from toolkit.training.dry_run import plan

    check_parts(args.data)
    labels, config = fine_tune.prepare(fine_tune.Source(args.data, images=args.images), recipe_of(args))
    trainings = len(set(args.fractions)) * len(args.seeds)
    reported = sum(len(labels[name].index) for name in ("val", "test") if name in labels)
    say(plan(config, labels["train"].index, labels["val"].index, reported, trainings))
    return 0
