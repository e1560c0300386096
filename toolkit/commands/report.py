"""`frcnn report RUN`: write report.html again from the files of a run or an evaluation, also of an interrupted one.

`frcnn report A B C --out compare.html`: several runs side by side on one page."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from label_tools.text.errors import InputError, as_written, say


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "report",
        help="write report.html again, or several runs side by side; --markdown, --latex: its table",
        description="Needs the folder alone: no images, no network, no GPU. Works for interrupted runs too.",
    )
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="run folder, or the --out folder of frcnn evaluate; several with --out: side by side",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="the page of several runs, such as compare.html")
    parser.add_argument(
        "--split",
        help="the page of this split, RUN/<split>/report.html (default: RUN/report.html, on test, else val)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--markdown", action="store_true", help="only print a table in Markdown")
    shape.add_argument("--latex", action="store_true", help="only print a table for a paper")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from toolkit.report import latex_markdown
    from toolkit.report.write_report import find_evaluations, read_metrics, write_report
    from toolkit.training import run_folder

    folder, *others = args.folders
    if others:
        return _several(args)
    if args.out:
        raise InputError("--out is for several runs; the report of one is RUN/report.html")
    around = Path(os.path.normpath(folder / ".."))
    part = (folder / "metrics.json").is_file() and not run_folder.is_run(folder)
    if part and run_folder.is_run(around):  # RUN/test belongs to the page of RUN
        folder, args.split = around, folder.resolve().name
    if args.markdown or args.latex:
        metrics, found = read_metrics(folder, args.split), find_evaluations(folder)
        with as_written(found[args.split or next(iter(found))] / "metrics.json", "frcnn evaluate"):
            say(latex_markdown.markdown(metrics) if args.markdown else latex_markdown.latex(metrics))
        return 0
    say(f"report: {write_report(folder, split=args.split)}")
    return 0


def _several(args: argparse.Namespace) -> int:
    if args.markdown or args.latex:
        raise InputError("--markdown, --latex: of one run; `frcnn evaluate A --compare B --markdown` compares two")
    if not args.out:
        raise InputError("several runs: needs --out, a file for their page, such as --out compare.html")
    from toolkit.evaluation.compare_runs_tiles_tta import difference, different_images
    from toolkit.report.several_runs import write_side_by_side

    path = write_side_by_side(args.folders, args.out, args.split, unlike=different_images, difference=difference)
    say(f"page: {path}")
    return 0
