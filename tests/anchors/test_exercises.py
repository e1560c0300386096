"""The exercises: solutions pass, known mistakes are named, bug files fail, hostile files give one line."""

from __future__ import annotations

import inspect
import json
from functools import partial
from pathlib import Path

import pytest
import torch

from anchors.__main__ import main
from anchors.exercises.catalogue import (
    EXERCISES,
    FOLDER,
    TASKS,
    exercise_in,
    file_name,
    find,
    next_after,
    original,
    solution,
)
from anchors.exercises.commands import write_exercises
from anchors.exercises.find_the_bug import BUGS
from anchors.exercises.sandbox import Answer, Foreign, decode, encode
from anchors.exercises.sandbox_child import load
from anchors.exercises.verdict import difference, examine, literal, size_of, written
from anchors.train_on_scenes import one_thread


@pytest.fixture(autouse=True, scope="module")
def quick():
    with one_thread():
        yield


def in_process(task, function) -> list[Answer]:
    """The answers of a function of ours, in this process."""

    def ask(arguments) -> Answer:
        torch.manual_seed(0)
        try:
            return Answer(value=function(**arguments))
        except Exception as error:
            return Answer(problem=f"raised {type(error).__name__}: {error}")

    return [ask(arguments) for arguments in task.cases()]


def with_mistake(task, name: str):
    assert name in task.mistakes
    return partial(task.variant, mistake=name)


def function_of(name: str, folder: Path):
    """The function in the file that a learner gets."""
    path = folder / file_name(name)
    path.write_text(original(name), encoding="utf-8")
    return function_in(path, find(name))


def function_in(path: Path, task):
    found, complaint = load(str(path), task.function, task.names)
    assert complaint is None, complaint
    return found


@pytest.mark.parametrize("name", TASKS)
def test_the_solution_is_right(name):
    task = TASKS[name]
    verdict = examine(task, in_process(task, function_in(FOLDER / "solutions" / f"{name}.py", task)))
    assert verdict.failure is None, written(verdict, name)
    assert verdict.num_cases >= 60


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.oracle is not task.variant])
def test_without_a_mistake_the_variant_is_right(name):
    assert examine(TASKS[name], in_process(TASKS[name], TASKS[name].variant)).failure is None


@pytest.mark.parametrize("name", TASKS)
def test_every_known_mistake_is_found_and_named_alone(name):
    task = TASKS[name]
    assert len(task.mistakes) >= 2
    for mistake in task.mistakes:
        verdict = examine(task, in_process(task, with_mistake(task, mistake)))
        assert verdict.failure is not None, mistake
        assert [found for found, _, _ in verdict.mistakes] == [mistake]
        assert f"known mistake: {mistake}\n    {task.mistakes[mistake]}\n" in written(verdict, name)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_file_fails_with_its_mistake_named(bug, tmp_path):
    # that its solution passes is the first test above: solution(bug) is the task's
    task = find(bug.name)
    verdict = examine(task, in_process(task, function_of(bug.name, tmp_path)))
    assert verdict.failure is not None
    assert [found for found, _, _ in verdict.mistakes] == [bug.mistake]
    assert solution(bug.name) == (FOLDER / "solutions" / f"{bug.task}.py").read_text()
    assert all(solution(bug.name).count(right) == 1 for right in bug.changes)


@pytest.mark.parametrize("task", EXERCISES, ids=lambda task: task.name)
def test_a_learners_file_has_the_task_and_not_its_solution(task, tmp_path):
    written = function_of(task.name, tmp_path)
    text = original(task.name)
    assert text.startswith(f'"""Exercise {EXERCISES.index(task) + 1}: ')
    assert f"Check it: frcnn anchors check {file_name(task.name)}\n" in text
    names = task.names
    assert list(inspect.signature(written).parameters) == names
    assert all(
        parameter.annotation is not inspect.Parameter.empty
        for parameter in inspect.signature(written).parameters.values()
    )
    assert "By hand" in written.__doc__
    assert written.__doc__ == function_in(FOLDER / "solutions" / f"{task.name}.py", task).__doc__
    for case in task.cases():
        assert list(case) == names
    with pytest.raises(NotImplementedError):
        written(**task.cases()[0])
    assert "return" not in text.split('"""')[-1]


def test_cases_are_the_same_every_time():
    first, second = (TASKS["nms"].cases() for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a["boxes"], b["boxes"])


