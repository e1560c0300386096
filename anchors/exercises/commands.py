"""The commands: write the exercises into a folder, check a file, print a solution."""

from __future__ import annotations

import json
import os
from pathlib import Path

from anchors.exercises.catalogue import BUGS, BUGS_BY_NAME, EXERCISES, FOLDER, find, solution
from anchors.exercises.examine import as_data, examine, written
from anchors.exercises.learner import Learner

GUIDE = """# Exercises: Faster R-CNN from the inside

Each file asks for one function; its docstring is the task. Write the body, then check the file:

    frcnn anchors check nms 11_nms.py

The checker runs your file against edge cases and random ones, shows the smallest case that fails, and names the
mistake if it is a known one. What your code prints is not shown. `frcnn anchors solution nms` prints a solution.

{exercises}

## Find the bug

Each of these files works, and has a mistake that stood on a slide or in a notebook of the lecture. Find it, mend it,
check it:

    frcnn anchors check bug_nms bug_nms.py

{bugs}
"""


def write_exercises(out: Path) -> tuple[list[str], list[str]]:
    """Write stubs, bug files and the guide into `out`; (written, kept): a file that is there is never touched."""
    stubs = {path.name: path.read_text(encoding="utf-8") for path in sorted((FOLDER / "stubs").glob("*.py"))}
    bugs = {f"{bug.name}.py": (FOLDER / "bugs" / f"{bug.name}.py").read_text(encoding="utf-8") for bug in BUGS}
    guide = GUIDE.format(
        exercises="\n".join(f"- `{name}`, then read `{task.lesson}`" for name, task in zip(stubs, EXERCISES)),
        bugs="\n".join(f"- `{bug.name}.py`: {bug.hint}" for bug in BUGS),
    )
    files = {"README.md": guide, **stubs, **bugs}
    out.mkdir(parents=True, exist_ok=True)
    kept = [name for name in files if (out / name).exists()]
    for name in files.keys() - set(kept):
        temporary = out / f".{name}.part"
        temporary.write_text(files[name], encoding="utf-8")
        os.replace(temporary, out / name)
    return sorted(files.keys() - set(kept)), kept


def exercises(out: str) -> int:
    new, kept = write_exercises(Path(out))
    print(f"{out}: {len(new)} files written" + (f", {len(kept)} kept as they are" if kept else ""))
    print(f"start with {Path(out) / 'README.md'}")
    return 0


def check(name: str, file: str, *, seconds: float, as_json: bool) -> int:
    """0 right, 1 a wrong answer. A file that cannot be asked is a ValueError."""
    import torch

    task = find(name)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the cases are tiny: more threads only get in each other's way
    try:
        with Learner(file, task.function, list(task.edges[0].arguments), seconds=seconds) as ask:
            verdict = examine(task, ask)
    finally:
        torch.set_num_threads(threads)
    print(json.dumps(as_data(verdict, name)) if as_json else written(verdict, name))
    return 1 if verdict.failure else 0


def show_solution(name: str) -> int:
    text = solution(name)
    if name in BUGS_BY_NAME:
        print(f"# {BUGS_BY_NAME[name].answer}\n")
    print(text, end="")
    return 0
