"""The subprocess that runs the learner's function: python -m anchors.exercises.child FILE FUNCTION NAMES.

Each call is one JSON line on stdin ({"name": value}), each answer one on stdout. What the learner's code prints is
discarded, and its stdin is empty. The parent keeps the time limit; the memory limit is set here (Linux).
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

ROOM = 2 << 30  # bytes that a learner's function may take on top of torch


def main(file: str, function: str, names: list[str]) -> None:
    questions, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)

    def send(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    complaint = unreadable(file)
    if complaint:  # before torch is imported, which takes seconds
        send({"ready": True})
        send({"unusable": complaint})
        return
    import torch

    from anchors.exercises.messages import decode, encode

    torch.set_num_threads(1)
    limit_memory()
    send({"ready": True})
    learner, complaint = load(file, function, names)
    send({"unusable": complaint})
    for line in questions:
        arguments = {name: decode(value) for name, value in json.loads(line).items()}
        torch.manual_seed(0)
        try:
            send({"answer": encode(learner(**arguments))})
        except BaseException as error:
            send({"raised": describe(error, file)})


def unreadable(file: str) -> str | None:
    try:
        with open(file, "rb") as text:
            compile(text.read(), file, "exec")
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        return f"{where}{type(error).__name__}: {error.msg}"
    except (ValueError, RecursionError, MemoryError, OSError) as error:
        return f"is not a Python file ({error})"
    return None


def load(file: str, function: str, names: list[str]) -> tuple[Callable | None, str | None]:
    """(the learner's function, None) or (None, why there is none)."""
    try:
        spec = importlib.util.spec_from_file_location("learner", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except SystemExit:
        return None, "the file ends the program (sys.exit) when it is imported"
    except BaseException as error:
        return None, describe(error, file)
    found = getattr(module, function, None)
    if found is None:
        return None, f"found no function {function}, needed def {function}({', '.join(names)})"
    if not callable(found):
        return None, f"{function}: found {type(found).__name__}, needed a function"
    try:
        signature = inspect.signature(found)
        signature.bind(**dict.fromkeys(names))
    except (TypeError, ValueError):
        return None, f"found def {function}{signature}, needed def {function}({', '.join(names)})"
    return found, None


def describe(error: BaseException, file: str) -> str:
    """One line: the line of the learner's file, and the exception."""
    if isinstance(error, SystemExit):
        return "ended the program (sys.exit)"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f"line {lines[-1]}: " if lines else ""
    text = " ".join(str(error).split())[:300]
    return where + type(error).__name__ + (f": {text}" if text else "")


def limit_memory() -> None:
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as statm:
            now = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, now + ROOM))
    except (ImportError, OSError, ValueError):
        pass  # no such limit on this platform; the time limit remains


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3].split(","))
