"""The loop of the single-object baselines: small, and built of the toolkit's own parts.

A run folder is like any other of the toolkit: run.json, train.log, metrics.jsonl, results.csv, curves.png, last/,
previous/, best/; and result.json, the numbers of the LAST weights, so that nothing was chosen on the judged
pictures (document 001 chose its checkpoint on the test set).
"""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit import checkpoint, runtime
from toolkit.data.loader import MachineError
from toolkit.single_object import validation
from toolkit.single_object.curves import write_results
from toolkit.single_object.data.samples import Samples, fingerprint
from toolkit.single_object.metrics import score
from toolkit.single_object.recipe import Recipe, make_network
from toolkit.single_object.registry import find
from toolkit.single_object.targets import Sums, Targets
from toolkit.stopping import Stopped, StopSignal
from toolkit.training import engine, run_folder, schedule
from toolkit.training.progress import Progress, duration

RESULT = "result.json"
SAVE_EVERY = 600.0  # seconds between checkpoints inside an epoch


@dataclass
class State:
    """Where a run stands."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    since_best: int = 0
    seconds: float = 0.0
    log_bytes: int = 0


def fit(
    recipe: Recipe,
    folder: Path,
    train: Samples,
    val: Samples,
    *,
    resume: checkpoint.Checkpoint | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train in `folder`; -> the content of result.json. Raises Stopped after SIGINT or SIGTERM, all saved."""
    trainer = _Trainer(recipe, folder, train, val, progress or Progress(quiet=True), resume)
    with StopSignal() as stop:
        try:
            return trainer.run(stop)
        finally:
            trainer.log.close()


