"""`fit`: the training loop, its checkpoints and logs. What a step does is in `engine`, what is drawn in `curves`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from label_tools.errors import InputError
from toolkit import checkpoint, class_loss, engine, models, run_folder, runtime, schedule, transforms
from toolkit.config import Config, flat
from toolkit.data import DetectionDataset, EpochBatches, Index, coco_results, repeat_factors
from toolkit.loader import Batches, MachineError, cache_share, in_order
from toolkit.progress import Progress, duration
from toolkit.stopping import Stopped, StopSignal


@dataclass
class State:
    """Where a run stands; everything that resume needs beside weights, optimiser and generators."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs done
    batch: int = 0  # batches done in the epoch under way
    best_ap: float = -1.0
    best_epoch: int = -1
    since_best: int = 0
    seconds: float = 0.0
    skipped: int = 0
    sums: dict[str, float] = field(default_factory=dict)  # losses of the epoch under way
    log_bytes: int = 0


@dataclass(frozen=True)
class Trained:
    """What `fit` leaves: the best checkpoint and why it ended."""

    folder: Path
    best_ap: float
    best_epoch: int
    epochs: int
    ended: str


def fit(
    config: Config,
    folder: Path,
    train: Index,
    val: Index | None,
    evaluate: Callable[[list[dict]], dict[str, Any]] | None,
    *,
    resume: checkpoint.Checkpoint | None = None,
    processes: runtime.Processes | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a detector on `train` into `folder`, judged on `val` by `evaluate(detections) -> metrics` each epoch.

    Writes last, best, metrics.jsonl and results.csv. Raises Stopped after SIGINT or SIGTERM, with everything saved;
    NonFiniteLoss becomes an InputError that names step, losses and images.
    """
    processes = processes or runtime.Processes()
    progress = progress or Progress(quiet=True)
    trainer = _Trainer(config, folder, train, val, evaluate, processes, progress, resume)
    with StopSignal() as stop:
        try:
            return trainer.run(stop)
        except torch.OutOfMemoryError as error:
            raise MachineError(trainer.out_of_memory(str(error))) from None
        finally:
            trainer.log.close()


class _Trainer:
    """The parts of one run, and the order in which they act."""

    def __init__(self, config: Config, folder: Path, train: Index, val: Index | None, evaluate: Callable | None,
                 processes: runtime.Processes, progress: Progress,
                 resume: checkpoint.Checkpoint | None) -> None:  # fmt: skip
        self.config, self.folder, self.train, self.val = config, folder, train, val
        self.evaluate, self.processes, self.progress = evaluate, processes, progress
        run, data = config.run, config.data
        runtime.seed_everything(run.seed, run.deterministic)
        self.device = runtime.choose_device(run.device, processes.local_rank)
        self.dtype = runtime.choose_precision(run.precision, self.device, models.find(config.model.model).compact)
        self.model, self.architecture, about = build_model(
            config, len(train.classes) + 1, resume.meta["architecture"] if resume else None
        )
        progress.line(about)
        self.model.to(self.device, memory_format=torch.channels_last if run.channels_last else torch.preserve_format)
        self.ema = _averaged(self.model, config.optimizer.ema) if config.optimizer.ema else None
        self.optimizer = make_optimizer(self.model, config)
        if config.optimizer.class_weights != "none" or config.optimizer.label_smoothing:
            weight = None
            if config.optimizer.class_weights == "balanced":
                weight = class_loss.balanced_weights(torch.from_numpy(train.class_counts()))
            class_loss.install(self.model.roi_heads, weight, config.optimizer.label_smoothing)
        if run.compile:
            self.model.backbone.compile()
        self.wrapped = self._distribute()
        workers = runtime.worker_count(data.workers)
        self.sampler = EpochBatches(train, data.batch_size, run.seed, rank=processes.rank,
                                    world_size=processes.world_size, group_aspect=data.group_aspect,
                                    repeats=repeat_factors(train, data.repeat_rare))  # fmt: skip
        cache = cache_share(data.cache_mb, workers)
        dataset = DetectionDataset(train, transforms.build(data.augment), cache)
        self.batches = Batches(dataset, self.sampler, workers, self.device, int(data.skip_bad * len(train)))
        self.val_batches = None
        if val is not None:
            plan = in_order(val, data.batch_size, processes.rank, processes.world_size)
            self.val_batches = Batches(DetectionDataset(val, None, cache // 4), plan, workers, self.device)
        self.steps_per_epoch = -(-len(self.sampler) // config.optimizer.accumulate)
        self.total_steps = self.steps_per_epoch * config.schedule.epochs
        self.state = State()
        self.log = run_folder.MetricsLog(folder) if processes.first else _NoLog()
        self.started = self.saved = time.monotonic()
        self.failed_saves: list[str] = []
        self.seen: tuple[list, list] = ([], [])
        self.first_step = 0
        if resume is not None:
            self._restore(resume)

    def _distribute(self) -> nn.Module:
        if self.processes.world_size == 1:
            return self.model
        torch.manual_seed(self.config.run.seed + self.processes.rank)  # sampling of anchors differs per process
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(self.model, device_ids=ids, find_unused_parameters=False)

    # --- the loop ---------------------------------------------------------------------------------------------

    def run(self, stop: StopSignal) -> Trained:
        schedule_, state = self.config.schedule, self.state
        ended = "finished"
        while state.epoch < schedule_.epochs:
            self._epoch(stop)
            state.epoch, state.batch = state.epoch + 1, 0
            due = state.epoch % schedule_.eval_every == 0 or state.epoch == schedule_.epochs
            self._close_epoch(self._judge(stop) if due and self.val is not None else None)
            if schedule_.patience and state.since_best >= schedule_.patience:
                ended = f"early stop: no better AP in {state.since_best} evaluations"
                break
            if self._time_is_up():
                ended = f"--max-time {schedule_.max_time:g} min is over"
                break
        if self.val is None:
            self._save("best")
        if self.failed_saves:
            raise MachineError(f"{self.folder}: training ended, but not every checkpoint could be written: "
                               f"{self.failed_saves[-1]}")  # fmt: skip
        return Trained(self.folder, state.best_ap, state.best_epoch, state.epoch, ended)

    def _epoch(self, stop: StopSignal) -> None:
        state, accumulate = self.state, self.config.optimizer.accumulate
        self.model.train()
        if self.config.model.freeze_bn:
            models.freeze_norms(self.model)
        if state.batch == 0:
            state.sums = {}
        self.sampler.epoch, self.sampler.start = state.epoch, state.batch
        heads_only = state.epoch < self.config.optimizer.head_epochs
        clock = time.monotonic()
        for images, targets in self.batches:
            self.seen = (images, targets)
            last = state.batch + 1 == len(self.sampler)
            share = min(accumulate, len(self.sampler) - state.batch // accumulate * accumulate)
            try:
                total, losses = engine.training_losses(self.wrapped, images, targets, self.device, self.dtype)
                (total / share).backward()
            except engine.NonFiniteLoss as error:
                self._not_finite(error)
                losses = {}
            state.batch += 1
            for name, value in losses.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
            if state.batch % accumulate and not last:
                continue
            lr = self._step(heads_only)
            losses, signal_ = self._agree(losses, stop)
            now = time.monotonic()
            self._report(losses, lr, len(images) * accumulate * self.processes.world_size / max(1e-9, now - clock))
            clock = now
            self._save_if_due(signal_)

    def _step(self, heads_only: bool) -> float:
        state, optimizer, config = self.state, self.optimizer, self.config
        share = schedule.factor(config.schedule.schedule, state.step, self.total_steps, config.schedule.warmup)
        for group in optimizer.param_groups:
            group["lr"] = config.optimizer.lr * group["share"] * share
            if heads_only and group["body"]:
                for parameter in group["params"]:
                    parameter.grad = None
        try:
            engine.update(self.model, optimizer, config.optimizer.clip_norm)
        except engine.NonFiniteLoss as error:
            self._not_finite(error)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        state.step += 1
        return config.optimizer.lr * share

    def _not_finite(self, error: engine.NonFiniteLoss) -> None:
        """A loss or gradient is not finite: stop here, before any weight moved, or skip at most three batches."""
        names = [str(target["image_id"]) for target in self.seen[1]]
        rows = [int(np.flatnonzero(self.train.image_ids == int(i))[0]) for i in names]
        files = ", ".join(self.train.path(row).name for row in rows)
        self.optimizer.zero_grad(set_to_none=True)
        self.state.skipped += 1
        where = f"step {self.state.step + 1}, epoch {self.state.epoch + 1}: {error} on images {files}"
        if self.config.run.on_nan == "skip" and self.state.skipped <= 3:
            self.progress.line(f"skipped: {where}")
            return
        raise InputError(
            f"{where}: loss is not finite; nothing of this batch was learned or saved; "
            f"try a lower --lr, --precision fp32, or look at these images, then --resume {self.folder}"
        )

    def _agree(self, losses: dict[str, float], stop: StopSignal) -> tuple[dict[str, float], int]:
        """Mean losses over the processes, and the signal that any of them got (0: none)."""
        if self.processes.world_size == 1:
            return losses, stop.requested
        names = list(engine.LOSSES)
        values = torch.tensor([*(losses.get(n, 0.0) for n in names), 0.0], device=self.device)
        torch.distributed.all_reduce(values)
        signals = torch.tensor([stop.requested], device=self.device)
        torch.distributed.all_reduce(signals, op=torch.distributed.ReduceOp.MAX)
        means = (values / self.processes.world_size).tolist()
        return dict(zip(names, means, strict=False)), int(signals.item())

    # --- after an epoch ---------------------------------------------------------------------------------------

    def _judge(self, stop: StopSignal) -> dict[str, Any]:
        """-> {"val_loss", "AP", "AP50", "AP75"} of the weights that would be saved."""
        model = self.ema.module if self.ema is not None else self.model
        losses = engine.validation_loss(model, self.val_batches, self.device, self.dtype)
        results = []
        for image_id, output in engine.predict(model, self.val_batches, self.device, self.dtype):
            results += coco_results(image_id, output, self.train.category_ids)
        count = len(range(self.processes.rank, len(self.val), self.processes.world_size))
        parts = runtime.gather_objects((losses, count, results), self.processes)
        total = sum(n for _, n, _ in parts)
        mean = {name: sum(p.get(name, 0.0) * n for p, n, _ in parts) / total for name in losses}
        metrics = self.evaluate([entry for _, _, found in parts for entry in found])
        return {"val_loss": mean, **{k: metrics[k] for k in ("AP", "AP50", "AP75")}}

    def _close_epoch(self, judged: dict[str, Any] | None) -> None:
        state = self.state
        train_loss = {name: value / len(self.sampler) for name, value in state.sums.items()}
        seconds = state.seconds + time.monotonic() - self.started
        record = {"kind": "epoch", "epoch": state.epoch, "step": state.step, "train_loss": train_loss,
                  "lr": self.optimizer.param_groups[-1]["lr"], "seconds": round(seconds, 1)}  # fmt: skip
        record.update(judged or {})
        self.log.write(**record)
        text = f"epoch {state.epoch}/{self.config.schedule.epochs}  train loss {sum(train_loss.values()):.3f}"
        better = False
        if judged is not None:
            ap = -1.0 if judged["AP"] is None else judged["AP"]
            better = ap > state.best_ap or state.best_epoch < 0
            state.since_best = 0 if better else state.since_best + 1
            if better:
                state.best_ap, state.best_epoch = ap, state.epoch
            shown = {k: "n/a" if judged[k] is None else f"{judged[k]:.3f}" for k in ("AP", "AP50")}
            text += f"  val loss {sum(judged['val_loss'].values()):.3f}  AP {shown['AP']}  AP50 {shown['AP50']}"
            text += "  best so far" if better else ""
        self.progress.line(text + f"  {duration(seconds)}")
        if better:
            self._save("best", judged)
        self._save("last", judged)
        if self.processes.first:
            run_folder.write_results(self.folder)

    def _report(self, losses: dict[str, float], lr: float, images_per_s: float) -> None:
        state = self.state
        record = {"kind": "step", "step": state.step, "epoch": state.epoch, "lr": lr, "loss": sum(losses.values()),
                  "images_per_s": round(images_per_s, 2), **losses}  # fmt: skip
        self.log.write(**record)
        spent = time.monotonic() - self.started
        left = spent / max(1, state.step - self.first_step) * (self.total_steps - state.step)
        parts = "  ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())
        self.progress.step(
            f"epoch {state.epoch + 1}/{self.config.schedule.epochs}  step {state.step}/{self.total_steps}  {parts}  "
            f"lr {lr:.2g}  {images_per_s:.1f} images/s  {duration(left)} left"
        )

    def _time_is_up(self) -> bool:
        limit = self.config.schedule.max_time * 60
        spent = self.state.seconds + time.monotonic() - self.started
        return any(runtime.gather_objects(bool(limit and spent >= limit), self.processes))

    # --- checkpoints ------------------------------------------------------------------------------------------

    def _save_if_due(self, signum: int) -> None:
        if signum:
            self._save("last")
            self.progress.line(f"stopped after step {self.state.step}; go on with --resume {self.folder}")
            raise Stopped(signum)
        if time.monotonic() - self.saved > self.config.schedule.save_every * 60:
            self._save("last")

    def _save(self, name: str, judged: dict[str, Any] | None = None) -> None:
        """Write a checkpoint. When the disk refuses, the old one stays and training goes on."""
        if not self.processes.first:
            return
        state = self.state
        state.log_bytes = self.log.sync()
        meta = {
            "classes": [{"id": i, "name": n} for i, n in zip(self.train.category_ids, self.train.classes, strict=True)],
            "architecture": self.architecture,
            "config": flat(self.config),
            "precision": str(self.dtype).removeprefix("torch."),
            "data_fingerprint": self.train.fingerprint,
            "versions": runtime.versions(),
            "score_thresholds": {},
            "epoch": state.epoch,
            "step": state.step,
            "metrics": {k: (judged or {}).get(k) for k in ("AP", "AP50", "AP75")},
        }
        averaged = self.ema.module.state_dict() if self.ema is not None else self.model.state_dict()
        try:
            checkpoint.save(self.folder / name, meta, averaged, self._state() if name == "last" else None)
            self.saved = time.monotonic()
        except OSError as error:
            self.failed_saves.append(f"{name}: {error.strerror or error}")
            self.progress.line(f"warning: {self.folder / name} could not be written ({error.strerror or error}); "
                               f"the checkpoint before it stays")  # fmt: skip

    def _state(self) -> dict[str, Any]:
        spent = self.state.seconds + time.monotonic() - self.started
        state = {
            "progress": {**vars(self.state), "seconds": spent, "sums": dict(self.state.sums)},
            "optimizer": self.optimizer.state_dict(),
            "rng": runtime.rng_state(),
        }
        if self.ema is not None:  # then weights.safetensors holds the average
            state["model"] = self.model.state_dict()
            state["averaged"] = int(self.ema.n_averaged)
        return state

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        """Go on exactly where `found` was saved."""
        state = found.state
        self.model.load_state_dict(state.get("model", found.weights))
        if self.ema is not None:
            self.ema.module.load_state_dict(found.weights)
            self.ema.n_averaged.fill_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.state = State(**state["progress"])
        self.first_step = self.state.step
        self.log.close()
        self.log = run_folder.MetricsLog(self.folder, self.state.log_bytes) if self.processes.first else _NoLog()
        runtime.set_rng_state(state["rng"])
        if self.processes.rank:
            torch.manual_seed(self.config.run.seed + self.processes.rank + self.state.step)

    def out_of_memory(self, reason: str) -> str:
        images, targets = self.seen
        sizes = ", ".join(f"{i.shape[2]}x{i.shape[1]}" for i in images)
        boxes = ", ".join(str(len(t["boxes"])) for t in targets)
        return (
            f"out of memory at step {self.state.step + 1}: batch of {len(images)} images ({sizes} px; {boxes} boxes) "
            f"at --image-size {self.config.model.image_size}; try a smaller --batch-size with --accumulate, a smaller "
            f"--image-size, --precision bf16 or --roi-batch 128; checkpoints in {self.folder} are intact"
        )


class _NoLog:
    """In the place of the log on every process but the first."""

    def write(self, **record: Any) -> None: ...

    def sync(self) -> int:
        return 0

    def close(self) -> None: ...


def build_model(
    config: Config, num_classes: int, architecture: dict[str, Any] | None = None
) -> tuple[nn.Module, dict[str, Any], str]:
    """The network that `config` asks for, or the one of a checkpoint -> (model, architecture, about its weights)."""
    m = config.model
    if architecture is not None:
        return _spread_sizes(models.rebuild(architecture), config), architecture, "weights: of the checkpoint"
    sizes = {"min_size": m.image_size, "max_size": m.max_size, "box_score_thresh": m.score_floor,
             "box_detections_per_img": m.max_detections, "box_batch_size_per_image": m.roi_batch}  # fmt: skip
    model, architecture, about = models.build(
        m.model, num_classes, weights=m.weights, trainable_layers=m.trainable_layers, norm=m.norm,
        batch_size=config.data.batch_size, sizes=sizes)  # fmt: skip
    return _spread_sizes(model, config), architecture, about


def _spread_sizes(model: nn.Module, config: Config) -> nn.Module:
    """Multi-scale training: torchvision picks one of min_size per image; evaluation takes the last."""
    m = config.model
    if m.multi_scale and hasattr(model, "transform"):
        low, high = m.image_size * (1 - m.multi_scale), m.image_size * (1 + m.multi_scale)
        model.transform.min_size = (*np.linspace(low, high, 7).round().astype(int).tolist(), m.image_size)
    return model


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """SGD or AdamW over up to four groups: body or not (backbone_lr), decayed or not (norms and biases are not)."""
    o = config.optimizer
    body = {id(p) for p in model.backbone.body.parameters()} if hasattr(model, "backbone") else set()
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in body, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    if not groups:
        raise InputError("no parameter is left to learn; give --trainable-layers a higher value")
    parameters = [
        {"params": members, "body": in_body, "share": o.backbone_lr if in_body else 1.0, "lr": o.lr,
         "weight_decay": o.weight_decay if decays else 0.0}
        for (in_body, decays), members in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]  # fmt: skip
    if o.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=o.momentum)
    return torch.optim.AdamW(parameters, betas=(o.momentum, 0.999))


def _averaged(model: nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """Exponential moving average of weights and buffers; its decay grows from 0.1 so that short runs count too."""

    def average(averaged: list[torch.Tensor], current: list[torch.Tensor], count: int | torch.Tensor) -> None:
        n = float(count)
        now = min(decay, (1 + n) / (10 + n))
        for a, c in zip(averaged, current, strict=True):
            if a.is_floating_point():
                a.lerp_(c.to(a.dtype), 1 - now)
            else:
                a.copy_(c)

    return torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average, use_buffers=True)
