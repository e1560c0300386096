"""Runs the learner's function in a subprocess with a time limit."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anchors.exercises.messages import decode, encode
from anchors.exercises.task import Arguments

STARTING = 180.0  # seconds for our own imports, on a machine that is busy
PACKAGES = Path(__file__).resolve().parents[2]


class Unusable(ValueError):
    """The file cannot be run, or lacks the function."""


@dataclass(frozen=True)
class Answer:
    """value, or problem (what was raised). fatal: the process has ended; there are no further answers."""

    value: Any = None
    problem: str | None = None
    fatal: bool = False


class Learner:
    """A context manager: `with Learner(file, "nms", ["boxes", ...], seconds=5) as ask: ask(arguments)`."""

    def __init__(self, file: str | Path, function: str, names: list[str], *, seconds: float) -> None:
        self.file = Path(file)
        if not self.file.is_file():
            raise Unusable(f"{file}: found no such file, needed a Python file that defines {function}")
        self.command = [
            sys.executable,
            "-m",
            "anchors.exercises.child",
            str(self.file.resolve()),
            function,
            ",".join(names),
        ]
        self.seconds = seconds
        self.lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Learner:
        paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=os.name == "posix",
        )
        threading.Thread(target=self.read, daemon=True).start()
        try:
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def begin(self) -> None:
        if self.next_message(STARTING) is None:
            raise Unusable(f"{self.file}: the process that should run it did not start")
        message = self.next_message(self.seconds)
        if message is None:
            raise Unusable(f"{self.file}: {self.end('while the file is imported')}")
        if message.get("unusable"):
            raise Unusable(f"{self.file}: {message['unusable']}")

    def __exit__(self, *exception: object) -> None:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)  # with whatever the learner's code started
        else:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()

    def read(self) -> None:
        try:
            for line in self.process.stdout:
                self.lines.put(line)
        except ValueError:
            pass  # closed while waiting
        self.lines.put(None)

    def next_message(self, seconds: float) -> dict[str, Any] | None:
        """None after a timeout, or when the process has ended."""
        try:
            line = self.lines.get(timeout=seconds)
            message = json.loads(line) if line else None
        except (queue.Empty, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def end(self, when: str) -> str:
        try:
            code = self.process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return f"no answer after {self.seconds:g} s {when}; is there an endless loop?"
        return f"the process ended {when} (exit code {code})"

    def __call__(self, arguments: Arguments) -> Answer:
        with contextlib.suppress(OSError):  # it is gone: the next lines say so
            self.process.stdin.write(json.dumps({name: encode(value) for name, value in arguments.items()}) + "\n")
            self.process.stdin.flush()
        message = self.next_message(self.seconds)
        if message is None or not message.keys() & {"answer", "raised"}:
            return Answer(problem=self.end("in this case"), fatal=True)
        if "raised" in message:
            return Answer(problem=f"raised {message['raised']}")
        return Answer(value=decode(message["answer"]))
