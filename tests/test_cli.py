"""`frcnn` as a person meets it: help, versions, one-line errors, exit codes, doctor."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from label_tools.text.errors import InputError, MissingExtra, exit_code_of, one_line
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


def every_command(parser, words=()):
    """(words, parser) of each command that runs something."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for name, inner in [pair for group in groups for pair in group.choices.items()]:
        yield from every_command(inner, (*words, name))
    if not groups:
        yield list(words), parser


def test_no_command_takes_a_part_of_an_option(capsys):
    seen = 0
    for words, inner in every_command(parser()):
        options = [option for option in inner._option_string_actions if option.startswith("--")]
        for option in options:
            if option[:-1] in options or len(option) < 5:
                continue
            with pytest.raises(SystemExit) as ended:
                main([*words, option[:-1]])
            assert ended.value.code == 2
            (said,) = capsys.readouterr().err.splitlines()
            assert said.startswith(f"error: frcnn {' '.join(words)} {option[:-1]}: unknown option; did you mean --")
            assert option in said, said
            seen += 1
    assert seen > 250


@pytest.mark.parametrize(
    "words, said",
    [
        (["train", "x", "--epcohs=3"], "train --epcohs: unknown option; did you mean --epochs? all: frcnn train --h"),
        (["label", "x", "--lables", "y"], "label --lables: unknown option; did you mean --labels? "),  # not: required
        (["baseline", "train", "--bach", "3"], "baseline train --bach: unknown option; did you mean --batch? "),
        (["convert", "masks", "x", "--xyzzy"], "convert masks --xyzzy: unknown option; all: frcnn convert masks --h"),
        (["--versoin"], "frcnn --versoin: unknown option; did you mean --version? "),
    ],
)
def test_an_unknown_option_is_one_line_with_the_nearest(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and said in error


def test_what_only_looks_like_an_option_is_left_alone(capsys, tmp_path):
    (tmp_path / "--odd.json").write_text("[]")
    assert main(["check", "--", str(tmp_path / "--odd.json")]) == 2
    assert "--odd.json: a JSON list at the top" in capsys.readouterr().err
    assert main(["check", str(tmp_path), "--", "--epoch"]) == 2
    assert "unknown option" not in capsys.readouterr().err


@pytest.mark.parametrize("module", ["label_tools", "anchors"])
def test_the_packages_alone_take_no_part_of_an_option_either(module, capsys):
    command = {"label_tools": ["check", "x", "--decod"], "anchors": ["practice", "--smal"]}[module]
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"{module}.__main__").main(command)
    assert ended.value.code == 2 and command[-1] in capsys.readouterr().err


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
    assert all(c["fix"] for c in checks if c["state"] == "problem")
    main(["doctor"])
    assert "torchvision" in capsys.readouterr().out


def test_doctor_and_label_give_one_line_to_install_labelme(monkeypatch, capsys, tmp_path):
    from label_tools.operations import start_labelme as label

    monkeypatch.delenv(label.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    main(["doctor", "--json"])
    (check,) = [c for c in json.loads(capsys.readouterr().out) if c["name"] == "labelme"]
    assert check["state"] == "note" and label.install_line(sys.version_info[:2]) in check["fix"]


@pytest.mark.parametrize("bf16", [True, False])
def test_doctor_says_whether_the_cpu_has_bf16(bf16, monkeypatch, capsys):
    monkeypatch.setattr("toolkit.device_and_seed.cpu_has_bf16", lambda: bf16)
    main(["doctor", "--json"])
    (check,) = [c for c in json.loads(capsys.readouterr().out) if c["name"] == "cpu"]
    assert check["state"] == ("ok" if bf16 else "note") and ("--precision" in check["fix"]) != bf16


def test_doctor_finds_a_second_cv2(monkeypatch):
    from importlib import metadata
    from types import SimpleNamespace

    from toolkit.commands import doctor

    monkeypatch.setattr(metadata, "distributions", lambda name: [SimpleNamespace(version="4.1")])
    (check,) = doctor._opencv()
    assert check.state == "problem" and "uninstall" in check.fix


def test_waiting_threads_soon_sleep_unless_somebody_said_otherwise(monkeypatch):
    for given, used in ((None, "10000"), ("7", "7")):
        monkeypatch.setenv("GOMP_SPINCOUNT", given or "")
        if given is None:
            monkeypatch.delenv("GOMP_SPINCOUNT")
        with pytest.raises(SystemExit):
            main(["--version"])
        assert os.environ["GOMP_SPINCOUNT"] == used
