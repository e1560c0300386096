"""A single-object baseline as a task of the training loop, and `fit`, which trains one in a run folder.

A run folder is like that of a detector, and has result.json: the numbers of the LAST weights, so that nothing was
chosen on the validation pictures (document 001 chose its checkpoint on the test set).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from label_tools.files.write_json_csv import write_json
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit import checkpoint, device_and_seed
from toolkit.config import Config, Optimizer, Run, Schedule
from toolkit.single_object import evaluate_baseline, grid_cells, losses
from toolkit.single_object.baselines import Baseline, Recipe, find, make_network
from toolkit.single_object.data.augment import augment
from toolkit.single_object.data.samples import One, Samples, fingerprint
from toolkit.single_object.evaluate_baseline import score
from toolkit.single_object.losses import WeightedSum
from toolkit.single_object.network_outputs import read
from toolkit.stopping import StopSignal
from toolkit.training import epoch_loop, forward_pass
from toolkit.training.progress import Progress
from toolkit.training.save_and_resume import Learner, check_same_data
from toolkit.training.task_interface import Task

RESULT = "result.json"
SAVE_EVERY = 10.0  # minutes between checkpoints inside an epoch


def fit(
    recipe: Recipe,
    folder: Path,
    train: Samples,
    val: Samples,
    *,
    resume: checkpoint.Checkpoint | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train in `folder`; -> the content of result.json. For what it raises see `epoch_loop.run`."""
    recipe.check()
    make = functools.partial(SingleObject, recipe, folder, train, val, resume)
    trained = epoch_loop.run(make, _config(recipe), folder, resume=resume, progress=progress)
    result = _result(trained)
    write_json(folder / RESULT, result)
    trained.check_saves()
    return result


def _result(trained: epoch_loop.Trained) -> dict[str, Any]:
    """Content of result.json."""
    task = trained.task
    assert isinstance(task, SingleObject)
    metrics = trained.metrics
    if metrics is None:  # resumed after its last epoch
        metrics, _ = evaluate_baseline.evaluate(task.learner.model, task.baseline, task.val, task.device)
    result = {
        "baseline": task.baseline.name,
        "document": task.baseline.document,
        "recipe": dataclasses.asdict(task.recipe),
        "parameters": sum(p.numel() for p in task.learner.model.parameters()),
        "train_images": len(task.train),
        "size": list(task.train.size),
        "steps": trained.state.step,
        "epochs": trained.epochs,
        "ended": trained.ended,
        "seconds": round(trained.seconds, 1),
        "device": str(task.device),
        "threads": torch.get_num_threads(),
        "best_epoch": trained.state.best_epoch,
        "best_score": trained.state.best_score,
        "first_weights": task.first_weights,
        "weights": "last",
        "metrics": {k: v for k, v in metrics.items() if k != "val_loss"},
        "finds_nothing": evaluate_baseline.finds_nothing(task.val, task.baseline.grid),
    }
    if not task.baseline.grid:
        result["always_the_same"] = evaluate_baseline.always_the_same(task.val, task.train)
    return result


def _config(recipe: Recipe) -> Config:
    """The sections of a detector's config that the loop goes by."""
    return Config(
        optimizer=Optimizer(lr=recipe.lr, clip_norm=0.0),
        schedule=Schedule(
            epochs=recipe.epochs,
            schedule=recipe.schedule,
            warmup=0,
            patience=recipe.patience,
            max_time=recipe.max_time,
            save_every=SAVE_EVERY,
        ),
        run=Run(seed=recipe.seed, device=recipe.device, precision=recipe.precision),
    )


class Targets:
    """The targets of `samples` for a baseline, and its losses for a batch of rows. InputError: a wrong loss."""

    def __init__(self, baseline: Baseline, samples: Samples, recipe: Recipe) -> None:
        loss = recipe.loss
        self.baseline, self.loss, self.size = baseline, loss, samples.size
        if baseline.grid:
            if loss not in losses.GRID_LOSSES:
                raise InputError(f"--loss {loss}: a grid detector takes {' or '.join(losses.GRID_LOSSES)}")
            self.cells, _ = grid_cells.assign(samples)
        else:
            self.sum, self.one = WeightedSum.parse(loss), samples.one()
            presence = baseline.form == "presence_box_class" or recipe.options.get("presence")
            if "bce" in self.sum.weights and not presence:
                raise InputError(f"--loss {loss!r}: {baseline.name} has no presence output; leave bce out")
            if presence and "bce" not in self.sum.weights:
                raise InputError(
                    f"--loss {loss!r}: does not train the presence output of {baseline.name}; needs bce, too"
                )

    @property
    def loss_names(self) -> tuple[str, ...]:
        return losses.GRID_TERMS if self.baseline.grid else tuple(self.sum.weights)

    def losses(
        self, network: nn.Module, images: Tensor, rows: Tensor, device: torch.device, changed: bool
    ) -> dict[str, Tensor]:
        if self.baseline.grid:
            return losses.grid_terms(self.loss, network(images).float(), self.cells[rows].to(device))
        truth = One(*(part[rows].to(device) for part in self.one))
        if changed:
            images, boxes = augment(images, truth.boxes)
            truth = truth._replace(boxes=boxes)
        return self.sum.terms(read(network(images), self.baseline.form), truth, self.baseline.code, self.size)


