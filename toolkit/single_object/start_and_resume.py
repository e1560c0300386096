"""Plan, start and resume the run of a single-object baseline."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit import checkpoint, device_and_seed
from toolkit.config import Schedule
from toolkit.single_object import baseline_task, baselines
from toolkit.single_object.baselines import Baseline, Recipe, find, make_network, recipe_of
from toolkit.single_object.contact_sheet import draw_answers
from toolkit.single_object.data.open_data import Selection, is_drawn, open_data
from toolkit.single_object.data.samples import Samples, fingerprint, shared
from toolkit.single_object.networks.backbones import check_backbone, ensure_weights
from toolkit.single_object.networks.hw5net import HW5Net
from toolkit.stopping import Stopped
from toolkit.training import run_folder, save_and_resume
from toolkit.training.progress import Progress

log = logging.getLogger(__name__)
RESUME_MAY_CHANGE = {"epochs", "patience", "max_time", "device"}
_SIZES = {"shapes5": (3, 32, 32), "digits": (1, 48, 60), "digit_grid": (1, 48, 60)}


@dataclass(frozen=True)
class Source:
    """Which pictures, drawn or from files; kept in run.json, so that a run can be taken up again."""

    data: str
    val: str | None = None
    train_images: int = 0  # drawn ones
    val_images: int = 0
    select: str = "largest"
    size: int = 32  # side of the pictures, pixels
    min_area: float = Selection.min_area
    classes: tuple[str, ...] = ()
    keep_empty: bool = False

    def open(self) -> tuple[Samples, Samples]:
        """Training and validation samples. Logs what they are, and warns of pictures that are in both."""
        selection = Selection(self.select, self.size, self.min_area, tuple(self.classes), self.keep_empty)
        val = Path(self.val) if self.val else None
        pair = open_data(self.data, val, self.train_images, self.val_images, selection)
        for samples in pair:
            log.info(samples.about())
        if not is_drawn(self.data) and (both := shared(*pair)):
            log.warning(
                f"{counted(both, 'picture')} of {len(pair[1])} in val also in train: the numbers will be too good; "
                "`frcnn split` keeps them apart"
            )
        return pair

    def moved(self, folder: Path, to_run: bool) -> Source:
        """With paths as seen from a run folder (to_run), so that a resume finds them from anywhere; or back."""
        paths: dict[str, Any] = {}
        for key in ("data", "val"):
            path = getattr(self, key)
            here = path if to_run else path and folder / path
            if path and not is_drawn(path) and Path(here).exists():
                paths[key] = os.path.relpath(path, folder) if to_run else str(here)
        return dataclasses.replace(self, **paths)


def plan(name: str, given: Mapping[str, Any]) -> tuple[Recipe, Source, tuple[Samples, Samples]]:
    """Recipe, pictures and samples of a new run. Refuses what would end it at its first step; writes nothing.

    given: what the caller chooses of the fields of `Source` and `Recipe`, a `backbone` and its `weights`; the rest is
    the baseline's own, by its budget.
    """
    baseline = baselines.find(name)
    backbone, weights = given.get("backbone"), given.get("weights", "none")
    if backbone or weights != "none":
        if baseline.data != "largest":
            raise InputError(f"{baseline.name}: --backbone and --weights are for resnet34 and loadhead")
        stands_on = backbone or inspect.signature(baseline.build).parameters["backbone"].default
        check_backbone(stands_on, weights)
        ensure_weights(stands_on, weights)
    data = given.get("data", baseline.data)
    for key in ("train_images", "val_images"):
        flag = f"--{key.replace('_', '-')} {given.get(key)}"
        if key in given and given[key] < 1:
            raise InputError(f"{flag}: needs 1 or more")
        if key in given and not is_drawn(data):
            raise InputError(f"{flag}: counts drawn pictures, --data {data} is read whole")
    budget = baselines.budget(baseline, given.get("budget", "scaled"), is_drawn(data))
    if data in ("dominant", "largest"):
        log.info(
            f"{baseline.name}: drawn pictures; to learn from your own: --data DIR (`frcnn convert`, `frcnn split`)"
        )
    own = {
        "train_images": budget.images,
        "val_images": budget.val,
        "select": baseline.data if baseline.data in ("dominant", "largest") else "largest",
        "size": budget.size or Source.size,
    }
    val = str(given["val"]) if given.get("val") else None
    classes = tuple(given.get("classes", ()))
    source = _made(Source, {**own, **given, "data": data, "val": val, "classes": classes})
    pair = source.open()
    network = baseline.options(len(pair[0].classes))
    if baseline.data == "largest":
        network["image_size"] = pair[0].size[0]
        network |= {"backbone": backbone} if backbone else {}
        network |= {"pretrained": weights} if weights != "none" else {}
    loss = baseline.loss
    if baseline.name == "loadhead" and source.keep_empty:
        network["presence"] = True
        loss = f"bce + {loss}"
    chosen = {**dataclasses.asdict(budget), "loss": loss, **given}
    augment = baseline.augment and given.get("augment", True)
    recipe = _made(Recipe, {**chosen, "baseline": name, "data": data, "augment": augment, "options": network})
    check_run(recipe, *pair)
    return recipe, source, pair


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass from those of the values that it has fields for."""
    return kind(**{field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values})


