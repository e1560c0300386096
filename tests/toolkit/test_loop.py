"""The training loop with a task of a few numbers: what it decides does not depend on what is trained."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest
import torch

from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.config import Config, Optimizer, Run, Schedule
from toolkit.data.loader import MachineError
from toolkit.stopping import Stopped
from toolkit.training import epoch_loop, forward_pass, save_and_resume, write_logs
from toolkit.training.save_and_resume import Learner
from toolkit.training.task_interface import Task
from toolkit.training.write_logs import each_metric

BATCHES = 6


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    monkeypatch.setattr(write_logs, "draw_curves", lambda *_: None)  # half a second each


class Line(Task):
    """Fits y = 2x with noise of the global generator, so that resume must restore it. Batches are numbers.

    scores: those of the evaluations, one after the other; faults: {batch of all: function of the loss}.
    """

    metric, shown, command = "score", ("score",), "train"
    loss_names = ("square", "size")
    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, scores=(), faults=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(1, 1)
        self.learner = Learner(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
        self.scores, self.faults, self.unreadable = list(scores), faults or {}, []
        self.seen, self.closed = 0, False

    def __len__(self):
        return BATCHES

    def batches(self, epoch, start):
        return iter([float(epoch * BATCHES + number) for number in range(start, BATCHES)])

    def train_mode(self, epoch):
        self.learner.model.train()

    def losses(self, batch):
        self.seen += 1
        x = torch.rand(4, 1) + batch / 100
        off = self.learner.model(x) - 2 * x
        square = (off * off).mean()
        return forward_pass.total(
            {"square": self.faults.get(batch, lambda v: v)(square), "size": 0.01 * off.abs().mean()}
        )

    def validate(self, stop):
        score = self.scores.pop(0) if self.scores else 0.5
        return {"score": score, "val_loss": {"square": 1.0, "size": 2.0}, "table": [1, 2]}, stop.requested

    def score(self, metrics):
        return metrics["score"]

    def meta(self):
        return {"classes": [{"id": 1, "name": "a"}], "architecture": {"name": "line"}}

    def count(self, batch):
        return 4

    def names(self, batch):
        return [f"{batch:g}.png"]

    def memory_advice(self, batch):
        return f"batch {batch:g}; buy more"

    def close(self):
        self.closed = True


def config(epochs=3, accumulate=1, on_nan="stop", **plan):
    plan = {"warmup": 0, "patience": 0, **plan}
    return Config(
        optimizer=Optimizer(lr=0.1, accumulate=accumulate),
        schedule=Schedule(epochs=epochs, **plan),
        run=Run(on_nan=on_nan),
    )


def records(folder, kind):
    keep = lambda r: {k: v for k, v in r.items() if k not in ("seconds", "images_per_s")}  # noqa: E731
    return [keep(r) for r in each_metric(folder) if r["kind"] == kind]


def run(folder, task=None, settings=None, found=None):
    folder.mkdir(exist_ok=True)
    task = task or Line()
    trained = epoch_loop.run(lambda: task, settings or config(), folder, resume=found)
    assert task.closed
    return trained


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("after", [1, 5, 6, 7, 13])
def test_stopped_after_any_batch_it_goes_on_as_if_it_had_not_been(tmp_path, after, accumulate):
    """4 batches a step: steps of 4 and 2, so a signal waits for the end of its step."""
    settings = config(accumulate=accumulate)
    whole = run(tmp_path / "whole", settings=settings)

    def interrupt(value):
        os.kill(os.getpid(), signal.SIGTERM)
        return value

    with pytest.raises(Stopped) as stopped:
        run(tmp_path / "parts", Line(faults={float(after - 1): interrupt}), settings)
    assert stopped.value.exit_code == 143
    found, _ = checkpoint.load_last(tmp_path / "parts")
    torch.rand(7)
    parts = run(tmp_path / "parts", settings=settings, found=found)
    assert 0 < found.state["progress"]["seconds"] < parts.seconds  # over both sessions
    weights = [checkpoint.load(tmp_path / name / "last").weights for name in ("whole", "parts")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    for kind in ("step", "epoch"):
        assert records(tmp_path / "whole", kind) == records(tmp_path / "parts", kind)
    assert parts.state.step == whole.state.step == 3 * -(-BATCHES // accumulate) and parts.ended == "finished"


def test_accumulated_batches_are_one_step_of_their_mean(tmp_path):
    """6 batches, 4 a step: steps of 4 and 2. A record of a step is the mean of its batches, that of an epoch of all."""
    run(tmp_path / "one", settings=config(epochs=1, accumulate=4))
    (first, second), (epoch,) = records(tmp_path / "one", "step"), records(tmp_path / "one", "epoch")
    assert epoch["train_loss"]["square"] == pytest.approx((4 * first["square"] + 2 * second["square"]) / 6)
    assert first["loss"] == pytest.approx(first["square"] + first["size"])


def test_accumulated_gradients_are_their_mean(tmp_path):
    """Batches that are all alike: two steps of 4 and 2 of them are two steps of one each."""

    class Alike(Line):
        def losses(self, batch):
            return forward_pass.total({"square": (self.learner.model(torch.ones(1, 1)) - 2).square().mean()})

    class Two(Alike):
        def __len__(self):
            return 2

        def batches(self, epoch, start):
            return iter([0.0, 1.0][start:])

    one, many = Two(), Alike()
    run(tmp_path / "one", one, config(epochs=1)), run(tmp_path / "many", many, config(epochs=1, accumulate=4))
    torch.testing.assert_close(one.learner.model.state_dict(), many.learner.model.state_dict(), rtol=0, atol=1e-6)


def test_losses_are_recorded_every_so_many_steps_as_the_mean_since_the_last_record(tmp_path):
    run(tmp_path / "each", Line())
    fourth = Line()
    fourth.log_every = 4
    run(tmp_path / "fourth", fourth)
    steps = [r["square"] for r in records(tmp_path / "each", "step")]
    rare = records(tmp_path / "fourth", "step")
    assert [r["step"] for r in rare] == [4, 8, 12, 16]  # of 18
    assert rare[1]["square"] == pytest.approx(sum(steps[4:8]) / 4)  # the fifth and sixth step end an epoch


def test_patience_counts_evaluations_without_a_better_score(tmp_path):
    # evaluations after epochs 2, 4, 6, 8: the best is the first; two without a better one end it
    task = Line(scores=[0.5, 0.5, 0.4, 0.9])
    trained = run(tmp_path / "a", task, config(epochs=20, patience=2, eval_every=2))
    assert (trained.ended, trained.epochs) == ("early stop: no better score in 2 evaluations", 6)
    assert (trained.state.best_score, trained.state.best_epoch) == (0.5, 2)
    assert checkpoint.read_meta(tmp_path / "a" / "best")["epoch"] == 2
    assert trained.metrics["score"] == 0.4  # of the last weights


def test_without_a_defined_score_the_newest_weights_are_the_best(tmp_path):
    trained = run(tmp_path / "a", Line(scores=[None, None, None]), config(patience=1))
    assert (trained.ended, trained.state.best_epoch, trained.state.best_score) == ("finished", 3, -1.0)


def test_only_plain_numbers_reach_the_log(tmp_path):
    run(tmp_path / "a", settings=config(epochs=1))
    (epoch,) = records(tmp_path / "a", "epoch")
    assert epoch["score"] == 0.5 and epoch["val_loss"] == {"square": 1.0, "size": 2.0} and "table" not in epoch
    assert checkpoint.read_meta(tmp_path / "a" / "best")["metrics"] == {"score": 0.5}
    assert "val_loss,val_size,val_square" in (tmp_path / "a" / "results.csv").read_text().splitlines()[0]


def test_time_that_is_up_ends_an_epoch_half_way_and_evaluates(tmp_path, monkeypatch):
    """A minute a batch: 8.5 are over after 9, as the tenth finds: 1 epoch and 4 of 6 batches."""
    clock = {"now": 0.0}
    monkeypatch.setattr(epoch_loop, "time", SimpleNamespace(monotonic=lambda: clock["now"]))

    def tick(value):
        clock["now"] += 60
        return value

    class Told(epoch_loop.Progress):
        lines = ()

        def line(self, text):
            self.lines = (*self.lines, text)

    (tmp_path / "a").mkdir()
    task, told = Line(faults=dict.fromkeys(map(float, range(18)), tick)), Told(quiet=True)
    trained = epoch_loop.run(lambda: task, config(max_time=8.5), tmp_path / "a", progress=told)
    assert trained.ended == "--max-time 8.5 min is over" and trained.epochs == 1.667 and task.seen == 10
    assert trained.metrics is not None and told.lines[-1].startswith("epoch 2/3 (67% of it)  train loss")


NAN = lambda value: value * float("nan")  # noqa: E731


def test_a_loss_that_is_not_finite_names_its_batch_and_moves_nothing(tmp_path):
    with pytest.raises(InputError, match=r"step 3, epoch 1, lr .*: square nan, size 0\.\d+ on images 2\.png: loss is"):
        run(tmp_path / "a", Line(faults={2.0: NAN}))
    assert len(records(tmp_path / "a", "step")) == 2


def test_at_most_three_batches_are_skipped(tmp_path):
    settings = config(on_nan="skip")
    run(tmp_path / "a", Line(faults={1.0: NAN, 2.0: NAN, 9.0: NAN}), settings)
    assert all(torch.isfinite(w).all() for w in checkpoint.load(tmp_path / "a" / "last").weights.values())
    # a skipped batch is in no mean: NaN would be
    assert all(r["train_loss"]["square"] > 0 for r in records(tmp_path / "a", "epoch"))
    # nor has its step a record: a loss of 0 would be a dip of the curve
    steps = [r["step"] for r in records(tmp_path / "a", "step")]
    assert steps == [step for step in range(1, 3 * BATCHES + 1) if step not in (2, 3, 10)]
    # a step that is left out keeps its number
    with pytest.raises(InputError, match=r"step 5, .* on images 4\.png"):
        run(tmp_path / "b", Line(faults=dict.fromkeys([1.0, 2.0, 3.0, 4.0], NAN)), settings)


def test_memory_that_runs_out_is_one_line_with_the_task_s_advice(tmp_path):
    def fail(value):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MachineError, match=r"out of memory at step 2: batch 1; buy more; checkpoints in .* are intact"):
        run(tmp_path / "a", Line(faults={1.0: fail}))


def test_other_errors_are_not_explained_away(tmp_path):
    def fail(value):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(tmp_path / "a", Line(faults={1.0: fail}))


def test_an_evaluation_that_fails_loses_no_epoch(tmp_path):
    class Broken(Line):
        def validate(self, stop):
            raise InputError("val1.png: is damaged")

    with pytest.raises(InputError, match="val1"):
        run(tmp_path / "a", Broken())
    found, _ = checkpoint.load_last(tmp_path / "a")
    assert found.meta["step"] == BATCHES and found.meta["epoch"] == 1
    assert run(tmp_path / "a", found=found).state.step == 3 * BATCHES
    assert [r["epoch"] for r in records(tmp_path / "a", "epoch")] == [1, 2, 3]


def test_an_epoch_without_an_evaluation_is_saved_where_it_was_long(tmp_path, monkeypatch):
    saved, save = [], checkpoint.save
    monkeypatch.setattr(
        checkpoint,
        "save",
        lambda folder, meta, *more: saved.append((folder.name, meta["epoch"])) or save(folder, meta, *more),
    )
    for long, epochs in ((10.0, [0, 2, 4]), (0.0, [0, 1, 2, 3, 4])):  # evaluated are 2 and 4
        monkeypatch.setattr(epoch_loop, "SHORT_EPOCHS", long)
        run(tmp_path / str(long), settings=config(epochs=4, eval_every=2))
        assert [epoch for name, epoch in saved if name == "last"] == epochs
        saved.clear()


def test_a_task_without_validation_keeps_its_last_weights_as_the_best(tmp_path):
    task = Line()
    task.validates = False
    trained = run(tmp_path / "a", task)
    assert trained.metrics is None and checkpoint.read_meta(tmp_path / "a" / "best")["step"] == 3 * BATCHES


def test_a_state_of_another_version_is_refused(tmp_path):
    run(tmp_path / "a", settings=config(epochs=1))
    found = checkpoint.load(tmp_path / "a" / "last")
    found.state["progress"]["best_ap"] = 0.5
    with pytest.raises(InputError, match="was saved by another version of this toolkit"):
        epoch_loop.run(Line, config(), tmp_path / "a", resume=found)


# --- what may change when a run goes on ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ended", "changed", "over"),
    [
        ("finished", set(), "finished"),
        ("finished", {"workers"}, "finished"),
        ("finished", {"epochs"}, ""),
        ("early stop: no better AP in 3 evaluations", {"patience"}, ""),
        ("--max-time 5 min is over", {"max_time", "epochs"}, ""),
    ],
)
def test_a_run_is_over_until_what_ended_it_changes(tmp_path, ended, changed, over):
    assert save_and_resume.why_over(tmp_path, {"status": "finished", "ended": ended}, changed) == over
    assert save_and_resume.why_over(tmp_path, {"status": "stopped"}, changed) == ""


def test_an_option_that_would_not_take_it_up_again_is_refused(tmp_path):
    record = {"status": "finished", "ended": "early stop: no better AP in 3 evaluations"}
    with pytest.raises(
        InputError, match=r"--epochs alone does not take it up again \(early stop.*\); needs a higher --patience"
    ):
        save_and_resume.why_over(tmp_path, record, {"epochs"})


@pytest.mark.parametrize(
    ("plan", "epochs", "says"),
    [
        ({"schedule": "constant"}, 5, ""),
        ({"schedule": "cosine"}, 3, ""),
        ({"schedule": "cosine"}, 5, r"--epochs 5 cannot change here: .* planned for 3 epochs \(cosine\)"),
        ({"schedule": "constant"}, 1, "--epochs 1: 2 epochs trained already"),
    ],
)
def test_epochs_are_added_where_the_learning_rate_allows_it(tmp_path, plan, epochs, says):
    plan = Schedule(epochs=3, **plan)
    if not says:
        save_and_resume.check_epochs(tmp_path, plan, epochs, 2)
        return
    with pytest.raises(InputError, match=says):
        save_and_resume.check_epochs(tmp_path, plan, epochs, 2)


def test_epochs_added_to_a_constant_rate_are_those_of_a_longer_run(tmp_path):
    run(tmp_path / "long", settings=config(epochs=4, schedule="constant"))
    run(tmp_path / "short", settings=config(epochs=2, schedule="constant"))
    found, _ = checkpoint.load_last(tmp_path / "short")
    run(tmp_path / "short", settings=config(epochs=4, schedule="constant"), found=found)
    weights = [checkpoint.load(tmp_path / name / "last").weights for name in ("long", "short")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert records(tmp_path / "long", "step") == records(tmp_path / "short", "step")
