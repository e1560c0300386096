"""Export annotations.json to files for other programs.

    export labelme annotations.json --out labels        labels/street/a.json
    export voc     annotations.json --out voc           voc/street/a.xml
    export yolo    annotations.json --out yolo          yolo/labels/street/a.txt, yolo/classes.txt, yolo/data.yaml
    export cvat    annotations.json --out cvat          cvat/annotations.xml
    export coco    annotations.json --out coco          coco/annotations/instances_default.json
    export masks   annotations.json --out masks         masks/masks/CLASS/street/a.png, masks/overlays/street/a.jpg

What each can hold: LabelMe and CVAT everything, to the last digit (CVAT no crowd and ignore regions); VOC boxes,
rounded to whole pixels (half a pixel an edge) unless --decimals says otherwise; YOLO boxes or single outlines, to a
billionth of the image's side; masks whole pixels, each of one object alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from label_tools.files import links
from label_tools.text.command_line import add_command
from label_tools.text.errors import FINE, say
from label_tools.text.messages import counted

# all other options are keywords of the functions in formats/export.py
_NO_KEYWORDS = ("command", "format", "annotations", "out", "follow_links", "json", "run")


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add `export` with one sub-command per format."""
    text = "annotations.json -> LabelMe, VOC, YOLO, CVAT, COCO, masks"
    parser = add_command(subparsers, "export", text, __doc__, run)
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    _add_format(formats, "labelme", "LabelMe *.json")
    voc = _add_format(formats, "voc", "Pascal VOC *.xml")
    voc.add_argument("--decimals", type=int, default=0, choices=range(7), help="of the corners (default: 0)")
    voc.add_argument("--one-based", action="store_true", help="count pixels from 1 and name the last one")
    yolo = _add_format(formats, "yolo", "YOLO *.txt, classes.txt and data.yaml")
    yolo.add_argument("--outlines", action="store_true", help="write outlines where an object has exactly one")
    cvat = _add_format(formats, "cvat", "CVAT XML 1.1 for images")
    coco = _add_format(formats, "coco", "COCO with its own keys alone, as CVAT and others take it")
    masks = _add_format(formats, "masks", "masks of objects or classes, label_names.txt, overlays")
    masks.add_argument("--mode", choices=("instance", "class"), default="instance", help="what values mean")
    masks.add_argument("--bits", type=int, choices=(8, 16), help="default: 8, with a palette, where the values fit")
    masks.add_argument("--no-overlays", dest="overlays", action="store_false", help="no coloured pictures")
    for one in (yolo, cvat, coco, masks):
        one.add_argument("--copy-images", action="store_true", help="copy the images to OUT/images")


def _add_format(formats: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    parser = add_command(formats, name, text, text, run)
    parser.add_argument("annotations", metavar="FILE", type=Path, help="a COCO file, or a folder with annotations.json")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write to")
    replace = "replace the files of an earlier export that nobody changed"
    parser.add_argument("--overwrite", action="store_true", help=replace)
    links.add_option(parser)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    from label_tools.formats import export

    options = {name: value for name, value in vars(args).items() if name not in _NO_KEYWORDS}
    counts = getattr(export, f"export_{args.format}")(args.annotations, args.out, **options)
    if args.json:
        say(json.dumps(counts, indent=1, sort_keys=True))
        return FINE
    objects = counted(counts["objects_in"], "object")
    say(f"{args.out}: {counted(counts['files'], 'file')}, {counts['objects_out']} of {objects}")
    for reason, number in counts["dropped"].items():
        say(f"  left out {number}: {reason}")
    return FINE
