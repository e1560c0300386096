"""`frcnn evaluate RUN`, or of anybody's detections: COCO's numbers, intervals, what goes wrong, the report."""

from __future__ import annotations

import argparse
from pathlib import Path

from label_tools.text.errors import InputError, one_line, say
from toolkit.commands.flags import add_device, add_images, add_looks, image_counter, picked, say_json


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="mAP with intervals, errors, report: of a run, or of any results",
        description="Evaluate a run on one of its splits, or detections of any detector against a COCO file "
        "(--annotations A --detections D --out DIR). Writes metrics.json and report.html; RUN/report.html stays about "
        "the run's own test split, else val, and other pages lie beside their numbers, RUN/<split>/report.html.",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="run folder, such as runs/train, or an exported model.onnx with --data",
    )
    parser.add_argument("--split", help="split of the run (default: test, else val; with --data, named after FILE)")
    parser.add_argument("--data", type=Path, metavar="FILE", help="another COCO file than the run's own split")
    parser.add_argument("--annotations", type=Path, metavar="FILE", help="COCO file with the labels")
    parser.add_argument(
        "--detections",
        type=Path,
        metavar="FILE",
        help="COCO results of any detector; with masks (RLE, polygons): numbers by boxes and by masks",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where metrics.json and report.html go")
    add_images(parser)
    better = "is B better? a run, or a COCO results file, on the same images; several: one recipe, several seeds"
    for name, run_name, text in (
        ("--compare", "RUN_B", better),
        ("--seeds", "RUN", "with --compare: runs of A's recipe, other seeds"),
        ("--also", "RUN", "more runs, or COCO results: label errors that all of them see come first"),
    ):
        parser.add_argument(name, type=Path, nargs="+", default=[], metavar=run_name, help=text)
    parser.add_argument(
        "--by",
        metavar="WHAT",
        help="also by groups of images: folder, flag (LabelMe's), camera, size, hour, or a CSV of names and groups",
    )
    add_settings(parser)
    add_looks(parser)
    add_device(parser)
    parser.add_argument(
        "--batch-size",
        type=int,
        default=4,
        help="images of one size at a time (default: 4); the numbers do not depend on it",
    )
    parser.add_argument("--no-report", action="store_true", help="write no report.html")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print metrics.json")
    shape.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    shape.add_argument("--latex", action="store_true", help="print a table for a paper")
    parser.set_defaults(run=run)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the flags of toolkit.evaluation.compute_metrics.Settings, whose defaults are written there."""
    parser.add_argument("--iou", type=float, help="IoU of curves, thresholds and confusion (default: 0.5)")
    parser.add_argument(
        "--min-precision",
        dest="precision",
        type=float,
        metavar="P",
        help="thresholds that reach this precision, instead of the middle of those with a high F1",
    )
    parser.add_argument(
        "--threshold-for",
        choices=("f1", "counts"),
        help="what thresholds are chosen for, on val: f1 (default), or counts: as many detections as objects",
    )
    parser.add_argument(
        "--guarantee",
        nargs=2,
        metavar=("WHAT", "SHARE"),
        help="recall .9 or precision .9: thresholds that keep it on new pictures like these, with 95 %% confidence, or "
        "how many objects to validate on that takes",
    )
    parser.add_argument(
        "--thresholds",
        nargs="+",
        metavar="[CLASS=]SCORE",
        help="store these score thresholds in the run, where predict reads them: of all classes, or of one",
    )
    parser.add_argument("--resamples", type=int, help="resamples for the intervals; 0: none (default: 1000)")
    parser.add_argument("--seed", type=int, help="of the resamples (default: 0)")


def settings_of(args: argparse.Namespace):
    """toolkit.evaluation.compute_metrics.Settings with the flags that were given."""
    from toolkit.evaluation.compute_metrics import Settings

    names = ("iou", "precision", "threshold_for", "resamples", "seed")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.guarantee:
        given["guarantee"] = (args.guarantee[0], _number("--guarantee", args.guarantee[1]))
    if args.thresholds:
        pairs = (text.rpartition("=") for text in args.thresholds)
        given["thresholds"] = {name: _number("--thresholds", value) for name, _, value in pairs}
    return Settings(**given)


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option}: found {text}, needs a number from 0 to 1") from None


def _is_exported(args: argparse.Namespace) -> bool:
    return args.folder is not None and args.folder.suffix.lower() == ".onnx"


def _check(args: argparse.Namespace) -> None:
    """Raise InputError where options are missing, exclude each other or name nothing."""
    if args.folder is None and not (args.annotations and args.detections and args.out):
        raise InputError(
            "frcnn evaluate: needs RUN, or --annotations FILE --detections FILE --out DIR for any detector's results"
        )
    exported = _is_exported(args)
    if exported and (args.data is None or args.split):
        raise InputError(
            f"frcnn evaluate {args.folder}: needs --data FILE, the COCO file to evaluate on, and no --split"
        )
    if args.folder is not None and (args.annotations or args.detections or (args.out and not exported)):
        raise InputError("frcnn evaluate: RUN and --annotations, --detections, --out exclude each other")
    if (args.folder is None or exported) and (args.tiles or args.tta):
        raise InputError("frcnn evaluate: --tiles and --tta need a run folder")
    if args.seeds and not args.compare:
        raise InputError("frcnn evaluate: --seeds needs --compare")
    for path in [*args.compare, *args.seeds, *args.also]:
        if not path.exists():
            raise InputError(f"{path}: not found; needs a run, an evaluation's folder or a COCO results file")


def run(args: argparse.Namespace) -> int:
    _check(args)
    exported = _is_exported(args)
    from toolkit.evaluation import evaluate_files
    from toolkit.report.write_report import write_report

    settings = settings_of(args)
    settings.check()
    split, folder = "", args.out
    each = image_counter("detecting")
    given = {"image_root": args.images, "settings": settings, "others": tuple(args.also)}
    if exported:  # without torch
        folder = args.out or evaluate_files.place_of(args.folder, args.data)
        metrics = evaluate_files.evaluate_exported(args.folder, args.data, folder, each=each, **given)
    elif args.folder is not None:
        from toolkit.evaluation import evaluate_run

        split = args.split or evaluate_run.name_of_split(args.folder, args.data)
        given |= picked(args, "data", "device", "batch_size", "tiles", "tta")
        metrics = evaluate_run.evaluate_run(args.folder, split, each=each, **given)
        if "look" in metrics:
            split = f"{split}-{metrics['look']['name']}"
        folder = args.folder / split
    else:
        metrics = evaluate_files.evaluate_files(args.annotations, args.detections, args.out, **given)
    from toolkit.report.evaluation_text import few

    for warning in [*metrics["warnings"], *filter(None, [few(metrics)])]:
        say(f"warning: {one_line(warning)}", error=True)
    if args.compare:
        from toolkit.evaluation.compare_runs_tiles_tta import compare_with

        metrics = compare_with(
            folder, args.compare, settings, seeds=args.seeds, device=args.device, batch_size=args.batch_size
        )
    if args.by:
        from toolkit.evaluation.evaluate_by_group import slice_by

        metrics = slice_by(folder, args.by, settings)
    _print(metrics, args)
    if not args.no_report:
        place, quiet = folder if exported else args.folder or args.out, args.json or args.markdown or args.latex
        path = write_report(place, split)
        say_first_step(place, split, quiet)
        say(f"report: {path}", error=quiet)
    return 0


def _print(metrics: dict, args: argparse.Namespace) -> None:
    from toolkit.report import evaluation_text, latex_markdown

    if args.json:
        say_json(metrics)
    elif args.markdown:
        say(latex_markdown.markdown(metrics))
    elif args.latex:
        say(latex_markdown.latex(metrics))
    else:
        say(evaluation_text.terminal(metrics))
        if args.folder is not None and args.data is None and (metrics["split"] == "val" or args.thresholds):
            say(_stored(metrics))


def _stored(metrics: dict) -> str:
    """Line that says what the evaluation changed in the run: `predict` shows other detections from now on."""
    scores = [f"{one_line(name)} {one['threshold']:.3f}" for name, one in metrics["thresholds"].items()]
    more = ", ..." * (len(scores) > 8)
    return f"stored in the run, for frcnn predict: detections are shown from score {', '.join(scores[:8])}{more}"


def say_first_step(folder: Path, split: str, quiet: bool = False) -> None:
    """Print the first line of the report's "Do this next"."""
    from toolkit.report.page import first_step
    from toolkit.report.write_report import find_evaluations

    if first := first_step(folder, find_evaluations(folder), split):
        say(f"do this next: {first} (evidence and more in the report)", error=quiet)
