"""Is this data set fit to train on? Every finding with file, place, rule and what to do; the worst first.

    check annotations.json                    headers of the images, and whether a file was cut off
    check annotations.json --decode           reads every pixel: all damage, duplicates
    check train.json val.json test.json       also what the parts have in common and should not
    check annotations.json --fix --out repaired.json

Errors are what cannot be used (`convert` and `train` leave it out or refuse it), warnings what is repaired on
reading or looks wrong, notes what is used as it is. Exit code 1 when there are errors; with --fix, when errors
are left in the copy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from label_tools.files import links
from label_tools.text.command_line import add_command
from label_tools.text.errors import FINDINGS, FINE, InputError, say
from label_tools.text.findings import ERROR, Finding, count_levels, short_lines, worst_first
from label_tools.text.messages import counted


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    parser = add_command(subparsers, "check", "what is wrong with annotations and images, worst first", __doc__, run)
    what = "COCO files, or folders: their LabelMe files, else their COCO files"
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help=what)
    parser.add_argument("--decode", action="store_true", help="read every pixel, not only headers")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="the classes that LabelMe files may hold")
    parser.add_argument("--image-root", type=Path, metavar="DIR", help="where file_name starts from")
    parser.add_argument("--no-images", action="store_true", help="look at the annotations alone")
    parser.add_argument("--fix", action="store_true", help="write a repaired copy; the input stays as it is")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the copy that --fix writes (default: NAME.repaired.json)"
    )
    parser.add_argument("--all", action="store_true", help="print every finding, also where there are many of one rule")
    links.add_option(parser)
    parser.add_argument("--json", action="store_true", help="print all findings as JSON")


def run(args: argparse.Namespace) -> int:
    from label_tools.readers.open_labels import label_files_at
    from label_tools.rules.check import examine_files, write_repaired

    if args.out and not args.fix:
        raise InputError("--out names the copy that --fix writes; give --fix too")
    paths = [file for path in args.paths for file in label_files_at(path)]
    if args.fix and len(paths) > 1:
        raise InputError(f"--fix repairs one file at a time, here are {len(paths)}: {', '.join(map(str, paths))}")
    results = examine_files(
        paths, decode=args.decode, image_root=args.image_root, images=not args.no_images, labels=args.labels
    )
    findings = worst_first(f for result in results for f in result.findings)
    if args.json:
        say(json.dumps(as_json(results, findings), indent=1, ensure_ascii=False))
    else:
        say(as_text(results, findings, every=args.all))
    if args.fix:
        findings, account = write_repaired(results[0], paths[0], args.out)
        say(account, error=True)
    return FINDINGS if any(f.level == ERROR for f in findings) else FINE


def as_json(results: Sequence, findings: Sequence[Finding]) -> dict:
    return {
        "files": [{"file": r.name, "images": r.images, "annotations": r.objects} for r in results],
        "counts": count_levels(findings),
        "findings": [finding._asdict() for finding in findings],
    }


def as_text(results: Sequence, findings: Sequence[Finding], *, every: bool = False) -> str:
    """Format findings, one line each, few for each rule unless `every`, and a summary line."""
    lines = [finding.line() for finding in findings] if every else short_lines(findings, "--all shows them")
    counts = count_levels(findings)
    said = ", ".join(counted(number, level) for level, number in counts.items())
    images = counted(sum(r.images for r in results), "image")
    objects = counted(sum(r.objects for r in results), "annotation")
    return "\n".join([*lines, f"{said} in {images} with {objects}"])
