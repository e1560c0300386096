"""Flags that several commands share, with their checks, and how a command counts images and prints JSON.

The options of a recipe are flags of `frcnn train`, `crossval`, `curve` and `loop train`: a dozen stand in `--help`, all
in `--help-all`; what only an expert sets lies in recipe files (`config.RECIPE`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from label_tools.files import links
from label_tools.text.command_line import HelpAll
from label_tools.text.errors import InputError, say
from toolkit import config


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """One `--flag` for each option; a flag that is not given stays None, so that recipe files and presets count."""
    recipe = parser.add_argument_group(
        "recipe",
        "Defaults are those of fasterrcnn_resnet50_fpn; smaller models have their own: "
        "`--model NAME --dry-run` shows every value.",
    )
    recipe.add_argument("--config", type=Path, metavar="FILE", help="recipe file (YAML); flags win over it")
    few, some = (config.UP_TO[name] for name in ("few", "some"))
    recipe.add_argument(
        "--preset",
        choices=("auto", *config.PRESETS, config.QUICK),
        default="auto",
        help=f"recipe by number of images: few (to {few}), some (to {some:,}), many (default: by the number of "
        "images); quick: only what follows a frozen body learns, a minute on a CPU with --model auto",
    )
    recipe.add_argument(
        "--backbone",
        metavar="NAME",
        help="in place of --model: Faster R-CNN on any classification network of torchvision (resnet18, "
        "efficientnet_b0, convnext_tiny, swin_t ...) or, with the extra timm, on timm/NAME",
    )
    more = {s.name: parser.add_argument_group(s.name, s.default.__doc__) for s in dataclasses.fields(config.Config)}
    for name, (section, option) in config.fields().items():
        where = option.metadata["where"]
        if where == config.RECIPE:
            continue
        group = recipe if where == config.FIRST else more[section]
        _add_option(group, name, option, hidden=where != config.FIRST)
    parser.add_argument("--help-all", action=HelpAll, help="show every option")
    left = ", ".join(name for name, (_, o) in config.fields().items() if o.metadata["where"] == config.RECIPE)
    parser.epilog = f"Only in recipe files: {left}."


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """`--jobs` and `--ray`, of commands that train several runs."""
    text = "trainings at once, each on a GPU of its own or on its share of the cores (default: 1)"
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=text)
    text = 'on a Ray cluster that reads and writes the same files, "auto" for the one of this machine (extra ray)'
    parser.add_argument("--ray", metavar="ADDRESS", help=text)


def at_once(args: argparse.Namespace) -> dict[str, Any]:
    """The values of the flags of `add_jobs`."""
    return {"jobs": args.jobs, "ray": args.ray}


def _add_option(group: argparse._ArgumentGroup, name: str, option: dataclasses.Field, *, hidden: bool) -> None:
    flag, about = "--" + name.replace("_", "-"), option.metadata
    text = f"{about['help']} (default: {default_text(name)})".replace("%", "%%")
    if isinstance(option.default, bool):
        added = group.add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
    else:
        added = group.add_argument(
            flag,
            type=type(option.default),
            choices=about["choices"],
            metavar=about["unit"] or None,
            default=None,
            help=text,
        )
    vars(added)["hidden"] = hidden  # what `Parser` leaves out of --help


def default_text(name: str) -> str:
    """The default that help prints, `fasterrcnn_resnet50_fpn`'s: `4`, or `60 / 30 / 16 by preset`."""
    if name == "model":
        return config.Model.model
    texts = [config.value_text(config.flat(config.resolve(0, {}, preset=preset))[name]) for preset in config.PRESETS]
    return texts[0] if len(set(texts)) == 1 else f"{' / '.join(texts)} by preset"


def flags_given(args: argparse.Namespace) -> dict[str, Any]:
    """The options that the command line named."""
    given = {name: getattr(args, name) for name in config.fields() if getattr(args, name, None) is not None}
    if args.backbone is not None:
        if "model" in given:
            raise InputError(f"--backbone {args.backbone} is a --model of its own; leave --model {given['model']} out")
        given["model"] = f"{config.ON_BACKBONE}{args.backbone}"
    return given


def training_options(args: argparse.Namespace, leave_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keywords of `toolkit.run.train` that the flags of `frcnn train` say."""
    given = {name: value for name, value in flags_given(args).items() if name not in leave_out}
    return {**given, "config": args.config, "preset": args.preset}


if TYPE_CHECKING:
    from toolkit.prediction.mask_outlines import Outlines


def add_images(parser: argparse.ArgumentParser) -> None:
    """`--images` and `--follow-links`, of commands that open the pictures of a COCO file."""
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder that file_name starts from")
    links.add_option(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N (default: auto)")


def add_looks(parser: argparse.ArgumentParser) -> None:
    """Add the flags of toolkit.prediction.tiles_and_tta."""
    parser.add_argument(
        "--tiles",
        metavar="auto|PX",
        help="cut large pictures into overlapping tiles of so many pixels; auto: as large as the training images",
    )
    parser.add_argument("--tta", metavar="KINDS", help="look several times and fuse: flip, scales, or flip,scales")


def add_outlines(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the flags for writing the masks of a detector that has them."""
    parser.add_argument(
        "--outlines",
        choices=("polygons", "masks", "boxes"),
        default=default,
        help=f"how a detector with masks writes them: polygons with few points, pixels, or not (default: {default})",
    )
    parser.add_argument(
        "--outline-iou", type=float, metavar="IOU", help="of a polygon with its mask, at least (default: 0.98)"
    )


def outlines_of(args: argparse.Namespace) -> Outlines:
    from toolkit.prediction.mask_outlines import Outlines

    found = Outlines(args.outlines) if args.outline_iou is None else Outlines(args.outlines, args.outline_iou)
    found.check()
    return found


def picked(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """These options, as keywords of the function that they are named after."""
    return {name: getattr(args, name) for name in names}


def check_score(score: float | None) -> None:
    if score is not None and not 0 <= score <= 1:
        raise InputError(f"--score: found {score}, needs 0 to 1")


def at_least(args: argparse.Namespace, least: int, *names: str) -> None:
    """Raise InputError for an option, or one of its values, that is smaller."""
    for name in names:
        given = getattr(args, name)
        for value in given if isinstance(given, list) else [given]:
            if value is not None and value < least:
                raise InputError(f"--{name.replace('_', '-')}: found {value}, needs {least} or more")


def image_counter(what: str) -> Callable[[int, int], None]:
    """each(done, total) that tells on stderr how far a command is; where nobody watches only the end."""

    def each(done: int, total: int) -> None:
        if sys.stderr.isatty() or done == total:
            say(f"{what}: {done}/{total} images", end="\n" if done == total else "\r", error=True)

    return each


def say_json(value: Any) -> None:
    say(json.dumps(value, sort_keys=True, indent=1))
