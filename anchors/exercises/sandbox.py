"""Run the learner's function on all cases in a subprocess (sandbox_child), with a time limit for each answer.

Arguments and answers travel as JSON: no float32 or int64 is changed, and an answer of any type is harmless.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anchors.exercises.task import Arguments

STARTING = 180.0  # seconds for importing torch, on a busy machine
MOST = 200_000  # numbers in an answer; no exercise needs a thousand
PACKAGES = Path(__file__).resolve().parents[2]


class Unusable(ValueError):
    """The file cannot be run, or lacks the function."""


@dataclass(frozen=True)
class Foreign:
    """An answer of a type that no exercise returns."""

    type_name: str


@dataclass(frozen=True)
class Answer:
    """value, or problem (what was raised, or how the process ended)."""

    value: Any = None
    problem: str | None = None


def answers_of(file: str | Path, function: str, cases: Sequence[Arguments], *, seconds: float) -> list[Answer]:
    """The answers of `function` in `file` to the cases. If the process hangs or dies, the last one says so and there
    are fewer answers than cases. Unusable: the file does not get as far as the first case."""
    path = Path(file)
    if not path.is_file():
        raise Unusable(f"{file}: found no such file, needed a Python file that defines {function}")
    with tempfile.TemporaryDirectory(prefix="check-") as folder:
        question = {"file": str(path.resolve()), "function": function, "seconds": seconds}
        question["cases"] = [{name: encode(value) for name, value in case.items()} for case in cases]
        (Path(folder) / "question").write_text(json.dumps(question), encoding="utf-8")
        code = run(folder, STARTING + seconds * (len(cases) + 1))
        replies, log = Path(folder) / "replies", Path(folder) / "log"
        text = replies.read_text(encoding="utf-8", errors="replace") if replies.is_file() else ""
        messages = [json.loads(line) for line in text.split("\n")[:-1]]  # those that were written in full
        late = log.is_file() and b"Timeout" in log.read_bytes()[:100]
    end = (
        f"no answer after {seconds:g} s {{}}; is there an endless loop?"
        if late or code is None
        else f"the process ended {{}} (exit code {code})"
    )
    if not messages or messages[0].get("unusable"):
        raise Unusable(f"{file}: {messages[0]['unusable'] if messages else end.format('while the file is imported')}")
    answers = [Answer(decode(reply.get("answer")), reply.get("problem")) for reply in messages[1 : len(cases) + 1]]
    return answers if len(answers) == len(cases) else [*answers, Answer(problem=end.format("in this case"))]


def run(folder: str, timeout: float) -> int | None:
    """The exit code of the child; None after a timeout. Whatever it has started is killed with it."""
    paths = [str(PACKAGES), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-m", "anchors.exercises.sandbox_child", folder],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        start_new_session=os.name == "posix",
    )
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()


def type_name(value: Any) -> str:
    return value.type_name if isinstance(value, Foreign) else type(value).__name__


def encode(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.numel() > MOST or value.layout != torch.strided or value.dtype.is_complex:
            return {"foreign": f"a {value.dtype} tensor of {value.numel()} numbers".replace("torch.", "")}
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in ("float64", "bool") and value.dtype.is_floating_point:
            value = value.double()
        return {"tensor": value.detach().cpu().flatten().tolist(), "shape": list(value.shape), "dtype": dtype}
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value[:10]]}
    if type(value) is list:
        return [encode(item) for item in value[:MOST]]
    return {"foreign": type_name(value)}


def decode(message: Any) -> Any:
    if isinstance(message, list):
        return [decode(item) for item in message]
    if not isinstance(message, dict):
        return Foreign("None") if message is None else message
    if "tensor" in message:
        dtype = getattr(torch, message["dtype"])
        return torch.tensor(message["tensor"], dtype=dtype).reshape(message["shape"])
    if "tuple" in message:
        return tuple(decode(item) for item in message["tuple"])
    return Foreign(str(message["foreign"])[:80])
