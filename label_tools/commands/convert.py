"""Convert the labels of any known program to annotations.json.

    convert photos                                    the program that wrote them is recognised, and named
    convert labelme photos --out photos/annotations.json --labels labels.txt
    convert masks   street --out street/annotations.json --mode instance --class person

A set that is split in train, val and test already gives train.json, val.json and test.json.
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from label_tools.files import links
from label_tools.text.command_line import add_command
from label_tools.text.errors import FINDINGS, FINE, InputError, say
from label_tools.text.findings import ERROR, short_lines, worst_first
from label_tools.text.messages import counted, unknown
from label_tools.text.rule_limits import MAX_PIXELS

if TYPE_CHECKING:
    from label_tools.readers.convert import Conversion

PROGRAMS = {  # in words, as importing their readers would take numpy
    "cvat": "CVAT XML 1.1, for images and for video",
    "labelstudio": "Label Studio JSON and JSON-MIN",
    "via": "VIA (VGG Image Annotator) JSON and CSV, version 1 and 2",
    "unity": "Unity Perception: SOLO, and captures_*.json",
}
# all other options are keywords of the readers
_NO_KEYWORDS = ("command", "format", "source", "out", "max_value", "json", "run")


class _FormatOrSource(argparse._SubParsersAction):
    """`convert FORMAT SRC`, and `convert SRC` for "any"."""

    others_too = True  # a source is not a format

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        chosen = self._name_parser_map.get(values[0])
        if chosen is not None and Path(values[0]).exists() and not _names_source(chosen, values[1:]):
            values = ["any", *values]  # a folder that is called like a format
        elif chosen is None:
            if not Path(values[0]).exists():
                text = unknown("format", values[0], [n for n in self._name_parser_map if n != "any"])
                parser.error(f"{text}; and no such file or folder")
            values = ["any", *values]
        super().__call__(parser, namespace, values, option_string)


def _names_source(parser: argparse.ArgumentParser, words: Sequence[str]) -> bool:
    """Whether the arguments contain a source: a word that is neither an option nor its value."""
    value_follows = False
    for word in words:
        action = parser._option_string_actions.get(word)
        if not word.startswith("-") and not value_follows:
            return True
        value_follows = action is not None and action.nargs is None
    return False


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add `convert` with one sub-command per format, and without one."""
    parser = add_command(subparsers, "convert", "labels of other programs -> annotations.json", __doc__, run)
    formats = parser.add_subparsers(dest="format", required=True, metavar="[FORMAT] SRC", action=_FormatOrSource)
    every = _add_format(formats, "any", "any of these, recognised by what is in the files")
    every.add_argument("--image-root", type=Path, metavar="DIR", help="the folder of the images")
    every.add_argument("--crowd-as-object", action="store_true", help="COCO: iscrowd 1 is an object like others (CVAT)")
    every.add_argument("--class", dest="class_name", metavar="NAME", help="masks: the class of all objects")
    _add_labelme(formats)
    _add_masks(formats)
    voc = _add_format(formats, "voc", "Pascal VOC *.xml, labelImg, roLabelImg")
    voc.add_argument("--image-root", type=Path, metavar="DIR", help="default: SRC/JPEGImages or SRC/images or SRC")
    voc.add_argument("--one-based", action="store_true", help="pixels count from 1 and xmax is the last one")
    yolo = _add_format(formats, "yolo", "YOLO of Ultralytics, Roboflow, CVAT, labelImg, LightlyTrain")
    yolo.add_argument("--images", type=Path, metavar="DIR", help="default: SRC/images or SRC")
    other = _add_format(formats, "coco", "a COCO file of any program: repaired, its images checked, ids from 1")
    other.add_argument(
        "--image-root", type=Path, metavar="DIR", help="default: the one that SRC states, else its folder"
    )
    other.add_argument("--crowd-as-object", action="store_true", help="iscrowd 1 is an object like others (CVAT)")
    for name, text in PROGRAMS.items():
        program = _add_format(formats, name, text)
        program.add_argument("--image-root", type=Path, metavar="DIR", help="default: SRC/images or SRC")
        if name == "via":
            program.add_argument("--class-attribute", metavar="NAME", help="the region attribute that is the class")


