"""Detection as a task of the training loop: network, optimiser and batches of a config; AP on the validation set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from toolkit import checkpoint, runtime
from toolkit.config import Config, flat
from toolkit.data import transforms
from toolkit.data.coco_index import Index, coco_results
from toolkit.data.dataset import DetectionDataset
from toolkit.data.epoch_batches import EpochBatches, repeat_factors
from toolkit.data.loader import Batches, cache_share, in_order
from toolkit.data.train_tiles import joined
from toolkit.networks import builder, registry
from toolkit.networks.from_config import build_model, set_class_loss
from toolkit.processes import worker_count
from toolkit.stopping import StopSignal
from toolkit.training import engine, optim, out_of_memory
from toolkit.training.learner import Learner
from toolkit.training.task import Task

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
        processes: runtime.Processes,
        resume: checkpoint.Checkpoint | None,
    ) -> None:
        self.config, self.train, self.val, self.evaluate = config, train, val, evaluate
        self.processes, self.validates = processes, val is not None
        self.masks = registry.find(config.model.model).masks
        self.loss_names = (*engine.LOSSES, engine.MASK_LOSS) if self.masks else engine.LOSSES
        self.metric = OF_MASKS + "AP" if self.masks else "AP"
        self.shown = ("AP", self.metric) if self.masks else ("AP", "AP50")
        self._make_network(resume)
        self._make_batches(resume.needed_state()["progress"]["unreadable"] if resume else [])

    def _make_network(self, resume: checkpoint.Checkpoint | None) -> None:
        config, run = self.config, self.config.run
        runtime.seed_everything(run.seed, run.deterministic)
        self.device = runtime.choose_device(run.device, self.processes.local_rank)
        self.dtype = runtime.choose_precision(run.precision, self.device, registry.find(config.model.model).compact)
        known = resume.meta["architecture"] if resume else None
        model, self.architecture, self.about = build_model(config, self.train.classes, known)
        model.to(self.device)
        model.to(memory_format=torch.channels_last if run.channels_last else torch.preserve_format)
        averaged = optim.averaged(model, config.optimizer.ema) if config.optimizer.ema else None
        for network in (model, averaged.module if averaged else None):  # after the copy: hooks cannot be copied
            if network is not None:
                set_class_loss(network, config, self.train.class_counts())
        optimizer = optim.make_optimizer(model, config.optimizer)
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
            **({"tiles": [train.cut.tiles.size, train.cut.tiles.overlap]} if train.cut else {}),
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
        return engine.training_losses(self.learner.wrapped, images, targets, self.device, self.dtype)

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
        runtime.agree_buffers(model, processes)
        stopped = lambda: bool(stop)  # noqa: E731
        losses = engine.validation_loss(model, self.val_loader, self.device, self.dtype, stopped)
        results = []
        if not stop:
            for image_id, output in engine.predict(model, self.val_loader, self.device, self.dtype, stopped):
                results += coco_results(image_id, output, self.train.category_ids)
        count = len(range(processes.rank, len(self.val), processes.world_size))
        found = runtime.gather_objects((losses, count, results, stop.requested), processes)
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
        return runtime.gather_objects(metrics, processes)[0], 0
