"""Run several trainings at once: `--jobs N` in processes of this machine, `--ray ADDRESS` on a Ray cluster.

A job is a function of a module with its arguments, and can be called again: what is done it keeps, what was begun it
goes on with from its checkpoint. So a worker that is lost (killed, out of memory, its machine gone) costs no more than
the steps since the last checkpoint. A process gets one GPU, or its share of the cores. On Linux it is forked from a
server that has imported the job's module once: importing torch costs as much as a small training.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from label_tools.text.errors import InputError, MachineError, MissingExtra, logs_shown, say
from toolkit.rank_and_cores import core_count
from toolkit.stopping import SIGNALS, Stopped, StopSignal, deaf_children

log = logging.getLogger(__name__)
TRIES = 3  # of a job whose worker is lost
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Job:
    """A call of `function`, which lies in a module and gives back something small. name: for lines about it."""

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)


def run_jobs(jobs: Sequence[Job], *, workers: int = 1, ray: str | None = None) -> list[Any]:
    """What each job gives, in their order. One worker: one after the other in this process.

    The first error ends the others, which save and stop. Raises what the job raised, Stopped after a signal, and
    MachineError when a job's worker was lost TRIES times. ray: address of a cluster, "auto" for the one of this
    machine; paths must mean the same files there.
    """
    if workers < 1:
        raise InputError(f"--jobs: found {workers}, needs 1 or more")
    if ray is not None:
        return _on_ray(jobs, ray)
    if workers == 1 or len(jobs) < 2:
        return [job.function(**job.arguments) for job in jobs]
    return _Local(jobs, min(workers, len(jobs))).run()


def prepare(*modules: str, jobs: int, ray: str | None) -> None:
    """Begin to import what the jobs will need, the module of their function first, while this process reads labels."""
    if jobs > 1 and ray is None:
        with _environment(_shares(jobs)):
            _server(modules)


def _server(modules: Sequence[str]) -> Any:
    """How processes are started: forked from a server that imported `modules`, where the system can.

    A fork of this process might hang, since it has threads; the server has none. It hears no signal that goes to the
    whole group: it must tell how its children ended.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))  # has no effect on a server that runs already
    with deaf_children():
        forkserver.ensure_running()
    return context