class SingleObject(Task):
    """A baseline that learns from `train` and is evaluated on `val`. A batch is its rows of `train`."""

    metric, shown = "score", ("accuracy", "mean_iou", "AP50")
    command = "frcnn baseline train"

    def __init__(
        self, recipe: Recipe, folder: Path, train: Samples, val: Samples, resume: checkpoint.Checkpoint | None
    ) -> None:
        self.train, self.val = train, val
        self.baseline = baseline = find(recipe.baseline)
        self.device = device_and_seed.choose_device(recipe.device)
        self.dtype = device_and_seed.choose_precision(recipe.precision, self.device, compact=False)
        device_and_seed.seed_everything(recipe.seed)
        options = {k: v for k, v in recipe.options.items() if k != "pretrained"}
        pretrained = recipe.options.get("pretrained", "none") if resume is None else "none"
        self.first_weights = pretrained if resume is None else resume.meta.get("first_weights", "none")
        self.recipe = recipe = dataclasses.replace(recipe, options=options)
        # channels last: the same numbers up to rounding, a fifth faster on a CPU
        network = make_network(baseline, options, pretrained).to(self.device)
        network.to(memory_format=torch.channels_last)
        self.learner = Learner(network, _optimizer(network, recipe, baseline.betas))
        self.targets, self.val_targets = Targets(baseline, train, recipe), Targets(baseline, val, recipe)
        self.loss_names, self.unreadable = self.targets.loss_names, []
        self.count_of_batches = _batch_count(len(train), recipe.batch)
        self.log_every = max(1, min(recipe.log_every, self.count_of_batches * recipe.epochs // 50))
        self.fingerprints = fingerprint(train), fingerprint(val)
        if resume is not None:
            check_same_data(resume, folder, *self.fingerprints)

    def meta(self) -> dict[str, Any]:
        return {
            "kind": "single_object",
            "architecture": {"name": self.baseline.name, **self.recipe.options},
            "classes": [{"id": i, "name": n} for i, n in enumerate(self.train.classes, 1)],
            "recipe": dataclasses.asdict(self.recipe),
            "size": list(self.train.size),
            "first_weights": self.first_weights,
            "data_fingerprint": self.fingerprints[0],
            "val_fingerprint": self.fingerprints[1],
        }

    # --- training ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self.count_of_batches

    def batches(self, epoch: int, start: int) -> Iterator[Tensor]:
        dice = torch.Generator().manual_seed(self.recipe.seed * 100_003 + epoch)
        order = torch.randperm(len(self.train), generator=dice)
        return iter(order.split(self.recipe.batch)[start : self.count_of_batches])

    def train_mode(self, epoch: int) -> None:
        self.learner.model.train()

    def losses(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        images = evaluate_baseline.as_input(self.train.images[batch], self.device, self.baseline.raw)
        with forward_pass.autocast(self.device, self.dtype):
            terms = self.targets.losses(self.learner.model, images, batch, self.device, self.recipe.augment)
        return forward_pass.total(terms)

    def count(self, batch: Tensor) -> int:
        return len(batch)

    def names(self, batch: Tensor) -> list[str]:
        return [self.train.file(int(row)) for row in batch]

    def memory_advice(self, batch: Tensor | None) -> str:
        height, width = self.train.size
        return (
            f"a batch of {counted(self.recipe.batch, 'picture')} of {width} x {height}; try a smaller --batch, or a "
            f"smaller --size where the network takes one"
        )

    # --- evaluation -------------------------------------------------------------------------------------------

    def score(self, metrics: dict[str, Any]) -> float:
        return score(metrics)

    def validate(self, stop: StopSignal) -> tuple[dict[str, Any], int]:
        metrics, _ = evaluate_baseline.evaluate(self.learner.model, self.baseline, self.val, self.device)
        return {**metrics, "val_loss": self._validation_loss()}, stop.requested

    @torch.inference_mode()
    def _validation_loss(self) -> dict[str, float]:
        """Mean of each loss over the validation pictures."""
        self.learner.model.eval()
        sums: dict[str, float] = {}
        for rows in torch.arange(len(self.val)).split(64):
            images = evaluate_baseline.as_input(self.val.images[rows], self.device, self.baseline.raw)
            terms = self.val_targets.losses(self.learner.model, images, rows, self.device, False)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(rows)
        return {name: value / len(self.val) for name, value in sums.items()}


def _optimizer(network: nn.Module, recipe: Recipe, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """fused: one pass over the memory; Adam's step on 20 million weights takes 1/14 of the time on a CPU."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=0.9, fused=True)
    return torch.optim.Adam(network.parameters(), lr=recipe.lr, betas=betas, fused=True)


def _batch_count(images: int, batch: int) -> int:
    """Batches of an epoch; a last one of a single image is left out, BatchNorm cannot learn from it."""
    count = -(-images // batch)
    return max(1, count - 1) if images % batch == 1 and batch > 1 else count
