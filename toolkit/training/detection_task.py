"""Detection as a task of the training loop: network, optimiser and batches of a config; AP on the validation set.

`fit` trains a detector. With `cached_views` the body is frozen, and its maps of a few augmented views of each image are
computed once and kept: FPN and heads alone learn, and a step takes a quarter of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from label_tools.text.errors import InputError
from toolkit import checkpoint, device_and_seed
from toolkit.config import Config, flat
from toolkit.data import transforms
from toolkit.data.boxes import coco_results
from toolkit.data.coco_index import Index
from toolkit.data.dataset import DetectionDataset, Unreadable
from toolkit.data.epoch_batches import EpochBatches, in_order, repeat_factors
from toolkit.data.loader import Batches, cache_share
from toolkit.data.tiles import joined
from toolkit.networks import builder, kept_maps, registry
from toolkit.networks.builder import build_model
from toolkit.networks.class_loss import set_class_loss
from toolkit.networks.kept_maps import Seen
from toolkit.rank_and_cores import Processes, worker_count
from toolkit.stopping import StopSignal
from toolkit.training import distributed, epoch_loop, forward_pass, optimizer_step, out_of_memory
from toolkit.training.progress import Progress
from toolkit.training.save_and_resume import Learner
from toolkit.training.task_interface import Task

METRICS = ("AP", "AP50", "AP75")
OF_MASKS = "segm_"  # before the same numbers by masks
Batch = tuple[list[torch.Tensor], list[dict]]  # images uint8 [3,H,W], targets with boxes, labels, image_id


class Detection(Task):
    """A detector that learns from `train`; `evaluate(detections) -> metrics` compares with the labels of `val`.

    `about`: a line on its first weights. A network with masks learns from the indices' outlines, has a fifth loss, and
    its best epoch is that of the highest AP by masks.
    """

    command = "frcnn train"

    def __init__(
        self,
        config: Config,
        train: Index,
        val: Index | None,
        evaluate: Callable[[list[dict]], dict[str, Any]] | None,
        processes: Processes,
        resume: checkpoint.Checkpoint | None,
    ) -> None:
        self.config, self.train, self.val, self.evaluate = config, train, val, evaluate
        self.processes, self.validates = processes, val is not None
        self.masks = registry.find(config.model.model).masks
        self.loss_names = (*forward_pass.LOSSES, forward_pass.MASK_LOSS) if self.masks else forward_pass.LOSSES
        self.metric = OF_MASKS + "AP" if self.masks else "AP"
        self.shown = ("AP", self.metric) if self.masks else ("AP", "AP50")
        self._make_network(resume)
        self._make_batches(resume.needed_state()["progress"]["unreadable"] if resume else [])

    def _make_network(self, resume: checkpoint.Checkpoint | None) -> None:
        config, run = self.config, self.config.run
        device_and_seed.seed_everything(run.seed, run.deterministic)
        self.device = device_and_seed.choose_device(run.device, self.processes.local_rank)
        self.dtype = device_and_seed.choose_precision(
            run.precision, self.device, registry.find(config.model.model).compact
        )
        known = resume.meta["architecture"] if resume else None
        model, self.architecture, self.about = build_model(config, self.train.classes, known)
        model.to(self.device)
        model.to(memory_format=torch.channels_last if run.channels_last else torch.preserve_format)
        averaged = optimizer_step.averaged(model, config.optimizer.ema) if config.optimizer.ema else None
        for network in (model, averaged.module if averaged else None):  # after the copy: hooks cannot be copied
            if network is not None:
                set_class_loss(network, config, self.train.class_counts())
        optimizer = optimizer_step.make_optimizer(model, config.optimizer)
        if run.compile:
            backbone: Any = model.backbone
            backbone.compile()
        wrapped: nn.Module = model
        if self.processes.world_size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            wrapped = nn.parallel.DistributedDataParallel(model, device_ids=ids)
            torch.manual_seed(run.seed + self.processes.rank)  # each process samples its own anchors
        self.learner = Learner(model, optimizer, averaged, wrapped)

    def _make_batches(self, unreadable: list[str]) -> None:
        data, processes, train, val = self.config.data, self.processes, self.train, self.val
        workers = worker_count(data.workers)
        self.sampler = EpochBatches(
            train,
            data.batch_size,
            self.config.run.seed,
            rank=processes.rank,
            world_size=processes.world_size,
            group_aspect=data.group_aspect,
            repeats=repeat_factors(train, data.repeat_rare),
        )
        cache = cache_share(data.cache_mb, workers)
        dataset = DetectionDataset(train, transforms.build(data.augment), cache, copy_paste=data.copy_paste)
        self.loader = Batches(dataset, self.sampler, workers, self.device, int(data.skip_bad * len(train)), unreadable)
        self.unreadable = self.loader.bad  # the list itself, which grows
        self.val_loader = None
        if val is not None:
            plan = in_order(val, data.batch_size, processes.rank, processes.world_size)
            self.val_loader = Batches(DetectionDataset(val, None, cache // 4), plan, workers, self.device)

    def close(self) -> None:
        """End the loader processes."""
        for loader in (self.loader, self.val_loader):
            if loader is not None:
                loader.close()

    def meta(self) -> dict[str, Any]:
        train, val = self.train, self.val
        return {
            "classes": [{"id": i, "name": n} for i, n in zip(train.category_ids, train.classes, strict=True)],
            "architecture": self.architecture,
            "config": flat(self.config),
            "data_fingerprint": train.fingerprint,
            "val_fingerprint": val.fingerprint if val is not None else None,
            "score_thresholds": {},
            "opening": dict(train.opening),
            **({"tiles": [train.cut.size, train.cut.overlap]} if train.cut else {}),
        }

    # --- training ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.sampler)

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        self.sampler.epoch, self.sampler.start = epoch, start
        return iter(self.loader)

    def train_mode(self, epoch: int) -> None:
        model = self.learner.model
        model.train()
        if self.config.model.freeze_bn:
            builder.freeze_norms(model)
        elif epoch < self.config.optimizer.head_epochs and hasattr(model, "backbone"):
            builder.freeze_norms(builder.body_of(model))  # a body that does not learn does not follow batches either

    def losses(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]] | None:
        images, targets = batch
        if not images:
            return None
        return forward_pass.training_losses(self.learner.wrapped, images, targets, self.device, self.dtype)

    def weight(self, number: int) -> float:
        return self.sampler.weight(number)

    def count(self, batch: Batch) -> int:
        return len(batch[0])

    def names(self, batch: Batch) -> list[str]:
        rows = np.flatnonzero(np.isin(self.train.image_ids, [target["image_id"] for target in batch[1]]))
        return [self.train.path(int(row)).name for row in rows]

    def memory_advice(self, batch: Batch | None) -> str:
        return out_of_memory.advice(self.config, self.train, *(batch or ([], [])))

    def norm_advice(self, batch: Batch) -> str:
        sizes = ", ".join(f"{image.shape[2]}x{image.shape[1]}" for image in batch[0])
        return (
            f"a batch of {len(batch[0])} image ({sizes} px) at --image-size {self.config.model.image_size} leaves "
            f"BatchNorm one value a channel, needs two; take --norm group, a larger --image-size, or another "
            f"--batch-size"
        )

    # --- evaluation -------------------------------------------------------------------------------------------

    def score(self, metrics: dict[str, Any]) -> float | None:
        best = metrics[self.metric]
        return metrics["AP"] if best is None else best  # val without outlines has boxes alone

    def validate(self, stop: StopSignal) -> tuple[dict[str, Any], int]:
        """Validation loss and AP of the evaluated weights, over all processes."""
        assert self.val is not None and self.val_loader is not None and self.evaluate is not None  # `validates` says so
        model, processes = self.learner.evaluated, self.processes
        distributed.agree_buffers(model, processes)
        stopped = lambda: bool(stop)  # noqa: E731
        losses = forward_pass.validation_loss(model, self.val_loader, self.device, self.dtype, stopped)
        results = []
        if not stop:
            for image_id, output in forward_pass.predict(model, self.val_loader, self.device, self.dtype, stopped):
                results += coco_results(image_id, output, self.train.category_ids)
        count = len(range(processes.rank, len(self.val), processes.world_size))
        found = distributed.gather_objects((losses, count, results, stop.requested), processes)
        if signum := next((signal for *_, signal in found if signal), 0):
            return {}, signum
        metrics: dict[str, Any] = {}
        if processes.first:
            detections = [entry for _, _, mine, _ in found for entry in mine]
            everything = self.evaluate(joined(detections, self.val.cut) if self.val.cut else detections)
            total = sum(n for _, n, _, _ in found)
            mean = {name: sum(theirs.get(name, 0.0) * n for theirs, n, _, _ in found) / total for name in losses}
            metrics = {name: everything[name] for name in METRICS}
            if self.masks:  # without a detection there is nothing to tell that it should have had a mask
                nothing = 0.0 if metrics["AP"] is not None and not everything["num_detections"] else None
                by_masks = everything.get("segm", dict.fromkeys(METRICS, nothing))
                metrics |= {OF_MASKS + name: by_masks[name] for name in METRICS}
            metrics["val_loss"] = mean
        return distributed.gather_objects(metrics, processes)[0], 0


class FrozenBody(Detection):
    """`Detection` whose batches are kept maps, of `cached_views` views an image. Maps of an epoch's views are computed
    when they are first needed: what a batch holds depends on seed and epoch alone, as everywhere."""

    def _make_network(self, resume: checkpoint.Checkpoint | None) -> None:
        super()._make_network(resume)
        kept_maps.check_frozen(self.learner.model, self.architecture["norm"], self.config.model)
        if self.processes.world_size > 1:
            raise InputError("--cached-views: works in one process; needs --cached-views 0 here")

    def _make_batches(self, unreadable: list[str]) -> None:
        super()._make_batches(unreadable)
        self.kept: dict[tuple[int, int], Seen] = {}

    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        self.sampler.epoch, self.sampler.start = epoch, start
        views, seed = self.config.data.cached_views, self.config.run.seed
        for keys in self.sampler:
            batch = []
            for row, drawn in keys:
                view = drawn % views
                seen = self.kept.get((row, view))
                if seen is None:
                    item = self.loader.dataset[row, (seed * views + view) * len(self.train) + row]
                    if isinstance(item, Unreadable):
                        self.loader.leave_out([item.reason])
                        continue
                    seen = self.kept[row, view] = self._seen(*item)
                batch.append(seen)
            yield batch, [seen.target for seen in batch]

    def _seen(self, image: torch.Tensor, target: dict[str, Any]) -> Seen:
        images, targets = forward_pass.to_device([image], [target], self.device)
        with forward_pass.autocast(self.device, self.dtype):
            return kept_maps.seen_by(self.learner.model, images[0], {**targets[0], "image_id": target["image_id"]})

    def losses(self, batch: Any) -> tuple[torch.Tensor, dict[str, float]] | None:
        if not batch[0]:
            return None
        with forward_pass.autocast(self.device, self.dtype):
            return forward_pass.total(kept_maps.losses_of(self.learner.model, batch[0]))

    def memory_advice(self, batch: Any) -> str:
        return super().memory_advice(None) + ", or fewer --cached-views"


def fit(
    config: Config,
    folder: Path,
    train: Index,
    val: Index | None,
    evaluate: Callable[[list[dict]], dict[str, Any]] | None,
    *,
    resume: checkpoint.Checkpoint | None = None,
    processes: Processes | None = None,
    progress: Progress | None = None,
) -> epoch_loop.Trained:
    """Train a detector on `train` into `folder`; `evaluate(detections) -> metrics` compares with the labels of `val`.

    Without `val` there is no AP, and `best` holds the last weights. For what it writes and raises see `epoch_loop.run`.
    """
    processes = processes or Processes()
    progress = progress or Progress(quiet=True)

    def make() -> Detection:
        kind = FrozenBody if config.data.cached_views else Detection
        task = kind(config, train, val, evaluate, processes, resume)
        progress.line(task.about)
        return task

    return epoch_loop.run(make, config, folder, resume=resume, processes=processes, progress=progress)
