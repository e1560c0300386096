"""The verdict on a learner's function: the smallest case that fails, and the known mistake that explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anchors.exercises.sandbox import Answer, type_name
from anchors.exercises.task import Arguments, Task

SHARE = 0.7  # of the wrong cases must equal a mistake before it is named
RTOL, ATOL = 1e-4, 1e-5


@dataclass(frozen=True)
class Checked:
    """One call, the right answer, the learner's, and what is wrong with that ("": nothing)."""

    arguments: Arguments
    expected: Any
    answer: Answer
    problem: str


@dataclass(frozen=True)
class Verdict:
    """failure None: right. mistakes: (name, wrong cases that it explains, wrong cases with an answer)."""

    task: Task
    num_cases: int
    num_wrong: int
    failure: Checked | None
    mistakes: Sequence[tuple[str, int, int]] = ()


def examine(task: Task, answers: Sequence[Answer]) -> Verdict:
    """The verdict on the answers to the task's cases, in their order; fewer, if the process ended early."""
    cases = task.cases()
    checked = [check(task, arguments, answer) for arguments, answer in zip(cases, answers)]
    failures = [one for one in checked if one.problem]
    if len(checked) < len(cases):  # hung or dead: the last case is the one to show
        return Verdict(task, len(checked), len(failures), failures[-1])
    smallest = min(failures, key=lambda failure: size_of(failure.arguments), default=None)
    return Verdict(task, len(checked), len(failures), smallest, diagnose(task, checked))


def check(task: Task, arguments: Arguments, answer: Answer) -> Checked:
    expected = task.oracle(**arguments)
    problem = answer.problem or mismatch(task, arguments, expected, answer.value)
    return Checked(arguments, expected, answer, problem or "")


def mismatch(task: Task, arguments: Arguments, expected: Any, value: Any) -> str | None:
    """None if the value is right, else one line."""
    try:
        return difference(task.canonical(arguments, expected), task.canonical(arguments, value))
    except ValueError as error:
        return str(error)


def size_of(arguments: Arguments) -> int:
    """The size of a case to read: the count of numbers in all tensors and lists."""
    return sum(
        value.numel() if isinstance(value, Tensor) else len(value) if isinstance(value, list | tuple) else 1
        for value in arguments.values()
    )


def diagnose(task: Task, checked: list[Checked]) -> list[tuple[str, int, int]]:
    """The known mistakes that give the same answers, in every case or in most of the wrong ones."""
    answered = [one for one in checked if one.answer.problem is None]
    wrong, right = [one for one in answered if one.problem], [one for one in answered if not one.problem]
    found = []
    for mistake in task.mistakes:
        explained = sum(equals(task, mistake, one) for one in wrong)
        if wrong and explained >= SHARE * len(wrong):
            contradicted = sum(not equals(task, mistake, one) for one in right)
            found.append((contradicted + len(wrong) - explained, (mistake, explained, len(wrong))))
    least = min((score for score, _ in found), default=0)
    return [entry for score, entry in found if score == least]


def equals(task: Task, mistake: str, one: Checked) -> bool:
    try:
        wrong = task.variant(**one.arguments, mistake=mistake)
        return mismatch(task, one.arguments, wrong, one.answer.value) is None
    except (ValueError, IndexError, RuntimeError, ZeroDivisionError):
        return False


def difference(expected: Any, got: Any) -> str | None:
    """None if `got` is right, else one line. float32 or float64, int32 or int64 are all right."""
    if isinstance(expected, tuple):
        if not isinstance(got, tuple | list):
            return f"returned {type_name(got)}, needed a tuple of {len(expected)}"
        if len(got) != len(expected):
            return f"returned a tuple of {len(got)}, needed {len(expected)}"
        lines = (difference(want, have) for want, have in zip(expected, got))
        return next((f"value {i}: {line}" for i, line in enumerate(lines, start=1) if line), None)
    if isinstance(expected, int) and not isinstance(expected, bool):
        if isinstance(got, Tensor) and got.ndim == 0:
            got = got.item()
        if isinstance(got, bool) or not isinstance(got, int):
            return f"returned {type_name(got)}, needed an int"
        return None if got == expected else f"returned {got}, needed {expected}"
    if isinstance(expected, float) or (isinstance(expected, Tensor) and expected.ndim == 0):
        if isinstance(got, int | float) and not isinstance(got, bool):
            got = torch.tensor(float(got))
        expected = torch.as_tensor(expected)
    if not isinstance(got, Tensor):
        return f"returned {type_name(got)}, needed a tensor of shape {list(expected.shape)}"
    return tensor_difference(expected, got)


