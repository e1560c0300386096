"""`frcnn train DATA`: fine-tune a detector, judge it, write the report."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from label_tools.text.errors import InputError
from toolkit import config as recipes
from toolkit.commands import recipe_flags

RESUME_MAY_CHANGE = {"device", "workers", "cache_mb", "max_time", "save_every", "tensorboard"}


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "train",
        help="fine-tune a detector, evaluate it and write the report",
        description="DATA is a folder with train.json and val.json (made by `frcnn split`), or a COCO file "
        "together with --val. Writes runs/NAME; never overwrites a run.",
    )
    parser.add_argument("data", nargs="?", type=Path, metavar="DATA", help="folder of `frcnn split`, or a COCO file")
    parser.add_argument("--val", type=Path, metavar="FILE", help="COCO file to judge on (default: DATA/val.json)")
    parser.add_argument("--test", type=Path, metavar="FILE", help="COCO file judged last (default: DATA/test.json)")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder that file_name starts from")
    parser.add_argument("--name", default="train", help="name of the run (default: train)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where runs go (default: runs)")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on with an interrupted run")
    parser.add_argument("--allow-data-change", action="store_true", help="let --resume go on with other labels")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--no-report", action="store_true", help="do not evaluate and report at the end")
    parser.add_argument("--list-models", action="store_true", help="print the detectors and stop")
    recipe_flags.add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.list_models:
        from toolkit.networks import registry

        for name, detector in registry.REGISTRY.items():
            print(f"{name:40} {detector.about}")
        return 0
    if args.resume:
        return _resume(args)
    if args.data is None:
        raise InputError("frcnn train: needs DATA, a folder with train.json and val.json; `frcnn split` makes one")
    recipe = recipes.read_file(args.config) if args.config else {}
    if args.dry_run:
        from label_tools.document import coco
        from toolkit.training.dry_run import plan

        parts, train, val, config = _read(args, recipe)
        reported = ("val", "test") if val is not None and not args.no_report else ()
        images = sum(len(coco.read_raw(parts[name])["images"]) for name in reported if name in parts)
        print(plan(config, train, val, images))
        return 0
    # joined first: what one process cannot read then ends the others, too
    from toolkit.training import distributed, run_folder

    device = {**recipe, **recipe_flags.flags_given(args)}.get("device", recipes.Run.device)
    with distributed.joined(device) as processes:
        parts, train, val, config = _read(args, recipe)
        _ensure_extras(config)
        distributed.agree(processes, *_must_be_one(train, val, config))
        folder = distributed.once(lambda: run_folder.create(args.runs, args.name), processes)
        with _lock(folder, processes), _nothing_left(folder, processes):
            if processes.first:
                for part, path in parts.items():
                    run_folder.keep_split(folder, part, path, args.images)
                (folder / run_folder.CONFIG).write_text(recipes.to_yaml(config))
                describe_run(folder, config, train, val)
                if folder.name != args.name:
                    print(f"note: a run {args.name} exists; this one is {folder}", file=sys.stderr)
            return _fit(folder, config, train, val, processes, None, report=not args.no_report)


def _read(args: argparse.Namespace, recipe: dict) -> tuple:
    """-> ({part: file}, train, val, config): the labels, and the recipe for so many images."""
    from toolkit.data import dataset
    from toolkit.training.labels import check_parts, check_test, find_parts

    parts = find_parts(args.data, args.val, args.test)
    train = dataset.read_index(parts["train"], args.images)
    val = dataset.read_index(parts["val"], args.images) if "val" in parts else None
    check_parts(train, val, parts)
    check_test(parts, args.images, train.classes)
    return parts, train, val, recipes.resolve(len(train), recipe_flags.flags_given(args), recipe, args.preset)


def _must_be_one(train, val, config) -> tuple[tuple, dict]:
    """The labels and the options that must be the same in every process."""
    options = {name: value for name, value in recipes.flat(config).items() if name not in RESUME_MAY_CHANGE}
    return (train.fingerprint, val.fingerprint if val is not None else None), options


def _ensure_extras(config) -> None:
    """Weights to be fetched, packages and an augmentation to be had, before a run folder is made."""
    from toolkit.data import transforms
    from toolkit.networks import first_weights

    transforms.build(config.data.augment)
    first_weights.ensure(config.model.model, config.model.weights)
    if config.run.tensorboard:
        from toolkit.training.tensorboard import writer_class

        writer_class()


@contextlib.contextmanager
def _nothing_left(folder: Path, processes) -> Iterator[None]:
    """A new run that is refused before its first checkpoint, which comes before the first step, leaves no folder."""
    try:
        yield
    except InputError:
        if processes.first and not (folder / "last").exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _lock(folder: Path, processes) -> contextlib.AbstractContextManager:
    from toolkit.training.run_folder import Lock

    return Lock(folder) if processes.first else contextlib.nullcontext()


def _resume(args: argparse.Namespace) -> int:
    from toolkit.training import distributed, run_folder

    folder = args.resume
    if not (folder / run_folder.CONFIG).is_file():
        raise InputError(f"--resume {folder}: is no run folder (no {run_folder.CONFIG}); needs runs/NAME")
    flags = recipe_flags.flags_given(args)
    record = run_folder.read_run(folder)
    more_time = "max_time" in flags and str(record.get("ended", "")).startswith("--max-time")
    if record.get("status") == "finished" and not more_time:
        report = folder / "report.html"
        left = f"its report: {report}" if report.is_file() else f"its weights: {folder / 'best'}"
        print(f"{folder}: is already finished; {left}")
        return 0
    if args.dry_run:
        raise InputError("--resume: --dry-run plans a new run only; leave one of them out")
    wrong = sorted(set(flags) - RESUME_MAY_CHANGE)
    wrong += [name for name, given in (("config", args.config), ("preset", args.preset != "auto")) if given]
    if wrong:
        raise InputError(
            f"--resume: --{wrong[0].replace('_', '-')} cannot change in a run; "
            f"start a new one, with --weights {folder} to build on it"
        )
    config = recipes.from_flat({**recipes.read_file(folder / run_folder.CONFIG), **flags})
    recipes.check(config)
    with distributed.joined(config.run.device) as processes, _lock(folder, processes):
        found, parts, train, val = _read_for_resume(folder, args)
        distributed.agree(processes, *_must_be_one(train, val, config))  # and all have read before the first tidies up
        if processes.first:
            if any(given is not None for given in (args.data, args.images, args.val, args.test)):
                for part, path in parts.items():
                    run_folder.keep_split(folder, part, path, args.images)
            _tidy(folder)
            run_folder.update_run(folder, status="running")
            print(f"resuming {folder} after step {found.meta['step']} ({found.folder.name})", file=sys.stderr)
        return _fit(folder, config, train, val, processes, found, report=not args.no_report)


def _read_for_resume(folder: Path, args: argparse.Namespace) -> tuple:
    """-> (newest intact checkpoint, {part: file}, train, val); other classes or other data are refused."""
    from toolkit import checkpoint
    from toolkit.data import dataset
    from toolkit.training.labels import check_test, find_parts

    found, notes = checkpoint.load_last(folder)
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    # the labels of the run itself, unless DATA says that they moved or changed
    parts = find_parts(args.data if args.data is not None else folder, args.val, args.test)
    train = dataset.read_index(parts["train"], args.images)
    val = dataset.read_index(parts["val"], args.images) if "val" in parts else None
    for index in (train, val):
        if index is not None and list(index.classes) != found.classes:
            raise InputError(
                f"--resume {folder}: was trained on the classes {', '.join(found.classes)}; "
                f"the labels have {', '.join(index.classes)}"
            )
    check_test(parts, args.images, found.classes)
    for part, index, key in (("train", train, "data_fingerprint"), ("val", val, "val_fingerprint")):
        now = index.fingerprint if index is not None else None
        if now != found.meta[key] and not args.allow_data_change:
            raise InputError(
                f"--resume {folder}: {parts.get(part, f'no {part}.json')} is not what this run began with "
                f"(other images, boxes or order); --allow-data-change goes on all the same"
            )
    return found, parts, train, val


def _tidy(folder: Path) -> None:
    """Remove what a kill left half done. A damaged `last` goes too: a save would make it `previous`."""
    from toolkit import checkpoint

    checkpoint.sweep(folder)
    checkpoint.drop_damaged_last(folder)


def _fit(folder: Path, config, train, val, processes, found, *, report: bool) -> int:
    """Train in `folder`, its lock held; keep run.json true whatever happens; evaluate the best, report."""
    from label_tools.document import coco
    from toolkit.data.loader import MachineError
    from toolkit.evaluation.judge import coco_metrics
    from toolkit.stopping import Stopped, stop_at_once
    from toolkit.training import train as training
    from toolkit.training.progress import Progress, duration
    from toolkit.training.run_folder import update_run

    first = processes.first
    document = coco.read(folder / "val.json") if first and val is not None else None
    progress = Progress(folder / "train.log" if first else None, quiet=not first)
    note = update_run if first else lambda *_, **__: None
    started = time.monotonic()
    try:
        try:
            trained = training.fit(
                config,
                folder,
                train,
                val,
                lambda detections: coco_metrics(document, detections),
                resume=found,
                processes=processes,
                progress=progress,
            )
        except Stopped as stopped:
            note(folder, status="stopped", seconds=round(time.monotonic() - started, 1))
            return stopped.exit_code
        except BaseException as error:
            progress.only_log(f"failed: {error}")
            with contextlib.suppress(InputError):  # a full disk, say; the reason for the failure goes first
                note(folder, status="failed", seconds=round(time.monotonic() - started, 1))
            raise
        finally:
            progress.close()
        if not first:
            return 0
        seconds = round(time.monotonic() - started, 1)
        note(
            folder,
            status="trained",
            seconds=seconds,
            ended=trained.ended,
            best_epoch=trained.best_epoch,
            unreadable=list(trained.unreadable),
        )
        print(f"{trained.ended} after {trained.epochs:g} epochs, {duration(seconds)}", file=sys.stderr)
        with stop_at_once():
            _finish(folder, config, report=report and val is not None)
    except Stopped as stopped:
        print(f"stopped before the report; --resume {folder} writes it", file=sys.stderr)
        return stopped.exit_code
    if trained.failed_saves:
        raise MachineError(
            f"{folder}: training ended, but not every checkpoint could be written: {trained.failed_saves[-1]}"
        )
    return 0


def _finish(folder: Path, config, *, report: bool) -> None:
    """After training: numbers of the best checkpoint, the report, and where they are."""
    from toolkit.training.run_folder import update_run

    if report:
        judge(folder, config)
    update_run(folder, status="finished")
    if report:
        from toolkit.report import write_report

        print(f"report: {write_report(folder)}")
    print(f"checkpoint: {folder / 'best'}")


def judge(folder: Path, config) -> None:
    """Evaluate the best checkpoint on val and, where there is one, on test; keep its score thresholds."""
    from toolkit.evaluation.evaluate import evaluate_run
    from toolkit.metrics.small import few

    for part in ("val", "test"):
        if (folder / f"{part}.json").is_file():
            metrics = evaluate_run(folder, part, device=config.run.device)
            shown = {k: "n/a" if metrics[k] is None else f"{metrics[k]:.3f}" for k in ("AP", "AP50", "AP75")}
            print(
                f"mAP on {part}: AP {shown['AP']}  AP50 {shown['AP50']}  AP75 {shown['AP75']}  "
                f"({metrics['num_objects']} objects in {metrics['num_images']} images)"
            )
            if small := few(metrics):
                print(f"warning: {part}: {small}", file=sys.stderr)


def describe_run(folder: Path, config, train, val) -> None:
    """run.json: what was asked, of what, with which versions; and train_batch.jpg, what the network sees."""
    import shlex

    from toolkit import runtime
    from toolkit.data import transforms
    from toolkit.data.dataset import DetectionDataset, EpochBatches, Unreadable
    from toolkit.prediction import drawing
    from toolkit.training.run_folder import update_run

    update_run(
        folder,
        command="frcnn " + shlex.join(sys.argv[1:]),
        versions=runtime.versions(),
        seed=config.run.seed,
        device=str(runtime.choose_device(config.run.device)),
        model=config.model.model,
        classes=list(train.classes),
        num_images={"train": len(train), "val": len(val) if val is not None else 0},
        data_fingerprint=train.fingerprint,
        started=time.strftime("%Y-%m-%d %H:%M:%S"),
        status="running",
    )
    dataset = DetectionDataset(train, transforms.build(config.data.augment), copy_paste=config.data.copy_paste)
    keys = next(iter(EpochBatches(train, min(9, len(train)), config.run.seed)))
    samples = [s for s in map(dataset.__getitem__, keys) if not isinstance(s, Unreadable)]
    if samples:
        sheet = drawing.batch_sheet([i for i, _ in samples], [t for _, t in samples], train.classes)
        drawing.save_jpeg(sheet, folder / "train_batch.jpg")
