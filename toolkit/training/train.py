"""`fit`: the loop of a run. It acts on `parts`, steps by `engine`, keeps by `saving` and tells by `journal`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.text.errors import InputError
from toolkit import checkpoint, runtime
from toolkit.config import Config, flat
from toolkit.data.dataset import Index
from toolkit.networks import models
from toolkit.stopping import Stopped, StopSignal
from toolkit.training import engine, optim
from toolkit.training.build import Parts
from toolkit.training.checkpoints import Keeper, State
from toolkit.training.distributed import Agreed, agree_on_batch
from toolkit.training.failures import explain
from toolkit.training.journal import Journal
from toolkit.training.progress import Progress, duration
from toolkit.training.validation import judge

MOST_SKIPPED = 3  # batches that --on-nan skip may leave out


@dataclass(frozen=True)
class Trained:
    """What `fit` leaves: the best checkpoint, why it ended, and what the disk refused on the way."""

    folder: Path
    best_ap: float
    best_epoch: float
    epochs: float
    ended: str
    failed_saves: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()


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

    Writes last, best, metrics.jsonl, results.csv and curves.png. Raises Stopped after SIGINT or SIGTERM, with
    everything saved; InputError naming step, losses and images when a loss is not finite; MachineError when memory, a
    loader process or another training process is lost.
    """
    processes = processes or runtime.Processes()
    progress = progress or Progress(quiet=True)
    with StopSignal(quiet=not processes.first) as stop:
        trainer = _Trainer(config, folder, train, val, evaluate, processes, progress, resume, stop)
        try:
            return trainer.run()
        except (RuntimeError, MemoryError, ValueError) as error:  # torch's OutOfMemoryError is a RuntimeError
            raise explain(error, trainer) or error from None
        finally:
            trainer.close()


