"""`label`: the command line, what is refused before anything starts, and a fake labelme that records its call."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from label_tools.__main__ import main
from label_tools.operations import start_labelme as label
from label_tools.text.errors import InputError, MissingExtra

# Removed in labelme 7 or spelled otherwise before 6: naming one of them ends the program with an error.
GONE = {"--nodata", "--autosave", "--validatelabel", "--nosortlabels", "--labelflags", "--keep_prev"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "photos" / "a.png")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    return tmp_path


def fake(folder: Path, version: str = "Labelme 7.9.1", status: int = 0) -> str:
    """A program that answers --version and writes its other calls to `called`."""
    program = folder / "labelme"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"if sys.argv[1:] == ['--version']: print({version!r}); sys.exit(0 if {version!r} else 1)\n"
        f"open({str(folder / 'called')!r}, 'w').write(chr(10).join(sys.argv[1:]))\nsys.exit({status})\n"
    )
    program.chmod(0o755)
    return str(program)


def test_the_program_is_called_with_flags_of_6_and_7(folder, monkeypatch, capsys):
    monkeypatch.setenv(label.VARIABLE, fake(folder))
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    photos, labels = str(folder / "photos"), str(folder / "labels.txt")
    assert main(["label", photos, "--labels", labels]) == 0
    called = (folder / "called").read_text().splitlines()
    assert called == [photos, "--labels", labels, "--validate-label", "exact", "--no-sort-labels", "--output", photos]
    assert not GONE & set(called)
    assert "next: frcnn convert labelme" in capsys.readouterr().out


def test_print_starts_nothing(folder, monkeypatch, capsys):
    monkeypatch.setenv(label.VARIABLE, fake(folder))
    arguments = ["label", str(folder / "photos"), "--labels", str(folder / "labels.txt")]
    assert main([*arguments, "--out", str(folder / "my labels"), "--print"]) == 0
    assert capsys.readouterr().out.strip().endswith(f"--output '{folder / 'my labels'}'")
    assert not (folder / "called").exists() and not (folder / "my labels").exists()


def test_a_path_with_a_dash_is_no_flag():
    command = label.labelme_command("labelme", Path("-rf"), Path("labels.txt"), Path("out"))
    assert command[1] == "./-rf"


def test_missing_labelme_is_exit_code_3_and_the_install_line(folder, monkeypatch, capsys):
    monkeypatch.delenv(label.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert main(["label", str(folder / "photos"), "--labels", str(folder / "labels.txt")]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: labelme is not installed; install it with: ") and "-m pip install" in error
    with pytest.raises(MissingExtra):
        label.find_labelme({"PATH": ""})


@pytest.mark.parametrize(("python", "wanted"), [((3, 11), "'labelme>=6.3,<7'"), ((3, 12), "'labelme>=7'")])
def test_install_line_follows_the_python(python, wanted):
    assert label.install_line(python, has_pip=True) == f"{sys.executable} -m pip install {wanted}"
    # an environment that uv made has no pip
    assert label.install_line(python, has_pip=False) == f"uv pip install --python {sys.executable} {wanted}"


def test_variable_that_names_no_program(monkeypatch):
    with pytest.raises(InputError, match="FRCNN_LABELME=/nowhere/labelme: no program"):
        label.find_labelme({label.VARIABLE: "/nowhere/labelme"})


@pytest.mark.parametrize(
    ("version", "message"),
    [("Labelme 5.5.0", "is labelme 5.5, 6.3 or newer is needed"), ("", "does not start")],
)
def test_old_or_broken_programs(folder, monkeypatch, capsys, version, message):
    monkeypatch.setenv(label.VARIABLE, fake(folder, version))
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert main(["label", str(folder / "photos"), "--labels", str(folder / "labels.txt")]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "called").exists()


def test_a_failing_program_is_said(folder, monkeypatch, capsys):
    monkeypatch.setenv(label.VARIABLE, fake(folder, status=7))
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert main(["label", str(folder / "photos"), "--labels", str(folder / "labels.txt")]) == 2
    assert "ended with exit code 7" in capsys.readouterr().err


def test_no_screen():
    with pytest.raises(InputError, match="no screen"):
        label.check_screen({}, "linux")
    for environment in ({"DISPLAY": ":0"}, {"WAYLAND_DISPLAY": "w"}, {"QT_QPA_PLATFORM": "offscreen"}):
        label.check_screen(environment, "linux")
    label.check_screen({}, "darwin")
    label.check_screen({}, "win32")


@pytest.mark.parametrize(
    ("path", "labels", "message"),
    [
        ("nowhere", "labels.txt", "nowhere: no such file or folder"),
        ("empty", "labels.txt", "empty: no image in it"),
        ("photos", "nolabels.txt", "nolabels.txt: cannot be read"),
        ("photos", "twice.txt", "twice.txt"),
    ],
)
def test_refused_before_anything_starts(folder, monkeypatch, capsys, path, labels, message):
    (folder / "empty").mkdir()
    (folder / "twice.txt").write_text("cat\ncat\n")
    monkeypatch.setenv(label.VARIABLE, fake(folder))
    assert main(["label", str(folder / path), "--labels", str(folder / labels)]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "called").exists()


# --- the real program ------------------------------------------------------------------------------------------

# Runs inside labelme's own Python before labelme does. It imports Qt alone, and once the window is up it does what
# a person would: switch autosave off, select all shapes, duplicate them, undo that, save, close the window.
DRIVER = """
try:
    from PyQt5 import QtCore, QtWidgets
    Action, name = QtWidgets.QAction, "exec_"