def tensor_difference(expected: Tensor, got: Tensor) -> str | None:
    if got.shape != expected.shape:
        return f"returned shape {list(got.shape)}, needed {list(expected.shape)}"
    if kind(got.dtype) != kind(expected.dtype):
        return f"returned dtype {got.dtype}, needed {expected.dtype}".replace("torch.", "")
    if expected.is_floating_point():
        # no oracle gives NaN, so equal NaNs only ever say which mistake an answer equals
        wrong = ~torch.isclose(got.double(), expected.double(), rtol=RTOL, atol=ATOL, equal_nan=True)
    else:
        wrong = got != expected
    if not bool(wrong.any()):
        return None
    index = tuple(wrong.nonzero()[0].tolist())
    at = f" at {list(index)}" if index else ""
    have, want = (f"{v:.5g}" if isinstance(v, float) else str(v) for v in (got[index].item(), expected[index].item()))
    return f"returned {have}{at}, needed {want} ({int(wrong.sum())} of {wrong.numel()} differ)"


def kind(dtype: torch.dtype) -> str:
    if dtype == torch.bool:
        return "bool"
    return "float" if dtype.is_floating_point else "integer"


def written(verdict: Verdict, name: str) -> str:
    """The verdict as text."""
    if verdict.failure is None:
        return f"{name}: right in all {verdict.num_cases} cases"
    failure = verdict.failure
    lines = [f"{name}: wrong in {verdict.num_wrong} of {verdict.num_cases} cases", "", "The smallest failing case:"]
    lines += [f"    {key} = {literal(value)}" for key, value in failure.arguments.items()]
    lines += [f"    needed    {literal(failure.expected)}"]
    if failure.answer.problem is None:
        lines += [f"    returned  {literal(failure.answer.value)}"]
    lines += ["", failure.problem]
    for mistake, explained, wrong in verdict.mistakes:
        share = "" if explained == wrong else f" in {explained} of {wrong} wrong cases"
        lines += ["", f"Your output equals a known mistake{share}: {mistake}"]
        lines += [f"    {verdict.task.mistakes[mistake]}"]
    lines += ["", f"Read on: {verdict.task.lesson}"]
    return "\n".join(lines)


def literal(value: Any) -> str:
    """A value as one would type it; a long tensor by its shape."""
    if isinstance(value, tuple | list):
        brackets = "()" if isinstance(value, tuple) else "[]"
        return brackets[0] + ", ".join(literal(item) for item in value) + brackets[1]
    if isinstance(value, Tensor):
        if value.numel() > 60:
            return f"a tensor of shape {list(value.shape)}"
        if value.numel() == 0:
            return f"torch.zeros({', '.join(map(str, value.shape))})"
        return f"torch.tensor({literal(value.tolist())})"
    if isinstance(value, float):
        return f"{value:.6g}" + ("." if value.is_integer() and abs(value) < 1e5 else "")
    return str(getattr(value, "type_name", value))


def as_data(verdict: Verdict, name: str) -> dict[str, Any]:
    """The verdict as JSON data."""
    failure = verdict.failure
    return {
        "exercise": name,
        "right": failure is None,
        "cases": verdict.num_cases,
        "wrong": verdict.num_wrong,
        "problem": failure and failure.problem,
        "case": failure and {key: plain(value) for key, value in failure.arguments.items()},
        "needed": failure and plain(failure.expected),
        "mistakes": [mistake for mistake, _, _ in verdict.mistakes],
    }


def plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value
