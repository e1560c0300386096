"""Do one run from labels to report: make its folder, train, evaluate the best checkpoint, report; or resume one.

`toolkit/run.py` is its Python API."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_tools.files.atomic_write import atomic_write
from label_tools.text.errors import InputError
from toolkit import checkpoint, device_and_seed
from toolkit import config as recipes
from toolkit.config import Config
from toolkit.data import transforms
from toolkit.data.coco_index import Index
from toolkit.data.dataset import DetectionDataset, Unreadable
from toolkit.data.epoch_batches import EpochBatches
from toolkit.evaluation.compute_metrics import coco_metrics
from toolkit.evaluation.evaluate_run import evaluate_split
from toolkit.networks import first_weights
from toolkit.prediction.draw_boxes_and_batches import batch_sheet, save_jpeg
from toolkit.prediction.torch_detector import TorchDetector
from toolkit.rank_and_cores import Processes
from toolkit.report.evaluation_text import few
from toolkit.report.write_report import write_report
from toolkit.stopping import Stopped, stop_at_once
from toolkit.training import detection_task as training
from toolkit.training import distributed, run_folder, save_and_resume, trackers
from toolkit.training.progress import Progress, duration, epochs_text
from toolkit.training.train_val_test import (
    Labels,
    check_labels,
    check_test,
    cut_labels,
    find_files,
    keep_outlines,
    read_labels,
)

log = logging.getLogger(__name__)
MAY_DIFFER = {"device", "workers", "cache_mb", "max_time", "save_every", "tensorboard", "mlflow"}  # between processes
RESUME_MAY_CHANGE = MAY_DIFFER | {"epochs", "patience"}


@dataclass(frozen=True)
class Source:
    """Where labels come from. data: a folder with train.json and val.json, or the COCO file to train on; val, test:
    other files than those of the folder; images: folder that file names start from, where a file does not say it."""

    data: Path
    val: Path | None = None
    test: Path | None = None
    images: Path | None = None

    def read(self) -> Labels:
        return read_labels(find_files(self.data, self.val, self.test), self.images)


@dataclass(frozen=True)
class Recipe:
    """What the caller wants of the training: options by name, those of a recipe file, a preset by name."""

    options: dict[str, Any]
    file: dict[str, Any]
    preset: str = "auto"

    @property
    def device(self) -> str:
        return {**self.file, **self.options}.get("device", recipes.Run.device)


def with_model(options: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
    """The options with a network by name, where they and the file say none or `auto`.

    It is that of the first weights asked for (a run's own, the standard one for `coco` and files, the small one for
    `starter`), else the one that suits the machine. Logs which, and why.
    """
    asked = {**file, **options}
    if asked.get("model", "auto") != "auto":
        return options
    weights = str(asked.get("weights", "auto"))
    if weights == "starter":
        name, why = "fasterrcnn_tiny_fpn", "the network of --weights starter"
    elif (config := Path(weights, run_folder.CONFIG)).is_file():
        name, why = recipes.read_file(config).get("model", recipes.STANDARD), f"the network of {weights}"
    elif weights not in ("auto", "imagenet", "none"):
        name, why = recipes.STANDARD, f"the standard one, for --weights {weights}"
    else:
        name, why = first_weights.automatic(device_and_seed.choose_device(asked.get("device", recipes.Run.device)))
    log.info(f"network: {name} ({why}); `frcnn train --list-models` names others")
    return {**options, "model": name}


def prepare(source: Source, recipe: Recipe) -> tuple[Labels, Config]:
    """The labels, checked, and the recipe for so many training images. Writes nothing."""
    labels = source.read()
    options = with_model(recipe.options, recipe.file)

    def resolved() -> Config:
        return recipes.resolve(len(labels["train"].index), options, recipe.file, recipe.preset)

    config = resolved()  # an option that cannot work is refused before any warning
    check_labels(labels)
    keep_outlines(labels, config)
    if cut_labels(labels, config):
        config = resolved()  # for so many tiles
    return labels, config


def start(source: Source, recipe: Recipe, runs: Path, name: str, *, command: str, report: bool = True) -> Path:
    """Train in a new folder runs/name, evaluate the best checkpoint and write the report. -> the run folder.

    command: what the caller was asked, for run.json. Raises InputError before a folder is made, or removes it again
    when training never began; Stopped after SIGINT or SIGTERM, with a checkpoint; MachineError when memory, a process
    or the disk gives out.
    """
    # joined first: what one process cannot read then ends the others, too
    with distributed.joined(recipe.device) as processes:
        labels, config = prepare(source, recipe)
        _ensure_extras(config)
        distributed.agree(processes, *must_be_one(labels, config))
        folder = distributed.once(lambda: run_folder.create(runs, name), processes)
        with _lock(folder, processes), _nothing_left(folder, processes):
            if processes.first:
                for split in labels.values():
                    split.keep(folder)
                _write_recipe(folder, config)
                describe_run(folder, config, labels, command)
                if folder.name != name:
                    log.info(f"a run {name} exists; this one is {folder}")
            _fit(folder, config, labels, processes, None, report=report)
    return folder


def resume(
    folder: Path,
    options: dict[str, Any],
    source: Source | None,
    *,
    allow_data_change: bool = False,
    report: bool = True,
) -> bool:
    """Go on with an interrupted run. -> False when it is finished already.

    options: only those of RESUME_MAY_CHANGE. source: labels that moved or changed; None: the run's own.
    """
    run_folder.check(folder)
    for name in sorted(set(options) - RESUME_MAY_CHANGE):
        refuse_change(folder, recipes.shown(name))
    before = recipes.read_file(folder / run_folder.CONFIG)
    config = recipes.from_flat({**before, **options})
    recipes.check(config)
    changed = {name for name, value in options.items() if before.get(name) != value}
    if save_and_resume.why_over(folder, run_folder.read_run(folder), changed):
        return False
    with distributed.joined(config.run.device) as processes, _lock(folder, processes):
        found, labels = _read_for_resume(folder, config, source or Source(folder), allow_data_change)
        if "epochs" in changed:
            save_and_resume.check_epochs(
                folder, recipes.from_flat(before).schedule, config.schedule.epochs, found.meta["epoch"]
            )
        distributed.agree(processes, *must_be_one(labels, config))  # and all have read before the first tidies up
        if processes.first:
            if source is not None:
                for split in labels.values():
                    split.keep(folder)
            save_and_resume.open_run(folder)
            if changed - MAY_DIFFER:
                _write_recipe(folder, config)
            run_folder.update_run(folder, status="running")
            log.info(f"resuming {folder} after step {found.meta['step']} ({found.folder.name})")
        _fit(folder, config, labels, processes, found, report=report)
    return True


def _write_recipe(folder: Path, config: Config) -> None:
    with atomic_write(folder / run_folder.CONFIG) as file:
        file.write(recipes.to_yaml(config).encode())


def refuse_change(folder: Path, option: str) -> None:
    raise InputError(
        f"{folder}: {option} cannot change in a run; start a new one, with --weights {folder} to build on it"
    )


def must_be_one(labels: Labels, config: Config) -> tuple[tuple, dict]:
    """The labels and the options that must be the same in every process."""
    options = {name: value for name, value in recipes.flat(config).items() if name not in MAY_DIFFER}
    return tuple(labels[name].index.fingerprint if name in labels else None for name in ("train", "val")), options


def _ensure_extras(config: Config) -> None:
    """Weights to be fetched, packages and an augmentation to be had, before a run folder is made."""
    transforms.build(config.data.augment)
    first_weights.ensure(config.model.model, config.model.weights)
    trackers.wanted(config.run)


@contextlib.contextmanager
def _nothing_left(folder: Path, processes: Processes) -> Iterator[None]:
    """A new run that is refused before its first checkpoint, which comes before the first step, leaves no folder."""
    try:
        yield
    except InputError:
        if processes.first and not (folder / "last").exists():
            run_folder.discard(folder)
        raise


def _lock(folder: Path, processes: Processes) -> contextlib.AbstractContextManager:
    return run_folder.Lock(folder) if processes.first else contextlib.nullcontext()


def _read_for_resume(
    folder: Path, config: Config, source: Source, allow_data_change: bool
) -> tuple[checkpoint.Checkpoint, Labels]:
    """The newest intact checkpoint and the labels; other classes or other data are refused."""
    found, notes = checkpoint.load_last(folder)
    for note in notes:
        log.warning(note)
    labels = source.read()
    keep_outlines(labels, config)
    cut_labels(labels, config)
    for name in ("train", "val"):
        if name in labels and list(labels[name].index.classes) != found.classes:
            raise InputError(
                f"{folder}: was trained on the classes {', '.join(found.classes)}; "
                f"the labels have {', '.join(labels[name].index.classes)}"
            )
    check_test(labels, found.classes)
    for name, key in (("train", "data_fingerprint"), ("val", "val_fingerprint")):
        now = labels[name].index.fingerprint if name in labels else None
        if now != found.meta[key] and not allow_data_change:
            where = labels[name].path if name in labels else f"no {name}.json"
            raise InputError(
                f"{folder}: {where} is not what this run began with "
                f"(other images, boxes or order); --allow-data-change goes on all the same"
            )
    return found, labels


def _fit(
    folder: Path,
    config: Config,
    labels: Labels,
    processes: Processes,
    found: checkpoint.Checkpoint | None,
    *,
    report: bool,
) -> None:
    """Train in `folder`, its lock held; keep run.json true whatever happens; evaluate the best, report."""
    for split in labels.values():
        if split.name == "train" or not processes.first:
            split.forget()
    val = labels.get("val")
    progress = Progress(folder / "train.log" if processes.first else None, quiet=not processes.first)
    note = run_folder.update_run if processes.first else lambda *_, **__: None
    started = time.monotonic()

    def seconds() -> float:
        return round(time.monotonic() - started, 1)

    try:
        trained = training.fit(
            config,
            folder,
            labels["train"].index,
            val.index if val else None,
            (lambda detections: coco_metrics(val.whole(), detections)) if val else None,
            resume=found,
            processes=processes,
            progress=progress,
        )
        progress.line(f"{trained.ended} after {epochs_text(trained.epochs)}, {duration(seconds())}")
    except Stopped:
        note(folder, status="stopped", seconds=seconds())
        raise
    except BaseException as error:
        progress.only_log(f"failed: {error}")
        with contextlib.suppress(InputError):  # a full disk, say; the reason for the failure goes first
            note(folder, status="failed", seconds=seconds())
        raise
    finally:
        progress.close()
    if not processes.first:
        return
    note(
        folder,
        status="trained",
        seconds=seconds(),
        ended=trained.ended,
        best_epoch=trained.state.best_epoch,
        unreadable=trained.state.unreadable,
    )
    try:
        with stop_at_once():
            if report and val:
                _evaluate(folder, config, labels)
            note(folder, status="finished")
            if report and val:
                write_report(folder)
    except Stopped:
        log.warning(f"stopped before the report; --resume {folder} writes it")
        raise
    trained.check_saves()


def _evaluate(folder: Path, config: Config, labels: Labels) -> None:
    """Evaluate the best checkpoint on val, which chooses its score thresholds, and on test where there is one."""
    predictor = TorchDetector(folder, config.run.device)
    seen = labels["train"].index.classes_with_objects()
    for name in ("val", "test"):
        if name in labels:
            split = labels[name]
            metrics = evaluate_split(
                predictor, folder, name, split.whole(), split.index.image_root, seen=seen, where=str(split.path)
            )
            if small := few(metrics):
                log.warning(f"{name}: {small}")


def describe_run(folder: Path, config: Config, labels: Labels, command: str) -> None:
    """run.json: what was asked, of what, with which versions; and train_batch.jpg, what the network sees."""
    train: Index = labels["train"].index
    run_folder.update_run(
        folder,
        command=command,
        versions=run_folder.versions(),
        seed=config.run.seed,
        device=str(device_and_seed.choose_device(config.run.device)),
        model=config.model.model,
        classes=list(train.classes),
        num_images={name: labels[name].index.num_pictures if name in labels else 0 for name in ("train", "val")},
        data_fingerprint=train.fingerprint,
        started=time.strftime("%Y-%m-%d %H:%M:%S"),
        status="running",
    )
    dataset = DetectionDataset(train, transforms.build(config.data.augment), copy_paste=config.data.copy_paste)
    keys = next(iter(EpochBatches(train, min(9, len(train)), config.run.seed)))
    samples = [s for s in map(dataset.__getitem__, keys) if not isinstance(s, Unreadable)]
    if samples:
        sheet = batch_sheet([i for i, _ in samples], [t for _, t in samples], train.classes)
        save_jpeg(sheet, folder / "train_batch.jpg")
