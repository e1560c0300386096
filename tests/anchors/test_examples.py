"""The tiny numbers at the end of each lesson file are what the code gives."""

from __future__ import annotations

import ast
import doctest
import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "anchors"
LESSONS = [
    "boxes",
    "grid",
    "deltas",
    "matching",
    "sampling",
    "losses",
    "nms",
    "proposals",
    "roi_pool",
    "roi_align",
    "postprocess",
    "mask",
]


@pytest.mark.parametrize("name", LESSONS)
def test_tiny_numbers(name):
    result = doctest.testmod(importlib.import_module(f"anchors.{name}"))
    assert result.attempted >= 3
    assert result.failed == 0


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_opens_with_its_limits_and_its_place_in_the_paper(name):
    opening = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    assert "Limits:" in opening
    assert "Place:" in opening
    assert "R-CNN" in opening


def test_the_lesson_needs_torch_and_nothing_else():
    allowed = {"torch", "anchors", "math", "typing", "collections", "__future__"}
    for name in [*LESSONS, "arguments"]:
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text())):
            if isinstance(node, ast.Import):
                found = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found = {node.module.split(".")[0]}
            else:
                continue
            assert found <= allowed, f"{name}.py imports {found - allowed}"