def _add_format(formats: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    parser = add_command(formats, name, text, text, run)
    parser.epilog = "Exit code 1: something could not be used and is left out; the rest is written."
    source = "a COCO file, or a folder with annotations.json" if name == "coco" else "folder with these files"
    parser.add_argument("source", metavar="SRC", type=Path, help=source)
    out = "the COCO file or folder to write (default: SRC if it is below this folder, else a new folder of its name)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=out)
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="a file with one class a line: fixes their order and allows no others",
    )
    parser.add_argument("--merge-case", action="store_true", help='read "Cat" and "cat" as one class')
    parser.add_argument("--strict", action="store_true", help="stop at the first repair or loss instead of noting it")
    parser.add_argument(
        "--unlabeled-is-negative", action="store_true", help="use images without labels as images without objects"
    )
    links.add_option(parser)
    larger = "refuse larger images; a higher limit is written into the file and holds for all later commands"
    parser.add_argument("--max-pixels", type=int, default=MAX_PIXELS, metavar="N", help=larger)
    white = "the value that is white in pictures of more than 8 bits, such as 4095; later commands use it, too"
    parser.add_argument("--max-value", type=_positive, metavar="N", help=white)
    parser.add_argument("--json", action="store_true", help="print the account as JSON")
    return parser


def _add_labelme(formats: argparse._SubParsersAction) -> None:
    parser = _add_format(formats, "labelme", "LabelMe *.json, of every version from 3 to 7")
    parser.add_argument("--image-root", type=Path, metavar="DIR", help="the folder of all images (default: SRC)")
    parser.add_argument("--extract-images", type=Path, metavar="DIR", help="write images that are only embedded")
    parser.add_argument("--thicken-lines", type=_positive, metavar="PX", help="lines are objects PX pixels thick")
    parser.add_argument("--point-box", type=_positive, metavar="PX", help="points are boxes with sides of PX pixels")
    parser.add_argument("--skip-labels", default="", metavar="A,B", help="leave out the objects of these labels")
    parser.add_argument("--include-unreviewed", action="store_true", help="also take what only a model has labelled")


def _add_masks(formats: argparse._SubParsersAction) -> None:
    text = "photographs in SRC/images, their masks in SRC/masks (or in SRC/masks/CLASS)"
    parser = _add_format(formats, "masks", text)
    parser.add_argument("--mode", required=True, choices=("instance", "class", "binary"), help="what values mean")
    parser.add_argument("--class", dest="class_name", default="", metavar="NAME", help="the class of all objects")
    parser.add_argument("--images", type=Path, metavar="DIR", help="default: SRC/images")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="default: SRC/masks")
    parser.add_argument("--mask-suffix", metavar="TEXT", help='a.jpg belongs to aTEXT.png (default: "" or _mask)')
    parser.add_argument("--colors", type=Path, metavar="FILE", help="class mode: lines `R G B name`")
    parser.add_argument("--void", type=int, metavar="V", help="a value that is not an object, as 255 in Pascal VOC")
    parser.add_argument("--components", action="store_true", help="unconnected parts are objects of their own")


def run(args: argparse.Namespace) -> int:
    return finish(_found_out(args) if args.format == "any" else _as_named(args), args)


def _found_out(args: argparse.Namespace) -> Conversion:
    from label_tools.readers.convert import convert
    from label_tools.readers.which_format import TITLES, detect

    found, options = detect(args.source), _options(args)
    say(f"{args.source}: {TITLES[found.format]} ({found.why})", error=True)
    for option, format in (("crowd_as_object", "coco"), ("class_name", "masks")):
        if found.format != format:
            options.pop(option, None)
    if found.format in ("yolo", "masks") and "image_root" in options:
        options["images"] = options.pop("image_root")
    if found.format == "coco" and args.max_value is not None:  # several files may state several
        options["max_value"] = args.max_value
    return convert(found.source, found.format, **{**found.options, **options})


