"""Merge COCO files; rename, join or drop classes. Classes are matched by name, ids start again from 1.

    merge a.json b.json --out both.json
    rename annotations.json hexnut=hex_nut --out renamed.json
    remap annotations.json classes.txt --out remapped.json       lines `old=new`, or `old=` to drop a class

Two files may hold the same image: where they agree, its objects are kept once; where they differ, merge refuses,
unless --same-image keeps the first file's objects or joins both. No input is ever overwritten.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from label_tools.files import links
from label_tools.text.command_line import add_command
from label_tools.text.errors import FINE, one_line, say
from label_tools.text.messages import counted


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    help_of = {
        "merge": "several COCO files into one",
        "rename": "give classes another name",
        "remap": "rename, join or drop classes as a file says",
    }
    for name, text in help_of.items():
        parser = add_command(subparsers, name, text, __doc__, run)
        if name == "merge":
            what = "COCO files, or folders with annotations.json, two or more"
            parser.add_argument("paths", type=Path, nargs="+", metavar="FILE", help=what)
            disagree, ways = "where two files disagree about an image (default refuse)", ("refuse", "first", "join")
            parser.add_argument("--same-image", choices=ways, default="refuse", help=disagree)
        else:
            parser.add_argument("annotations", type=Path, help="a COCO file, or a folder with annotations.json")
        if name == "rename":
            parser.add_argument("pairs", nargs="+", metavar="OLD=NEW")
        if name == "remap":
            parser.add_argument("mapping", type=Path, metavar="MAP", help="lines old=new, or JSON {old: new}")
            parser.add_argument("--drop-others", action="store_true", help="drop classes that MAP does not name")
        parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the COCO file to write")
        links.add_option(parser)
        parser.add_argument("--json", action="store_true", help="print the counts as JSON")


def run(args: argparse.Namespace) -> int:
    from label_tools.document import coco_file
    from label_tools.operations.edit import merge_files, read_mapping, read_pairs, remap_file

    if args.command == "merge":
        paths = [coco_file.file_of(path) for path in args.paths]
        return _finish(merge_files(paths, args.out, args.same_image), args, paths)
    path = coco_file.file_of(args.annotations)
    if args.command == "rename":
        edited = remap_file(path, read_pairs(args.pairs), args.out)
    else:
        edited = remap_file(path, read_mapping(args.mapping), args.out, drop_others=args.drop_others)
    return _finish(edited, args, [path])


def _finish(edited, args: argparse.Namespace, inputs: list[Path]) -> int:
    from label_tools.operations.edit import write_edited

    replaced = " (replaces an earlier one)" * args.out.exists()
    write_edited(edited, args.out, inputs)
    document = edited.document
    if args.json:
        counts = {"images": len(document["images"]), "classes": [c["name"] for c in document["categories"]]}
        counts |= {name: getattr(edited, f"objects_{name}") for name in ("in", "out")}
        say(json.dumps({**counts, "dropped": edited.dropped, "repeated": edited.repeated}, indent=1))
        return FINE
    names = ", ".join(one_line(c["name"]) for c in document["categories"])
    classes = counted(len(document["categories"]), "class", "classes")
    say(f"{args.out}{replaced}: {counted(len(document['images']), 'image')}, {classes}: {names}")
    say(
        f"objects in {edited.objects_in} = out {edited.objects_out} + dropped {edited.dropped} "
        f"+ duplicates {edited.repeated}"
    )
    if edited.dropped:
        say(f"warning: {counted(edited.dropped, 'object')} left out", error=True)
    return FINE
