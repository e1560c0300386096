"""The house rules that a reader relies on: who imports whom, what is heavy, what no file may contain."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("anchors", "label_tools", "toolkit")
MAY_IMPORT = {"anchors": {"anchors"}, "label_tools": {"label_tools"}, "toolkit": set(PACKAGES)}
HEAVY = {"torch", "torchvision", "albumentations", "matplotlib", "pycocotools", "cv2", "scipy", "sklearn"}


def sources(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, package
    return files


def imported(tree: ast.AST, *, top_level: bool = False) -> set[str]:
    """Top names of the packages that a module imports; with `top_level` only those imported when it is."""
    nodes = tree.body if top_level else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package):
    for path in sources(package):
        ours = imported(ast.parse(path.read_text())) & set(PACKAGES)
        assert ours <= MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {ours - MAY_IMPORT[package]}"


# each room of toolkit and those above it, which it must not know
STOREYS = (
    {"config", "runtime", "stopping", "checkpoint"},
    {"data"},
    {"networks"},
    {"training"},
    {"prediction", "metrics"},
    {"evaluation", "report"},
    {"single_object"},
    {"commands"},
)


def test_rooms_of_the_toolkit_import_only_downwards():
    storey = {room: level for level, rooms in enumerate(STOREYS) for room in rooms}
    seen = set()
    for path in sources("toolkit"):
        here = path.relative_to(ROOT / "toolkit").with_suffix("").parts[0]
        if here.startswith("__"):
            continue
        seen.add(here)
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module.startswith("toolkit"):
                continue
            parts = node.module.split(".")[1:]
            for room in parts[:1] or [alias.name for alias in node.names]:
                if room in storey:
                    assert storey[room] <= storey[here], f"{path.relative_to(ROOT)} imports {room}"
    assert seen == set(storey)


def test_label_tools_never_imports_torch():
    for path in sources("label_tools"):
        assert not imported(ast.parse(path.read_text())) & {"torch", "torchvision", "labelme"}, path


def test_commands_and_package_roots_import_nothing_heavy_when_imported():
    light = [ROOT / p / "__init__.py" for p in PACKAGES] + [ROOT / p / "__main__.py" for p in PACKAGES]
    light += sorted((ROOT / "toolkit" / "commands").glob("*.py"))
    for path in light:
        assert not imported(ast.parse(path.read_text()), top_level=True) & HEAVY, path


def test_help_loads_no_heavy_library():
    code = f"""
import sys
from toolkit.__main__ import parser
parser().format_help()
print(sorted(set(sys.modules) & {HEAVY!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_modules_come_from_this_repository():
    # the three names have other owners on the public index; theirs must not shadow ours
    for package in PACKAGES:
        assert Path(importlib.import_module(package).__file__).is_relative_to(ROOT)


def test_no_crowded_room_names():
    for package in PACKAGES:
        names = {path.stem for path in sources(package)}
        assert not names & {"utils", "util", "misc", "core", "helpers", "common"}, package


def test_nothing_in_the_repository_can_run_code_from_a_file():
    """torch.load only with weights_only=True; no pickle of data, eval, unsafe yaml or numpy pickles."""
    for path in [p for package in (*PACKAGES, "benchmarks", "sample_data") for p in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            call = ast.unparse(node.func)
            words = {k.arg: ast.unparse(k.value) for k in node.keywords}
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            if call == "torch.load":
                assert words.get("weights_only") == "True", where
            assert call not in ("eval", "exec", "yaml.load", "pickle.load", "pickle.loads"), where
            assert words.get("allow_pickle", "False") == "False", where
