"""The commands of the exercises: write them into a folder, check files, print a solution."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from textwrap import fill

from anchors.exercises.catalogue import (
    BUGS_BY_NAME,
    EXERCISES,
    NAMES,
    exercise_in,
    file_name,
    find,
    next_after,
    original,
    solution,
)
from anchors.exercises.find_the_bug import BUGS
from anchors.exercises.sandbox import Unusable, answers_of
from anchors.exercises.verdict import as_data, examine, written
from anchors.train_on_scenes import one_thread

GUIDE = """# Exercises: Faster R-CNN from the inside

Each file asks for one function; its docstring is the task. Write the body, then check the file:

    frcnn anchors check 11_nms.py

The checker runs your file against edge cases and random ones, shows the smallest case that fails, and names the
mistake if it is a known one. What your code prints is not shown. `frcnn anchors check .` checks every file of this
folder; `frcnn anchors solution nms` prints a solution.

{exercises}

## Find the bug

Each of these files runs, and has a mistake that is common in notes and notebooks. Find it, fix it, check it:

    frcnn anchors check bug_nms.py

{bugs}
"""


def write_exercises(out: Path) -> tuple[list[str], list[str]]:
    """Write stubs, bug files and the guide into `out`; (written, kept): an existing file is never touched."""
    guide = GUIDE.format(
        exercises="\n".join(f"- `{file_name(task.name)}`, then read `{task.lesson}`" for task in EXERCISES),
        bugs="\n".join(f"- `{bug.name}.py`: {bug.hint}" for bug in BUGS),
    )
    files = {"README.md": guide, **{file_name(name): original(name) for name in NAMES}}
    out.mkdir(parents=True, exist_ok=True)
    kept: list[str] = []
    for name in files:
        try:
            with open(out / name, "x", encoding="utf-8") as file:  # never through a link, never over a file
                file.write(files[name])
        except FileExistsError:
            kept.append(name)
    return sorted(files.keys() - set(kept)), kept


def exercises(out: str) -> int:
    new, kept = write_exercises(Path(out))
    files = "file" if len(new) == 1 else "files"
    print(f"{out}: {len(new)} {files} written" + (f", {len(kept)} kept as they are" if kept else ""))
    print(f"start with {Path(out) / 'README.md'}")
    return 0


def check(path: str, *, exercise: str | None, seconds: float, as_json: bool) -> int:
    """Check a file, or all below a folder: 0 right, 1 a wrong answer. ValueError: no function of an exercise."""
    with one_thread():
        if Path(path).is_dir():
            return check_folder(Path(path), seconds=seconds, as_json=as_json)
        name = exercise or exercise_in(Path(path))
        verdict = verdict_on(path, name, seconds=seconds)
    print(json.dumps(as_data(verdict, name)) if as_json else written(verdict, name))
    if not as_json and verdict.failure is None:
        following = next_after(name)
        print(f"Next: {following}" if following else "That was the last one.")
    return 1 if verdict.failure else 0


def verdict_on(file: str | Path, name: str, *, seconds: float):
    task = find(name)
    return examine(task, answers_of(file, task.function, task.cases(), seconds=seconds))


def check_folder(folder: Path, *, seconds: float, as_json: bool) -> int:
    """Check every exercise below a folder, one's own or one for each learner; a line for each file that was begun."""
    found = [path for path in folder.rglob("*.py") if path.is_file()]
    files = sorted(path for path in found if not any(p[0] in "._" for p in path.relative_to(folder).parts))
    if not files:
        raise ValueError(f"{folder}: found no Python file, needed exercises (frcnn anchors exercises --out {folder})")
    table: dict[str, Counter] = {}
    results = []
    for file in files:
        result = check_one_of_many(file, seconds)
        if result is None:
            continue
        state, text, data = result
        table.setdefault(str(file.parent.relative_to(folder)), Counter())[state] += 1
        results.append({"file": str(file), "state": state, **data})
        if state != "not begun" and not as_json:
            print(f"{file.relative_to(folder)}: {text}", flush=True)
    if as_json:
        print(json.dumps(results))
    else:
        print_table(table)
    return 1 if any(result["state"] == "wrong" for result in results) else 0


def check_one_of_many(file: Path, seconds: float) -> tuple[str, str, dict] | None:
    """("right", "wrong" or "not begun", one line, data); None: the file has nothing to do with an exercise."""
    try:
        name = exercise_in(file)
    except ValueError:
        return None
    if file.read_text(encoding="utf-8", errors="replace") == original(name):
        return "not begun", "not begun", {"exercise": name}
    try:
        verdict = verdict_on(file, name, seconds=seconds)
    except Unusable as error:
        return "wrong", str(error).removeprefix(f"{file}: "), {"exercise": name, "right": False, "problem": str(error)}
    if verdict.failure is None:
        return "right", "right", as_data(verdict, name)
    mistakes = ", ".join(mistake for mistake, _, _ in verdict.mistakes)
    why = f"a known mistake, {mistakes}" if mistakes else verdict.failure.problem
    return "wrong", f"wrong in {verdict.num_wrong} of {verdict.num_cases} cases: {why}", as_data(verdict, name)


def print_table(table: dict[str, Counter]) -> None:
    width = max(len(name) for name in [*table, "folder"]) if table else 0
    print(f"\n{'folder':<{width}}  right  wrong  not begun")
    for name, count in table.items():
        print(f"{name:<{width}}  {count['right']:>5}  {count['wrong']:>5}  {count['not begun']:>9}")


def show_solution(name: str) -> int:
    text = solution(name)
    if name in BUGS_BY_NAME:
        why = find(name).mistakes[BUGS_BY_NAME[name].mistake]
        print(fill(why, 120, initial_indent="# ", subsequent_indent="# ") + "\n")
    print(text, end="")
    return 0
