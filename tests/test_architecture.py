"""The house rules that a reader relies on: who imports whom, what is heavy, what no file may contain."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from functools import lru_cache
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


# the rooms of each package from the ground up; a room imports from those before it and from itself
FLOORS = {
    "label_tools": (
        "text",
        "files",
        "shapes",
        "document",
        "pictures",
        "formats",
        "readers",
        "operations",
        "rules",
        "commands",
    ),
    "toolkit": (
        "config",
        "stopping",
        "rank_and_cores",
        "device_and_seed",
        "checkpoint",
        "metrics",
        "data",
        "networks",
        "training",
        "prediction",
        "report",
        "evaluation",
        "single_object",
        "fine_tune",
        "run",
        "experiments",
        "labelling",
        "deployment",
        "commands",
    ),
}


def import_graph() -> dict[str, set[str]]:
    """{module: modules of ours that it imports}, over all imports, those inside of functions too."""
    files = {}
    for path in (path for package in PACKAGES for path in sources(package)):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    graph: dict[str, set[str]] = {name: set() for name in files}
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & set(files)
            elif isinstance(node, ast.ImportFrom):
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                found = {f"{base}.{alias.name}" if f"{base}.{alias.name}" in files else base for alias in node.names}
                graph[name] |= found & set(files)
        graph[name].discard(name)
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other: the strongly connected ones of more than one (Tarjan 1972)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in number:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == number[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in number:
            visit(name)
    return found


def test_no_circle_among_files():
    assert circles({"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": set()}) == [["a", "b", "c"]]  # it would see one
    assert circles(import_graph()) == []


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_only_downwards(package):
    floor = {room: level for level, room in enumerate(FLOORS[package])}
    seen = set()
    for name, imports in import_graph().items():
        here, room = name.split(".")[0], ".".join(name.split(".")[1:2])
        if here != package or room not in floor:
            assert here != package or room in ("", "__main__"), f"{name}: its room has no floor"
            continue
        seen.add(room)
        for other in imports:
            there = other.split(".")
            if there[0] == package:
                above = floor.get(there[1], -1) if len(there) > 1 else -1
                assert above <= floor[room], f"{name} imports {other}"
    assert seen == set(floor)


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


# rows of CONTRIBUTING's table: what a line holds (outside of comments), and every file of toolkit and label_tools that
# may hold it, or the folder
WHERE_A_LINE_LIVES = {
    "prints": (
        r"(?<![\w.])print\(|sys\.std(out|err)\.write",
        {
            "toolkit/training/progress.py",
            "toolkit/training/pretrain_starter.py",
            "label_tools/text/command_line.py",  # help
            "label_tools/text/errors.py",  # `say`, by which commands print
        },
    ),
    "opens an image file": (r"\bImage\.open\(", {"label_tools/pictures/open_image.py"}),
    "swaps [x,y,w,h] and XYXY": (
        r"x1, y1, x2 - x1, y2 - y1|\bx, y, x \+ w, y \+ h\b",
        {"toolkit/data/boxes.py", "label_tools/"},
    ),
    "knows COCO's keys": (
        r"\"iscrowd\"",
        {
            "label_tools/",
            "toolkit/data/coco_index.py",
            "toolkit/metrics/coco_tables.py",
            "toolkit/evaluation/evaluation_folder.py",
            "toolkit/single_object/data/",
            "toolkit/single_object/compare_with_detector.py",
        },
    ),
    "names a torchvision model": (
        r"torchvision\.models|from torchvision import models",
        {"toolkit/networks/", "toolkit/single_object/networks/", "toolkit/training/forward_pass.py"},
    ),
    "calls backward or step": (
        r"\.backward\(|optimizer\.step\(",
        {
            "toolkit/training/optimizer_step.py",
            "toolkit/training/dry_run.py",
            "toolkit/training/pretrain_starter.py",
        },
    ),
    "seeds the global generators": (r"np\.random\.seed\(|(?<![\w.])random\.seed\(", {"toolkit/device_and_seed.py"}),
    "chooses a device": (
        r"mps\.is_available\(|torch\.device\(wanted",
        {"toolkit/device_and_seed.py", "toolkit/commands/doctor.py"},
    ),
    "asks which process it is": (r"environ.*\"(RANK|LOCAL_RANK|WORLD_SIZE)\"", {"toolkit/rank_and_cores.py"}),
    "reads argv": (r"sys\.argv", {"toolkit/commands/", "label_tools/text/command_line.py"}),
}


@lru_cache
def code_lines(path: Path) -> str:
    """A source without comments, docstrings and their text."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = ""
    return ast.unparse(tree).replace("'", '"')


@pytest.mark.parametrize("what", WHERE_A_LINE_LIVES)
def test_where_a_line_lives(what):
    pattern, homes = WHERE_A_LINE_LIVES[what]
    found = set()
    for path in (path for package in ("toolkit", "label_tools") for path in sources(package)):
        name = path.relative_to(ROOT).as_posix()
        if re.search(pattern, code_lines(path)):
            home = next(
                (home for home in homes if name == home or (home.endswith("/") and name.startswith(home))), None
            )
            assert home, f"{name} {what}: that lives in {', '.join(sorted(homes))}"
            found.add(home)
    assert found == homes, f"no line there {what} any more: {homes - found}"


def test_defaults_of_training_are_written_in_config_alone():
    """No function elsewhere has a default of its own for an option of the optimiser or the schedule."""
    from toolkit import config

    options = {name for name, (section, _) in config.fields().items() if section in ("optimizer", "schedule")}
    for path in sources("toolkit"):
        for node in ast.walk(ast.parse(path.read_text())) if path.name != "config.py" else ():
            if not isinstance(node, ast.FunctionDef):
                continue
            spec = node.args
            pairs = [*zip(spec.args[::-1], spec.defaults[::-1]), *zip(spec.kwonlyargs, spec.kw_defaults)]
            written = {a.arg for a, d in pairs if isinstance(d, ast.Constant) and d.value is not None}
            assert not written & options, f"{path.relative_to(ROOT)}, {node.name}: {written & options}"
