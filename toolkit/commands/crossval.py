"""`frcnn crossval DATA`: train a network per fold, judge every image by one that never saw it, pool the folds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from toolkit.commands import recipe_flags


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "crossval",
        help="cross-validation: a network per fold, results pooled; for small sets",
        description="DATA is one COCO file. Fold i is judged, the next chooses the best epoch, the others are "
        "learned from. Started again, it goes on where it was stopped. All flags of `frcnn train` apply.",
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="COCO file of all labelled images")
    parser.add_argument("--folds", type=int, default=5, help="3 or more (default: 5)")
    parser.add_argument("--group-by", metavar="REGEX", help="images with the same match stay in one fold")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder that file_name starts from")
    parser.add_argument("--name", default="crossval", help="folder in --runs (default: crossval)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where it goes (default: runs)")
    parser.add_argument("--json", action="store_true", help="print metrics.json")
    recipe_flags.add_flags(parser)
    parser.set_defaults(run=run)


def train_words(args: argparse.Namespace, leave_out: tuple[str, ...] = ()) -> list[str]:
    """The flags of `frcnn train` that were given, as words again."""
    words = []
    for name, value in recipe_flags.flags_given(args).items():
        flag = name.replace("_", "-")
        if name in leave_out:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    if args.config:
        words += ["--config", str(args.config)]
    return [*words, "--preset", args.preset]


def run(args: argparse.Namespace) -> int:
    from toolkit.__main__ import main
    from toolkit.evaluation.crossval import TrainingFailed, crossval
    from toolkit.report import tables, write_report

    words = train_words(args)

    def train(command: list[str]) -> int:
        resumed = "--resume" in command
        print(f"\n$ frcnn {' '.join(command)}", file=sys.stderr, flush=True)
        return main(command if resumed else [*command, *words])

    out = args.runs / args.name
    try:
        metrics = crossval(
            args.data,
            out,
            args.folds,
            train,
            seed=args.seed or 0,
            image_root=args.images,
            group_by=args.group_by,
        )
    except TrainingFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return error.code
    if args.json:
        import json

        print(json.dumps(metrics, sort_keys=True, indent=1))
    else:
        print(tables.terminal(metrics))
        print(tables.folds(metrics["crossval"]))
    print(f"report: {write_report(out, '')}", file=sys.stderr if args.json else sys.stdout)
    return 0