class _Trainer:
    """The parts of one run, and the order in which they act."""

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        train: Samples,
        val: Samples,
        progress: Progress,
        resume: checkpoint.Checkpoint | None,
    ) -> None:
        recipe.check()
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.baseline = find(recipe.baseline)
        self.samples, self.val = train, val
        self.device = runtime.choose_device(recipe.device)
        runtime.seed_everything(recipe.seed)
        options = {k: v for k, v in recipe.options.items() if k != "pretrained"}
        pretrained = recipe.options.get("pretrained", "none") if resume is None else "none"
        self.first_weights = pretrained if resume is None else resume.meta.get("first_weights", "none")
        self.recipe = dataclasses.replace(recipe, options=options)
        self.dtype = runtime.choose_precision(recipe.precision, self.device, compact=False)
        if note := runtime.precision_note(recipe.precision, self.device):
            progress.line(note)
        # channels last: the same numbers up to rounding, a fifth faster on a CPU
        self.network = make_network(self.baseline, options, pretrained).to(
            self.device, memory_format=torch.channels_last
        )
        self.optimizer = _optimizer(self.network, recipe, self.baseline.betas)
        self.targets = Targets(self.baseline, train, self.recipe)
        self.val_targets = Targets(self.baseline, val, self.recipe)
        self.state, self.sums = State(), Sums()
        self.batches = _batch_count(len(train), recipe.batch)
        self.log_every = max(1, min(recipe.log_every, self.batches * recipe.epochs // 50))
        self.fingerprint, self.val_fingerprint = fingerprint(train), fingerprint(val)
        if resume is not None:
            self._restore(resume)
        self.log = run_folder.MetricsLog(folder, self.state.log_bytes if resume else None)
        self.started = self.saved = time.monotonic()

    # --- the loop ---------------------------------------------------------------------------------------------

    def run(self, stop: StopSignal) -> dict[str, Any]:
        metrics = None
        while not (ended := self._ended()):
            self._epoch(stop)
            self.state.epoch, self.state.batch = self.state.epoch + 1, 0
            metrics = self._close_epoch()
            if stop.requested:  # while it was judged
                self._leave(stop)
        if metrics is None:  # resumed after its last epoch
            metrics, _ = validation.judge(self.network, self.baseline, self.val, self.device)
        return self._result(metrics, ended)

    def _ended(self) -> str:
        """Why nothing more is to be trained, or "". Only between epochs, so that what was begun is judged."""
        state, recipe = self.state, self.recipe
        if state.batch:
            return ""
        if state.epoch >= recipe.epochs:
            return "finished"
        if recipe.patience and state.since_best >= recipe.patience:
            return f"early stop: no better score in {counted(state.since_best, 'epoch')}"
        if recipe.max_time and self._seconds() > recipe.max_time * 60:
            return f"--max-time {recipe.max_time:g} min is over"
        return ""

    def _leave(self, stop: StopSignal) -> NoReturn:
        again = f"frcnn baseline train --resume {self.folder}"
        self.progress.line(f"stopped at step {self.state.step}; go on with: {again}")
        raise Stopped(stop.requested)

    def _epoch(self, stop: StopSignal) -> None:
        state, recipe = self.state, self.recipe
        dice = torch.Generator().manual_seed(recipe.seed * 100_003 + state.epoch)
        order = torch.randperm(len(self.samples), generator=dice)
        self.network.train()
        clock = time.monotonic()
        for rows in order.split(recipe.batch)[state.batch : self.batches]:
            losses = self._step(rows)
            self.sums.add(losses)
            state.batch += 1
            if state.step % self.log_every == 0:
                self.log.write(
                    kind="step",
                    step=state.step,
                    epoch=state.epoch,
                    train_loss=self.sums.window(),
                    lr=self.optimizer.param_groups[0]["lr"],
                )
            speed = len(rows) / max(1e-9, time.monotonic() - clock)
            clock = time.monotonic()
            shown = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            self.progress.step(
                f"epoch {state.epoch + 1}/{recipe.epochs}  step {state.batch}/{self.batches}  {shown}  "
                f"{speed:.0f} images/s"
            )
            if stop.requested or time.monotonic() - self.saved > SAVE_EVERY:
                self._save("last")
            if stop.requested:
                self._leave(stop)

    def _step(self, rows: torch.Tensor) -> dict[str, float]:
        state, recipe = self.state, self.recipe
        share = schedule.factor(recipe.schedule, state.step, self.batches * recipe.epochs, 0)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr * share
        images = validation.as_input(self.samples.images[rows], self.device, self.baseline.raw)
        with engine.autocast(self.device, self.dtype):
            terms = self.targets.losses(self.network, images, rows, self.device, recipe.augment)
        total = sum(terms.values())
        values = dict(zip(terms, torch.stack([t.detach() for t in terms.values()]).tolist(), strict=True))
        if not math.isfinite(sum(values.values())):
            names = ", ".join(self.samples.file(int(row)) for row in rows[:4])
            raise InputError(
                f"step {state.step + 1}, epoch {state.epoch + 1}: loss is not finite ({values}) on images "
                f"{names}, ...; try a lower --lr"
            )
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        state.step += 1
        return values

    # --- after an epoch ---------------------------------------------------------------------------------------

    def _close_epoch(self) -> dict[str, Any]:
        state = self.state
        metrics, _ = validation.judge(self.network, self.baseline, self.val, self.device)
        val_loss = self._validation_loss()
        if not math.isfinite(sum(val_loss.values())):
            self.progress.line(f"warning: the validation loss is not finite: {val_loss}")
            val_loss = validation.known(val_loss)
        now = score(metrics)
        better = now > state.best
        state.since_best = 0 if better else state.since_best + 1
        if better:
            state.best, state.best_epoch = now, state.epoch
        plain = {k: v for k, v in metrics.items() if isinstance(v, int | float) or v is None}
        train_loss = self.sums.epoch()
        self.log.write(
            kind="epoch",
            epoch=state.epoch,
            step=state.step,
            train_loss=train_loss,
            val_loss=val_loss,
            seconds=round(self._seconds(), 1),
            lr=self.optimizer.param_groups[0]["lr"],
            **plain,
        )
        if better:
            self._save("best")
        self._save("last")
        write_results(self.folder)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in train_loss.items())
        self.progress.line(
            f"epoch {state.epoch}/{self.recipe.epochs}  {shown}  accuracy {_short(metrics['accuracy'])}  "
            f"mean IoU {_short(metrics['mean_iou'])}  AP50 {_short(metrics['AP50'])}  {duration(self._seconds())}"
        )
        return metrics

    @torch.inference_mode()
    def _validation_loss(self) -> dict[str, Any]:
        self.network.eval()
        sums = Sums()
        for rows in torch.arange(len(self.val)).split(64):
            images = validation.as_input(self.val.images[rows], self.device, self.baseline.raw)
            terms = self.val_targets.losses(self.network, images, rows, self.device, False)
            sums.add({name: float(value) for name, value in terms.items()}, len(rows))
        return sums.epoch()

    def _result(self, metrics: dict[str, Any], ended: str) -> dict[str, Any]:
        state, train = self.state, self.samples
        result = {
            "baseline": self.baseline.name,
            "recipe": dataclasses.asdict(self.recipe),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "train_images": len(train),
            "size": list(train.size),
            "steps": state.step,
            "epochs": state.epoch,
            "ended": ended,
            "seconds": round(self._seconds(), 1),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "best_epoch": state.best_epoch,
            "best_score": state.best,
            "first_weights": self.first_weights,
            "weights": "last",
            "metrics": metrics,
            "finds_nothing": validation.finds_nothing(self.val, self.baseline.grid),
        }
        if not self.baseline.grid:
            result["always_the_same"] = validation.always_the_same(self.val, train)
        run_folder.write_json(self.folder / RESULT, result)
        return result

    def _seconds(self) -> float:
        return self.state.seconds + time.monotonic() - self.started

    # --- checkpoints ------------------------------------------------------------------------------------------

    def _save(self, name: str) -> None:
        try:
            self._write(name)
            self.saved = time.monotonic()
        except OSError as error:
            why = error.strerror or error
            raise MachineError(f"{self.folder / name}: cannot be written: {why}; the one before it stays") from None
        except checkpoint.NotFinite as error:
            raise InputError(f"step {self.state.step}: {error}; try a lower --lr") from None

    def _write(self, name: str) -> None:
        state = dataclasses.replace(self.state, seconds=self._seconds(), log_bytes=self.log.sync())
        meta = {
            "kind": "single_object",
            "architecture": {"name": self.baseline.name, **self.recipe.options},
            "classes": [{"id": i, "name": n} for i, n in enumerate(self.samples.classes, 1)],
            "recipe": dataclasses.asdict(self.recipe),
            "size": list(self.samples.size),
            "first_weights": self.first_weights,
            "epoch": state.epoch,
            "step": state.step,
            "data_fingerprint": self.fingerprint,
            "val_fingerprint": self.val_fingerprint,
            "versions": runtime.versions(),
        }
        full = None
        if name == "last":
            full = {
                "state": dataclasses.asdict(state),
                "optimizer": self.optimizer.state_dict(),
                "rng": runtime.rng_state(),
                "sums": self.sums.as_dict(),
            }
        checkpoint.save(self.folder / name, meta, self.network.state_dict(), full)

    def _restore(self, found: checkpoint.Checkpoint) -> None:
        check_same_data(found, self.folder, self.fingerprint, self.val_fingerprint)
        self.network.load_state_dict(found.weights)
        self.optimizer.load_state_dict(found.state["optimizer"])
        self.state = State(**found.state["state"])
        self.sums = Sums(**found.state["sums"])
        runtime.set_rng_state(found.state["rng"])


def check_same_data(found: checkpoint.Checkpoint, folder: Path, train: str, val: str) -> None:
    """Refuse fingerprints of other pictures or labels than a run began with."""
    for part, now, key in (("training", train, "data_fingerprint"), ("validation", val, "val_fingerprint")):
        if found.meta.get(key, now) != now:
            raise InputError(f"{folder}: the {part} pictures or labels are not those that it began with")


def _optimizer(network: torch.nn.Module, recipe: Recipe, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """fused: one pass over the memory; Adam's step on 20 million weights takes 1/14 of the time on a CPU."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), lr=recipe.lr, momentum=0.9, fused=True)
    return torch.optim.Adam(network.parameters(), lr=recipe.lr, betas=betas, fused=True)


def _batch_count(images: int, batch: int) -> int:
    """Batches of an epoch; a last one of a single image is left out, BatchNorm cannot be taught by it."""
    count = -(-images // batch)
    return max(1, count - 1) if images % batch == 1 and batch > 1 else count


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
