"""Mutation testing: how many small changes of the code the tests near it catch.

    python benchmarks/mutants.py document --out FOLDER            45 places of label_tools/document, seed 0
    python benchmarks/mutants.py metrics --number 80 --seed 3 --seconds 400 --out FOLDER      goes on where it stopped

The tests of an area are collected once and run once, to see which functions each of them calls. Then for each place a
process is forked, in which the function has the changed code and only the tests that call it run, the quickest first,
until one fails; a change outside of functions has a Python of its own. A change is of one comparison, operator,
number, condition, jump or return; not of messages, annotations and docstrings. FOLDER keeps the results for the next
call; delete it when code or tests change. Prints the share caught and each change that no test caught: it is for a
person to say whether the program does anything else with it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

AREAS = {  # what is changed, tests that may see it
    "document": (
        "label_tools/document",
        "label_tools/test_[bc]*.py label_tools/test_a*.py label_tools/test_edit.py label_tools/test_large_file.py "
        "label_tools/test_split.py toolkit/test_large_index.py",
    ),
    "formats": (
        "label_tools/formats",
        "label_tools/test_[buvy]*.py label_tools/test_c[ov]*.py label_tools/test_de*.py label_tools/test_e[dx]*.py "
        "label_tools/test_label*.py label_tools/test_masks.py label_tools/test_p*.py label_tools/test_ro*.py",
    ),
    "metrics": ("toolkit/metrics", "metrics/test_*.py toolkit/test_for*.py labelling/test_fix_suspects.py"),
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


def mutant(file: str, index: int) -> tuple[ast.AST, str, int]:
    """(the changed module, what was changed, its line)"""
    tree = ast.parse((ROOT / file).read_text())
    place: Any = places(tree)[index]
    what = " -> ".join(ast.unparse(node).splitlines()[0] for node in (place, changed(place)) if node)
    return ast.fix_missing_locations(_Put(place).visit(tree)), what, place.lineno


def codes(code: CodeType) -> Iterator[CodeType]:
    """The code of the functions and methods of a module, without those within functions."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from [inner] if inner.co_flags & inspect.CO_NEWLOCALS else codes(inner)


def put(file: str, tree: Any) -> bool:
    """Give a function of an imported module its changed code; False: the change is outside of functions."""
    path, found = str(ROOT / file), False
    before = codes(compile((ROOT / file).read_text(), path, "exec", dont_inherit=True))
    for old, new in zip(before, codes(compile(tree, path, "exec", dont_inherit=True)), strict=True):
        if old != new:
            for one in gc.get_objects():
                if type(one) is FunctionType and one.__code__ == old:
                    one.__code__, found = new, True
    return found


def in_child(work: Callable[[], int], limit: float) -> int:
    """The exit code of `work()` in a forked process; -1 when it takes longer than `limit` seconds."""
    begin, pid = time.monotonic(), os.fork()
    if pid == 0:
        code = 98  # an exception here, outside of the tests
        with contextlib.suppress(BaseException):
            os.setsid()
            code = work()
        os._exit(code)
    while time.monotonic() - begin < limit:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -1