class _Trainer:
    """The parts of one run, and the order in which they act."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        train: Index,
        val: Index | None,
        evaluate: Callable | None,
        processes: runtime.Processes,
        progress: Progress,
        resume: checkpoint.Checkpoint | None,
        stop: StopSignal,
    ) -> None:
        self.config, self.folder, self.train, self.val = config, folder, train, val
        self.evaluate, self.processes, self.progress, self.stop = evaluate, processes, progress, stop
        self.state = State(**resume.state["progress"]) if resume else State()
        self.parts = parts = Parts(config, train, val, processes, resume)
        progress.line(parts.about)
        if note := runtime.precision_note(config.run.precision, parts.device):
            progress.line(note)
        self.device, self.dtype, self.optimizer, self.ema = parts.device, parts.dtype, parts.optimizer, parts.ema
        self.model, self.wrapped, self.judged = parts.model, parts.wrapped, parts.judged
        self.sampler, self.batches, self.val_batches = parts.sampler, parts.batches, parts.val_batches
        self.accumulate = config.optimizer.accumulate
        self.total_steps = -(-len(self.sampler) // self.accumulate) * config.schedule.epochs
        if processes.first:
            self._open_logs(resume is not None)
        self.started = time.monotonic()
        self.seen: tuple[list, list] = ([], [])
        self.resumed = resume is not None
        if resume:
            parts.restore(resume)

    def _open_logs(self, resumed: bool) -> None:
        self.journal = Journal(self.folder, self.progress, self.state, resumed, self.config.run.tensorboard)
        meta = {
            "classes": [{"id": i, "name": n} for i, n in zip(self.train.category_ids, self.train.classes, strict=True)],
            "architecture": self.parts.architecture,
            "config": flat(self.config),
            "precision": str(self.dtype).removeprefix("torch."),
            "data_fingerprint": self.train.fingerprint,
            "val_fingerprint": self.val.fingerprint if self.val is not None else None,
            "versions": runtime.versions(),
            "score_thresholds": {},
        }
        self.keeper = Keeper(self.folder, meta, self.journal.log, self.progress)

    def close(self) -> None:
        if self.processes.first:
            self.journal.close()
        self.parts.close()

    # --- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> Trained:
        state, plan = self.state, self.config.schedule
        if not self.resumed:
            self._save("last")  # a run can be resumed from its first moment, and the disk shows what it can hold
            if self.processes.first:
                self.keeper.check_room()
        while not (ended := self._ended()):
            time_is_up = self._epoch()
            whole = state.batch >= len(self.sampler)
            done = self._done()
            due = done % plan.eval_every == 0 or done == plan.epochs or time_is_up
            judged = self._judge_safely() if due and self.val is not None else None
            self._close_epoch(done, whole, judged)
        if self.val is None:
            self._save("best")
        failed = tuple(self.keeper.failed) if self.processes.first else ()
        return Trained(
            self.folder, state.best_ap, state.best_epoch, self._done(), ended, failed, tuple(state.unreadable)
        )

    def _ended(self) -> str:
        """Why there is nothing more to do, or nothing; asked of a resumed run, too."""
        plan, state = self.config.schedule, self.state
        if state.epoch >= plan.epochs:
            return "finished"
        if plan.patience and state.since_best >= plan.patience:
            return f"early stop: no better AP in {state.since_best} evaluations"
        if any(runtime.gather_objects(self._time_is_up(), self.processes)):
            return f"--max-time {plan.max_time:g} min is over"
        return ""

    def _epoch(self) -> bool:
        """Train the rest of this epoch; -> whether --max-time ended it early. Raises Stopped, saved, at a signal."""
        state = self.state
        heads_only = state.epoch < self.config.optimizer.head_epochs
        self.model.train()
        if self.config.model.freeze_bn:
            models.freeze_norms(self.model)
        elif heads_only and hasattr(self.model, "backbone"):
            models.freeze_norms(models.body_of(self.model))  # a body that does not learn does not follow batches either
        if state.batch == 0:
            state.sums, state.counted = {}, 0
        if state.batch >= len(self.sampler):
            return False
        self.sampler.epoch, self.sampler.start = state.epoch, state.batch
        group: list[dict[str, float]] = []  # losses of the batches of one step
        clock = time.monotonic()
        for images, targets in self.batches:
            self.seen = (images, targets)
            if not group and self.processes.world_size == 1:
                self._stop_if(self.stop.requested)  # it came while a batch was loaded
            last = state.batch + 1 == len(self.sampler)
            full = last or (state.batch + 1) % self.accumulate == 0
            agreed = self._batch(images, targets, full)
            state.batch += 1
            group.append(agreed.losses)
            if not full:
                continue
            lr = self._step(heads_only)
            now = time.monotonic()
            if self.processes.first:
                seen = len(images) * len(group) * self.processes.world_size
                of = f"{self.config.schedule.epochs} {self.total_steps}"
                self.journal.step(state, group, lr, seen, now - clock, of)
            group, clock = [], now
            self._stop_if(agreed.signal)
            if time.monotonic() - self._last_save() > self.config.schedule.save_every * 60 and not last:
                self._save("last")
            if agreed.time_is_up and not last:
                return True
        return agreed.time_is_up

    def _batch(self, images: list, targets: list, full: bool) -> Agreed:
        """Forward and backward of one batch. Every process does the backward or none: they meet in it."""
        state = self.state
        start = state.batch // self.accumulate * self.accumulate
        in_step = min(self.accumulate, len(self.sampler) - start)
        alone = self.processes.world_size == 1
        total, losses, trouble = None, {}, None
        # the forward of a bad batch has moved the running statistics of BatchNorm already, to NaN at worst
        before = [b.clone() for b in self.model.buffers()] if self.config.run.on_nan == "skip" else []
        # gradients of the processes are added up only with the last batch of a step
        with contextlib.nullcontext() if alone or full else self.wrapped.no_sync():
            if images:
                try:
                    total, losses = engine.training_losses(self.wrapped, images, targets, self.device, self.dtype)
                except engine.NonFiniteLoss as error:
                    trouble = error
            weight = self.sampler.weight(state.batch)
            agreed = self._agree({k: v * weight for k, v in losses.items()}, total is None)
            if not agreed.bad:
                (total * (weight / in_step)).backward()
        state.unreadable = self.batches.bad
        if agreed.bad:
            self.optimizer.zero_grad(set_to_none=True)  # of the whole step, which the processes have not shared yet
            for buffer, value in zip(self.model.buffers(), before):
                buffer.copy_(value)
            self._not_finite(trouble)
        else:
            state.counted += 1
            for name, value in agreed.losses.items():
                state.sums[name] = state.sums.get(name, 0.0) + value
        return agreed

    def _step(self, heads_only: bool) -> float:
        """One optimiser step with the gradients that have come together; -> its learning rate."""
        state, options = self.state, self.config.optimizer
        lr = optim.prepare_step(
            self.optimizer, self.config.schedule, options.lr, state.step, self.total_steps, heads_only
        )
        try:
            engine.update(self.model, self.optimizer, options.clip_norm)
        except engine.NonFiniteLoss as error:
            self._not_finite(error)
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        state.step += 1
        return lr

    def _not_finite(self, trouble: engine.NonFiniteLoss | None) -> None:
        """A loss or gradient is not finite: stop here, before any weight moved, or skip at most three batches."""
        rows = np.flatnonzero(np.isin(self.train.image_ids, [target["image_id"] for target in self.seen[1]]))
        mine = f"{trouble} on images {', '.join(self.train.path(int(row)).name for row in rows)}" if trouble else ""
        found = [text for text in runtime.gather_objects(mine, self.processes) if text]
        if not found:
            return  # no image of the batch could be read; --skip-bad counts those
        self.state.skipped += 1
        rate = self.optimizer.param_groups[-1]["lr"]
        where = f"step {self.state.step + 1}, epoch {self.state.epoch + 1}, lr {rate:.3g}: {'; '.join(found)}"
        if self.config.run.on_nan == "skip" and self.state.skipped <= MOST_SKIPPED:
            self.progress.line(f"skipped: {where}")
            return
        raise InputError(
            f"{where}: loss is not finite; nothing of this batch was learned or saved; "
            f"try a lower --lr, --precision fp32, or look at these images, then --resume {self.folder}"
        )

    def _agree(self, losses: dict[str, float], bad: bool) -> Agreed:
        mine = Agreed(losses, bad, self.stop.requested, self._time_is_up())
        return agree_on_batch(mine, self.processes, self.device)

    def _stop_if(self, signum: int) -> None:
        if signum:
            self._save("last")
            self.progress.line(f"stopped after step {self.state.step}; go on with: frcnn train --resume {self.folder}")
            raise Stopped(signum)

    # --- after an epoch ---------------------------------------------------------------------------------------

    def _judge_safely(self) -> dict[str, Any]:
        """`_judge`; whatever ends it, the epoch before it is not lost."""
        try:
            return self._judge()
        except Stopped:
            raise
        except Exception:
            with contextlib.suppress(InputError):
                self._save("last")
            raise

    def _judge(self) -> dict[str, Any]:
        judged, signum = judge(self.parts, self.train, self.val, self.evaluate, self.stop, self.progress)
        self._stop_if(signum)
        return judged

    def _close_epoch(self, done: float, whole: bool, judged: dict[str, Any] | None) -> None:
        """Note the epoch, keep the best, save. `done`: epochs trained, with a fraction where the time was up."""
        state = self.state
        train_loss = {name: value / max(1, state.counted) for name, value in state.sums.items()}
        seconds = self._seconds()
        if self.processes.first:
            rate = self.optimizer.param_groups[-1]["lr"]
            self.journal.record(
                kind="epoch",
                epoch=done,
                step=state.step,
                train_loss=train_loss,
                lr=rate,
                seconds=round(seconds, 1),
                unreadable=len(state.unreadable),
                **(judged or {}),
            )
        text = f"epoch {done}/{self.config.schedule.epochs}  train loss {sum(train_loss.values()):.3f}"
        if judged is not None:
            undefined = judged["AP"] is None  # no object in val: the newest weights are as good as any
            ap = -1.0 if undefined else judged["AP"]
            better = undefined or ap > state.best_ap or state.best_epoch < 0
            state.since_best = 0 if better else state.since_best + 1
            shown = {k: "n/a" if judged[k] is None else f"{judged[k]:.3f}" for k in ("AP", "AP50")}
            losses = judged["val_loss"]
            text += f"  val loss {sum(losses.values()):.3f}" if losses else "  val loss n/a"
            text += f"  AP {shown['AP']}  AP50 {shown['AP50']}"
            text += "  best so far" if better and not undefined else ""
            # a best checkpoint that the disk refused is not the best one to be had
            if better and runtime.gather_objects(self._save("best", judged), self.processes)[0]:
                state.best_ap, state.best_epoch = ap, done
        self.progress.line(text + f"  {duration(seconds)}")
        if whole:
            state.epoch, state.batch = state.epoch + 1, 0
        self._save("last", judged)
        if self.processes.first:
            self.journal.epoch()

    def _done(self) -> float:
        """Epochs trained so far: a whole number after an epoch, whether it is judged already or not."""
        whole, rest = divmod(self.state.batch, len(self.sampler))
        return self.state.epoch + whole + (round(rest / len(self.sampler), 3) if rest else 0)

    def _time_is_up(self) -> bool:
        limit = self.config.schedule.max_time * 60
        return bool(limit and self._seconds() >= limit)

    def _seconds(self) -> float:
        """Spent on this run, over all its sessions."""
        return self.state.seconds + time.monotonic() - self.started

    # --- checkpoints ------------------------------------------------------------------------------------------

    def _last_save(self) -> float:
        return self.keeper.saved if self.processes.first else time.monotonic()

    def _save(self, name: str, judged: dict[str, Any] | None = None) -> bool:
        """Write a checkpoint; False when the disk refused it. The old one stays then, and training goes on."""
        if not self.processes.first:
            return True
        about = {"epoch": self._done(), "metrics": {k: (judged or {}).get(k) for k in ("AP", "AP50", "AP75")}}
        progress = {**vars(self.state), "seconds": self._seconds()}
        resume = {"progress": progress, **self.parts.resume_state()} if name == "last" else None
        return self.keeper.save(name, self.state, about, self.judged.state_dict(), resume)
