"""Check a function on all cases of a task: the smallest case that fails, and the known mistake it equals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anchors.exercises.compare import difference
from anchors.exercises.learner import Answer
from anchors.exercises.task import Arguments, Case, Mistake, Task

SHARE = 0.7  # of the wrong cases must equal a mistake before it is named


@dataclass(frozen=True)
class Failure:
    title: str
    arguments: Arguments
    problem: str
    expected: Any
    answer: Answer


@dataclass(frozen=True)
class Verdict:
    """failure None: right. mistakes: (mistake, wrong cases it explains, wrong cases with an answer)."""

    task: Task
    num_cases: int
    num_wrong: int
    failure: Failure | None
    mistakes: tuple[tuple[Mistake, int, int], ...]


def problem_of(task: Task, arguments: Arguments, expected: Any, answer: Answer) -> str | None:
    """None if the answer is right, else one line."""
    if answer.problem:
        return answer.problem
    return mismatch(task, arguments, expected, answer.value)


def mismatch(task: Task, arguments: Arguments, expected: Any, value: Any) -> str | None:
    try:
        return difference(task.canonical(arguments, expected), task.canonical(arguments, value))
    except ValueError as error:
        return str(error)


def size_of(arguments: Arguments) -> int:
    """The count of numbers in all tensors and lists: how much there is to read."""
    return sum(
        value.numel() if isinstance(value, Tensor) else len(value) if isinstance(value, list | tuple) else 1
        for value in arguments.values()
    )


def examine(task: Task, answers: Sequence[Answer]) -> Verdict:
    """The verdict on the answers to the task's cases, in their order; fewer, if the process ended early."""
    seen = [(case, task.oracle(**case.arguments), answer) for case, answer in zip(task.cases(), answers)]
    failures = [
        Failure(case.title, case.arguments, problem, expected, answer)
        for case, expected, answer in seen
        if (problem := problem_of(task, case.arguments, expected, answer))
    ]
    if len(seen) < len(task.cases()):  # hung or dead: the last case is the one to show
        return Verdict(task, len(seen), len(failures), failures[-1], ())
    if not failures:
        return Verdict(task, len(seen), 0, None, ())
    smallest = min(failures, key=lambda failure: size_of(failure.arguments))
    return Verdict(task, len(seen), len(failures), smallest, diagnose(task, seen, failures))


def diagnose(task: Task, seen: list[tuple[Case, Any, Answer]], failures: list[Failure]):
    """The known mistakes that give the same answers, in every case or in most of the wrong ones."""
    wrong = [failure for failure in failures if failure.answer.problem is None]
    right = [(case, expected) for case, expected, answer in seen if answer.problem is None]
    if not wrong:
        return ()
    found = []
    for mistake in task.mistakes:
        explained = sum(equals(task, mistake, failure.arguments, failure.answer.value) for failure in wrong)
        if explained < max(1, SHARE * len(wrong)):
            continue
        failed = {id(failure.arguments) for failure in wrong}
        others = [(case, expected) for case, expected in right if id(case.arguments) not in failed]
        contradicted = sum(not equals(task, mistake, case.arguments, expected) for case, expected in others)
        found.append((contradicted + len(wrong) - explained, (mistake, explained, len(wrong))))
    if not found:
        return ()
    least = min(score for score, _ in found)
    return tuple(entry for score, entry in found if score == least)


def equals(task: Task, mistake: Mistake, arguments: Arguments, value: Any) -> bool:
    try:
        return mismatch(task, arguments, mistake.function(**arguments), value) is None
    except (ValueError, IndexError, RuntimeError, ZeroDivisionError):
        return False


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
        lines += ["", f"Your output equals a known mistake{share}: {mistake.name}", f"    {mistake.why}"]
    lines += ["", f"Read on: {verdict.task.lesson}"]
    return "\n".join(lines)


def literal(value: Any) -> str:
    """A value as one would type it; a long tensor by its shape."""
    if isinstance(value, tuple):
        return "(" + ", ".join(literal(item) for item in value) + ")"
    if isinstance(value, Tensor):
        if value.numel() > 60:
            return f"a tensor of shape {list(value.shape)}"
        if value.numel() == 0:
            return f"torch.zeros({', '.join(map(str, value.shape))})"
        return f"torch.tensor({numbers(value.tolist())})"
    return numbers(value) if isinstance(value, float | int | list) else str(getattr(value, "type_name", value))


def numbers(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(numbers(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.6g}" + ("." if value == int(value) and abs(value) < 1e5 else "") if value == value else "nan"
    return str(value)


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
        "mistakes": [mistake.name for mistake, _, _ in verdict.mistakes],
    }


def plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def in_process(task: Task, function: Callable) -> list[Answer]:
    """The answers of a function of ours, in this process: for the package's own solutions and mistakes."""

    def ask(arguments: Arguments) -> Answer:
        torch.manual_seed(0)
        try:
            return Answer(value=function(**arguments))
        except Exception as error:
            return Answer(problem=f"raised {type(error).__name__}: {error}")

    return [ask(case.arguments) for case in task.cases()]