except ImportError:
    from PySide6 import QtCore, QtGui, QtWidgets
    Action, name = QtGui.QAction, "exec"
App = QtWidgets.QApplication
run = getattr(App, name)

def window():
    return next(w for w in App.topLevelWidgets() if isinstance(w, QtWidgets.QMainWindow))

def select():
    for view in window().findChildren(QtWidgets.QListView):
        view.selectAll()

def press(text):
    for action in window().findChildren(Action):
        if action.text().replace("&", "").strip() == text:
            print("pressed", text, action.isEnabled(), flush=True)
            action.trigger()

def run_with_a_hand(*_):
    names = ["Save Automatically", "", "Duplicate Shapes", "Undo", "Save"]
    steps = [(lambda name=name: press(name)) if name else select for name in names]
    for number, step in enumerate([*steps, lambda: window().close()]):
        QtCore.QTimer.singleShot(2500 + 700 * number, step)
    return run()

setattr(App, name, staticmethod(run_with_a_hand))
"""


def real_labelme() -> str:
    if named := os.environ.get(label.VARIABLE):
        return named
    import shutil

    beside = shutil.which("labelme", path=str(Path(sys.executable).parent))
    return beside or shutil.which("labelme") or ""


@pytest.mark.skipif(not real_labelme(), reason=f"labelme is not installed (set {label.VARIABLE} to its program)")
def test_the_real_labelme_opens_and_saves_what_we_wrote(tmp_path, monkeypatch, capfd):
    """COCO -> our LabelMe file -> labelme opens it, changes it, undoes that, saves -> COCO: nothing has moved."""
    import json

    import numpy as np

    from label_tools.document import coco_file
    from label_tools.formats.export import export_labelme
    from label_tools.readers.convert import to_conversion
    from label_tools.readers.labelme_folder import read_labelme
    from label_tools.shapes import rle

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 120, 3), np.uint8)).save(tmp_path / "a.png")
    ring = np.zeros((80, 120), dtype=np.uint8)
    ring[10:40, 60:100], ring[20:30, 70:90] = 1, 0  # a hole: only a mask can say it
    runs = rle.encode(ring)
    annotations = [
        {"bbox": [5.0, 6.0, 30.5, 20.25], "area": 30.5 * 20.25, "segmentation": [], "category_id": 1},
        {
            "bbox": [10.0, 40.0, 30.0, 30.0],
            "area": 450.0,
            "category_id": 2,
            "segmentation": [[10.0, 40.0, 40.0, 40.0, 10.0, 70.0]],
        },
        {"bbox": [60, 10, 40, 30], "area": 1000, "segmentation": rle.to_rle(runs, 80, 120), "category_id": 2},
        {
            "bbox": [50.0, 50.0, 60.0, 20.0],
            "area": 300.0,
            "category_id": 1,
            "segmentation": [
                [50.0, 50.0, 60.0, 50.0, 60.0, 65.0, 50.0, 65.0],
                [100.0, 55.0, 110.0, 55.0, 110.0, 70.0, 100.0, 70.0],
            ],
        },
    ]
    annotations = [{**a, "id": k, "image_id": 1, "iscrowd": 0} for k, a in enumerate(annotations, 1)]
    document = {
        "info": {"image_root": "."},
        "images": [{"id": 1, "file_name": "a.png", "width": 120, "height": 80}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    coco_file.write(document, tmp_path / "annotations.json")
    labels = tmp_path / "labels"
    export_labelme(tmp_path / "annotations.json", labels)
    written = json.loads((labels / "a.json").read_text())

    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "sitecustomize.py").write_text(DRIVER)
    monkeypatch.setenv(label.VARIABLE, real_labelme())
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "driver"))
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody's own labelme settings
    assert main(["label", str(labels / "a.json"), "--labels", str(tmp_path / "labels.txt")]) == 0
    output = capfd.readouterr()
    assert [line for line in output.out.splitlines() if line.startswith("pressed")] == [
        f"pressed {name} True" for name in ("Save Automatically", "Duplicate Shapes", "Undo", "Save")
    ]
    assert "Traceback" not in output.err

    saved = json.loads((labels / "a.json").read_text())
    assert saved["version"] != written["version"]  # its own version: it has written the file
    assert saved["imageData"] is None
    assert len(saved["shapes"]) == len(written["shapes"]) == 5
    reading = read_labelme(labels, image_root=tmp_path)
    again = to_conversion(reading, labels=["cat", "dog"]).document(tmp_path / "again.json")
    assert again["images"] == document["images"]
    assert [a["category_id"] for a in again["annotations"]] == [1, 2, 2, 1]
    for before, after in zip(annotations, again["annotations"]):
        assert after["bbox"] == pytest.approx(before["bbox"], abs=1e-9)
        assert after["area"] == pytest.approx(before["area"], abs=1e-6)
    assert again["annotations"][2]["segmentation"] == annotations[2]["segmentation"]  # the mask, bit by bit


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the libraries of Linux")
def test_a_missing_library_of_qt_is_named_with_the_line_that_installs_it(folder, monkeypatch, capsys):
    from toolkit.commands import doctor

    program = Path(fake(folder, status=134))
    lacks = "Cannot load library libqxcb.so: (libxcb-icccm.so.4: cannot open shared object file: No such file)"
    program.write_text(program.read_text() + f"print({lacks!r})\n")
    program.write_text(program.read_text().replace("\nsys.exit(134)\n", f"\nprint({lacks!r})\nsys.exit(134)\n"))
    monkeypatch.setenv(label.VARIABLE, str(program))
    monkeypatch.setenv("DISPLAY", ":1")
    assert main(["label", str(folder / "photos"), "--labels", str(folder / "labels.txt")]) == 2
    error = capsys.readouterr().err
    assert "libxcb-icccm.so.4 is missing: sudo apt-get install " in error and "libxcb-icccm4" in error
    (found, *_) = doctor._labelme()
    assert (found.state, found.fix) == ("problem", f"sudo apt-get install {label.QT_LIBRARIES}")
    program.write_text(program.read_text().replace(lacks, "qt.qpa.xcb: could not connect to display"))
    assert doctor._labelme()[0].state == "ok"
