"""Several trainings at once: results in order, a lost worker's job again, signals passed on, one line for bad input."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from label_tools.text.errors import InputError, MachineError, MissingExtra
from toolkit.experiments import jobs as jobs_module
from toolkit.experiments.jobs import Job, run_jobs

ROOT = Path(__file__).resolve().parents[2]


def threads(number: int) -> tuple[int, str]:
    return number, os.environ["OMP_NUM_THREADS"]


def refused() -> None:
    raise InputError("a.json: is not good")


def dies_once(mark: Path) -> str:
    """A worker that is killed in the middle of its first try, and goes on in the second."""
    if not mark.exists():
        mark.write_text("begun")
        os.kill(os.getpid(), signal.SIGKILL)
    return mark.read_text()


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def waits(mark: Path) -> None:
    """What a training does at SIGTERM: it saves, then stops."""
    from toolkit.stopping import Stopped, StopSignal

    with StopSignal(quiet=True) as stop:
        mark.with_suffix(".ready").touch()
        for _ in range(1200):
            if stop:
                mark.write_text("saved")
                raise Stopped(stop.requested)
            time.sleep(0.05)


def test_one_worker_is_this_process():
    assert run_jobs([Job("a", os.getpid), Job("b", os.getpid)]) == [os.getpid()] * 2
    with pytest.raises(InputError, match="--jobs: found 0"):
        run_jobs([], workers=0)


def test_two_workers_share_the_cores_and_survive_a_lost_one(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(jobs_module, "core_count", lambda: 6)
    todo = [Job(f"fold{i}", threads, {"number": i}) for i in range(2)]
    todo.append(Job("lost", dies_once, {"mark": tmp_path / "mark"}))
    assert run_jobs(todo, workers=2) == [(0, "3"), (1, "3"), "begun"]  # 6 cores for 2 workers
    assert "lost: its process was lost (ended by signal 9); started again" in caplog.text


def test_bad_input_of_a_job_is_that_of_the_command(monkeypatch):
    with pytest.raises(InputError, match=r"^a\.json: is not good$"):
        run_jobs([Job("a", refused), Job("b", refused)], workers=2)
    monkeypatch.setattr(jobs_module, "TRIES", 1)
    with pytest.raises(MachineError, match="was lost"):
        run_jobs([Job("a", dies), Job("b", dies)], workers=2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_every_job_save(tmp_path, number):
    code = f"""
from pathlib import Path
from tests.toolkit.test_jobs import waits
from toolkit.experiments.jobs import Job, run_jobs
if __name__ == "__main__":
    run_jobs([Job(n, waits, {{"mark": Path({str(tmp_path)!r}, n)}}) for n in "ab"], workers=2)
"""
    (tmp_path / "main.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, tmp_path / "main.py"], stderr=subprocess.PIPE, text=True, env=environment
    )
    while not all((tmp_path / f"{n}.ready").exists() for n in "ab"):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(number)
    assert "Stopped" in process.communicate(timeout=60)[1]
    assert [(tmp_path / n).read_text() for n in "ab"] == ["saved"] * 2


def test_ray_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"frcnn-toolkit\[ray\]"):
        run_jobs([Job("a", os.getpid)], ray="auto")


@pytest.mark.slow
def test_a_ray_of_two_workers_one_of_them_killed(tmp_path):
    ray = pytest.importorskip("ray", reason="pip install 'frcnn-toolkit[ray]'")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, namespace="test")
    try:
        address = ray.get_runtime_context().gcs_address
        code = f"""
from pathlib import Path
from tests.toolkit.test_jobs import dies_once, refused, threads
from toolkit.experiments.jobs import Job, run_jobs
todo = [Job(str(i), threads, {{"number": i}}) for i in range(3)]
print(run_jobs([*todo, Job("lost", dies_once, {{"mark": Path({str(tmp_path / "mark")!r})}})], ray={address!r}))
run_jobs([Job("bad", refused)], ray={address!r})
"""
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300
        )
        assert "[(0, '1'), (1, '1'), (2, '1'), 'begun']" in done.stdout, done.stderr
        assert "InputError: a.json: is not good" in done.stderr
    finally:
        ray.shutdown()
