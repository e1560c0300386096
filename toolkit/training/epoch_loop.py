"""The training loop: epochs, evaluation, checkpoints, stopping. It trains any `Task`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from label_tools.text.errors import InputError, MachineError
from label_tools.text.messages import counted
from toolkit import checkpoint, device_and_seed
from toolkit.config import Config
from toolkit.data.loader import worker_lost
from toolkit.rank_and_cores import Processes
from toolkit.stopping import Stopped, StopSignal
from toolkit.training import distributed, run_folder
from toolkit.training.optimizer_step import Stepper
from toolkit.training.progress import Progress, epoch_line
from toolkit.training.save_and_resume import Keeper, State
from toolkit.training.task_interface import Task
from toolkit.training.write_logs import Journal, numbers

SHORT_EPOCHS = 10.0  # seconds of epochs that end without an evaluation, after which they are worth a checkpoint


@dataclass(frozen=True)
class Trained:
    """Result of a run: its best checkpoint, why it ended, and which writes failed."""

    task: Task
    folder: Path
    state: State
    epochs: float
    seconds: float
    ended: str
    metrics: dict[str, Any] | None  # of the last weights; None where this session did not evaluate them
    failed_saves: list[str]

    def check_saves(self) -> None:
        """Raise MachineError when the disk refused a checkpoint."""
        if self.failed_saves:
            raise MachineError(
                f"{self.folder}: training ended, but not every checkpoint could be written: {self.failed_saves[-1]}"
            )


def run(
    make: Callable[[], Task],
    config: Config,
    folder: Path,
    *,
    resume: checkpoint.Checkpoint | None = None,
    processes: Processes | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train what `make` gives in `folder`, by the sections schedule, optimizer and run of `config`.

    Writes last, best, metrics.jsonl, results.csv and curves.png. Raises Stopped after SIGINT or SIGTERM, with
    everything saved; InputError naming step, losses and images when a loss is not finite; MachineError when memory, a
    loader process or another training process is lost.
    """
    processes = processes or Processes()
    progress = progress or Progress(quiet=True)
    with StopSignal(quiet=not processes.first) as stop:
        loop = _Loop(make(), config, folder, resume, processes, progress, stop)
        try:
            return loop.run()
        except (RuntimeError, MemoryError, ValueError) as error:  # torch's OutOfMemoryError is a RuntimeError
            raise _explained(error, loop.task, loop.state.step + 1, loop.seen, folder) or error from None
        finally:
            loop.close()


