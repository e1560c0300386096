"""The command `convert`: LabelMe files, masks, VOC, YOLO or another COCO file -> annotations.json.

    convert labelme photos --out photos/annotations.json --labels labels.txt
    convert masks   street --out street/annotations.json --mode instance --class person

The functions `convert_labelme`, `convert_masks`, ... do the same without a command line: they return a
`Conversion`, whose `document(out)` is the COCO document and whose `write(out)` puts it on disk.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from label_tools.pictures.images import MAX_PIXELS
from label_tools.text.errors import FINDINGS, FINE, InputError
from label_tools.text.findings import ERROR, short_lines, worst_first


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add `convert` with one sub-command per format."""
    parser = subparsers.add_parser("convert", help="LabelMe, masks, VOC, YOLO or COCO -> annotations.json")
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    _add_labelme(formats)
    _add_masks(formats)
    voc = _add_format(formats, "voc", "Pascal VOC *.xml", run_voc)
    voc.add_argument("--image-root", type=Path, metavar="DIR", help="default: SRC/JPEGImages or SRC/images or SRC")
    voc.add_argument("--one-based", action="store_true", help="pixels count from 1 and xmax is the last one")
    yolo = _add_format(formats, "yolo", "YOLO: SRC/images, SRC/labels and classes.txt or data.yaml", run_yolo)
    yolo.add_argument("--images", type=Path, metavar="DIR", help="default: SRC/images or SRC")
    other = _add_format(formats, "coco", "another COCO file: repaired, its images looked at, ids from 1", run_coco)
    other.add_argument("--image-root", type=Path, metavar="DIR", help="default: what SRC says, or its folder")


def _add_format(formats: argparse._SubParsersAction, name: str, text: str, run) -> argparse.ArgumentParser:
    epilog = "Exit code 1: something could not be used and is left out; the rest is written."
    parser = formats.add_parser(name, help=text, description=text, epilog=epilog)
    source = "a COCO file, or a folder with annotations.json" if name == "coco" else "folder with these files"
    parser.add_argument("source", metavar="SRC", type=Path, help=source)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the COCO file to write")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="one class a line: their order, and no others")
    parser.add_argument("--merge-case", action="store_true", help='read "Cat" and "cat" as one class')
    parser.add_argument("--strict", action="store_true", help="stop at the first repair or loss instead of noting it")
    parser.add_argument("--unlabeled-is-negative", action="store_true", help="images without labels hold no object")
    parser.add_argument("--follow-links", action="store_true", help="allow links that lead out of the image folder")
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS, metavar="N", help="refuse larger images")
    parser.add_argument("--json", action="store_true", help="print the account as JSON")
    parser.set_defaults(run=run)
    return parser


def _add_labelme(formats: argparse._SubParsersAction) -> None:
    parser = _add_format(formats, "labelme", "LabelMe *.json, of every version from 3 to 7", run_labelme)
    parser.add_argument("--image-root", type=Path, metavar="DIR", help="the folder of all images (default: SRC)")
    parser.add_argument("--extract-images", type=Path, metavar="DIR", help="write images that are only embedded")
    parser.add_argument("--thicken-lines", type=_positive, metavar="PX", help="lines are objects PX pixels thick")
    parser.add_argument("--point-box", type=_positive, metavar="PX", help="points are boxes with sides of PX pixels")
    parser.add_argument("--skip-labels", default="", metavar="A,B", help="leave out the objects of these labels")
    parser.add_argument("--include-unreviewed", action="store_true", help="also take what only a model has labelled")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")


def _add_masks(formats: argparse._SubParsersAction) -> None:
    text = "photographs in SRC/images, their masks in SRC/masks (or in SRC/masks/CLASS)"
    parser = _add_format(formats, "masks", text, run_masks)
    parser.add_argument("--mode", required=True, choices=("instance", "class", "binary"), help="what values mean")
    parser.add_argument("--class", dest="class_name", default="", metavar="NAME", help="the class of all objects")
    parser.add_argument("--images", type=Path, metavar="DIR", help="default: SRC/images")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="default: SRC/masks")
    parser.add_argument("--mask-suffix", metavar="TEXT", help='a.jpg belongs to aTEXT.png (default: "" or _mask)')
    parser.add_argument("--colors", type=Path, metavar="FILE", help="class mode: lines `R G B name`")
    parser.add_argument("--void", type=int, metavar="V", help="a value that is no object, as 255 in Pascal VOC")
    parser.add_argument("--components", action="store_true", help="unconnected parts are objects of their own")


