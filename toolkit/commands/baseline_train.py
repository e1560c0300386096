"""`frcnn baseline train`: its flags, and what it prints."""

from __future__ import annotations

import argparse
from pathlib import Path

from label_tools.files import links
from label_tools.text.errors import say

RUNS = Path("runs/baselines")


def add_data(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Flags that say which pictures; like all flags of a baseline they have no default here (`runs.Options`)."""
    add = parser.add_argument
    add(
        "--data",
        required=required,
        help="drawn: shapes5 | shapes5-noise20 | digits | digit_grid | dominant | largest (default: the baseline's); "
        "your own: a folder of `frcnn split` | a COCO or PurdueShapes5 file with --val | a VOC folder",
    )
    add("--val", type=Path, metavar="FILE", help="validation file, for a COCO or PurdueShapes5 file")
    select = "which object of an image of your own (default: the baseline's)"
    add("--select", choices=("dominant", "largest"), help=select)
    add(
        "--min-area",
        type=float,
        metavar="X",
        help="dominant: area from this share of the image, or pixels when 1 or more (default: 0.13, 200 x 200 of "
        "640 x 480)",
    )
    add("--classes", nargs="+", metavar="NAME", help="only these classes of the files")
    size = "side of the pictures of dominant, largest and files, pixels (default: the baseline's)"
    add("--size", type=int, metavar="PX", help=size)
    keep = "keep images without an object (loadhead learns presence then)"
    add("--keep-empty", action="store_true", help=keep)


def add_train(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "train", help="train one; writes a run folder", argument_default=argparse.SUPPRESS
    )  # only what is given is in the Namespace
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="see `frcnn baseline list`")
    add_data(parser)
    add_budget(parser)
    add(
        "--loss",
        help="weighted sum, like 25*ce + l1, out of ce bce mse l1 smooth_l1 iou giou diou ciou; grid detectors: "
        "grid_document or grid",
    )
    add("--epochs", type=int, metavar="N", help="passes over the training pictures")
    add("--batch", type=int, metavar="N", help="images per step")
    add("--lr", type=float, metavar="RATE", help="learning rate")
    add("--optimizer", choices=("adam", "sgd"))
    add("--schedule", choices=("constant", "onecycle", "cosine", "step"), help="of the learning rate")
    add("--train-images", type=int, metavar="N", help="drawn training pictures")
    add("--val-images", type=int, metavar="N", help="drawn validation pictures")
    add(
        "--backbone",
        metavar="NAME",
        help="resnet34 and loadhead: any convolutional torchvision classifier, or fasterrcnn_tiny_fpn: the body of the "
        "compact detector",
    )
    add(
        "--weights",
        choices=("none", "imagenet", "starter"),
        help="of the backbone; starter: what fasterrcnn_tiny_fpn starts from (default: none)",
    )
    add("--no-augment", dest="augment", action="store_false", help="no flips, turns and colours")
    add("--precision", choices=("fp32", "bf16", "auto"), help="default: fp32, as the documents")
    add("--patience", type=int, metavar="N", help="stop after N epochs without a better score (default: 0, never)")
    add("--max-time", type=float, metavar="MIN", help="stop after so many minutes, with checkpoints (default: never)")
    add("--as", dest="run_name", metavar="NAME", help="name of the run (default: the baseline's)")
    add(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run; beside it only --epochs, --patience, --max-time and --device",
    )
    parser.set_defaults(run=train)


def add_budget(parser: argparse.ArgumentParser) -> None:
    links.add_option(parser)
    add = parser.add_argument
    budget = "scaled to two CPU cores (default), or the document's own"
    add("--budget", choices=("scaled", "document"), help=budget)
    seed = "of first weights, order and augmentation (default: 0); drawn pictures are always the same"
    add("--seed", type=int, metavar="N", help=seed)
    add("--device", metavar="DEVICE", help="auto | cpu | cuda | cuda:N (default: auto)")
    add("--runs", type=Path, metavar="DIR", help=f"where runs go (default: {RUNS})")


def train(args: argparse.Namespace) -> int:
    from label_tools.text.errors import InputError
    from toolkit.single_object import start_and_resume

    given = {key: value for key, value in vars(args).items() if key not in ("run", "command", "verb", "follow_links")}
    name, run_name, folder = (given.pop(key, None) for key in ("name", "run_name", "resume"))
    where = given.pop("runs", None)
    if folder:
        if run_name or where:
            raise InputError(f"--resume: --{'as' if run_name else 'runs'} cannot change in a run; start a new one")
        result = start_and_resume.resume(folder, given, name)
        if isinstance(result, str):
            say(f"{folder}: is already finished ({result}); its numbers: {folder / 'result.json'}")
            return 0
    else:
        if not name:
            raise InputError("frcnn baseline train: needs a NAME, see `frcnn baseline list`")
        folder, result = start_and_resume.start(name, start_and_resume.Options(**given), where or RUNS, run_name)
    say(summary(result))
    say(f"run: {folder}")
    return 0


def summary(result: dict) -> str:
    """Two lines for a person: the right numbers, and those that the baseline's own document computes."""
    numbers = result["metrics"]
    keys = ("accuracy", "mean_iou", "AP50", "AP")
    text = "  ".join(f"{key} {numbers[key]:.3f}" for key in keys if numbers.get(key) is not None)
    own = "  ".join(
        f"{key.removeprefix('document_')} {value:.3f}"
        for key, value in numbers.items()
        if key.startswith("document_") and value is not None
    )
    return f"{result['baseline']}: {text}" + (
        f"\nby the metrics of its document ({result['document']}): {own}" if own else ""
    )
