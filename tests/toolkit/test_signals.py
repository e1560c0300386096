"""SIGINT and SIGTERM at any moment: the step is finished, saved, and the exit code says which; kill -9 loses little."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.toolkit.training_fixtures import TINY, Command, digest, draw_data, frcnn, recipe, records
from toolkit.checkpoint import load

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("FRCNN_KILLS", "20"))
NUMBER = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_data(tmp_path_factory.mktemp("signals") / "data")


def words(data, tmp_path, *more):
    return ["train", data, "--runs", tmp_path / "runs", *TINY, *more]


def check_stopped(run, code, text, signum):
    assert code == NUMBER[signum], text
    assert "Traceback" not in text and text.count("stopping after this step") == 1
    load(run / "last")
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"
    assert not list(run.glob(".*"))


STEP = ("signal_at", {"points": ["step"], "number": 2})
LOADING = ("signal_at", {"points": ["loading"], "number": 9})  # 8 pictures are on train_batch.jpg and the first batch
FORWARD = ("signal_at", {"points": ["batch"], "number": 3})
SAVE = ("signal_at", {"points": ["save"], "number": 2})  # the first one is before the first step
EVALUATE = ("signal_at", {"points": ["evaluate"], "number": 1})
LOSS = ("signal_in_evaluation", {"part": "validation_loss", "number": 1})
PREDICT = ("signal_in_evaluation", {"part": "predict", "number": 2})


@pytest.mark.parametrize(
    "place, signum",
    [(STEP, signal.SIGINT), (LOADING, signal.SIGTERM), (LOSS, signal.SIGINT), (PREDICT, signal.SIGTERM)],
)
def test_a_signal_saves_and_names_itself(data, tmp_path, place, signum):
    fault, settings = place
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt", fault, signum=signum, **settings)
    check_stopped(tmp_path / "runs" / "train", code, text, signum)


@pytest.mark.slow
@pytest.mark.parametrize("signum", NUMBER)
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("place", [STEP, LOADING, FORWARD, SAVE, EVALUATE, LOSS, PREDICT])
def test_a_signal_at_every_place(data, tmp_path, place, signum, workers):
    if place is LOADING and workers == "2":
        pytest.skip("with loader processes the call is in another process")
    fault, settings = place
    command = words(data, tmp_path, "--workers", workers, *recipe(tmp_path, save_every=0.00001))
    code, text = frcnn(command, tmp_path / "out.txt", fault, signum=signum, **settings)
    check_stopped(tmp_path / "runs" / "train", code, text, signum)
    run = tmp_path / "runs" / "train"
    code, text = frcnn(["train", "--resume", run, "--no-report"], tmp_path / "again.txt")
    assert code == 0, text
    assert [r["step"] for r in records(run) if r["kind"] == "step"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("signum", NUMBER)
def test_loader_processes_never_hear_of_it(data, tmp_path, signum):
    """The group gets the signal, as from a terminal; the workers go on, say nothing and end with the run."""
    fault, settings = STEP
    code, text = frcnn(words(data, tmp_path, "--workers", "2"), tmp_path / "out.txt", fault, signum=signum, **settings)
    check_stopped(tmp_path / "runs" / "train", code, text, signum)


def test_a_second_ctrl_c_leaves_at_once(data, tmp_path):
    command = words(data, tmp_path)
    code, text = frcnn(
        command, tmp_path / "out.txt", "signal_at", points=["batch"], number=2, signum=signal.SIGINT, twice=True
    )
    assert code == 130 and "Traceback" not in text
    run = tmp_path / "runs" / "train"
    assert load(run / "last").state["progress"]["step"] == 0  # nothing but the first checkpoint
    code, text = frcnn(["train", "--resume", run, "--no-report"], tmp_path / "again.txt")
    assert code == 0, text


def test_sigterm_while_the_report_is_written(data, tmp_path):
    command = [w for w in words(data, tmp_path) if w != "--no-report"]
    # coco_metrics judges the two epochs; the third evaluation, of the best checkpoint, goes through `compute_metrics`
    process = Command(command, tmp_path / "out.txt", "sigterm_in_report")
    code, run = process.wait(), tmp_path / "runs" / "train"
    assert code == 143 and "Traceback" not in process.text(), process.text()
    assert json.loads((run / "run.json").read_text())["status"] == "trained"
    code, text = frcnn(["train", "--resume", run], tmp_path / "again.txt")
    assert code == 0 and (run / "report.html").is_file(), text


# --- kill -9 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(data):
    code, text = frcnn(["train", data, "--runs", data.parent / "whole", *TINY], data.parent / "whole.txt")
    assert code == 0, text
    return data.parent / "whole" / "train"


def survives(run, whole, output):
    """Resume to the end: the very weights and log of a run that was never killed."""
    code, text = frcnn(["train", "--resume", run, "--no-report"], output)
    assert code == 0, text
    assert records(run) == records(whole)
    for name in ("last", "best"):
        assert digest(run, name) == digest(whole, name)
    assert not list(run.rglob(".*")), text


@pytest.mark.parametrize("event", [4, 40, 90])
def test_kill_9_inside_a_save(data, whole, tmp_path, event):
    command = words(data, tmp_path, *recipe(tmp_path, save_every=0.00001))
    code, text = frcnn(command, tmp_path / "out.txt", "kill_at_event", number=20 + event)
    assert code == -signal.SIGKILL, text
    survives(tmp_path / "runs" / "train", whole, tmp_path / "again.txt")


@pytest.mark.slow
def test_twenty_kills_at_any_moment(data, whole, tmp_path):
    """A save after every step; half the kills strike between two steps or in the evaluation, half inside a save."""
    rng = random.Random(0)
    command = words(data, tmp_path, *recipe(tmp_path, save_every=0.00001))
    in_a_save = 0
    for number in range(KILLS):
        place = tmp_path / str(number)
        place.mkdir()
        command[command.index("--runs") + 1] = place / "runs"
        run = place / "runs" / "train"
        process = Command(command, place / "out.txt", "slow_disk", seconds=0.01)
        process.wait_for(lambda run=run: (run / "last").exists())
        time.sleep(rng.uniform(0, 1.2))
        if number % 2:
            process.wait_for(lambda run=run: (run / ".last.frcnn-part").exists() or (run / ".best.frcnn-part").exists())
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        in_a_save += bool(list(run.glob(".*.frcnn-part")) + list(run.glob(".*.old")))
        survives(run, whole, place / "again.txt")
    print(f"{in_a_save} of {KILLS} inside a save")
    assert in_a_save >= KILLS // 2


def test_ctrl_c_while_modules_are_imported_shows_no_traceback():
    """SIGINT at the first import of the program itself: nothing that handles errors is there yet."""
    code = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name.startswith("label_tools"):
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder())
import toolkit.__main__ as program
program.entry()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (130, "stopped\n")
