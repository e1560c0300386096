"""`frcnn baseline list | train | table | compare | sheet`: the lecture documents' networks, and LoadHead."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import sys
import time
from pathlib import Path

RUNS = Path("runs/baselines")


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("baseline", help="single-object baselines: train, table, beside Faster R-CNN")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    listing = verbs.add_parser("list", help="name, data, exact number of parameters, reported result")
    listing.add_argument("--json", action="store_true", help="for machines")
    listing.set_defaults(run=list_baselines)
    _add_train(verbs)
    _add_table(verbs)
    comparing = verbs.add_parser("compare", help="LoadHead (or another) beside Faster R-CNN on the same images")
    comparing.add_argument("run_folder", type=Path, metavar="RUN", help="run of a baseline on a labelled folder")
    comparing.add_argument("--detector", type=Path, required=True, metavar="RUN", help="run of `frcnn train`")
    comparing.add_argument("--data", type=Path, metavar="FILE", help="COCO file (default: the detector's val.json)")
    comparing.add_argument("--images", type=Path, metavar="DIR", help="folder that file_name starts from")
    comparing.add_argument("--out", type=Path, metavar="DIR", help="default: RUN/compare")
    comparing.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N")
    comparing.add_argument("--json", action="store_true", help="print the numbers as JSON")
    comparing.set_defaults(run=compare)
    sheet = verbs.add_parser("sheet", help="a picture of samples with their boxes: look at what is taught")
    _add_data(sheet, required=True)
    sheet.add_argument("--part", default="train", choices=("train", "val"))
    sheet.add_argument("--count", type=int, default=36, help="pictures (default: 36)")
    sheet.add_argument("--out", type=Path, default=Path("sheet.png"), help="default: sheet.png")
    sheet.set_defaults(run=draw_sheet)


def _add_data(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument("--data", required=required, help="drawn: shapes5 | shapes5-noise20 | digits | digit_grid | "
                        "dominant | largest (default: the baseline's); your own: a folder of `frcnn split` | a COCO or "
                        "PurdueShapes5 file with --val | a VOC folder")  # fmt: skip
    parser.add_argument("--val", type=Path, metavar="FILE", help="what to judge on, for a COCO or PurdueShapes5 file")
    parser.add_argument("--select", choices=("dominant", "largest"), help="which object of an image of your own "
                        "(default: the baseline's)")  # fmt: skip
    parser.add_argument("--min-area", type=float, default=0.13, help="dominant: area from this share of the image, or "
                        "pixels when 1 or more (default: 0.13, 200 x 200 of 640 x 480)")  # fmt: skip
    parser.add_argument("--classes", nargs="+", default=(), metavar="NAME", help="only these classes of the files")
    parser.add_argument("--size", type=int, help="side of the pictures of dominant, largest and files, pixels "
                        "(default: the baseline's)")  # fmt: skip
    parser.add_argument("--keep-empty", action="store_true", help="keep images without an object (loadhead learns "
                        "presence then)")  # fmt: skip


def _add_train(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("train", help="train one; writes a run folder")
    _train_arguments(parser)
    parser.set_defaults(run=train)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="see `frcnn baseline list`")
    _add_data(parser)
    _add_budget(parser)
    parser.add_argument("--loss", help="weighted sum, like 25*ce + l1, out of ce bce mse l1 smooth_l1 iou giou diou "
                        "ciou; grid detectors: grid_seed or grid")  # fmt: skip
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch", type=int, help="images per step")
    parser.add_argument("--lr", type=float, help="learning rate")
    parser.add_argument("--optimizer", choices=("adam", "sgd"))
    parser.add_argument("--schedule", choices=("constant", "onecycle", "cosine", "step"), help="of the learning rate")
    parser.add_argument("--train-images", type=int, help="drawn training pictures")
    parser.add_argument("--val-images", type=int, help="drawn pictures to judge on")
    parser.add_argument("--backbone", help="resnet34 and loadhead: any convolutional torchvision classifier, or "
                        "fasterrcnn_tiny_fpn: the body of the compact detector")  # fmt: skip
    parser.add_argument("--weights", default="none", choices=("none", "imagenet", "starter"), help="of the backbone; "
                        "starter: what fasterrcnn_tiny_fpn starts from")  # fmt: skip
    parser.add_argument("--no-augment", action="store_true", help="no flips, turns and colours")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16", "auto"), help="default: fp32, as the "
                        "documents")  # fmt: skip
    parser.add_argument("--patience", type=int, default=0, help="stop after so many epochs without a better score")
    parser.add_argument("--max-time", type=float, default=0.0, help="stop after so many minutes, with checkpoints")
    parser.add_argument("--as", dest="run_name", metavar="NAME", help="name of the run (default: the baseline's)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")


def _add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--budget", default="scaled", choices=("scaled", "document"), help="scaled to two CPU cores "
                        "(default), or the document's own")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N")
    parser.add_argument("--runs", type=Path, default=RUNS, metavar="DIR", help=f"where runs go (default: {RUNS})")


def _add_table(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("table", help="baselines.md and a picture: reported beside reproduced")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these (default: all)")
    parser.add_argument("--read", action="store_true", help="only read finished runs, train nothing")
    parser.add_argument("--dominant", type=Path, metavar="DIR", help="labelled folder for the HW5Nets (default: drawn)")
    parser.add_argument("--largest", type=Path, metavar="DIR", help="labelled folder for resnet34 and loadhead "
                        "(default: drawn)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the table goes (default: here)")
    _add_budget(parser)
    parser.set_defaults(run=table)


def list_baselines(args: argparse.Namespace) -> int:
    import json

    from toolkit.single_object import registry

    rows = []
    for baseline in registry.REGISTRY.values():
        rows.append({"name": baseline.name, "about": baseline.about, "document": baseline.document,
                     "data": baseline.data, "parameters": registry.num_parameters(baseline), "loss": baseline.loss,
                     "budget": str(baseline.budget), "scaled_budget": str(baseline.scaled),
                     "reported": baseline.reported})  # fmt: skip
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f"{'name':18}{'data':12}{'parameters':>13}  {'reported':34}document")
    for row in rows:
        reported = ", ".join(f"{key} {value:.3f}" for key, value in row["reported"].items()) or "-"
        where = f"{row['document']}: {row['about']}"
        print(f"{row['name']:18}{row['data']:12}{row['parameters']:>13,}  {reported:34}{where}")
    return 0


def train(args: argparse.Namespace) -> int:
    from label_tools.errors import InputError
    from toolkit import checkpoint
    from toolkit.single_object import recipe as recipes
    from toolkit.single_object.data.sources import is_drawn
    from toolkit.training import run_folder

    if args.resume:
        checkpoint.sweep(args.resume)
        found, notes = checkpoint.load_last(args.resume)
        for note in notes:
            print(f"warning: {note}", file=sys.stderr)
        _, recipe = recipes.recipe_of(found.meta, args.resume)
        stored = run_folder.read_json(args.resume / run_folder.RUN)["data"]
        pair = _open({**stored, **{key: str(args.resume / stored[key]) for key in ("data", "val")
                                   if stored[key] and not is_drawn(stored[key])
                                   and (args.resume / stored[key]).exists()}})  # fmt: skip
        changes = {"device": args.device, "max_time": args.max_time}
        changes |= {"epochs": args.epochs} if args.epochs else {}
        return _fit(args.resume, dataclasses.replace(recipe, **changes), pair, stored, found)
    if not args.name:
        raise InputError("frcnn baseline train: needs a NAME, see `frcnn baseline list`")
    recipe, stored, pair = _plan(args)
    folder = run_folder.create(args.runs, args.run_name or args.name)
    for key in ("data", "val"):  # seen from the run, so that --resume finds them from anywhere
        if stored[key] and not is_drawn(stored[key]) and Path(stored[key]).exists():
            stored[key] = os.path.relpath(stored[key], folder)
    return _fit(folder, recipe, pair, stored, None)


def _plan(args: argparse.Namespace):
    """-> (recipe, what it takes to open the data again, the samples)."""
    from label_tools.errors import InputError
    from toolkit.single_object import registry
    from toolkit.single_object.data.sources import is_drawn
    from toolkit.single_object.networks.backbones import check_backbone
    from toolkit.single_object.recipe import Recipe

    baseline = registry.find(args.name)
    if args.backbone or args.weights != "none":
        if baseline.data != "largest":
            raise InputError(f"{baseline.name}: --backbone and --weights are for resnet34 and loadhead")
        check_backbone(args.backbone or _own_backbone(baseline), args.weights)
    data = args.data or baseline.data
    budget = registry.budget(baseline, args.budget, is_drawn(data))
    if data in ("dominant", "largest"):
        print(f"{baseline.name}: drawn pictures; to learn from your own: --data DIR (`frcnn convert`, `frcnn split`)",
              file=sys.stderr)  # fmt: skip
    selects = baseline.data if baseline.data in ("dominant", "largest") else "largest"
    stored = {"data": data, "val": str(args.val) if args.val else None,
              "train_images": args.train_images or budget.images, "val_images": args.val_images or budget.val,
              "select": args.select or selects, "size": args.size or budget.size or 32, "min_area": args.min_area,
              "classes": list(args.classes), "keep_empty": args.keep_empty}  # fmt: skip
    pair = _open(stored)
    options = baseline.options(len(pair[0].classes))
    if baseline.data == "largest":
        options["image_size"] = stored["size"]
        options |= {"backbone": args.backbone} if args.backbone else {}
        options |= {"pretrained": args.weights} if args.weights != "none" else {}
    loss = args.loss or baseline.loss
    if baseline.name == "loadhead" and args.keep_empty:
        options["presence"] = True
        loss = args.loss or f"bce + {loss}"
    recipe = Recipe(baseline.name, data, loss, epochs=args.epochs or budget.epochs, batch=args.batch or budget.batch,
                    lr=args.lr or budget.lr, optimizer=args.optimizer or budget.optimizer,
                    schedule=args.schedule or budget.schedule, seed=args.seed,
                    augment=baseline.augment and not args.no_augment, patience=args.patience, max_time=args.max_time,
                    budget=args.budget, options=options, device=args.device, precision=args.precision)  # fmt: skip
    recipe.check()
    _check_size(baseline, pair[0])
    return recipe, stored, pair


def _own_backbone(baseline) -> str:
    """The backbone that a network of `backbones` has when none is named."""
    return inspect.signature(baseline.build).parameters["backbone"].default


def _check_size(baseline, samples) -> None:
    """The documents' networks take one size of picture; say so before torch does."""
    from label_tools.errors import InputError

    wanted = {"shapes5": (3, 32, 32), "digits": (1, 48, 60), "digit_grid": (1, 48, 60)}.get(baseline.data)
    found = tuple(samples.images.shape[1:])
    if baseline.name.startswith("hw5net") and not baseline.name.startswith("hw5net_light"):
        wanted = (3, 256, 256)
    if wanted and found != wanted:
        raise InputError(f"{baseline.name}: takes pictures of {wanted[2]} x {wanted[1]} with {wanted[0]} channels, "
                         f"{samples.name} has {found[2]} x {found[1]} with {found[0]}")  # fmt: skip
    if baseline.data in ("dominant", "largest") and found[0] != 3:
        raise InputError(f"{baseline.name}: takes colour pictures, {samples.name} has {found[0]} channel")