def run_labelme(args: argparse.Namespace) -> int:
    from label_tools.formats.labelme_shapes import Options
    from label_tools.readers.convert import convert_labelme

    options = Options(
        thicken_lines=args.thicken_lines,
        point_box=args.point_box,
        include_unreviewed=args.include_unreviewed,
        skip_labels=frozenset(filter(None, args.skip_labels.split(","))),
    )
    conversion = convert_labelme(
        args.source,
        options=options,
        image_root=args.image_root,
        extract_images=args.extract_images,
        jobs=args.jobs,
        **_common(args),
    )
    return finish(conversion, args)


def run_masks(args: argparse.Namespace) -> int:
    from label_tools.readers.classes import read_colors
    from label_tools.readers.convert import convert_masks
    from label_tools.readers.masks import DEFAULT_SUFFIXES

    conversion = convert_masks(
        args.source,
        mode=args.mode,
        class_name=args.class_name,
        images=args.images,
        masks=args.masks,
        mask_suffixes=DEFAULT_SUFFIXES if args.mask_suffix is None else (args.mask_suffix,),
        colors=read_colors(args.colors) if args.colors else None,
        void=args.void,
        components=args.components,
        **_common(args),
    )
    return finish(conversion, args)


def run_voc(args: argparse.Namespace) -> int:
    from label_tools.readers.convert import convert_voc

    reading = {"image_root": args.image_root, "one_based": args.one_based}
    return finish(convert_voc(args.source, **reading, **_common(args)), args)


def run_yolo(args: argparse.Namespace) -> int:
    from label_tools.readers.convert import convert_yolo

    common = _common(args)
    del common["merge_case"]  # classes are numbers here
    return finish(convert_yolo(args.source, images=args.images, **common), args)


def run_coco(args: argparse.Namespace) -> int:
    from label_tools.document import coco
    from label_tools.readers.convert import convert_coco

    args.source = coco.file_of(args.source)
    if args.out.exists() and args.source.exists() and args.out.samefile(args.source):
        raise InputError(f"{args.out}: is the input itself; choose another --out")
    return finish(convert_coco(args.source, image_root=args.image_root, **_common(args)), args)


def finish(conversion, args: argparse.Namespace) -> int:
    """Write a conversion and tell about it: the account on stdout, the findings on stderr.

    Exit code 1, as that of `check`, when there are errors: something that was labelled is left out.
    """
    from label_tools.readers.conversion import account_path, losses, report_lines

    account = conversion.write(args.out)
    for line in short_lines(worst_first(conversion.findings), f"all in {account_path(args.out)}"):
        print(line, file=sys.stderr)
    if args.json:
        print(json.dumps(account, indent=1, sort_keys=True, ensure_ascii=False))
    else:
        print(f"{args.out}: " + "\n".join(report_lines(account)))
    if not account["findings_by_level"][ERROR]:
        return FINE
    print(f"warning: left out: {losses(account)}; the rest is written (exit code 1)", file=sys.stderr)
    return FINDINGS


def _common(args: argparse.Namespace) -> dict:
    from label_tools.readers.classes import read_labels

    return {
        "labels": read_labels(args.labels) if args.labels else None,
        "merge_case": args.merge_case,
        "strict": args.strict,
        "unlabeled_is_negative": args.unlabeled_is_negative,
        "follow_links": args.follow_links,
        "max_pixels": args.max_pixels,
        "progress": _progress,
    }


def _progress(items: Iterable, total: int) -> Iterable:
    from tqdm import tqdm

    return tqdm(items, "reading", total, unit=" files", disable=None, leave=False)  # None: only on a terminal


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a number of pixels above 0 is needed")
    return value
