"""Training faults T01 to T20, injected: the stated behaviour, exit code and one line that names the cause.

T03, T12 and T13 are in test_checkpoint.py, T04 in test_signals.py, T08, T10 and the finished run of T20 in
test_resume.py, T18 in test_distributed.py.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal

import pytest
import torch

from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import TINY, Command, digest, draw_data, frcnn, recipe, records
from toolkit import checkpoint, device_and_seed
from toolkit.data import transforms
from toolkit.data.coco_index import read_index
from toolkit.data.dataset import DetectionDataset
from toolkit.data.loader import Batches, MachineError, _start_worker, collate, worker_lost
from toolkit.networks import load_weights


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_data(tmp_path_factory.mktemp("faults") / "data")


def words(data, tmp_path, *more):
    return ["train", data, "--runs", tmp_path / "runs", *TINY, *more]


def one_line(text):
    """The single error line; no traceback."""
    assert "Traceback" not in text, text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    return line


# --- T01: a loss that is not finite -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_t01_stops_before_the_step_and_names_the_images(data, tmp_path, value):
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt", "bad_loss", number=3, value=value)
    assert code == 2
    line = one_line(text)
    for part in ("step 3", "epoch 1", "loss_box_reg", "train", ".png", "lr 0.00", "nothing of this batch was learned"):
        assert part in line
    run = tmp_path / "runs" / "train"
    assert [r["step"] for r in records(run) if r["kind"] == "step"] == [1, 2]
    found, _ = checkpoint.load_last(run)
    assert all(torch.isfinite(w).all() for w in found.weights.values()) and found.meta["step"] == 0
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    assert "failed: step 3" in (run / "train.log").read_text()


def test_t01_skip_leaves_out_at_most_three(data, tmp_path):
    command = words(data, tmp_path, *recipe(tmp_path, on_nan="skip"), "--ema", "0.9")
    code, text = frcnn([*command, "--name", "three"], tmp_path / "3.txt", "bad_loss", number=2, times=3)
    assert code == 0 and text.count("skipped: step") == 3, text
    found = checkpoint.load(tmp_path / "runs" / "three" / "best")
    assert all(torch.isfinite(w).all() for w in found.weights.values() if w.is_floating_point())
    epochs = [r for r in records(tmp_path / "runs" / "three") if r["kind"] == "epoch"]
    assert all(0 < sum(r["train_loss"].values()) < 9 for r in epochs)  # the mean of those that count
    code, text = frcnn([*command, "--name", "four"], tmp_path / "4.txt", "bad_loss", number=2, times=4)
    assert code == 2 and text.count("skipped: step") == 3
    assert "loss is not finite" in one_line(text)


def test_t01_a_batch_left_out_leaves_no_trace_in_running_statistics(data, tmp_path):
    """Its forward has moved them before the loss is known; a running mean of NaN stays NaN, in the average, too."""
    command = words(data, tmp_path, *recipe(tmp_path, on_nan="skip"), "--ema", "0.9", "--norm", "batch")
    code, text = frcnn(command, tmp_path / "out.txt", "bad_picture", number=2)
    assert code == 0 and text.count("skipped: step 2") == 1, text
    assert "validation loss is not finite" not in text


def test_a_batch_of_one_cell_is_one_line(tmp_path):
    """A single square picture of 32 px ends as one cell of the deepest map, which BatchNorm cannot learn from."""
    command = words(draw_data(tmp_path / "data", train=1, val=1), tmp_path, "--norm", "batch", "--image-size", "32")
    code, text = frcnn(command, tmp_path / "out.txt")
    assert code == 2
    for part in ("step 1", "64x64 px", "--norm group", "--image-size 32", "--batch-size"):
        assert part in one_line(text)


def test_t01_in_validation_it_is_a_warning(data, tmp_path):
    """Nothing is learned from it, AP is what counts; the log stays JSON that every reader can read."""
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt", "bad_loss", number=1, validation=True)
    assert code == 0 and "warning: the validation loss is not finite" in text and "val loss n/a" in text, text
    log = (tmp_path / "runs" / "train" / "metrics.jsonl").read_text()
    assert "NaN" not in log and [
        r["val_loss"] == {} for r in records(tmp_path / "runs" / "train") if r["kind"] == "epoch"
    ] == [True, False]


# --- T02: memory --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("says", ["", "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"])
def test_t02_out_of_memory_says_what_and_what_to_try(data, tmp_path, says):
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt", "out_of_memory", number=2, text=says)
    assert code == 4, text
    line = one_line(text)
    for part in (
        "step 2",
        "batch of 2 images",
        "64x64",
        "boxes",
        "--batch-size",
        "--image-size 64",
        "intact",
        "largest image is train1.png, 64x64 px, 64x64 px in the network",
    ):
        assert part in line
    checkpoint.load_last(tmp_path / "runs" / "train")


# --- T05: disk full -----------------------------------------------------------------------------------------------


def test_t05_a_full_disk_keeps_the_old_checkpoint_and_training_goes_on(data, tmp_path):
    # saves: 1 before the first step, 2 and 3 best and last of the first epoch, then the disk is full
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt", "full_disk", first=4)
    assert code == 4, text
    assert "last after step 6: No space left on device" in one_line(text)
    run = tmp_path / "runs" / "train"
    assert "epoch 2/2" in text and "the checkpoint before it stays" in text
    assert checkpoint.load(run / "last").meta["step"] == 3 and checkpoint.load(run / "best").meta["step"] == 3
    assert not list(run.glob(".*"))
    code, text = frcnn(["train", "--resume", run, "--no-report"], tmp_path / "again.txt")
    assert code == 0 and "already finished" in text


def test_t05_a_disk_that_is_full_for_a_while(data, tmp_path):
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt", "full_disk", first=2, last=2)
    assert code == 4 and "best after step 3" in one_line(text)
    best = checkpoint.load(tmp_path / "runs" / "train" / "best")  # refused in the first epoch, so taken from the second
    assert best.meta["step"] == 6


def test_t05_a_disk_that_holds_no_checkpoint_is_refused_at_once(data, tmp_path):
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt", "full_disk", first=1)
    assert code == 4 and "no checkpoint can be written" in one_line(text)
    assert not (tmp_path / "runs" / "train").exists()  # nothing could go on with it


def test_t05_too_little_room_for_three_checkpoints(data, tmp_path):
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt", "little_room", free=10**6)
    assert code == 4 and "1 MB are free, needs" in one_line(text)


# --- T06, T07: loader processes and files -------------------------------------------------------------------------


def test_t06_a_killed_loader_process(data, tmp_path):
    command = words(data, tmp_path, "--workers", "2", "--epochs", "40")
    code, text = frcnn(command, tmp_path / "out.txt", "kill_worker", after_step=2)
    assert code == 4, text
    line = one_line(text)
    # torch says "Killed", unless the pipe to the dead process breaks first
    for part in ("loader process was lost", "intact", "--resume", "--workers 0"):
        assert part in line
    checkpoint.load_last(tmp_path / "runs" / "train")


@pytest.mark.parametrize("error", [EOFError(), ConnectionResetError(104, "Connection reset by peer")])
def test_t06_a_pipe_to_a_dead_loader_process(error):
    class Broken(Batches):
        def __init__(self):
            self.loader, self.max_bad, self.bad, self._processes = self, 0, [], []
            self.num_workers = 0

        def __iter__(self):
            self._workers = [object()]
            return self

        def __next__(self):
            raise error

    with pytest.raises(MachineError, match="loader process was lost"):
        next(Batches.__iter__(Broken()))


def test_t06_a_loss_is_told_where_a_batch_is_waited_for():
    """A child that dies in the middle of a step raises nothing there; the next wait does, and a wait in progress."""

    class Items:
        def __init__(self):
            self.number, self.num_workers, self._workers = 0, 0, [object()]

        def __iter__(self):
            return self

        def __next__(self):
            self.number += 1
            if self.number == 3:
                os.kill(os.getpid(), signal.SIGCHLD)
            return [], [], []

    told = []
    before = signal.signal(signal.SIGCHLD, lambda *_: told.append(items.number))
    try:
        items = Items()
        batches = Batches.__new__(Batches)
        batches.loader, batches.bad, batches.max_bad, batches._processes = items, [], 0, []
        steps = iter(batches)
        next(steps)
        os.kill(os.getpid(), signal.SIGCHLD)  # in the first step
        assert told == []
        next(steps)
        assert told == [1]  # before the second batch is taken
        next(steps)
        assert told == [1, 3]  # while the third is waited for
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_t06_closing_after_a_killed_process_raises_nothing():
    """torch's signal handler may raise in the middle of the shutdown; what went before is the error to tell."""

    class Iterator:
        def _shutdown_workers(self):
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    killed = []
    process = type("Process", (), {"is_alive": lambda self: True, "kill": lambda self: killed.append(self)})()
    batches = Batches.__new__(Batches)
    batches.loader, batches._processes = type("Loader", (), {"_iterator": Iterator()})(), [process]
    batches.close()
    assert killed == [process]