@dataclass
class _Loop:
    task: Task
    config: Config
    folder: Path
    resume: checkpoint.Checkpoint | None
    processes: Processes
    progress: Progress
    stop: StopSignal
    seen: Any = None  # the batch under way
    metrics: dict[str, Any] | None = None  # of the last evaluation

    def __post_init__(self) -> None:
        task, config, resume = self.task, self.config, self.resume
        self.state = state = State.of(resume) if resume else State()
        self.stepper = Stepper(task, config, state, self.folder, self.processes, self.progress)
        if note := device_and_seed.precision_note(config.run.precision, task.device):
            self.progress.line(note)
        if self.processes.first:
            steps = self.stepper.total
            self.journal = Journal(self.folder, self.progress, state, bool(resume), config, steps, task.log_every)
            about = {"precision": str(task.dtype).removeprefix("torch."), "versions": run_folder.versions()}
            self.keeper = Keeper(self.folder, {**task.meta(), **about}, self.journal.log.sync, self.progress)
        self.started = time.monotonic()
        if resume:
            task.learner.restore(resume)
            if self.processes.rank:  # each process samples its own anchors
                torch.manual_seed(config.run.seed + self.processes.rank + state.step)

    def close(self) -> None:
        if self.processes.first:
            self.journal.close()
        self.task.close()

    # --- epochs -----------------------------------------------------------------------------------------------

    def run(self) -> Trained:
        state, plan = self.state, self.config.schedule
        if not self.resume:
            self._save("last")  # a run can be resumed from its first moment, and the disk shows what it can hold
            if self.processes.first:
                self.keeper.check_room()
        while not (ended := self._ended()):
            time_is_up = self._epoch()
            done = self._done()
            due = done % plan.eval_every == 0 or done == plan.epochs or time_is_up
            self._close_epoch(done, self._validate() if due and self.task.validates else None)
        if not self.task.validates:
            self._save("best")
        failed = self.keeper.failed if self.processes.first else []
        return Trained(self.task, self.folder, state, self._done(), self._seconds(), ended, self.metrics, failed)

    def _ended(self) -> str:
        """Reason to stop, "" to continue. Also checked on resume."""
        plan, state = self.config.schedule, self.state
        if state.epoch >= plan.epochs:
            return "finished"
        if plan.patience and state.since_best >= plan.patience:
            return f"early stop: no better {self.task.metric} in {counted(state.since_best, 'evaluation')}"
        if any(distributed.gather_objects(self._time_is_up(), self.processes)):
            return f"--max-time {plan.max_time:g} min is over"
        return ""

    def _epoch(self) -> bool:
        """Train the rest of this epoch; -> whether --max-time ended it early. Raises Stopped, saved, at a signal."""
        state, task = self.state, self.task
        task.train_mode(state.epoch)
        if state.batch >= len(task):
            return False
        if state.batch == 0:
            state.sums, state.counted = {}, 0
        images, clock = 0, time.monotonic()
        for batch in task.batches(state.epoch, state.batch):
            self.seen = batch
            if state.batch % self.stepper.accumulate == 0 and self.processes.world_size == 1:
                self._stop_if(self.stop.requested)  # it came while a batch was loaded
            last = state.batch + 1 == len(task)
            full = last or (state.batch + 1) % self.stepper.accumulate == 0
            agreed = self.stepper.batch(batch, full, self.stop.requested, self._time_is_up())
            images += task.count(batch) * self.processes.world_size
            if not full:
                continue
            lr = self.stepper.update(batch)
            now = time.monotonic()
            if self.processes.first:
                self.journal.step(lr, images / max(1e-9, now - clock))
            images, clock = 0, now
            self._stop_if(agreed.signal)
            if time.monotonic() - self._last_save() > self.config.schedule.save_every * 60 and not last:
                self._save("last")
            if agreed.time_is_up and not last:
                return True
        return agreed.time_is_up

    def _stop_if(self, signum: int) -> None:
        if signum:
            self._save("last")
            again = f"{self.task.command} --resume {self.folder}"
            self.progress.line(f"stopped after step {self.state.step}; go on with: {again}")
            raise Stopped(signum)

    # --- after an epoch ---------------------------------------------------------------------------------------

    def _validate(self) -> dict[str, Any]:
        """Evaluate; save first, so that a failure in here cannot lose the epoch."""
        try:
            self.metrics, signum = self.task.validate(self.stop)
        except Exception:
            with contextlib.suppress(InputError):
                self._save("last")
            raise
        self._stop_if(signum)
        loss = self.metrics["val_loss"]
        if not math.isfinite(sum(loss.values())):
            self.progress.line(f"warning: the validation loss is not finite: {loss}")
            self.metrics["val_loss"] = {}
        return self.metrics

    def _close_epoch(self, done: float, metrics: dict[str, Any] | None) -> None:
        """Record the epoch, keep the best, save. `done`: epochs trained, with a fraction where the time was up."""
        state = self.state
        train_loss = {name: value / max(1, state.counted) for name, value in state.sums.items()}
        better, is_best = False, False
        if metrics is not None:
            score = self.task.score(metrics)
            # undefined: no object in val, and the newest weights are as good as any
            better = score is None or score > state.best_score or state.best_epoch < 0
            is_best = better and score is not None
            state.since_best = 0 if better else state.since_best + 1
        if self.processes.first:
            self.journal.record(
                kind="epoch",
                epoch=done,
                step=state.step,
                train_loss=train_loss,
                lr=self.task.learner.optimizer.param_groups[-1]["lr"],
                seconds=round(self._seconds(), 1),
                unreadable=len(state.unreadable),
                **({**numbers(metrics), "val_loss": metrics["val_loss"]} if metrics else {}),
            )
        # a best checkpoint that the disk refused is not the best one to be had
        if better and distributed.gather_objects(self._save("best", metrics), self.processes)[0]:
            state.best_score, state.best_epoch = -1.0 if score is None else score, done
        epochs, shown = self.config.schedule.epochs, self.task.shown
        self.progress.line(epoch_line(done, epochs, train_loss, metrics, shown, is_best, self._seconds()))
        if state.batch >= len(self.task):
            state.epoch, state.batch = state.epoch + 1, 0
        skipped = metrics is None and self.task.validates  # this epoch ends without an evaluation
        if not skipped or time.monotonic() - self._last_save() > SHORT_EPOCHS:
            self._save("last", metrics)
        if self.processes.first:
            self.journal.draw()

    def _done(self) -> float:
        """Epochs trained so far: a whole number after an epoch, whether it is evaluated already or not."""
        whole, rest = divmod(self.state.batch, len(self.task))
        return self.state.epoch + whole + (round(rest / len(self.task), 3) if rest else 0)

    def _time_is_up(self) -> bool:
        limit = self.config.schedule.max_time * 60
        return bool(limit and self._seconds() >= limit)

    def _seconds(self) -> float:
        """Spent on this run, over all its sessions."""
        return self.state.seconds + time.monotonic() - self.started

    # --- checkpoints ------------------------------------------------------------------------------------------

    def _last_save(self) -> float:
        return self.keeper.saved if self.processes.first else time.monotonic()

    def _save(self, name: str, metrics: dict[str, Any] | None = None) -> bool:
        """Write a checkpoint; False when the disk refused it. The old one stays then, and training goes on."""
        if not self.processes.first:
            return True
        about = {"epoch": self._done(), "metrics": numbers(metrics or {})}
        learner = self.task.learner
        resume = learner.resume_state() if name == "last" else None
        return self.keeper.save(name, self.state, self._seconds(), about, learner.evaluated.state_dict(), resume)


def _explained(
    error: RuntimeError | MemoryError | ValueError, task: Task, step: int, batch: Any, folder: Path
) -> InputError | None:
    """Out of memory, a lost loader or training process, a compiler that fails; None for anything else.

    step: the one under way (1-based), with its batch.
    """
    if isinstance(error, ValueError):
        if str(error).startswith("Expected more than 1 value per channel"):
            return InputError(f"step {step}: {task.norm_advice(batch)}")
        return None
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return MachineError(
            f"--compile: torch cannot compile the backbone here ({str(error).splitlines()[0][:160]}); "
            f"start again without it"
        )
    memory = ("can't allocate memory", "not enough memory", "out of memory")
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(m in str(error) for m in memory):
        return MachineError(
            f"out of memory at step {step}: {task.memory_advice(batch)}; checkpoints in {folder} are intact"
        )
    if distributed.group_lost(error):
        why = str(error).splitlines()[0][:120]
        return MachineError(
            f"step {step}: another training process was lost ({why}); go on with: {task.command} --resume {folder}"
        )
    return worker_lost(error)
