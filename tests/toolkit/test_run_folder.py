"""A run's folder: its logs on a full or a torn disk, its lock, its tables."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import tracemalloc

import pytest

from label_tools.text.errors import InputError
from toolkit.__main__ import main
from toolkit.experiments.crossval import numbers_of
from toolkit.training import run_folder
from toolkit.training.progress import Progress, duration
from toolkit.training.run_folder import Lock
from toolkit.training.write_logs import MetricsLog, each_metric, write_results


@pytest.mark.parametrize("command", (["train", "--dry-run"], ["crossval"], ["curve", "--dry-run"]))
def test_a_name_that_leads_out_of_the_folder_of_runs_is_refused_first(command, capsys):
    assert main([command[0], "nothing.json", *command[1:], "--name", "../x"]) == 2
    assert capsys.readouterr().err == "error: --name '../x': needs a plain folder name\n"


def test_log_goes_on_after_what_the_checkpoint_knew(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(kind="step", step=1)
    known = log.sync()
    log.write(kind="step", step=2)
    log.close()
    log = MetricsLog(tmp_path, known)
    log.write(kind="step", step=2, again=True)
    log.close()
    assert [r["step"] for r in list(each_metric(tmp_path))] == [1, 2] and list(each_metric(tmp_path))[1]["again"]
    MetricsLog(tmp_path, 10**6).close()  # a log that was cut is not filled with zeros
    assert len(list(each_metric(tmp_path))) == 2 and b"\0" not in (tmp_path / "metrics.jsonl").read_bytes()


class FullFor:
    """A file on a disk that has room for `room` more bytes until `room` is raised."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, content):
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(content[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 1, 17, 30, 45])
def test_a_full_disk_loses_no_line_and_leaves_no_half_one(tmp_path, room):
    log = MetricsLog(tmp_path)
    log.write(step=0)
    log.file = FullFor(log.file, room)
    for step in range(1, 6):
        log.write(step=step)
    with pytest.raises(OSError):
        log.sync()
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
    log.file.room = 10**6
    assert log.sync() == (tmp_path / "metrics.jsonl").stat().st_size
    log.close()
    assert [r["step"] for r in list(each_metric(tmp_path))] == [0, 1, 2, 3, 4, 5]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_ends_train_log_with_one_warning(tmp_path, capsys):
    (tmp_path / "train.log").symlink_to("/dev/full")
    progress = Progress(tmp_path / "train.log")
    for number in range(3):
        progress.line(f"line {number}")
    progress.close()
    text = capsys.readouterr().err
    assert text.count("could not be written") == 1 and "line 2" in text


def test_a_cut_last_line_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
    assert list(each_metric(tmp_path)) == [{"step": 1}]


def test_results_table(tmp_path):
    log = MetricsLog(tmp_path)
    log.write(kind="step", step=1, loss=3)
    log.write(kind="epoch", epoch=1, step=4, lr=0.1, seconds=2.0, train_loss={"a": 1.0, "b": 2.0})
    log.write(
        kind="epoch",
        epoch=2,
        step=8,
        lr=0.1,
        seconds=4.0,
        train_loss={"a": 1.0, "b": 0.5},
        val_loss={"a": 2.0},
        AP=0.25,
        AP50=None,
        AP75=0.0,
    )
    log.close()
    write_results(tmp_path)
    lines = (tmp_path / "results.csv").read_text().splitlines()
    rows = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert [r["train_loss"] for r in rows] == ["3.0", "1.5"] and [r["val_loss"] for r in rows] == ["", "2.0"]
    assert rows[0]["AP"] == "" and rows[1]["AP"] == "0.25" and rows[1]["AP50"] == "" and rows[1]["val_a"] == "2.0"


def test_the_table_of_a_long_run_needs_no_more_memory(tmp_path):
    """20,000 steps as dicts are 20 MB; line by line the table needs what its epochs need."""
    step = json.dumps({"kind": "step", "step": 1, "epoch": 0, "lr": 0.1, **dict.fromkeys("abcd", 0.5)}).encode() + b"\n"
    epoch = json.dumps({"kind": "epoch", "epoch": 1, "step": 20_000, "train_loss": {"a": 1.0}}).encode() + b"\n"
    (tmp_path / "metrics.jsonl").write_bytes(step * 20_000 + epoch)
    tracemalloc.start()
    try:
        write_results(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20, peak
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 2


def hold(folder, ready, end):
    with Lock(folder):
        ready.set()
        end.wait()


def test_one_process_at_a_time(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, end))
    other.start()
    ready.wait()
    with pytest.raises(InputError, match=f"process {other.pid} is writing"), Lock(tmp_path):
        pass
    end.set()
    other.join()
    with Lock(tmp_path), pytest.raises(InputError, match="already"), Lock(tmp_path):
        pass
    with Lock(tmp_path):
        pass
    assert not (tmp_path / ".lock").exists()


def test_a_lock_of_a_dead_process_is_none_whatever_number_it_holds(tmp_path):
    (tmp_path / ".lock").write_text(str(os.getpid()))  # a container's next process often has the same one
    with Lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())


def test_a_folder_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be written"), Lock(tmp_path / "nowhere"):
        pass


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", ".hidden"])
def test_names_that_are_no_plain_folder_names(tmp_path, name):
    with pytest.raises(InputError, match="plain folder name"):
        run_folder.create(tmp_path, name)


@pytest.mark.parametrize(
    "seconds, text", [(0, "0 s"), (59.4, "59 s"), (60, "1:00 min"), (3599, "59:59 min"), (7500, "2:05 h"), (-3, "0 s")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_plain_lines_come_once_in_a_while(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(every=10.0)
    for second in range(25):
        now[0] = 100.0 + second
        progress.step(f"step {second}")
    assert capsys.readouterr().err.split("\n")[:-1] == ["step 0", "step 10", "step 20"]


@pytest.mark.parametrize(
    "text", ['{"AP": "x"}', '{"AP": []}', "{}", "5", "", "[" * 100_000, '{"AP": {"a": 1}}', "\xb8"]
)
def test_the_numbers_of_an_evaluation_that_are_none_are_one_line(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"metrics\.json: (is not as `frcnn evaluate` wrote it|cannot be read)"):
        numbers_of(tmp_path, "AP")
    (tmp_path / "metrics.json").write_text('{"AP": null, "AP50": 0.5}')
    assert numbers_of(tmp_path, "AP", "AP50") == {"AP": None, "AP50": 0.5}


def test_versions_name_what_a_result_depends_on():
    assert {"python", "torch", "torchvision", "pycocotools", "albumentations", "numpy"} <= set(run_folder.versions())
