"""`frcnn` as a person meets it: help, versions, one-line errors, exit codes, doctor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from label_tools.errors import InputError, MissingExtra, exit_code_of, one_line
from toolkit.__main__ import main, parser

ROOT = Path(__file__).resolve().parents[1]


def commands() -> list[str]:
    (group,) = [a for a in parser()._actions if a.dest == "command"]
    return list(group.choices)


def test_every_command_has_help(capsys):
    assert {"convert", "check", "split", "train", "evaluate", "report", "predict", "doctor", "demo"} <= set(commands())
    for command in commands():
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert command in capsys.readouterr().out


@pytest.mark.parametrize("module", ["toolkit", "label_tools", "anchors"])
def test_each_package_runs_as_a_module(module):
    done = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "usage:" in done.stdout


def test_wrong_use_is_exit_code_2(capsys):
    for words in (["nonsense"], [], ["train", "--epochs", "many"]):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2


@pytest.mark.parametrize(
    "words, parts",
    [
        (["train", "nowhere"], ["nowhere", "not found"]),
        (["train"], ["DATA", "frcnn split"]),
        (["predict", "nowhere", "nothing.jpg"], ["nothing.jpg", "not found"]),
        (["train", "--resume", "nowhere"], ["nowhere", "run folder"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(words, parts, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and "Traceback" not in error
    for part in parts:
        assert part in error
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_errors_become_exit_codes(capsys):
    def fail(error):
        raise error

    assert exit_code_of(fail, InputError("cat.json: broken")) == 2
    assert exit_code_of(fail, MissingExtra("install it")) == 3
    assert exit_code_of(fail, KeyboardInterrupt()) == 130
    assert exit_code_of(lambda: None) == 0
    assert exit_code_of(lambda: 1) == 1
    assert "error: cat.json: broken\n" in capsys.readouterr().err


def test_a_name_cannot_forge_a_line_or_colour_the_terminal():
    assert one_line("a\nerror: b\x1b[31m") == "a error: b\\x1b[31m"


def test_doctor_names_versions_and_mends(capsys):
    code = main(["doctor", "--json"])
    checks = json.loads(capsys.readouterr().out)
    names = {c["name"] for c in checks}
    assert {"python", "torch", "gpu", "disk", "weights", "opencv", "labelme"} <= names
    assert code == (1 if any(c["state"] == "problem" for c in checks) else 0)
    assert all(c["mend"] for c in checks if c["state"] == "problem")
    main(["doctor"])
    assert "torchvision" in capsys.readouterr().out


@pytest.mark.parametrize("bf16", [True, False])
def test_doctor_says_whether_the_cpu_has_bf16(bf16, monkeypatch, capsys):
    monkeypatch.setattr("toolkit.runtime.cpu_has_bf16", lambda: bf16)
    main(["doctor", "--json"])
    (check,) = [c for c in json.loads(capsys.readouterr().out) if c["name"] == "cpu"]
    assert check["state"] == ("ok" if bf16 else "note") and ("--precision" in check["mend"]) != bf16


def test_doctor_finds_a_second_cv2(monkeypatch):
    from importlib import metadata

    from toolkit.commands import doctor

    monkeypatch.setattr(metadata, "version", lambda name: "4.1")
    (check,) = doctor._opencv()
    assert check.state == "problem" and "uninstall" in check.mend
