"""Mutation testing: how many small changes of the code the tests near it catch.

    python benchmarks/mutants.py document --out FOLDER                    45 places of label_tools/document, seed 0
    python benchmarks/mutants.py metrics --number 80 --seed 3 --seconds 400 --out FOLDER    goes on where it stopped

The tests of an area run once to see which functions each of them calls; then each changed place in a process of its
own, in which only the tests that call its function run. A change is of one comparison, operator, number, condition,
jump or return; not of messages, annotations and docstrings. FOLDER keeps both for the next call; delete it when code
or tests change. Prints the share caught and each change that no test caught: it is for a person to say whether the
program does anything else with it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

AREAS = {  # what is changed, tests that may see it
    "document": (
        "label_tools/document",
        "label_tools/test_[bces]*.py label_tools/test_large_file.py label_tools/test_r*.py toolkit/test_large_index.py",
    ),
    "formats": ("label_tools/formats", "label_tools/test_[bcdelmpruvxy]*.py"),
    "metrics": (
        "toolkit/metrics",
        "metrics/test_*.py toolkit/test_evaluate_[cft]*.py toolkit/test_for*.py labelling/test_suspects.py",
    ),
    "checkpoint": ("toolkit/checkpoint.py", "toolkit/test_checkpoint.py"),
}
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
OF_MESSAGES = ("remark", "say", "refuse", "info", "warning", "InputError", "RefusedError")


def changed(node: ast.AST) -> ast.AST | None:
    """A copy of the node with another meaning; None for one that is left alone."""
    new: Any = copy.deepcopy(node)
    match node:
        case ast.Compare() if type(node.ops[0]) in COMPARISONS:
            new.ops[0] = COMPARISONS[type(node.ops[0])]()
        case ast.BinOp() | ast.BoolOp() if type(node.op) in OPERATORS:
            new.op = OPERATORS[type(node.op)]()
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            new = new.operand
        case ast.Constant(value=bool()):
            new.value = not node.value
        case ast.Constant(value=int() | float()):
            new.value = node.value + 1
        case ast.IfExp() | ast.If():
            new.test = ast.UnaryOp(ast.Not(), new.test)
        case ast.Continue():
            new = ast.Break()
        case ast.Break():
            new = ast.Continue()
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            new.value = ast.Constant(None)
        case _:
            return None
    return ast.copy_location(new, node)


def places(tree: ast.AST) -> list[ast.AST]:
    """The nodes that are changed, in a fixed order."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        parts: list[Any] = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.JoinedStr):
            parts.append(node)
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in OF_MESSAGES:
            parts += node.args
        skipped |= {id(inner) for part in parts if part for inner in ast.walk(part)}
    return [node for node in ast.walk(tree) if id(node) not in skipped and changed(node) is not None]


class _Put(ast.NodeTransformer):
    def __init__(self, place: ast.AST) -> None:
        self.place = place

    def visit(self, node: ast.AST) -> Any:
        return changed(node) if node is self.place else self.generic_visit(node)


def mutant(file: str, index: int) -> tuple[str, str, int]:
    """(the changed source, what was changed, its line)"""
    tree = ast.parse((ROOT / file).read_text())
    place: Any = places(tree)[index]
    new: Any = changed(place)
    what = " -> ".join(ast.unparse(node).splitlines()[0] for node in (place, new))
    return ast.unparse(ast.fix_missing_locations(_Put(place).visit(tree))), what, place.lineno


def functions(file: str) -> list[tuple[int, int]]:
    """(first, last) line of the functions and methods of a file, those within one another apart."""
    tree = ast.parse((ROOT / file).read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [(min(n.lineno for n in (f, *f.decorator_list)), f.end_lineno or f.lineno) for f in found]


class Calls:
    """pytest plugin: which functions of `files` each test calls; in a fixture, that counts for all of its file."""

    def __init__(self, files: list[str]) -> None:
        self.files = {str(ROOT / file): file for file in files}
        self.test = ""
        self.seen: dict[str, set[tuple[str, int]]] = {}
        self.seconds: dict[str, float] = {}

    def _trace(self, frame: Any, event: str, arg: Any) -> None:
        if (file := self.files.get(frame.f_code.co_filename)) is not None:
            self.seen.setdefault(self.test, set()).add((file, frame.f_code.co_firstlineno))

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration

    def pytest_runtest_setup(self, item: Any) -> None:
        self.test = item.nodeid.split("::")[0]
        threading.settrace(self._trace)
        sys.settrace(self._trace)

    def pytest_runtest_call(self, item: Any) -> None:
        self.test = item.nodeid

    def pytest_sessionfinish(self) -> None:
        sys.settrace(None)


def in_child(work: Any, limit: float) -> int:
    """The exit code of `work()` in a process of its own, without output; -1 when it takes over `limit` seconds."""
    begin, pid = time.monotonic(), os.fork()
    if pid == 0:
        code = 98
        with contextlib.suppress(Exception):
            os.setsid()
            for stream in (0, 1, 2):
                os.dup2(os.open(os.devnull, os.O_RDWR), stream)
            code = int(work())
        os._exit(code)
    while time.monotonic() - begin < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


def run_tests(tests: list[str], folder: Path, plugins: list[Any] | None = None) -> int:
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'tmp'}"]
    return pytest.main([*options, *tests], plugins=plugins)