def start(name: str, given: Mapping[str, Any], runs: Path, run_name: str | None = None) -> tuple[Path, dict[str, Any]]:
    """Train a baseline in a new folder runs/run_name (default: its own name), by what is `given` to `plan`.
    -> (folder, content of result.json)."""
    recipe, source, pair = plan(name, given)
    wanted = name if run_name is None else run_name
    folder = run_folder.create(runs, wanted, flag="--as")
    if folder.name != wanted:
        log.info(f"a run {wanted} exists; this one is {folder}")
    with run_folder.Lock(folder):
        return folder, _fit(folder, recipe, pair, source.moved(folder, to_run=True), None)


def resume(folder: Path, options: dict[str, Any], name: str | None = None) -> dict[str, Any] | str:
    """Go on with a run. -> content of result.json; or why there is nothing left to do.

    options: those of RESUME_MAY_CHANGE. name: refuse the run of another baseline.
    """
    if wrong := sorted(set(options) - RESUME_MAY_CHANGE):
        flag = {"augment": "no-augment"}.get(wrong[0], wrong[0].replace("_", "-"))
        raise InputError(f"--resume: --{flag} cannot change in a run; start a new one")
    found, notes = checkpoint.load_last(folder)
    for note in notes:
        log.warning(note)
    baseline, recipe = recipe_of(found.meta, folder)
    if name not in (None, baseline.name):
        raise InputError(f"--resume {folder}: is a run of {baseline.name}, found {name}")
    record = run_folder.read_run(folder)
    try:
        stored = Source(**record["data"])
    except (KeyError, TypeError):
        raise InputError(
            f"{folder / run_folder.RUN}: does not say which data the run was trained on; start a new one"
        ) from None
    changed = {key for key, value in options.items() if value != getattr(recipe, key)}
    again = dataclasses.replace(recipe, **options)
    again.check()
    if "epochs" in changed:
        before = Schedule(epochs=recipe.epochs, schedule=recipe.schedule)
        save_and_resume.check_epochs(folder, before, again.epochs, found.meta["epoch"])
    if ended := save_and_resume.why_over(folder, record, changed):
        return ended
    pair = stored.moved(folder, to_run=False).open()
    save_and_resume.check_same_data(found, folder, *map(fingerprint, pair))
    with run_folder.Lock(folder):
        return _fit(folder, again, pair, stored, save_and_resume.open_run(folder))


def _fit(
    folder: Path, recipe: Recipe, pair: tuple[Samples, Samples], source: Source, found: checkpoint.Checkpoint | None
) -> dict[str, Any]:
    """Train in `folder`, its lock held; keep run.json true whatever happens. Raises Stopped."""
    progress = Progress(folder / "train.log")
    ending, started = {"status": "failed"}, time.monotonic()
    about = {"kind": "single_object", "recipe": dataclasses.asdict(recipe), "data": dataclasses.asdict(source)}
    run_folder.update_run(folder, **about, versions=run_folder.versions(), status="running")
    try:
        result = baseline_task.fit(recipe, folder, *pair, resume=found, progress=progress)
        ending = {"status": "finished", "ended": result["ended"]}
    except Stopped:
        ending = {"status": "stopped"}
        raise
    finally:
        progress.close()
        with contextlib.suppress(InputError):  # a full disk, say; the reason for the failure goes first
            run_folder.update_run(folder, **ending, seconds=round(time.monotonic() - started, 1))
    draw_answers(folder, pair[1])
    return result


def check_run(recipe: Recipe, train: Samples, val: Samples) -> None:
    """Raise the InputError that training would end with: of the recipe, the loss, the pictures, the batch."""
    recipe.check()
    device_and_seed.choose_device(recipe.device)
    baseline = find(recipe.baseline)
    check_size(baseline, train)
    for samples in (train, val):
        baseline_task.Targets(baseline, samples, recipe)
    options = {name: value for name, value in recipe.options.items() if name != "pretrained"}
    first = torch.zeros(min(recipe.batch, len(train)), *train.images.shape[1:], device="meta")
    try:
        with torch.device("meta"), torch.no_grad():  # shapes only: nothing is allocated or computed
            make_network(baseline, options).train()(first)
    except ValueError as error:  # torch: "Expected more than 1 value per channel when training"
        if len(first) > 1:
            raise
        raise InputError(
            f"{baseline.name}: a batch of one picture, {counted(len(train), 'picture')} and --batch "
            f"{recipe.batch}; its norms need two or more of each"
        ) from error
    except RuntimeError as error:
        why = str(error).splitlines()[0][:120]
        raise InputError(
            f"{baseline.name}: cannot take pictures of {train.size[1]} x {train.size[0]} ({why}); "
            "needs another --size or --backbone"
        ) from error


def check_size(baseline: Baseline, samples: Samples) -> None:
    """The documents' networks take one size of picture."""
    wanted = _SIZES.get(baseline.data)
    if baseline.build is HW5Net:
        wanted = (3, 256, 256)
    found = tuple(samples.images.shape[1:])
    if wanted and found != wanted:
        takes, has = (f"{w} x {h} with {counted(c, 'channel')}" for c, h, w in (wanted, found))
        raise InputError(f"{baseline.name}: takes pictures of {takes}, {samples.name} has {has}")
    if baseline.data in ("dominant", "largest") and found[0] != 3:
        raise InputError(f"{baseline.name}: takes colour pictures, {samples.name} has {counted(found[0], 'channel')}")
