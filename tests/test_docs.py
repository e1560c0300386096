"""The documents: the site is built strictly and is whole without a network, and every command that a page shows works.

A fenced block of `sh` holds commands. They are run in order in a folder with a few of the sample's pictures, trainings
cut short. All are parsed, so no option is wrong; those with `<!-- not run: why -->` before their block only are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.__main__ import main, parser

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "sample_data"
BLOCK = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(\w*)\n(.*?)^```$", re.M | re.S)
SHORT = "--model fasterrcnn_tiny_fpn --epochs 1 --image-size 96 --device cpu --workers 0"
CUT_SHORT = {
    "train": SHORT,
    "loop train": SHORT,
    "crossval": f"{SHORT} --folds 3",
    "curve": f"{SHORT} --fractions 0.5 1 --seeds 0",
}
COMMANDS = {"sh", "console"}
PLAIN = {"cat", "cp", "mkdir", "rm"}  # programs that a page may run beside frcnn
PAGES = [
    "README.md",
    "label_tools/README.md",
    "anchors/README.md",
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
]


def blocks(page: str) -> list[tuple[bool, list[str]]]:
    """(is it run, its commands) of each block of shell commands; a backslash at its end continues a line."""
    found = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
    assert {language for _, language, _ in found} <= {"sh", "console", "python", "yaml", "text"}, (
        "a block says what it holds"
    )
    shown = re.compile(r"^(?!\$ ).*\n|^\$ ", re.M)  # of a console: what is printed, and the prompt
    text = [(not mark, body if kind == "sh" else shown.sub("", body)) for mark, kind, body in found if kind in COMMANDS]
    text = [(run, body.replace("\\\n", " ")) for run, body in text]
    return [(run, [line for line in body.splitlines() if shlex.split(line, comments=True)]) for run, body in text]


def parse(line: str, page: str) -> None:
    """The words after frcnn or `-m toolkit` go through the parser; a target of make is in the Makefile."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        made = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {word for word in words[1:] if "=" not in word} <= set(made), f"{page}: {line}"
    elif words[0] == "frcnn" or "toolkit" in words:
        start = words.index("frcnn" if words[0] == "frcnn" else "toolkit") + 1
        try:
            parser().parse_args(words[start:])
        except SystemExit as stop:
            assert stop.code == 0, f"{page}: {line}"


def execute(line: str, page: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "frcnn":
        cut = CUT_SHORT.get(" ".join(words[1:3])) or CUT_SHORT.get(words[1], "")
        short = [] if {"--resume", "--list-models"} & set(words) else cut.split()
        expected = int((re.search(r"# .*exit code (\d+)", line) or [0, 0])[1])
        assert main(words[1:] + short) == expected, f"{page}: {line}"
    else:
        assert words[0] in PLAIN, f"{page}: {line}"
        subprocess.run(["sh", "-ec", line], check=True, timeout=60)


def copy_pictures(folder: Path, numbers: range, *suffixes: str) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        for suffix in suffixes:
            shutil.copy(SAMPLE / "labelme" / f"bench_{number:03d}.{suffix}", folder)


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A user's folder before anything is done: labelled photos, new ones, classes, masks."""
    folder = tmp_path_factory.mktemp("first")
    copy_pictures(folder / "photos", range(1, 21), "jpg", "json")
    copy_pictures(folder / "new_photos", range(50, 53), "jpg")
    shutil.copy(SAMPLE / "labels.txt", folder)
    shutil.copytree(SAMPLE / "masks", folder / "masked")
    (folder / "classes.txt").write_text("bolt=fastener\nhex_nut=fastener\nwasher=      # no longer wanted\n")
    return folder


@pytest.fixture(scope="module")
def trained(first, tmp_path_factory) -> Path:
    """The same folder after the README's commands up to training: photos split, runs/parts and runs/other."""
    folder = tmp_path_factory.mktemp("later") / "work"
    shutil.copytree(first, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in (
            "frcnn convert photos --labels labels.txt --out photos/annotations.json",
            "frcnn split photos/annotations.json",
            "frcnn train photos --name parts --no-report",
            "frcnn train photos --name other --no-report",
        ):
            execute(line, "trained")
    return folder


FROM_THE_START = {"README.md", "label_tools/README.md", "docs/label.md", "docs/convert.md"}


HEAVY = {"docs/learn.md", "anchors/README.md"}  # fifteen figures are drawn


@pytest.mark.parametrize("page", PAGES)
def test_every_option_of_a_page(page):
    for _, lines in blocks(page):
        for line in lines:
            parse(line, page)


@pytest.mark.parametrize("page", [pytest.param(p, marks=[pytest.mark.slow] if p in HEAVY else []) for p in PAGES])
def test_every_command_of_a_page(page, request, tmp_path, monkeypatch, capsys):
    todo = blocks(page)
    if any(run for run, _ in todo):
        start = request.getfixturevalue("first" if page in FROM_THE_START else "trained")
        shutil.copytree(start, tmp_path / "work")
        monkeypatch.chdir(tmp_path / "work")
    for line in (line for run, lines in todo if run for line in lines):
        execute(line, page)


def test_a_wrong_option_of_a_page_is_seen():
    with pytest.raises(AssertionError, match="--epochz"):
        parse("torchrun --nproc-per-node 4 -m toolkit train photos --epochz 3", "page")
    with pytest.raises(AssertionError, match="no_such_target"):
        parse("make no_such_target", "page")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_the_site_is_built_strictly_and_has_every_document(site):
    assert {f"{Path(page).stem}.html" for page in PAGES if page.startswith("docs/")} | {
        "index.html",
        "bad_input.html",
    } <= {path.name for path in site.glob("*.html")}


def test_nothing_of_the_site_comes_from_the_network(site):
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"""(?:src=|<link[^>]*href=|@import |url\()["']?((?:https?:)?//[^"')\s]+)""", text)
        assert loaded == [], path


def test_a_link_to_nothing_stops_the_build(tmp_path):
    pytest.importorskip("mkdocs")
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("from_python", "__pycache__"))
    for name in ("label_tools/README.md", "label_tools/text/bad_input.md", "anchors/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "docs" / "label.md").write_text("[gone](gone.md)")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert built.returncode != 0 and "gone.md" in built.stderr