def test_exercises_are_written_and_a_learners_file_is_never_touched(tmp_path, capsys):
    (tmp_path / "11_nms.py").write_text("mine")
    assert main(["exercises", "--out", str(tmp_path)]) == 0
    assert "1 kept" in capsys.readouterr().out
    assert (tmp_path / "11_nms.py").read_text() == "mine"
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 1 + len(EXERCISES) + len(BUGS)
    assert {"README.md", "01_iou.py", "bug_smooth_l1.py"} <= names
    new, kept = write_exercises(tmp_path)
    assert (new, len(kept)) == ([], len(names))
    assert "bug_nms" in (tmp_path / "README.md").read_text()


def test_a_solution_is_printed_with_the_bugs_answer(capsys):
    assert main(["solution", "bug_recall"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# TP / (TP + FP) is precision")
    assert "def recall(tp, fp, fn):" in printed
    assert main(["solution", "bug_split"]) == 0
    comment, _, code = capsys.readouterr().out.partition("\n\n")
    assert all(line.startswith("# ") and len(line) <= 120 for line in comment.splitlines())
    assert comment.endswith("Count from the start: indices[:50] and indices[50:].")
    assert code == solution("bug_split")
    assert main(["solution", "bug_recal"]) == 2
    assert "found 'bug_recal', needed one of iou, cell_anchors" in capsys.readouterr().err


# The learner's process: one start of torch for each of these files.

FUTURE = "from __future__ import annotations\n"
RIGHT = FUTURE + "import sys\nprint('hello')\n" + solution("iou").replace(FUTURE, "")
RIGHT += "\nprint('x' * 100_000, file=sys.stderr)\n"


def checked(tmp_path, capsys, text: str, name: str = "iou", *options: str) -> tuple[int, str, str]:
    file = tmp_path / "mine.py"
    file.write_text(text)
    code = main(["check", str(file), "--exercise", name, *options])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_right_file_that_prints_a_lot(tmp_path, capsys):
    text = RIGHT.replace("    width =", "    print('y' * 10_000, flush=True)\n    width =")
    assert text != RIGHT
    assert checked(tmp_path, capsys, text) == (0, "iou: right in all 67 cases\nNext: 02_cell_anchors.py\n", "")


def test_a_wrong_file_gets_a_small_case_and_the_mistakes_name(tmp_path, capsys):
    text = original("bug_grid_order")
    code, out, err = checked(tmp_path, capsys, text, "bug_grid_order")
    assert (code, err) == (1, "")
    assert "Your output equals a known mistake: x-outer order" in out
    assert "grid_size = (" in out


def test_the_verdict_for_a_machine(tmp_path, capsys):
    code, out, err = checked(tmp_path, capsys, "def recall(tp, fp, fn):\n    return 2.0\n", "bug_recall", "--json")
    data = json.loads(out)
    assert (code, err, data["right"], data["mistakes"]) == (1, "", False, [])
    assert data["cases"] == data["wrong"] == 63
    assert data["problem"].startswith("returned 2, needed 0")


@pytest.mark.parametrize(
    "name, text, exercise",
    [
        ("11_nms.py", "", "nms"),
        ("bug_nms.py", "", "bug_nms"),
        ("anna.py", "import torch\ndef helper(): pass\ndef nms(boxes, scores, iou_thresh): pass\n", "nms"),
        ("anna_nms.py", "def nms(\n", "nms"),  # not yet Python, but clear
    ],
)
def test_the_exercise_is_known_by_the_name_or_the_function(tmp_path, name, text, exercise):
    (tmp_path / name).write_text(text)
    assert exercise_in(tmp_path / name) == exercise


def test_two_functions_of_exercises_are_ambiguous(tmp_path):
    (tmp_path / "a.py").write_text("def box_iou(a, b): pass\ndef nms(boxes, scores, iou_thresh): pass\n")
    with pytest.raises(ValueError, match="found functions of iou and nms, needed one exercise; name it: --exercise"):
        exercise_in(tmp_path / "a.py")


def test_what_comes_next():
    assert file_name("nms") == "11_nms.py"
    assert next_after("iou") == "02_cell_anchors.py"
    assert next_after(EXERCISES[-1].name) == f"{BUGS[0].name}.py"
    assert next_after(BUGS[-1].name) is None


def test_a_class_is_a_table(tmp_path, capsys):
    for learner in ("anna", "ben"):
        write_exercises(tmp_path / learner)
    (tmp_path / "anna" / "bug_recall.py").write_text(solution("bug_recall"))
    (tmp_path / "anna" / "notes.py").write_text("x = 1\n")  # no exercise: not counted
    (tmp_path / "ben" / "03_grid.py").write_text("def (")
    (tmp_path / "ben" / "bug_recall.py").write_text("def recall(tp, fp, fn):\n    return tp / max(tp + fp, 1)\n")
    assert main(["check", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    begun, _, table = captured.out.partition("\n\n")
    assert begun.splitlines()[0] == "anna/bug_recall.py: right"
    assert begun.splitlines()[1] == "ben/03_grid.py: line 1: SyntaxError: invalid syntax"
    assert begun.splitlines()[2].endswith("cases: a known mistake, precision")
    rest = len(EXERCISES) + len(BUGS)
    counts = [row.split() for row in table.splitlines()[1:]]
    assert counts == [["anna", "1", "0", str(rest - 1)], ["ben", "0", "2", str(rest - 2)]]
    assert main(["check", str(tmp_path / "anna"), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["right"] for row in data if row["state"] != "not begun"] == [True]


def test_a_folder_without_python(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert "found no Python file, needed exercises" in capsys.readouterr().err


UNUSABLE = {
    "a syntax error": ("def box_iou(a, b)\n    return 1\n", "line 1: SyntaxError"),
    "no function": ("def iou(a, b): return 1\n", "found no function box_iou, needed def box_iou(a, b)"),
    "another signature": ("def box_iou(a): return 1\n", "found def box_iou(a), needed def box_iou(a, b)"),
    "not a function": ("box_iou = 3\n", "box_iou: found int, needed a function"),
    "exit on import": ("import sys\nsys.exit(0)\n", "ends the program (sys.exit)"),
    "an error on import": ("import torch\n1 / 0\n", "line 2: ZeroDivisionError"),
    "a loop on import": ("while True: pass\n", "no answer after 1 s while the file is imported"),
    "death on import": ("import os\nos._exit(7)\n", "the process ended while the file is imported (exit code 7)"),
}


def some(kinds: dict, default: set[str]) -> list:
    """Each kind costs a start of torch: a few by default, the others among the slow tests."""
    assert default < kinds.keys()
    return [pytest.param(kind, marks=() if kind in default else pytest.mark.slow) for kind in kinds]


@pytest.mark.parametrize("kind", some(UNUSABLE, {"a syntax error", "another signature", "exit on import"}))
def test_an_unusable_file_is_one_line_and_exit_code_2(kind, tmp_path, capsys):
    text, complaint = UNUSABLE[kind]
    code, out, err = checked(tmp_path, capsys, text, "iou", "--seconds", "1" if "loop" in kind else "20")
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


HOSTILE = {
    "a loop": ("    while True: pass", "no answer after 1 s in this case"),
    "exit": ("    raise SystemExit(3)", "raised ended the program (sys.exit)"),
    "death": ("    import os; os._exit(1)", "the process ended in this case (exit code 1)"),
    "None": ("    return None", "returned None, needed a tensor of shape"),
    "a list": ("    return [[0.0]]", "returned list, needed a tensor"),
    "an error": ("    return a @ b", "raised line 2: RuntimeError"),
    "all memory": ("    return bytearray(1 << 42)", "raised line 2: MemoryError"),
    "a string of answers": ("    return '{}\\n' * 9", "returned str, needed a tensor"),
}


@pytest.mark.parametrize("kind", some(HOSTILE, {"a loop", "exit", "None"}))
def test_a_hostile_function_is_a_wrong_answer_in_one_line(kind, tmp_path, capsys):
    body, complaint = HOSTILE[kind]
    seconds = "1" if kind == "a loop" else "20"
    code, out, err = checked(tmp_path, capsys, f"def box_iou(a, b):\n{body}\n", "iou", "--seconds", seconds)
    assert (code, err) == (1, "")
    assert complaint in out
    assert "Traceback" not in out


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["check", "x.py", "--exercise", "iuo"], "exercise: found 'iuo', needed one of iou"),
        (["check", "missing.py"], "missing.py: found no such file, needed a Python file or a folder"),
        (["check", __file__], "test_exercises.py: found no function of an exercise, needed one exercise; name it"),
        (["check", str(FOLDER / "nothing")], "found no such file"),
        (["check", "x.py", "--seconds", "0"], "--seconds: found 0, needed a number above 0"),
        (["exercises", "--out", __file__], "File exists"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(arguments, complaint, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


# The parts.


def test_difference():
    floats, ints = torch.tensor([1.0, 2.0]), torch.tensor([1, 2])
    assert difference(floats, floats.double()) is None
    assert difference(floats, floats * (1 + 1e-6)) is None
    assert difference(floats, torch.tensor([1.0, 3.0])) == "returned 3 at [1], needed 2 (1 of 2 differ)"
    assert difference(floats, torch.tensor([1.0, float("nan")])) == "returned nan at [1], needed 2 (1 of 2 differ)"
    assert difference(floats, floats[:1]) == "returned shape [1], needed [2]"
    assert difference(ints, floats) == "returned dtype float32, needed int64"
    assert difference(ints, ints.int()) is None
    assert difference(ints > 1, ints) == "returned dtype int64, needed bool"
    assert difference((ints, floats), (ints, floats + 1)).startswith("value 2: returned 2 at [0]")
    assert difference((ints, floats), (ints,)) == "returned a tuple of 1, needed 2"
    assert difference((ints, floats), ints) == "returned Tensor, needed a tuple of 2"
    assert difference(3, 3) is None
    assert difference(3, 4) == "returned 4, needed 3"
    assert difference(3, True) == "returned bool, needed an int"
    assert difference(0.5, 0.5000001) is None
    assert difference(torch.tensor(0.5), 0.5) is None
    assert difference(0.5, Foreign("dict")) == "returned dict, needed a tensor of shape []"


def test_messages_pass_through_unchanged():
    values = [
        torch.tensor([[0.1, float("inf")], [float("nan"), -0.0]]),
        torch.tensor([0.1], dtype=torch.float64),
        torch.tensor([1 << 60]),
        torch.tensor([True, False]),
        torch.zeros(0, 4),
        torch.tensor(2.5),
        (1, 0.25, [3, 4]),
        True,
    ]
    for value in values:
        got = decode(json.loads(json.dumps(encode(value))))
        if isinstance(value, torch.Tensor):
            assert got.dtype == value.dtype
            assert got.shape == value.shape
            assert torch.equal(got.nan_to_num(nan=7.0), value.nan_to_num(nan=7.0))
        else:
            assert got == value
            assert type(got) is type(value)
    assert decode(encode({"a": 1})) == Foreign("dict")
    assert decode(encode(None)) == Foreign("None")
    assert decode(encode(torch.zeros(3_000_000))).type_name.startswith("a float32 tensor of 3000000")


def test_the_case_shown_is_small_and_wrong():
    task = TASKS["nms"]
    failure = examine(task, in_process(task, with_mistake(task, "suppressed boxes suppress"))).failure
    assert len(failure.arguments["boxes"]) == 3  # a chain needs three boxes: fewer cannot show it
    assert size_of(failure.arguments) == 3 * 4 + 3 + 1  # boxes, scores, threshold
    assert failure.problem == "returned shape [1], needed [2]"


def test_a_mistake_is_named_though_the_file_has_another_fault():
    task = TASKS["nms"]
    plus_one = with_mistake(task, "hidden +1")

    def learner(boxes, scores, iou_thresh):
        if len(boxes) == 0:
            raise IndexError("empty")
        return plus_one(boxes, scores, iou_thresh)

    verdict = examine(task, in_process(task, learner))
    explained = verdict.num_wrong - 1  # of the wrong cases "no box" has no answer to compare
    assert verdict.mistakes == [("hidden +1", explained, explained)]
    assert "Your output equals a known mistake: hidden +1\n" in written(verdict, "nms")


def test_an_unknown_mistake_is_not_given_a_name():
    task = TASKS["iou"]
    verdict = examine(task, in_process(task, lambda a, b: torch.full((len(a), len(b)), 0.123)))
    assert verdict.failure is not None
    assert verdict.mistakes == []
    assert "known mistake" not in written(verdict, "iou")


def test_numbers_are_shown_as_one_types_them():
    assert literal(torch.tensor([[0.25, 3.0]])) == "torch.tensor([[0.25, 3.]])"
    assert literal(torch.zeros(0, 4)) == "torch.zeros(0, 4)"
    assert literal((2, 0.5)) == "(2, 0.5)"
    assert literal(torch.zeros(100)) == "a tensor of shape [100]"
    assert literal([float("nan"), float("inf"), 2.0]) == "[nan, inf, 2.]"
