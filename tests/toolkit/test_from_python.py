"""The Python of docs/from_python.md and the notebook, run as they stand: their numbers are those of the commands."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tests.toolkit.training_fixtures import ROOT
from toolkit.__main__ import main

SAMPLE = ROOT / "sample_data"


def test_the_python_of_the_page(tmp_path, monkeypatch, capsys):
    text = (ROOT / "docs" / "from_python.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (tmp_path / "photos").mkdir()
    for number in range(1, 21):
        for suffix in ("jpg", "json"):
            shutil.copy(SAMPLE / "labelme" / f"bench_{number:03d}.{suffix}", tmp_path / "photos")
    shutil.copy(SAMPLE / "labelme" / "bench_050.jpg", tmp_path / "new.jpg")
    monkeypatch.chdir(tmp_path)
    code, count = re.subn("epochs=24", "epochs=1, device='cpu', workers=0", code)
    first, later = code.split("run = Run(")
    names: dict = {}
    exec(compile(first, "from_python.md", "exec"), names)
    shutil.copytree("runs/parts", "runs/other")
    exec(compile(f"run = Run({later}", "from_python.md", "exec"), names)
    assert count == 1 and (tmp_path / "found.png").is_file() and names["labels"].findings is not None
    assert main(["evaluate", "runs/parts", "--json", "--no-report"]) == 0
    ours = {**names["run"].metrics("test"), "compare": None}
    assert {**json.loads(capsys.readouterr().out), "compare": None} == ours and ours["AP"] is not None


@pytest.mark.slow
def test_the_notebook(tmp_path, capsys, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    (tmp_path / "docs").mkdir()
    (tmp_path / "sample_data").symlink_to(SAMPLE)
    notebook = nbformat.read(ROOT / "docs" / "from_python.ipynb", 4)
    sources = [cell.source for cell in notebook.cells]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    place = {"metadata": {"path": str(tmp_path / "docs")}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=place).execute()
    assert [cell.source for cell in notebook.cells] == sources
    shown = [output for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    pages = "".join(output.data.get("text/html", "") for output in shown)
    assert "data:image/jpeg;base64," in pages and "data:image/png;base64," in pages
    numbers = next(output.data["text/plain"] for output in shown if output.data["text/plain"].startswith("('test', "))
    run = tmp_path / "docs" / "from_python" / "runs" / "parts"
    assert main(["evaluate", str(run), "--json", "--no-report"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    assert numbers == repr(("test", round(theirs["AP"], 3), theirs["intervals"]["AP"]))
    assert not json.loads((run / "run.json").read_text())["command"].startswith("frcnn")  # nor the kernel's argv


def test_the_stored_notebook_was_run_whole_and_names_no_machine():
    content = json.loads((ROOT / "docs" / "from_python.ipynb").read_text())
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    text = json.dumps(content)
    assert len(text) < 600_000 and not re.search(r"/(home|root|tmp|work|Users)/", text)