def see_calls(files: list[str], tests: list[str], folder: Path) -> dict[str, Any]:
    """{"seen": {test: [[file, line], ...]}, "seconds": {test: duration}}, kept in `folder`."""
    kept = folder / "calls.json"

    def work() -> int:
        calls = Calls(files)
        code = run_tests(tests, folder, [calls])
        seen = {test: sorted(where) for test, where in calls.seen.items()}
        kept.write_text(json.dumps({"seen": seen, "seconds": calls.seconds}))
        return code

    if not kept.exists() and (code := in_child(work, 900)):
        kept.unlink(missing_ok=True)
        raise SystemExit(f"the tests of unchanged code ended with {code}: pytest {' '.join(tests)}")
    return json.loads(kept.read_text())


def tests_of(file: str, line: int, calls: dict[str, Any]) -> list[str]:
    """The tests that call the function around a line, the quickest first; all of them for a line outside functions."""
    around = [(a, b) for a, b in functions(file) if a <= line <= b]
    first, last = max(around) if around else (1, 10**9)
    names = {t for t, where in calls["seen"].items() if any(f == file and first <= at <= last for f, at in where)}
    chosen = [test for test in calls["seconds"] if names & {test, test.split("::")[0]}]
    return sorted(chosen, key=calls["seconds"].__getitem__)


def caught(file: str, source: str, tests: list[str], folder: Path, limit: float) -> int:
    """pytest's exit code with `source` in the place of a module: 0 when no test failed."""
    name = file.removesuffix(".py").replace("/", ".")

    class Changed(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname: str) -> Any:
            return self.source_to_code(source.encode(), file)

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
            return importlib.util.spec_from_loader(name, Changed(name, str(ROOT / file))) if fullname == name else None

    def work() -> int:
        sys.meta_path.insert(0, Finder())
        return run_tests(tests, folder)

    return in_child(work, limit) if tests else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--number", type=int, default=45, help="places that are changed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no other after this time")
    parser.add_argument("--only", nargs=2, metavar=("FILE", "INDEX"), help="this one place, as the results name it")
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    os.chdir(ROOT)
    place, patterns = AREAS[args.area]
    folder = args.out.resolve() / args.area
    folder.mkdir(parents=True, exist_ok=True)
    files = [place] if place.endswith(".py") else sorted(f"{place}/{f.name}" for f in (ROOT / place).glob("*.py"))
    tests = sorted({str(f.relative_to(ROOT)) for p in patterns.split() for f in (ROOT / "tests").glob(p)})
    for library in ("numpy", "PIL.Image", "pytest", "msgspec", "yaml", "torch", "torchvision"):
        if args.area in ("metrics", "checkpoint") or not library.startswith("torch"):
            importlib.import_module(library)  # once, for all children
    calls = see_calls(files, tests, folder)
    every = [(file, k) for file in files for k in range(len(places(ast.parse((ROOT / file).read_text()))))]
    sample = random.Random(args.seed).sample(every, min(args.number, len(every)))
    if args.only:
        sample = [(args.only[0], int(args.only[1]))]
    log = folder / "results.jsonl"
    before = map(json.loads, log.read_text().splitlines() if log.exists() else ())
    results = {(r["file"], r["index"]): r for r in before}
    for file, index in sample:
        if ((file, index) in results and not args.only) or time.monotonic() > end:
            continue
        source, what, line = mutant(file, index)
        near = tests_of(file, line, calls)
        limit = 30 + 5 * sum(calls["seconds"][test] for test in near)
        result = {"file": file, "index": index, "line": line, "what": what, "tests": len(near)}
        result["code"] = caught(file, source, near, folder, limit)
        results[file, index] = result
        with log.open("a") as out:
            out.write(json.dumps(result) + "\n")
    done = [results[one] for one in sample if one in results]
    for r in done:
        if r["code"] == 0:
            print(f"{r['file']}:{r['line']} [{r['index']}] {r['what']} ({r['tests']} tests)")
    print(f"{args.area}: {sum(r['code'] != 0 for r in done)} of {len(done)} caught; {len(every)} places in all")
    print("by file:", dict(Counter(r["file"] for r in done if r["code"] == 0)))


if __name__ == "__main__":
    main()