def _shares(workers: int) -> dict[str, str]:
    """Environment of each process: what OpenMP reads when torch is imported, and `worker_count` later."""
    threads = max(1, core_count() // workers)
    return {**dict.fromkeys(_THREADS, str(threads)), "LOCAL_WORLD_SIZE": str(workers)}


def _gpus() -> list[str]:
    """The GPUs that processes of this machine may use."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]


class _Local:
    """Jobs in processes of this machine."""

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self.jobs = jobs
        self.workers = workers
        self.gpus = _gpus()
        self.environment = _shares(workers)
        with _environment(self.environment):
            self.context = _server(sorted({job.function.__module__ for job in jobs}))
        self.running: dict[int, tuple[Any, Any, int]] = {}  # job -> its process, its pipe, its place among the workers
        self.waiting = list(range(len(jobs)))
        self.tries = [0] * len(jobs)
        self.results: list[Any] = [None] * len(jobs)
        self.failed: BaseException | None = None

    def run(self) -> list[Any]:
        with StopSignal(quiet=True) as stop:
            told = False
            while self.running or (self.waiting and not (stop or self.failed)):
                while self.waiting and len(self.running) < self.workers and not (stop or self.failed):
                    self._start(self.waiting.pop(0))
                if (stop or self.failed) and not told:
                    told = True
                    if stop:
                        log.warning("stopping after these steps; the same command again goes on")
                    for process, *_ in self.running.values():
                        process.terminate()  # SIGTERM: a training saves and stops
                for number in list(self.running):
                    self._look(number, told)
                time.sleep(0.05)
        if self.failed is not None:
            raise self.failed
        if stop:
            raise Stopped(stop.requested)
        return self.results

    def _start(self, number: int) -> None:
        job, taken = self.jobs[number], {place for *_, place in self.running.values()}
        place = min(set(range(self.workers)) - taken)
        ours, theirs = self.context.Pipe(duplex=False)
        gpu = {"CUDA_VISIBLE_DEVICES": self.gpus[place % len(self.gpus)]} if self.gpus else {}
        environment = {**self.environment, **gpu}
        process = self.context.Process(target=_child, args=(job, theirs, environment), name=job.name)
        with _environment(environment):  # a spawned process reads it before torch is there
            process.start()
        theirs.close()
        self.tries[number] += 1
        self.running[number] = process, ours, place
        log.info(f"{job.name}: started")

    def _look(self, number: int, stopping: bool) -> None:
        """Take the result of a job that has ended, or start it again where its worker is lost."""
        process, pipe, _ = self.running[number]
        said = None
        try:
            if pipe.poll():
                said = pipe.recv()
            elif process.is_alive():
                return
        except EOFError:  # it ended between the two questions, or before it could say anything
            pass
        process.join()
        pipe.close()
        del self.running[number]
        job = self.jobs[number]
        if said is not None:
            kind, value = said
            if kind == "result":
                self.results[number] = value
                log.info(f"{job.name}: done")
            elif kind == "stopped":
                self.failed = self.failed or (None if stopping else Stopped(value))
            else:
                self.failed = self.failed or value
        elif not stopping:
            how = f"ended by signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
            if self.tries[number] >= TRIES:
                self.failed = MachineError(f"{job.name}: its process was lost {TRIES} times ({how}); is memory short?")
            else:
                log.warning(f"{job.name}: its process was lost ({how}); started again")
                self.waiting.insert(0, number)


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Named:
    """stderr with the job's name before each line."""

    def __init__(self, name: str, stream: Any) -> None:
        self.name, self.stream, self.line = name, stream, ""

    def write(self, text: str) -> int:
        *lines, self.line = (self.line + text).split("\n")
        if lines:
            self.stream.write("".join(f"{self.name}: {line}\n" for line in lines if line.strip()))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def isatty(self) -> bool:
        return False


def _child(job: Job, pipe: Any, environment: Mapping[str, str]) -> None:
    """A process that runs one job and says how it ended."""
    os.environ.update(environment)
    if "torch" in sys.modules:  # OpenMP read its number of threads when the server began
        sys.modules["torch"].set_num_threads(int(environment["OMP_NUM_THREADS"]))
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # which the server does not hear
    if hasattr(os, "setsid"):  # a terminal's Ctrl-C goes to the parent, which passes it on once
        os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stderr = _Named(job.name, sys.stderr)
    with logs_shown():
        try:
            pipe.send(("result", job.function(**job.arguments)))
        except (KeyboardInterrupt, Stopped) as stopped:
            pipe.send(("stopped", getattr(stopped, "exit_code", 130) - 128))
        except InputError as error:
            pipe.send(("error", _plain(error)))
        except BaseException as error:
            say(traceback.format_exc(), error=True)
            pipe.send(("error", RuntimeError(f"{job.name}: {type(error).__name__}: {error}")))


def _plain(error: InputError) -> InputError:
    """The same line and exit code as an error that every process can read."""
    plain = InputError(str(error))
    plain.exit_code = error.exit_code
    return plain


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)  # save and stop: nobody waits for the result


def _on_ray(jobs: Sequence[Job], address: str) -> list[Any]:
    """The jobs as tasks of a Ray cluster, which starts those of a lost worker again."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("--ray: Ray is not installed; pip install 'frcnn-toolkit[ray]'") from None
    try:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=True)
    except Exception as error:  # whatever it raises for an address where nothing answers
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"--ray {address}: no cluster answers there: {why}") from None
    try:
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
        needs = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        places = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **dict.fromkeys(_THREADS, "1")}}
        task = ray.remote(max_retries=TRIES - 1, runtime_env=places, **needs)(_task)
        waiting = {task.remote(job, os.getcwd()): number for number, job in enumerate(jobs)}
        results: list[Any] = [None] * len(jobs)
        try:
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=1)
                for one in done:
                    number = waiting.pop(one)
                    results[number] = ray.get(one)
                    log.info(f"{jobs[number].name}: done")
        except BaseException as error:
            for one in waiting:
                ray.cancel(one)  # as Ctrl-C: the training saves and stops
            ray.wait(list(waiting), num_returns=len(waiting), timeout=60) if waiting else None
            if isinstance(error, ray.exceptions.WorkerCrashedError):
                raise MachineError(
                    f"--ray {address}: a job's worker was lost {TRIES} times; is memory short?"
                ) from None
            raise
        return results
    finally:
        ray.shutdown()


def _task(job: Job, folder: str) -> Any:
    os.chdir(folder)
    with logs_shown():
        try:
            return job.function(**job.arguments)
        except InputError as error:
            raise _plain(error) from None
