"""Every row of `label_tools/text/bad_input.md`, made as a file, has the outcome that the table promises."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from label_tools.__main__ import main
from label_tools.text import findings
from tests.label_tools.bad_input_images import COCO, IMAGES, MASKS, OTHERS
from tests.label_tools.bad_input_labels import FILES, SHAPES
from tests.label_tools.bad_input_makers import Case

CASES = [*SHAPES, *FILES, *COCO, *OTHERS, *IMAGES, *MASKS]
ELSEWHERE = {  # rows that no conversion can show, and the test that does
    "B16": "label_tools/test_check.py",
    "B45": "toolkit/test_forward_pass.py",
    "B46": "toolkit/test_forward_pass.py",
    "B53": "label_tools/test_check.py",
    "B54": "label_tools/test_check.py",
    "B55": "label_tools/test_marked_folders.py",
    "B70": "toolkit/test_faults.py",
    "B90": "toolkit/test_mask_training.py",
}


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def run(case: Case, tmp_path: Path, *more: str) -> tuple[int, Path]:
    """(exit code, the folder of the output), the input's bytes compared before and after."""
    folder = tmp_path / "in"
    folder.mkdir(parents=True)
    argv = case.make(folder)
    out = tmp_path / "out" / "annotations.json"
    before = digest(folder)
    code = main([*argv, *([] if "--out" in argv else ["--out", str(out)]), *more])
    assert digest(folder) == before, "an input was touched"
    return code, out.parent


def account_of(out: Path) -> dict:
    return json.loads((out / "conversion.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[f"{c.code} {c.name}" for c in CASES])
def test_outcome(case: Case, tmp_path, capsys):
    code, out = run(case, tmp_path)
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    if case.expect == "refuse":
        assert code == 2
        assert said.err.startswith("error: ") and said.err.count("\n") == 1, said.err
        assert not list(out.glob("*")), "something was written"
        assert case.text in said.err
        return
    assert code == (1 if case.expect == "leave out" else 0), said.err
    account = account_of(out)
    found = {(f["code"], f["level"]) for f in account["findings"]}
    codes_of = {level: {c for c, have in found if have == level} for level in ("error", "warning", "note")}
    if case.expect == "accept":
        assert not found, account["findings"]
    elif case.expect == "note":
        assert codes_of["note"] == {case.code} and not codes_of["error"] | codes_of["warning"], found
    elif case.expect == "repair":
        assert case.code in codes_of["warning"] and not codes_of["error"], found
    elif case.expect == "leave out":
        assert codes_of["error"] == {case.code}, account["findings"]
        assert all(f["file"] for f in account["findings"])
        assert re.fullmatch(r"warning: left out: [1-9].*", said.err.splitlines()[-1])  # never "nothing"
    else:
        raise AssertionError(case.expect)
    assert case.text in said.err
    assert account["objects_in"] == account["objects_out"] + account["merged"] + sum(account["dropped"].values())
    assert account["objects_out"] == 1 + case.out
    document = json.loads((out / "annotations.json").read_text())
    assert [a["id"] for a in document["annotations"]] == list(range(1, len(document["annotations"]) + 1))
    for a in document["annotations"]:
        image = document["images"][a["image_id"] - 1]
        x, y, w, h = a["bbox"]
        assert x >= 0 and y >= 0 and w >= 1 and h >= 1 and a["area"] > 0
        assert x + w <= image["width"] + 1e-9 and y + h <= image["height"] + 1e-9


STRICT = [c for c in CASES if c.expect in ("repair", "leave out", "accept", "note")]


@pytest.mark.parametrize("case", STRICT, ids=[f"{c.code} {c.name}" for c in STRICT])
def test_strict_refuses_repairs_and_losses_and_nothing_else(case: Case, tmp_path, capsys):
    code, out = run(case, tmp_path, "--strict")
    said = capsys.readouterr()
    if case.expect in ("repair", "leave out"):
        assert code == 2 and case.code in said.err and not list(out.glob("*"))
    else:
        assert code == 0, said.err


def test_every_row_has_a_case():
    shown = {case.code for case in CASES}
    assert set(findings.titles()) == shown | set(ELSEWHERE)
    assert not shown & set(ELSEWHERE)
    assert all((Path(__file__).parents[1] / file).is_file() for file in ELSEWHERE.values())
    assert len(CASES) >= 150


def test_the_page_has_every_code_once_in_order_and_names_tests_that_are_there():
    page = Path(findings.__file__).with_name("bad_input.md").read_text(encoding="utf-8")
    codes = re.findall(r"^\| (B\d\d) ", page, flags=re.MULTILINE)
    assert codes == sorted(set(codes)) == list(findings.titles())
    assert not re.search(r"[&`<>*]", " ".join(findings.titles().values()))  # `convert` prints them as they are
    assert all(row.count(" | ") == 3 for row in page.splitlines() if row.startswith("| B"))
    assert page.count("|---|---|---|---|\n") == len(re.findall("^## ", page, flags=re.MULTILINE)) == 6
    others = re.findall(r"`(tests/toolkit/test_\w+\.py)` \|$", page, flags=re.MULTILINE)
    assert len(others) == 11
    assert all((Path(__file__).parents[2] / file).is_file() for file in others)
