"""setup.sh on machines where it cannot work: a clear sentence, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell script")


@pytest.fixture
def machine(tmp_path):
    """run(**programs) -> what setup.sh says on a PATH with basic tools and these shell scripts."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dirname", "awk", "rm", "touch", "cat"):
        os.symlink(shutil.which(name), tools / name)
    work = tmp_path / "checkout"
    work.mkdir()
    shutil.copy(ROOT / "setup.sh", work)

    def run(environ: dict[str, str] | None = None, **programs: str) -> tuple[int, str, list[str]]:
        programs = {"df": "printf 'Filesystem\\nx 1 1 99999 1 /\\n'", **programs}
        for name, script in programs.items():
            (tools / name).write_text(f"#!/bin/sh\n{script}\n")
            (tools / name).chmod(0o755)
        done = subprocess.run(
            [shutil.which("sh"), "setup.sh"],
            cwd=work,
            env={"PATH": str(tools), **(environ or {})},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr, sorted(p.name for p in work.iterdir())

    return run


def test_neither_uv_nor_python(machine):
    code, said, left = machine()
    assert code == 2 and "found neither uv nor a Python 3.11 to 3.14" in said and left == ["setup.sh"]


def test_a_python_that_is_too_old_counts_as_none(machine):
    code, said, _ = machine(python3="exit 1")  # the version check fails
    assert code == 2 and "found neither" in said


def test_python_without_its_venv_module(machine):
    code, said, left = machine(python3='[ "$1" = -m ] && exit 1; exit 0')
    assert code == 2 and "apt install python3-venv" in said and "pip install uv" in said
    assert left == ["setup.sh"]


def test_too_little_disk(machine):
    code, said, _ = machine(df="printf 'Filesystem\\nx 1 1 500 1 /\\n'", python3="exit 0")
    assert code == 2 and "only 500 MB free" in said and "TORCH_BACKEND=cpu" in said


def test_no_network(machine):
    code, said, left = machine(uv='[ "$1" = venv ] && exit 0; exit 1')
    assert code == 2 and "could not be installed" in said
    assert ".venv" not in left or not (Path(left[0]) / "ready").exists()
    assert "TORCH_BACKEND" not in said


def test_an_index_of_torch_that_is_out_of_reach_has_a_next_step(machine):
    """uv says the address; the last line says what to do."""
    uv = '[ "$1" = venv ] && exit 0; echo "error: Failed to fetch: https://torch.example/whl/$5" >&2; exit 1'
    code, said, left = machine({"TORCH_BACKEND": "cpu"}, uv=uv)
    address, advice = said.splitlines()[-2:]
    assert code == 2 and "Failed to fetch: https://torch.example/whl/" in address
    assert "could not be installed; the lines above say which and from which address" in advice
    assert "TORCH_BACKEND=cpu torch comes from an index of its own: where that is out of reach" in advice
    assert advice.endswith("run this again without it")
    assert ".venv" not in left
