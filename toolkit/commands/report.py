"""`frcnn report RUN`: write report.html again from the files of a run or an evaluation, also of an interrupted one."""

from __future__ import annotations

import argparse
from pathlib import Path

from label_tools.text.errors import InputError, say


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "report",
        help="write report.html again; --markdown, --latex: its table",
        description="Needs the folder alone: no images, no network, no GPU. Works for interrupted runs too.",
    )
    parser.add_argument("folder", type=Path, metavar="RUN", help="run folder, or the --out folder of frcnn evaluate")
    parser.add_argument(
        "--split",
        help="the page of this split, RUN/<split>/report.html (default: RUN/report.html, on test, else val)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--markdown", action="store_true", help="only print a table in Markdown")
    shape.add_argument("--latex", action="store_true", help="only print a table for a paper")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from toolkit.report import read_metrics, tables, write_report

    if args.markdown or args.latex:
        metrics = read_metrics(args.folder, args.split)
        try:
            say(tables.markdown(metrics) if args.markdown else tables.latex(metrics))
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            what = f"{type(error).__name__} {error}"
            raise InputError(f"{args.folder}: metrics.json is not what frcnn writes ({what})") from error
        return 0
    say(f"report: {write_report(args.folder, split=args.split)}")
    return 0
