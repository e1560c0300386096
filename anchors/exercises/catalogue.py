"""Catalogue of all exercises, in the order of the lesson, and of the bug files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from anchors.exercises import (
    on_anchors,
    on_boxes_and_deltas,
    on_head_and_training,
    on_losses,
    on_matching_and_sampling,
    on_nms_and_proposals,
    on_pooling,
)
from anchors.exercises.find_the_bug import BUGS
from anchors.exercises.task import Task

FOLDER = Path(__file__).parent
EXERCISES = (
    on_boxes_and_deltas.IOU,
    on_anchors.CELL,
    on_anchors.GRID,
    on_anchors.INSIDE,
    on_boxes_and_deltas.ENCODE,
    on_boxes_and_deltas.DECODE,
    on_matching_and_sampling.MATCH,
    on_matching_and_sampling.SAMPLE,
    on_losses.SMOOTH,
    on_losses.RPN_LOSS,
    on_nms_and_proposals.NMS,
    on_nms_and_proposals.PROPOSE,
    on_matching_and_sampling.LABEL_ROIS,
    on_pooling.POOL,
    on_pooling.ALIGN,
    on_losses.DETECTION_LOSS,
    on_nms_and_proposals.POSTPROCESS,
    on_losses.MASK_LOSS,
)
TASKS = {task.name: task for task in (*EXERCISES, on_anchors.ANCHOR_COUNT, *on_head_and_training.TASKS)}
BUGS_BY_NAME = {bug.name: bug for bug in BUGS}
NAMES = (*(task.name for task in EXERCISES), *BUGS_BY_NAME)


def find(name: str) -> Task:
    """The task of an exercise or of a bug file; ValueError lists the names."""
    if name in BUGS_BY_NAME:
        return TASKS[BUGS_BY_NAME[name].task]
    if name not in TASKS:
        raise ValueError(f"exercise: found {name!r}, needed one of {', '.join(NAMES)}")
    return TASKS[name]


def solution(name: str) -> str:
    """The text of an exercise's or a bug's solution."""
    return (FOLDER / "solutions" / f"{find(name).name}.py").read_text(encoding="utf-8")


def file_name(name: str) -> str:
    """nms -> 11_nms.py, bug_nms -> bug_nms.py: the file that a learner gets."""
    numbers = {task.name: i for i, task in enumerate(EXERCISES, start=1)}
    return f"{numbers[name]:02}_{name}.py" if name in numbers else f"{name}.py"


def original(name: str) -> str:
    """The original text of a learner's file: a solution without its body, or with the bug's changes."""
    text = solution(name)
    if name in BUGS_BY_NAME:
        bug = BUGS_BY_NAME[name]
        for right, wrong in bug.changes.items():
            text = text.replace(right, wrong)
        return _headed(f"Find the bug. {bug.hint}", name, text[text.index("from __future__") :])
    (function,) = (
        node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == TASKS[name].function
    )
    lines = text.splitlines()[function.lineno - 1 : function.body[0].end_lineno]
    number, title = EXERCISES.index(TASKS[name]) + 1, text.split('"""')[1]
    imports = "from __future__ import annotations\n\nimport torch\n\n\n"
    unwritten = '    raise NotImplementedError("not written yet")'
    return _headed(f"Exercise {number}: {title}", name, imports + "\n".join((*lines, unwritten, "")))


def _headed(title: str, name: str, code: str) -> str:
    return f'"""{title}\n\nCheck it: frcnn anchors check {file_name(name)}\n"""\n\n{code}'


def next_after(name: str) -> str | None:
    """The file that comes after an exercise or a bug."""
    here = NAMES.index(name) + 1 if name in NAMES else len(NAMES)
    return file_name(NAMES[here]) if here < len(NAMES) else None


def exercise_in(file: Path) -> str:
    """The exercise that a file is for: by its name, else by the function that it defines. ValueError if unclear."""
    if not file.is_file():
        raise ValueError(f"{file}: found no such file, needed a Python file or a folder of them")
    stem = re.sub(r"^\d+_", "", file.stem)
    if stem in NAMES:
        return stem
    defined = set(re.findall(r"^def (\w+)", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE))
    fits = [task.name for task in EXERCISES if task.function in defined]
    if len(fits) != 1:
        found = f"functions of {' and '.join(fits)}" if fits else "no function of an exercise"
        raise ValueError(f"{file}: found {found}, needed one exercise; name it: --exercise NAME")
    return fits[0]
