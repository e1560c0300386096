"""`frcnn train DATA`: fine-tune a detector, evaluate it, write the report."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from label_tools.text.errors import InputError, say
from toolkit import config as recipes
from toolkit.commands import flags


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="fine-tune a detector, evaluate it and write the report",
        description="DATA is a folder with train.json and val.json (made by `frcnn split`), or a COCO file "
        "together with --val. Writes runs/NAME; never overwrites a run.",
    )
    parser.add_argument("data", nargs="?", type=Path, metavar="DATA", help="folder of `frcnn split`, or a COCO file")
    parser.add_argument("--val", type=Path, metavar="FILE", help="COCO file to evaluate on (default: DATA/val.json)")
    parser.add_argument(
        "--test", type=Path, metavar="FILE", help="COCO file to evaluate on at the end (default: DATA/test.json)"
    )
    flags.add_images(parser)
    parser.add_argument("--name", default="train", help="name of the run (default: train)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs go (default: runs)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    parser.add_argument("--allow-data-change", action="store_true", help="let --resume go on with other labels")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--no-report", action="store_true", help="do not evaluate and report at the end")
    parser.add_argument("--list-models", action="store_true", help="print the detectors and stop")
    flags.add_recipe(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.list_models:
        from toolkit.networks import registry

        for name, detector in registry.REGISTRY.items():
            say(f"{name:40} {detector.about}")
        say(f"{'--backbone NAME':40} Faster R-CNN on a classification network of torchvision, or on timm/NAME")
        return 0
    if args.resume:
        return _resume(args)
    if args.data is None:
        raise InputError("frcnn train: needs DATA, a folder with train.json and val.json; `frcnn split` makes one")
    from toolkit import fine_tune
    from toolkit.training import run_folder

    run_folder.check_name(args.name)
    source, recipe = fine_tune.Source(args.data, args.val, args.test, args.images), recipe_of(args)
    if args.dry_run:
        from toolkit.training.dry_run import plan

        labels, config = fine_tune.prepare(source, recipe)
        val = labels["val"].index if "val" in labels else None
        reported = ("val", "test") if val is not None and not args.no_report else ()
        images = sum(len(labels[name].index) for name in reported if name in labels)
        say(plan(config, labels["train"].index, val, images))
        return 0
    folder = fine_tune.start(source, recipe, args.runs, args.name, command=command(), report=not args.no_report)
    _print_end(folder, not args.no_report)
    return 0


def recipe_of(args: argparse.Namespace):
    """toolkit.fine_tune.Recipe of the flags, `--config` and `--preset`."""
    from toolkit.fine_tune import Recipe

    file = recipes.read_file(args.config) if args.config else {}
    return Recipe(flags.flags_given(args), file, args.preset)


def command() -> str:
    """The command line as it was typed, for run.json."""
    return "frcnn " + shlex.join(sys.argv[1:])


def _resume(args: argparse.Namespace) -> int:
    from toolkit import fine_tune

    folder = args.resume
    if args.dry_run:
        raise InputError("--resume: --dry-run plans a new run only; leave one of them out")
    for flag, given in (("--config", args.config), ("--preset", args.preset != "auto")):
        if given:
            fine_tune.refuse_change(folder, flag)
    moved = any(given is not None for given in (args.data, args.val, args.test, args.images))
    source = fine_tune.Source(args.data or folder, args.val, args.test, args.images) if moved else None
    went_on = fine_tune.resume(
        folder,
        flags.flags_given(args),
        source,
        allow_data_change=args.allow_data_change,
        report=not args.no_report,
    )
    if went_on:
        _print_end(folder, not args.no_report)
    else:
        report = folder / "report.html"
        left = f"its report: {report}" if report.is_file() else f"its weights: {folder / 'best'}"
        say(f"{folder}: is already finished; {left}")
    return 0


def _print_end(folder: Path, report: bool) -> None:
    """The numbers of the best checkpoint, and where everything is. Of several processes the first one speaks."""
    from toolkit.commands.evaluate import say_first_step
    from toolkit.rank_and_cores import is_first
    from toolkit.report import evaluation_text, latex_markdown
    from toolkit.report.write_report import find_evaluations, read_metrics

    if not is_first():
        return
    own = [split for split in find_evaluations(folder) if split in ("val", "test")] if report else []
    for split in reversed(own):
        metrics = read_metrics(folder, split)
        for what, part in evaluation_text.sets(metrics):
            numbers = "  ".join(f"{key} {evaluation_text.number(part[key])}" for key in ("AP", "AP50", "AP75"))
            role = ": the number to quote" * (split == "test")
            say(f"mAP on {split}{what and ' ' + what}: {numbers}  ({latex_markdown.counts(metrics)}){role}")
    if own == ["val"]:
        say(evaluation_text.TOO_GOOD)
    if own:
        say_first_step(folder, own[0])
        say(f"report: {folder / 'report.html'}")
    elif not (folder / "val.json").is_file():
        say(f"nothing was evaluated, as there was no val: frcnn evaluate {folder} --data FILE evaluates it on FILE")
    say(f"checkpoint: {folder / 'best'}")