def _open(stored: dict):
    from toolkit.single_object.data.coco_objects import Selection
    from toolkit.single_object.data.sources import open_data

    selection = Selection(stored["select"], stored["size"], stored["min_area"], tuple(stored["classes"]),
                          stored["keep_empty"])  # fmt: skip
    pair = open_data(stored["data"], Path(stored["val"]) if stored["val"] else None, stored["train_images"],
                     stored["val_images"], selection)  # fmt: skip
    for samples in pair:
        print(samples.about(), file=sys.stderr)
    return pair


def _fit(folder: Path, recipe, pair, stored: dict, found) -> int:
    from toolkit import runtime
    from toolkit.single_object import training
    from toolkit.single_object.curves import draw_curves
    from toolkit.stopping import Stopped
    from toolkit.training import run_folder
    from toolkit.training.progress import Progress

    progress = Progress(folder / "train.log")
    status, started = "failed", time.time()
    with run_folder.Lock(folder):
        run_folder.update_run(folder, kind="single_object", recipe=dataclasses.asdict(recipe), data=stored,
                              versions=runtime.versions(), status="running")  # fmt: skip
        try:
            result = training.fit(recipe, folder, *pair, resume=found, progress=progress)
            status = "finished"
        except Stopped as stopped:
            status = "stopped"
            return stopped.exit_code
        finally:
            draw_curves(run_folder.read_metrics(folder), folder / "curves.png")
            run_folder.update_run(folder, status=status, seconds=round(time.time() - started, 1))
            progress.close()
        _draw_answers(folder, pair[1])
    print(summary(result))
    print(f"run: {folder}")
    return 0


