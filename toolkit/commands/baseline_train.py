"""`frcnn baseline train`: its arguments, a new run, a resumed one."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import inspect
import os
import sys
import time
from pathlib import Path

RUNS = Path("runs/baselines")
RESUME_MAY_CHANGE = {"epochs", "patience", "max_time", "device"}


def add_data(parser: argparse.ArgumentParser, required: bool = False) -> None:
    parser.add_argument(
        "--data",
        required=required,
        help="drawn: shapes5 | shapes5-noise20 | digits | digit_grid | "
        "dominant | largest (default: the baseline's); your own: a folder of `frcnn split` | a COCO or "
        "PurdueShapes5 file with --val | a VOC folder",
    )
    parser.add_argument("--val", type=Path, metavar="FILE", help="validation file, for a COCO or PurdueShapes5 file")
    parser.add_argument(
        "--select",
        choices=("dominant", "largest"),
        help="which object of an image of your own (default: the baseline's)",
    )
    parser.add_argument(
        "--min-area",
        type=float,
        default=0.13,
        help="dominant: area from this share of the image, or "
        "pixels when 1 or more (default: 0.13, 200 x 200 of 640 x 480)",
    )
    parser.add_argument("--classes", nargs="+", default=(), metavar="NAME", help="only these classes of the files")
    parser.add_argument(
        "--size", type=int, help="side of the pictures of dominant, largest and files, pixels (default: the baseline's)"
    )
    parser.add_argument(
        "--keep-empty", action="store_true", help="keep images without an object (loadhead learns presence then)"
    )


def add_train(verbs: argparse._SubParsersAction) -> None:
    parser = verbs.add_parser("train", help="train one; writes a run folder")
    train_arguments(parser)
    parser.set_defaults(run=train)


def train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="see `frcnn baseline list`")
    add_data(parser)
    add_budget(parser)
    parser.add_argument(
        "--loss",
        help="weighted sum, like 25*ce + l1, out of ce bce mse l1 smooth_l1 iou giou diou "
        "ciou; grid detectors: grid_document or grid",
    )
    parser.add_argument("--epochs", type=int, help="passes over the training pictures")
    parser.add_argument("--batch", type=int, help="images per step")
    parser.add_argument("--lr", type=float, help="learning rate")
    parser.add_argument("--optimizer", choices=("adam", "sgd"))
    parser.add_argument("--schedule", choices=("constant", "onecycle", "cosine", "step"), help="of the learning rate")
    parser.add_argument("--train-images", type=int, help="drawn training pictures")
    parser.add_argument("--val-images", type=int, help="drawn validation pictures")
    parser.add_argument(
        "--backbone",
        help="resnet34 and loadhead: any convolutional torchvision classifier, or "
        "fasterrcnn_tiny_fpn: the body of the compact detector",
    )
    parser.add_argument(
        "--weights",
        default="none",
        choices=("none", "imagenet", "starter"),
        help="of the backbone; starter: what fasterrcnn_tiny_fpn starts from",
    )
    parser.add_argument("--no-augment", action="store_true", help="no flips, turns and colours")
    parser.add_argument(
        "--precision", default="fp32", choices=("fp32", "bf16", "auto"), help="default: fp32, as the documents"
    )
    parser.add_argument("--patience", type=int, default=0, help="stop after so many epochs without a better score")
    parser.add_argument("--max-time", type=float, default=0.0, help="stop after so many minutes, with checkpoints")
    parser.add_argument("--as", dest="run_name", metavar="NAME", help="name of the run (default: the baseline's)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with an interrupted run; beside it only --epochs, --patience, --max-time and --device",
    )


def add_budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--budget",
        default="scaled",
        choices=("scaled", "document"),
        help="scaled to two CPU cores (default), or the document's own",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="of first weights, order and augmentation (default: 0); drawn pictures are always the same",
    )
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N")
    parser.add_argument("--runs", type=Path, default=RUNS, metavar="DIR", help=f"where runs go (default: {RUNS})")


def train(args: argparse.Namespace) -> int:
    from label_tools.text.errors import InputError
    from toolkit.single_object.data.sources import is_drawn
    from toolkit.single_object.dry_run import check_run
    from toolkit.training import run_folder

    if args.resume:
        return _resume(args)
    if not args.name:
        raise InputError("frcnn baseline train: needs a NAME, see `frcnn baseline list`")
    recipe, stored, pair = _plan(args)
    check_run(recipe, *pair)
    name = args.name if args.run_name is None else args.run_name
    folder = run_folder.create(args.runs, name, flag="--as")
    if folder.name != name:
        print(f"note: a run {name} exists; this one is {folder}", file=sys.stderr)
    for key in ("data", "val"):  # seen from the run, so that --resume finds them from anywhere
        if stored[key] and not is_drawn(stored[key]) and Path(stored[key]).exists():
            stored[key] = os.path.relpath(stored[key], folder)
    with run_folder.Lock(folder):
        return _fit(folder, recipe, pair, stored, None)


def _resume(args: argparse.Namespace) -> int:
    from label_tools.text.errors import InputError
    from toolkit import checkpoint
    from toolkit.config import Schedule
    from toolkit.single_object import recipe as recipes
    from toolkit.single_object.data.samples import fingerprint
    from toolkit.single_object.data.sources import is_drawn
    from toolkit.single_object.training import check_same_data
    from toolkit.training import resume, run_folder

    folder = args.resume
    given = _given_options(args)
    if wrong := sorted(set(given) - RESUME_MAY_CHANGE - {"name", "resume"}):
        flag = {"run_name": "as"}.get(wrong[0], wrong[0].replace("_", "-"))
        raise InputError(f"--resume: --{flag} cannot change in a run; start a new one")
    found, notes = checkpoint.load_last(folder)
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    baseline, recipe = recipes.recipe_of(found.meta, folder)
    if args.name not in (None, baseline.name):
        raise InputError(f"--resume {folder}: is a run of {baseline.name}, found {args.name}")
    record = run_folder.read_json(folder / run_folder.RUN)
    if not isinstance(record, dict) or not isinstance(record.get("data"), dict):
        raise InputError(f"{folder / run_folder.RUN}: does not say which data the run was trained on; start a new one")
    options = {name: value for name, value in given.items() if name in RESUME_MAY_CHANGE}
    changed = {name for name, value in options.items() if value != getattr(recipe, name)}
    dataclasses.replace(recipe, **options).check()
    if "epochs" in changed:
        plan = Schedule(epochs=recipe.epochs, schedule=recipe.schedule)
        resume.check_epochs(folder, plan, args.epochs, found.meta["epoch"])
    if ended := resume.why_over(folder, record, changed):
        print(f"{folder}: is already finished ({ended}); its numbers: {folder / 'result.json'}")
        return 0
    stored = record["data"]
    here = {
        key: str(folder / stored[key])
        for key in ("data", "val")
        if stored[key] and not is_drawn(stored[key]) and (folder / stored[key]).exists()
    }
    pair = open_pair({**stored, **here})
    check_same_data(found, folder, *map(fingerprint, pair))
    with run_folder.Lock(folder):
        return _fit(folder, dataclasses.replace(recipe, **options), pair, stored, resume.open_run(folder))


def _given_options(args: argparse.Namespace) -> dict:
    """{option: value} of those that were given."""
    plain = argparse.ArgumentParser()
    train_arguments(plain)
    defaults = vars(plain.parse_args([]))
    return {name: getattr(args, name) for name, default in defaults.items() if getattr(args, name) != default}


def _plan(args: argparse.Namespace):
    """-> (recipe, what it takes to open the data again, the samples)."""
    from label_tools.text.errors import InputError
    from toolkit.single_object import registry
    from toolkit.single_object.data.sources import is_drawn
    from toolkit.single_object.networks.backbones import check_backbone, ensure_weights
    from toolkit.single_object.recipe import Recipe

    baseline = registry.find(args.name)
    if args.backbone or args.weights != "none":
        if baseline.data != "largest":
            raise InputError(f"{baseline.name}: --backbone and --weights are for resnet34 and loadhead")
        backbone = args.backbone or inspect.signature(baseline.build).parameters["backbone"].default
        check_backbone(backbone, args.weights)
        ensure_weights(backbone, args.weights)
    data = baseline.data if args.data is None else args.data
    for flag, count in (("--train-images", args.train_images), ("--val-images", args.val_images)):
        if count is not None and count < 1:
            raise InputError(f"{flag} {count}: needs 1 or more")
        if count is not None and not is_drawn(data):
            raise InputError(f"{flag} {count}: counts drawn pictures, --data {data} is read whole")
    budget = registry.budget(baseline, args.budget, is_drawn(data))
    if data in ("dominant", "largest"):
        print(
            f"{baseline.name}: drawn pictures; to learn from your own: --data DIR (`frcnn convert`, `frcnn split`)",
            file=sys.stderr,
        )
    selects = baseline.data if baseline.data in ("dominant", "largest") else "largest"
    stored = {
        "data": data,
        "val": str(args.val) if args.val else None,
        "train_images": _given(args.train_images, budget.images),
        "val_images": _given(args.val_images, budget.val),
        "select": args.select or selects,
        "size": _given(args.size, budget.size or 32),
        "min_area": args.min_area,
        "classes": list(args.classes),
        "keep_empty": args.keep_empty,
    }
    pair = open_pair(stored)
    options = baseline.options(len(pair[0].classes))
    if baseline.data == "largest":
        options["image_size"] = pair[0].size[0]
        options |= {"backbone": args.backbone} if args.backbone else {}
        options |= {"pretrained": args.weights} if args.weights != "none" else {}
    loss = baseline.loss
    if baseline.name == "loadhead" and args.keep_empty:
        options["presence"] = True
        loss = f"bce + {loss}"
    recipe = Recipe(
        baseline.name,
        data,
        _given(args.loss, loss),
        epochs=_given(args.epochs, budget.epochs),
        batch=_given(args.batch, budget.batch),
        lr=_given(args.lr, budget.lr),
        optimizer=args.optimizer or budget.optimizer,
        schedule=args.schedule or budget.schedule,
        seed=args.seed,
        augment=baseline.augment and not args.no_augment,
        patience=args.patience,
        max_time=args.max_time,
        budget=args.budget,
        options=options,
        device=args.device,
        precision=args.precision,
    )
    return recipe, stored, pair


def _given(value, default):
    """What was said, 0 and the empty word included; else the default."""
    return default if value is None else value


def open_pair(stored: dict):
    from label_tools.text.messages import counted
    from toolkit.single_object.data.coco_objects import Selection
    from toolkit.single_object.data.samples import shared
    from toolkit.single_object.data.sources import is_drawn, open_data

    selection = Selection(
        stored["select"], stored["size"], stored["min_area"], tuple(stored["classes"]), stored["keep_empty"]
    )
    pair = open_data(
        stored["data"],
        Path(stored["val"]) if stored["val"] else None,
        stored["train_images"],
        stored["val_images"],
        selection,
    )
    for samples in pair:
        print(samples.about(), file=sys.stderr)
    if not is_drawn(stored["data"]) and (both := shared(*pair)):
        print(
            f"warning: {counted(both, 'picture')} of {len(pair[1])} in val also in train: "
            "the numbers will be too good; `frcnn split` keeps them apart",
            file=sys.stderr,
        )
    return pair


def _fit(folder: Path, recipe, pair, stored: dict, found) -> int:
    """Train in `folder`, its lock held; keep run.json true whatever happens."""
    from label_tools.text.errors import InputError
    from toolkit import runtime
    from toolkit.single_object import training
    from toolkit.single_object.answers import draw_answers
    from toolkit.stopping import Stopped
    from toolkit.training import run_folder
    from toolkit.training.progress import Progress

    progress = Progress(folder / "train.log")
    ending, started = {"status": "failed"}, time.time()
    run_folder.update_run(
        folder,
        kind="single_object",
        recipe=dataclasses.asdict(recipe),
        data=stored,
        versions=runtime.versions(),
        status="running",
    )
    try:
        result = training.fit(recipe, folder, *pair, resume=found, progress=progress)
        ending = {"status": "finished", "ended": result["ended"]}
    except Stopped as stopped:
        ending = {"status": "stopped"}
        return stopped.exit_code
    finally:
        progress.close()
        with contextlib.suppress(InputError):  # a full disk, say; the reason for the failure goes first
            run_folder.update_run(folder, **ending, seconds=round(time.time() - started, 1))
    draw_answers(folder, pair[1])
    print(summary(result))
    print(f"run: {folder}")
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