class Mutants:
    """pytest plugin: in the place of a run of the tests, a process for each change."""

    def __init__(self, files: list[str], sample: list[tuple[str, int]], folder: Path, seconds: float) -> None:
        self.files, self.sample, self.folder, self.seconds = files, sample, folder, seconds
        self.seen: dict[str, set[tuple[str, int]]] = {}  # test -> functions that it calls; file -> those of fixtures
        self.took: dict[str, float] = {}
        self.test = ""

    def pytest_configure(self) -> None:
        import hypothesis

        hypothesis.settings.register_profile("mutants", database=None, derandomize=True)
        hypothesis.settings.load_profile("mutants")

    def _trace(self, frame: Any, event: str, arg: Any) -> None:
        if (file := frame.f_code.co_filename).startswith(str(ROOT)):
            self.seen.setdefault(self.test, set()).add((file[len(str(ROOT)) + 1 :], frame.f_code.co_firstlineno))

    def pytest_runtest_setup(self, item: Any) -> None:
        self.test = item.nodeid.split("::")[0]

    def pytest_runtest_call(self, item: Any) -> None:
        self.test = item.nodeid

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.took[report.nodeid] = self.took.get(report.nodeid, 0) + report.duration

    def _run(self, session: Any, items: list) -> int:
        for item, after in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            if session.testsfailed:
                return 1
        return 0

    def _calls(self, session: Any) -> tuple[dict[str, list], dict[str, float]]:
        kept = self.folder / "calls.json"

        def work() -> int:
            threading.settrace(self._trace)
            sys.settrace(self._trace)
            code = self._run(session, session.items)
            kept.write_text(json.dumps([{test: sorted(where) for test, where in self.seen.items()}, self.took]))
            return code

        if not kept.exists() and (code := in_child(work, 900)):
            kept.unlink(missing_ok=True)
            session.config.pluginmanager.unregister(self)
            raise RuntimeError(f"the tests fail without any change, exit code {code}")
        return json.loads(kept.read_text())

    def pytest_runtestloop(self, session: Any) -> bool:
        end = time.monotonic() + self.seconds
        calls, took = self._calls(session)
        log = self.folder / "results.jsonl"
        before = {(r["file"], r["index"]) for r in results_in(log)}
        for file, index in self.sample:
            if (file, index) in before or time.monotonic() > end:
                continue
            tree, what, line = mutant(file, index)
            span = function_around(file, line)
            names = {test for test, seen in calls.items() if any(f == file and at in span for f, at in seen)}
            items = [i for i in session.items if names & {i.nodeid, i.nodeid.split("::")[0]}]
            items.sort(key=lambda item: took.get(item.nodeid, 0))

            def work(file: str = file, tree: ast.AST = tree, items: list = items) -> int:
                return self._run(session, items) if put(file, tree) else 97

            code = in_child(work, 30 + 5 * sum(took.get(i.nodeid, 0) for i in items)) if items else 0
            if code == 98:
                raise RuntimeError(f"{file}, place {index}: no change could be made of it")
            if code == 97:
                tests = [*dict.fromkeys(i.nodeid.split("::")[0] for i in items)]
                code = subprocess.run([sys.executable, __file__, "fresh", file, str(index), *tests]).returncode
            result = {"file": file, "index": index, "line": line, "what": what, "tests": len(items), "code": code}
            with log.open("a") as out:
                out.write(json.dumps(result) + "\n")
        return True


def results_in(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def function_around(file: str, line: int) -> range:
    """Lines of the function or method that holds a line, the outermost; of the whole file for a line outside."""
    found = [n for n in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(n, ast.FunctionDef)]
    spans = [
        range(min([f.lineno, *(d.lineno for d in f.decorator_list)]), (f.end_lineno or f.lineno) + 1) for f in found
    ]
    return max((span for span in spans if line in span), key=len, default=range(10**9))


def fresh(file: str, index: int, tests: list[str]) -> int:
    """pytest's exit code with a changed module that is imported in the place of the real one."""
    import pytest

    name, tree = file.removesuffix(".py").replace("/", "."), mutant(file, index)[0]

    class Changed(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname: str) -> Any:
            return self.source_to_code(tree, str(ROOT / file))

    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
            return importlib.util.spec_from_loader(name, Changed(name, str(ROOT / file))) if fullname == name else None

    sys.meta_path.insert(0, Finder())
    return pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests])


def main() -> int:
    os.chdir(ROOT)
    if sys.argv[1:2] == ["fresh"]:
        return fresh(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--number", type=int, default=45, help="places that are changed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no other after this time")
    args = parser.parse_args()
    place, patterns = AREAS[args.area]
    folder = args.out.resolve() / args.area
    folder.mkdir(parents=True, exist_ok=True)
    files = [place] if place.endswith(".py") else sorted(f"{place}/{f.name}" for f in Path(place).glob("*.py"))
    tests = sorted({str(f) for p in patterns.split() for f in Path().glob(f"tests/{p}")})
    every = [(file, k) for file in files for k in range(len(places(ast.parse(Path(file).read_text()))))]
    sample = random.Random(args.seed).sample(every, min(args.number, len(every)))

    import pytest

    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'tmp'}"]
    code = pytest.main([*options, *tests], plugins=[Mutants(files, sample, folder, args.seconds)])
    done = [r for r in results_in(folder / "results.jsonl") if (r["file"], r["index"]) in sample]
    for r in done:
        if r["code"] == 0:
            print(f"{r['file']}:{r['line']} [{r['index']}] {r['what']} ({r['tests']} tests)")
    print(f"{args.area}: {sum(r['code'] != 0 for r in done)} of {len(done)} caught; {len(every)} places in all")
    return code


if __name__ == "__main__":
    sys.exit(main())
