"""The subprocess that runs the learner's function on all cases; `sandbox.answers_of` starts it.

    python -m anchors.exercises.sandbox_child FOLDER

FOLDER/question is JSON: file, function, seconds and the cases. FOLDER/replies gets a line of JSON for the import and
one for each answer. When an answer takes longer than these seconds, faulthandler ends the process (from a thread in C,
so also while Python is busy) and writes to FOLDER/log. The memory is limited where the platform can (Linux).
"""

from __future__ import annotations

import faulthandler
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOM = 2 << 30  # bytes that a learner's function may take on top of torch


def main(folder: Path) -> None:
    question = json.loads((folder / "question").read_text(encoding="utf-8"))
    file, seconds, cases = question["file"], question["seconds"], question["cases"]
    with (folder / "replies").open("w", encoding="utf-8") as written, (folder / "log").open("w") as late:

        def send(message: dict[str, Any]) -> None:
            written.write(json.dumps(message) + "\n")
            written.flush()

        complaint = unreadable(file)
        if complaint:  # before torch is imported, which takes seconds
            return send({"unusable": complaint})
        import torch

        from anchors.exercises.sandbox import decode, encode

        torch.set_num_threads(1)
        limit_memory()
        faulthandler.dump_traceback_later(seconds, exit=True, file=late)
        learner, complaint = load(file, question["function"], list(cases[0]))
        send({"unusable": complaint})
        if learner is None:
            return None
        for case in cases:
            arguments = {name: decode(value) for name, value in case.items()}
            torch.manual_seed(0)
            faulthandler.dump_traceback_later(seconds, exit=True, file=late)  # starts the clock again
            try:
                send({"answer": encode(learner(**arguments))})
            except BaseException as error:
                send({"problem": f"raised {describe(error, file)}"})
        faulthandler.cancel_dump_traceback_later()


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
        if spec is None or spec.loader is None:
            return None, "is not a Python file"
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
    """Describe an exception in one line, with its line in the learner's file."""
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
    main(Path(sys.argv[1]))
