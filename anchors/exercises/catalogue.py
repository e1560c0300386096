"""All exercises, in the order of the lesson, and the files to find a bug in."""

from __future__ import annotations

import re
from pathlib import Path

from anchors.exercises import boxes, grids, head, losses, masks, matching, pooling, slips, suppression
from anchors.exercises.task import Bug, Task

FOLDER = Path(__file__).parent
EXERCISES = (
    boxes.IOU,
    grids.CELL,
    grids.GRID,
    grids.INSIDE,
    boxes.ENCODE,
    boxes.DECODE,
    matching.MATCH,
    matching.SAMPLE,
    losses.SMOOTH,
    losses.RPN_LOSS,
    suppression.NMS,
    suppression.PROPOSE,
    head.LABEL_ROIS,
    pooling.POOL,
    pooling.ALIGN,
    head.DETECTION_LOSS,
    suppression.POSTPROCESS,
    masks.MASK_LOSS,
)
ONLY_IN_BUGS = (slips.ANCHOR_COUNT, slips.HEAD, slips.RECALL, slips.SPLIT, slips.FREEZE, slips.MEAN_AP)
TASKS: dict[str, Task] = {task.name: task for task in (*EXERCISES, *ONLY_IN_BUGS)}

BUGS = (
    Bug(
        "bug_anchor_count",
        "anchor_count",
        "How many cells has the feature map?",
        "16 is the stride. 800 / 16 = 50 cells a side: 50 * 50 * 9 = 22,500; 16 * 16 * 9 is 2,304.",
    ),
    Bug(
        "bug_grid_order",
        "grid",
        "In which order does the network's output run?",
        "The loops run over x outside and y inside, so anchors and predictions are transposed against each other.",
    ),
    Bug(
        "bug_labels",
        "match",
        "Which anchor is positive when none reaches 0.7?",
        "Here only IoU > 0.7 is positive. The best anchor of each object is positive too, ties included.",
    ),
    Bug(
        "bug_negatives_last",
        "match",
        "What happens to an object whose best anchor has IoU 0.2?",
        "The negatives are assigned last and take that anchor away: rule (i) must come after them.",
    ),
    Bug(
        "bug_halves",
        "sample",
        "What if there are only 18 positives?",
        "128 + 128 is the most, not the rule: negatives fill the sample to 256 (18 + 238).",
    ),
    Bug(
        "bug_product",
        "sample",
        "How many negatives are drawn?",
        "num_samples * num_positive should be num_samples - num_positive.",
    ),
    Bug(
        "bug_smooth_l1",
        "smooth_l1",
        "Draw it: is it continuous?",
        "The parabola divides by sigma^2 and the line forgets it. Right: 0.5 sigma^2 x^2 and |x| - 0.5 / sigma^2.",
    ),
    Bug(
        "bug_ignored",
        "rpn_loss",
        "Who must not train?",
        "The cross-entropy takes all anchors; those labelled -1 must be left out.",
    ),
    Bug(
        "bug_normalizer",
        "rpn_loss",
        "By what number is the box loss divided?",
        "It divides by the positives (18 in the worked example); divide by the sampled anchors (256).",
    ),
    Bug(
        "bug_nms",
        "nms",
        "Is this the IoU of the exercise before?",
        "The NMS adds 1 to widths and heights, the IoU does not: boxes are half-open, nothing needs a +1.",
    ),
    Bug(
        "bug_roi_pool",
        "roi_pool",
        "Where do the corners go, and what happens at the edge of the map?",
        "The corners are truncated instead of rounded, and the RoI is clipped before it is divided into bins.",
    ),
    Bug(
        "bug_targets",
        "label_rois",
        "What does the head learn to predict?",
        "t = [x1, y1, x2, y2] here: the targets are deltas against the proposal, times (10, 10, 5, 5).",
    ),
    Bug(
        "bug_no_gt",
        "label_rois",
        "What does the head see in the first minutes of training?",
        "The true boxes are not among the proposals, so an untrained RPN gives the head no object at all.",
    ),
    Bug(
        "bug_head",
        "head",
        "What are two Linears, one after the other?",
        "Without a ReLU after each, two Linears are one Linear.",
    ),
    Bug("bug_recall", "recall", "Of what is recall a share?", "TP / (TP + FP) is precision; recall is TP / (TP + FN)."),
    Bug(
        "bug_split",
        "split",
        "50 images for training and 39 for the test?",
        "indices[:-50] leaves 39 to train on. Count from the start: indices[:50] and indices[50:].",
    ),
    Bug(
        "bug_freeze",
        "freeze",
        "Which weights still get a gradient?",
        "eval() freezes nothing; requires_grad_(False) does.",
    ),
    Bug(
        "bug_mean_ap",
        "mean_ap",
        "What does -1 mean in COCO's table?",
        "-1 says that there is no such object; it must not go into the mean.",
    ),
)
BUGS_BY_NAME: dict[str, Bug] = {bug.name: bug for bug in BUGS}


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
    """The text of that file."""
    return (FOLDER / ("bugs" if name in BUGS_BY_NAME else "stubs") / file_name(name)).read_text(encoding="utf-8")


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