def _as_named(args: argparse.Namespace) -> Conversion:
    """Convert as the named format; if that fails and the files have another format, the error names it."""
    from label_tools.readers.convert import convert
    from label_tools.readers.which_format import TITLES, NotRead, detect

    try:
        if args.format == "coco":
            args.source = _coco_source(args)
        return convert(args.source, args.format, **_options(args))
    except InputError as error:
        try:
            found = detect(args.source)
        except NotRead as other:
            raise NotRead(str(other)) from error
        except InputError:
            raise error from None
        if found.format == args.format or args.format == "masks":
            raise
        what = f"{TITLES[found.format]} ({found.why})"
        raise InputError(
            f"{error}; it holds {what}: `frcnn convert {found.format} {shlex.quote(str(args.source))}`"
        ) from error


def _coco_source(args: argparse.Namespace) -> Path:
    """The COCO file to read. Raises InputError if it would be overwritten."""
    from label_tools.document import coco_file

    source = coco_file.file_of(args.source)
    out = args.out or default_folder(source) / coco_file.FILE_NAME
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(f"{out}: is the input itself; choose another --out")
    return source


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The given options as keywords of `readers.convert.convert`."""
    from label_tools.formats.labelme_shapes import Options
    from label_tools.readers.classes import read_labels
    from label_tools.readers.masks_folder import read_colors

    options = {name: value for name, value in vars(args).items() if name not in _NO_KEYWORDS and value is not None}
    if args.labels:
        options["labels"] = read_labels(args.labels)
    if args.format == "labelme":
        skipped = frozenset(filter(None, options.pop("skip_labels").split(",")))
        shapes = {name: options.pop(name, None) for name in ("thicken_lines", "point_box", "include_unreviewed")}
        options["options"] = Options(**shapes, skip_labels=skipped)
    if "mask_suffix" in options:
        options["mask_suffixes"] = (options.pop("mask_suffix"),)
    if "colors" in options:
        options["colors"] = read_colors(options["colors"])
    return options


def default_folder(source: Path) -> Path:
    """The default of --out: the source's folder if it is in the working folder, else a folder of its name there."""
    folder = source if source.is_dir() else source.parent
    here, there = Path.cwd(), folder.resolve()
    return folder if there.is_relative_to(here) else Path(there.name)


def finish(conversion: Conversion, args: argparse.Namespace) -> int:
    """Write a conversion, print its account on stdout and its findings on stderr.

    Exit code 1, as that of `check`, when there are errors: something that was labelled is left out.
    """
    from label_tools.document.coco_file import FILE_NAME
    from label_tools.readers.convert import account_path, losses, report_lines
    from label_tools.readers.given_split import given_parts

    if args.max_value is not None:
        conversion.opening["max_value"] = args.max_value
    conversion.look_over()
    parts = given_parts(conversion.source, conversion.records)
    folder = args.out if args.out is not None and args.out.suffix.lower() != ".json" else None
    if args.out is None:
        folder = default_folder(args.source)
    if parts and folder is not None:
        account = conversion.write_parts(folder, parts)
        out, beside = folder / "{train,val,test}.json", folder / "conversion.json"
    else:
        out = args.out if folder is None else folder / FILE_NAME
        account, beside = conversion.write(out), account_path(out)
    for line in short_lines(worst_first(conversion.findings), f"all in {beside}"):
        say(line, error=True)
    if args.json:
        say(json.dumps(account, indent=1, sort_keys=True, ensure_ascii=False))
    else:
        parts_made = account.get("parts", {}).items()
        named = ", ".join(f"{folder / name}.json ({counted(n, 'image')})" for name, n in parts_made)
        say(f"{named or out}: " + "\n".join(report_lines(account)))
        if parts and not named:
            said = f"the set is split already ({', '.join(parts)})"
            say(f"  {said}; --out DIR instead of a file keeps that, or `split --keep-given`")
    if not account["findings_by_level"][ERROR]:
        return FINE
    say(f"warning: left out: {losses(account)}; the rest is written (exit code 1)", error=True)
    return FINDINGS


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a number above 0 is needed")
    return value