def summary(result: dict) -> str:
    """Two lines for a person: the right numbers, and the document's own."""
    numbers = result["metrics"]
    keys = ("accuracy", "mean_iou", "AP50", "AP")
    text = "  ".join(f"{key} {numbers[key]:.3f}" for key in keys if numbers.get(key) is not None)
    seeds = "  ".join(f"{key} {value:.3f}" for key, value in numbers.items() if key.startswith("seed_"))
    return f"{result['baseline']}: {text}" + (f"\nas the document computes it: {seeds}" if seeds else "")


def _draw_answers(folder: Path, val) -> None:
    """answers.png: validation pictures, truth green, answers red."""
    import torch

    from toolkit import checkpoint
    from toolkit.single_object import judging
    from toolkit.single_object.data import sheet
    from toolkit.single_object.recipe import restored

    baseline, network = restored(checkpoint.load(checkpoint.find(folder, "last")))
    few = val.first(25)
    _, predicted = judging.judge(network, baseline, few, torch.device("cpu"))
    answers = sheet.answers_of(predicted, few)
    sheet.save_png(sheet.contact_sheet(few, range(len(few)), answers), folder / "answers.png")


def table(args: argparse.Namespace) -> int:
    from toolkit.single_object import registry, tables

    names = [registry.find(name).name for name in args.names] or list(registry.REGISTRY)
    if not args.read:
        folders = {"dominant": args.dominant, "largest": args.largest}
        for name in names:
            baseline = registry.REGISTRY[name]
            data = folders.get(baseline.data) or baseline.data
            done = tables.finished(args.runs, name, args.budget, args.seed)
            if any(baseline.data not in folders or tables.drawn(r) == (data == baseline.data) for r in done):
                continue
            words = argparse.ArgumentParser()
            _train_arguments(words)
            code = train(words.parse_args([name, "--data", str(data), "--budget", args.budget, "--seed", str(args.seed),
                                           "--device", args.device, "--runs", str(args.runs)]))  # fmt: skip
            if code:
                return code
    path = tables.write(args.out, args.runs, names, args.budget)
    print(f"table: {path}")
    return 0


def compare(args: argparse.Namespace) -> int:
    import json

    from toolkit.single_object import compare as comparing

    out = args.out or args.run_folder / "compare"
    numbers = comparing.compare(args.run_folder, args.detector, args.data, args.images, out, args.device)
    print(json.dumps(numbers, indent=1) if args.json else comparing.as_text(numbers) + f"\nin full: {out}")
    return 0


def draw_sheet(args: argparse.Namespace) -> int:
    from toolkit.single_object.data.sheet import contact_sheet, save_png

    stored = {"data": args.data, "val": args.val, "train_images": args.count, "val_images": args.count,
              "select": args.select or "largest", "size": args.size or 128, "min_area": args.min_area,
              "classes": list(args.classes), "keep_empty": args.keep_empty}  # fmt: skip
    samples = _open(stored)[args.part == "val"]
    save_png(contact_sheet(samples, range(min(args.count, len(samples)))), args.out)
    print(f"sheet: {args.out}")
    return 0
