"""`frcnn baseline list | train | table | compare | sheet`: the lecture documents' networks, and LoadHead."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from label_tools.files import links
from label_tools.files.marked_folders import one_file, refuse_foreign
from label_tools.text.errors import InputError, say
from toolkit.commands.flags import add_device, add_images, add_jobs

RUNS = Path("runs/baselines")


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("baseline", help="single-object networks beside Faster R-CNN")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="name, data, exact number of parameters, reported result")
    listing.add_argument("--json", action="store_true", help="print the list as JSON")
    listing.set_defaults(run=list_baselines)
    _add_train(verbs)
    _add_table(verbs)
    comparing = verbs.add_parser("compare", help="LoadHead (or another) beside Faster R-CNN on the same images")
    comparing.add_argument("run_folder", type=Path, metavar="RUN", help="run of a baseline on a labelled folder")
    comparing.add_argument("--detector", type=Path, required=True, metavar="RUN", help="run of `frcnn train`")
    comparing.add_argument("--data", type=Path, metavar="FILE", help="COCO file (default: the detector's val.json)")
    add_images(comparing)
    comparing.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/compare")
    add_device(comparing)
    comparing.add_argument("--json", action="store_true", help="print the numbers as JSON")
    comparing.set_defaults(run=compare)
    sheet = verbs.add_parser("sheet", help="a picture of samples with their boxes: see what is to be learned")
    _add_data(sheet, required=True)
    sheet.add_argument("--part", default="train", choices=("train", "val"), help="default: train")
    sheet.add_argument("--count", type=int, default=36, help="pictures (default: 36)")
    sheet.add_argument("--out", type=Path, default=Path("sheet.png"), help="default: sheet.png")
    sheet.set_defaults(run=draw_sheet)


def _add_data(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Flags that say which pictures; like all flags of a baseline they have no default here."""
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


def _add_train(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser(
        "train", help="train one; writes a run folder", argument_default=argparse.SUPPRESS
    )  # only what is given is in the Namespace
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="see `frcnn baseline list`")
    _add_data(parser)
    _add_budget(parser)
    add(
        "--loss",
        help="weighted sum, like 25*ce + l1, out of ce bce mse l1 smooth_l1 iou giou diou ciou; grid detectors: "
        "grid_document or grid",
    )
    add("--epochs", type=int, metavar="N", help="passes over the training pictures")
    add("--batch", type=int, metavar="N", help="images per step")
    add("--lr", type=float, metavar="RATE", help="learning rate")
    add("--optimizer", choices=("adam", "sgd"), help="default: the baseline's")
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


def _add_budget(parser: argparse.ArgumentParser) -> None:
    links.add_option(parser)
    add = parser.add_argument
    budget = "scaled to two CPU cores (default), or the document's own"
    add("--budget", choices=("scaled", "document"), help=budget)
    seed = "of first weights, order and augmentation (default: 0); drawn pictures are always the same"
    add("--seed", type=int, metavar="N", help=seed)
    add("--device", metavar="DEVICE", help="auto | cpu | cuda | cuda:N (default: auto)")
    add("--runs", type=Path, metavar="DIR", help=f"where runs go (default: {RUNS})")


def _add_table(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("table", help="baselines.md and a picture: reported beside reproduced")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--read", action="store_true", help="only read finished runs, train nothing")
    parser.add_argument("--dominant", type=Path, metavar="DIR", help="labelled folder for the HW5Nets (default: drawn)")
    parser.add_argument(
        "--largest", type=Path, metavar="DIR", help="labelled folder for resnet34 and loadhead (default: drawn)"
    )
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the table goes (default: here)")
    _add_budget(parser)
    add_jobs(parser)
    parser.set_defaults(run=table, budget="scaled", seed=0, device="auto", runs=RUNS)


def list_baselines(args: argparse.Namespace) -> int:
    from toolkit.single_object import baselines

    rows: list[dict[str, Any]] = []
    for baseline in baselines.REGISTRY.values():
        rows.append(
            {
                "name": baseline.name,
                "about": baseline.about,
                "document": baseline.document,
                "data": baseline.data,
                "parameters": baselines.num_parameters(baseline),
                "loss": baseline.loss,
                "budget": str(baseline.budget),
                "scaled_budget": str(baseline.scaled),
                "drawn_budget": str(baseline.drawn or baseline.scaled),
                "reported": baseline.reported,
            }
        )
    if args.json:
        say(json.dumps(rows, indent=1))
        return 0
    say(f"{'name':18}{'data':12}{'parameters':>13}  {'reported':34}document")
    for row in rows:
        reported = ", ".join(f"{key} {value:.3f}" for key, value in row["reported"].items()) or "-"
        where = f"{row['document']}: {row['about']}"
        say(f"{row['name']:18}{row['data']:12}{row['parameters']:>13,}  {reported:34}{where}")
    return 0


def train(args: argparse.Namespace) -> int:
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
        folder, result = start_and_resume.start(name, given, where or RUNS, run_name)
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


def table(args: argparse.Namespace) -> int:
    from toolkit.experiments.jobs import Job, run_jobs
    from toolkit.single_object import baselines, results_table

    names = list(dict.fromkeys(baselines.find(name).name for name in args.names)) or list(baselines.REGISTRY)
    if not args.read:
        folders = {"dominant": args.dominant, "largest": args.largest}
        _check_before_hours(args, [baselines.REGISTRY[name].data for name in names], folders)
        words = {key: getattr(args, key) for key in ("budget", "seed", "device")}
        words |= {"folders": folders, "root": args.runs}
        run_jobs([Job(n, results_table.make, {"name": n, **words}) for n in names], workers=args.jobs, ray=args.ray)
    path = results_table.write(args.out, args.runs, names, args.budget)
    say(f"table: {path}")
    return 0


def _check_before_hours(args: argparse.Namespace, data: list[str], folders: dict[str, Path | None]) -> None:
    """What would end the table only after some of its networks were trained."""
    from toolkit.single_object import results_table
    from toolkit.single_object.data import digits, open_data

    for kind, folder in folders.items():
        if folder and kind in data:
            open_data.check_files(folder)
    if {"digits", "digit_grid"} & set(data):
        digits.handwriting("val")
    refuse_foreign(args.out, results_table.KIND, results_table.FILES)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {args.out}: cannot be made: {error.strerror}") from None


def compare(args: argparse.Namespace) -> int:
    from toolkit.single_object import compare_with_detector as comparing

    out = args.out or args.run_folder / comparing.FOLDER
    numbers = comparing.compare(args.run_folder, args.detector, args.data, args.images, out, args.device)
    say(json.dumps(numbers, indent=1) if args.json else comparing.as_text(numbers) + f"\nin full: {out}")
    return 0


def draw_sheet(args: argparse.Namespace) -> int:
    from toolkit.single_object.contact_sheet import contact_sheet, save_png
    from toolkit.single_object.start_and_resume import Source

    if args.count < 1:
        raise InputError(f"--count {args.count}: needs 1 or more")
    given = {key: getattr(args, key) for key in ("data", "val", "select", "size", "min_area", "classes", "keep_empty")}
    given = {key: value for key, value in given.items() if value is not None}
    source = Source(**{"size": 128, **given}, train_images=args.count, val_images=args.count)
    samples = source.open()[args.part == "val"]
    with one_file(args.out, "contact sheet") as made:
        save_png(contact_sheet(samples, range(min(args.count, len(samples)))), made)
    say(f"sheet: {args.out}")
    return 0
