"""`frcnn prelabel RUN images/ --out DIR`: a first draft of labels, to be corrected in labelme."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from label_tools.files import links
from label_tools.text.errors import FINDINGS, say
from label_tools.text.messages import counted
from toolkit.commands.flags import add_device, add_outlines, check_score, outlines_of


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "prelabel",
        help="draft LabelMe files, to correct instead of drawing",
        description="Pictures that have a LabelMe file already are left alone. Correct the drafts with "
        "`frcnn label images --labels labels.txt --out DIR`; the pictures to look at first, those without a draft and "
        "the least certain, are printed first.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="RUN", help="run folder, or a checkpoint in it")
    parser.add_argument("images", type=Path, nargs="+", help="pictures or folders of pictures")
    links.add_option(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the LabelMe files go")
    parser.add_argument(
        "--score",
        type=float,
        help="draft detections from this score (default: the one that expects the fewest corrections on val)",
    )
    add_outlines(parser, "polygons")
    add_device(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from toolkit.labelling.drafts import prelabel
    from toolkit.training.progress import Progress

    check_score(args.score)
    outlines = outlines_of(args)
    progress, written, left, bad = Progress(), [], 0, 0
    drafts = prelabel(args.checkpoint, args.images, args.out, score=args.score, device=args.device, outlines=outlines)
    for path, count, least, why in drafts:
        if count is None:
            bad += 1
            progress.line(f"skipped: {why}")
        elif why:
            left += 1
            progress.line(f"left alone: {path} ({why})")
        else:
            written.append((least, path, count))
            progress.step(counted(len(written), "draft"))
    progress.close()
    for least, path, count in sorted(written, key=lambda row: (row[2] > 0, row[0], str(row[1]))):  # empty ones first
        say(f"{path}  {counted(count, 'object')}" + (f", lowest score {least:.2f}" if count else ""))
    unread = f", {counted(bad, 'picture')} that cannot be read" if bad else ""
    say(f"{counted(len(written), 'draft')} in {args.out}, {counted(left, 'picture')} left alone{unread}")
    empty = sum(count == 0 for _, _, count in written)
    if empty and args.score is None:
        say(
            f"note: {counted(empty, 'draft')} without objects; drafted is from the score with the fewest corrections "
            "expected, not from that of frcnn predict; --score S drafts more, from S on"
        )
    if about := outlines.about():
        say(about)
    if written:
        folders = [str(one if one.is_dir() else one.parent) for one in args.images]
        root, out = shlex.quote(os.path.commonpath([*folders, str(args.out)]) or "."), shlex.quote(str(args.out))
        say(
            f"next: correct them in labelme, tick its flag `reviewed` where a picture is right (others are left out): "
            f"frcnn label {shlex.quote(folders[0])} --labels labels.txt --out {out}; "
            f"frcnn convert labelme {out} --image-root {root}"
        )
    return FINDINGS if bad else 0