@pytest.mark.parametrize(
    "text, known",
    [
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory",
            True,
        ),
        ("unable to allocate shared memory(shm) for file </torch_1_2>: No space left on device (28)", True),
        ("received 0 items of ancdata", True),
        ("mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_t06_what_torch_says_of_a_lost_worker(text, known):
    assert (worker_lost(RuntimeError(text)) is not None) == known


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


@pytest.mark.parametrize("workers", ["0", "2"])
def test_t07_an_unreadable_file_is_named(tmp_path, workers):
    data = draw_data(tmp_path / "data")
    cut(data / "train4.png")
    code, text = frcnn(words(data, tmp_path, "--workers", workers), tmp_path / "out.txt")
    assert code == 2 and "train4.png" in one_line(text) and "--skip-bad" in text
    assert "damaged" in one_line(text)


@pytest.mark.parametrize("batch", ["1", "2"])
def test_t07_a_share_may_be_skipped_and_is_counted(tmp_path, batch):
    """One of six; with one image a batch its batch is empty, and steps keep their numbers."""
    data = draw_data(tmp_path / "data")
    cut(data / "train4.png")
    command = words(data, tmp_path, "--skip-bad", "0.17", "--batch-size", batch)
    code, text = frcnn(command, tmp_path / "out.txt")
    assert code == 0, text
    run = tmp_path / "runs" / "train"
    (reason,) = json.loads((run / "run.json").read_text())["unreadable"]
    assert "train4.png" in reason
    assert [r["unreadable"] for r in records(run) if r["kind"] == "epoch"] == [1, 1]  # the same file, counted once
    cut(data / "train5.png")
    code, text = frcnn([*command, "--name", "two"], tmp_path / "two.txt")
    assert code == 2 and "that makes 2 images that cannot be read, --skip-bad allows 1" in one_line(text)


def test_t07_an_unreadable_validation_image_loses_no_epoch(tmp_path):
    data = draw_data(tmp_path / "data")
    whole = (data / "val2.png").read_bytes()
    cut(data / "val2.png")
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt")
    assert code == 2 and "val2.png" in one_line(text)
    assert "--skip-bad" not in text  # it is about training images
    run = tmp_path / "runs" / "train"
    assert checkpoint.load(run / "last").meta["step"] == 3  # the epoch before the evaluation is saved
    (data / "val2.png").write_bytes(whole)
    code, text = frcnn(["train", "--resume", run, "--no-report"], tmp_path / "again.txt")
    assert code == 0 and [r["step"] for r in records(run) if r["kind"] == "step"] == [1, 2, 3, 4, 5, 6], text


# --- T09, T11, T14, T15, T16 --------------------------------------------------------------------------------------


def test_t09_generators_survive_a_weights_only_file(tmp_path):
    import random

    import numpy as np

    device_and_seed.seed_everything(5)
    torch.save(device_and_seed.rng_state(), tmp_path / "rng.pt")
    drawn = [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), np.random.randn(3).tolist()]
    device_and_seed.set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert drawn == [torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random(), np.random.randn(3).tolist()]


def test_t11_a_checkpoint_of_other_classes(data, tmp_path):
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt")
    assert code == 0, text
    other = draw_data(tmp_path / "other", names=("cat", "dog"))
    code, text = frcnn(["evaluate", tmp_path / "runs" / "train", "--data", other / "val.json"], tmp_path / "e.txt")
    line = one_line(text)
    assert code == 2 and "square, disc" in line and "cat, dog" in line
    # its weights are still a good start for them: the body is kept, the head is new
    command = [*words(other, tmp_path, "--name", "new"), "--weights", tmp_path / "runs" / "train"]
    command.remove("none"), command.remove("--weights")
    code, text = frcnn(command, tmp_path / "w.txt")
    assert code == 0 and "new box predictor" in text, text


def test_t14_weights_that_cannot_be_had_leave_no_run(data, tmp_path):
    command = ["train", data, "--runs", tmp_path / "runs", "--model", "fasterrcnn_resnet50_fpn", "--device", "cpu"]
    offline = {
        "TORCH_HOME": str(tmp_path / "hub"),
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
    }
    code, text = frcnn(command, tmp_path / "out.txt", environ=offline)
    line = one_line(text)
    assert code == 2 and "could it be fetched" in line and "--weights FILE" in line
    assert not (tmp_path / "runs").exists()
    assert not [p for p in (tmp_path / "hub").rglob("*") if p.is_file()]  # nothing half-fetched


def test_t16_what_a_spawned_process_gets_can_be_pickled(data):
    index = read_index(data / "train.json")
    for level in transforms.LEVELS:
        dataset = pickle.loads(pickle.dumps(DetectionDataset(index, transforms.build(level), 2**20)))
        image, target = dataset[0, 3]
        again, _ = DetectionDataset(index, transforms.build(level))[0, 3]
        assert torch.equal(image, again) and len(target["boxes"]) == len(target["labels"])
    assert pickle.loads(pickle.dumps((collate, _start_worker))) == (collate, _start_worker)


@pytest.mark.slow
def test_t16_spawned_loader_processes(data, tmp_path):
    forked, spawned = [
        frcnn(words(data, tmp_path, "--workers", "2", "--name", name), tmp_path / f"{name}.txt", fault)
        for name, fault in (("fork", ""), ("spawn", "spawn_start"))
    ]
    assert forked[0] == spawned[0] == 0, spawned[1]
    assert records(tmp_path / "runs" / "fork") == records(tmp_path / "runs" / "spawn")


# --- T19: two runs in one folder, and folders that cannot be written ----------------------------------------------


def test_t19_a_second_process_is_refused(data, tmp_path):
    first = Command(words(data, tmp_path, "--epochs", "200"), tmp_path / "1.txt")
    run = tmp_path / "runs" / "train"
    first.wait_for(lambda: (run / "last").exists())
    code, text = frcnn(["train", "--resume", run], tmp_path / "2.txt")
    assert code == 2 and f"process {first.pid} is writing this run" in one_line(text)
    assert first.process.is_alive()
    first.process.kill()
    first.wait()
    assert (run / ".lock").exists()  # left by the dead process, and no hindrance
    code, text = frcnn(["train", "--resume", run, "--max-time", "0.001", "--no-report"], tmp_path / "3.txt")
    assert code == 0, text


def test_t15_the_same_command_gives_the_same_weights(data, tmp_path):
    for name in ("one", "two"):
        more = ["--deterministic", "--augment", "light", "--workers", "0" if name == "one" else "1", "--name", name]
        code, text = frcnn(words(data, tmp_path, *more), tmp_path / f"{name}.txt")
        assert code == 0, text
    one, two = (tmp_path / "runs" / name for name in ("one", "two"))
    assert records(one) == records(two) and digest(one) == digest(two)


def test_t20_a_clock_set_back_changes_nothing(data, tmp_path):
    command = words(data, tmp_path, "--max-time", "60")
    code, text = frcnn(command, tmp_path / "out.txt", "clock_set_back", hours=24)
    run = tmp_path / "runs" / "train"
    assert code == 0 and json.loads((run / "run.json").read_text())["seconds"] > 0, text
    assert all(r["seconds"] > 0 for r in records(run, times=True) if r["kind"] == "epoch")


def test_a_run_is_never_overwritten(data, tmp_path):
    for number in ("", "-2"):
        code, _ = frcnn(words(data, tmp_path, "--epochs", "1"), tmp_path / f"{number}.txt")
        assert code == 0 and (tmp_path / "runs" / f"train{number}" / "best").is_dir()


def test_runs_that_cannot_be_made(data, tmp_path):
    (tmp_path / "runs").write_text("a file")
    code, text = frcnn(words(data, tmp_path), tmp_path / "out.txt")
    assert code == 2 and "cannot be made" in one_line(text)
    with pytest.raises(InputError, match="plain folder name"):
        from toolkit.training import run_folder

        run_folder.create(tmp_path, "../up")


def test_t17_an_index_holds_no_python_objects(data):
    """Lists of dicts are copied page by page into every forked process (pytorch#13246)."""
    index = read_index(data / "train.json")
    for name in ("image_ids", "sizes", "boxes", "labels", "crowd", "first", "names", "name_ends"):
        assert getattr(index, name).dtype.kind in "bifu", name


@pytest.mark.slow
def test_compile_without_a_compiler(data, tmp_path):
    code, text = frcnn(words(data, tmp_path, "--compile"), tmp_path / "out.txt", "no_compiler")
    assert code == 4 and "--compile: torch cannot compile" in one_line(text), text


def test_tensorboard_is_an_extra(data, tmp_path):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        code, text = frcnn(words(data, tmp_path, "--tensorboard"), tmp_path / "out.txt")
        assert code == 3 and "frcnn-toolkit[tensorboard]" in one_line(text)
        assert not (tmp_path / "runs").exists()
        return
    code, text = frcnn(words(data, tmp_path, "--tensorboard"), tmp_path / "out.txt")
    assert code == 0 and list((tmp_path / "runs" / "train" / "tensorboard").iterdir()), text


def test_a_truncated_download_is_not_used(tmp_path):
    shutil.copy(__file__, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_weights.read(tmp_path / "weights.pth")
