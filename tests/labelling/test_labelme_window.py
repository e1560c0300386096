"""The real labelme under a virtual screen: drafts opened in their order, three boxes moved with the mouse, one picture
ticked, everything saved, read back and learned from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageGrab

from label_tools.operations.start_labelme import check_version, find_labelme
from label_tools.text.errors import InputError
from toolkit.__main__ import main

SIDE = 128
MAGENTA, CYAN = (255, 0, 255), (0, 255, 255)  # 8 x 8 in the corners of each picture: where it lies on the screen
NEXT_IMAGE, REVIEWED = (158, 62), (1155, 132)  # on a window of 1400 x 900


def labelme() -> str:
    """The program, or a skip that says what is missing."""
    for program in ("Xvfb", "xdotool"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    try:
        program = find_labelme()
        check_version(program)
    except InputError as error:
        pytest.skip(f"needs labelme (FRCNN_LABELME names the program): {error}")
    return program


def boxes_of(number: int) -> list[list[int]]:
    rng = np.random.default_rng(number)
    return [
        [
            x0 + int(rng.integers(0, 8)),
            y0 + int(rng.integers(0, 8)),
            x0 + int(rng.integers(32, 46)),
            y0 + int(rng.integers(32, 46)),
        ]
        for x0, y0 in ((12, 14), (68, 66))
    ]


def draw(folder: Path, number: int, *, labelled: bool) -> None:
    rng = np.random.default_rng([7, number])
    picture = Image.fromarray(rng.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8))
    pen = ImageDraw.Draw(picture)
    boxes = boxes_of(number)
    for x1, y1, x2, y2 in boxes:
        pen.rectangle([x1, y1, x2 - 1, y2 - 1], fill=tuple(int(v) for v in rng.integers(120, 230, 3)))
    pen.rectangle([0, 0, 7, 7], fill=MAGENTA)
    pen.rectangle([SIDE - 8, SIDE - 8, SIDE - 1, SIDE - 1], fill=CYAN)
    picture.save(folder / f"p{number:02d}.png")
    if labelled:
        shapes = [
            {"label": "square", "points": [b[:2], b[2:]], "shape_type": "rectangle", "group_id": None, "flags": {}}
            for b in boxes
        ]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"p{number:02d}.png"}
        content |= {"imageData": None, "imageHeight": SIDE, "imageWidth": SIDE}
        (folder / f"p{number:02d}.json").write_text(json.dumps(content))


class Screen:
    """A virtual screen with labelme's window on it."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self.server = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "1400x900x24", "-noreset"],
            pass_fds=(write,),
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as number:  # to the end of the line: a server that cannot write it ends
            self.display = f":{number.readline().strip()}"

    def do(self, *words: object) -> str:
        done = subprocess.run(
            ["xdotool", *map(str, words)], env={**os.environ, "DISPLAY": self.display}, capture_output=True, text=True
        )
        return done.stdout

    def window(self, program: subprocess.Popen) -> str:
        """The window once it is there, as large as the screen."""
        for _ in range(800):
            assert program.poll() is None, program.communicate()[0]
            found = self.do("search", "--onlyvisible", "--name", "labelme").split()
            if found:
                self.do("windowsize", "--sync", found[-1], 1400, 900)
                self.do("windowfocus", found[-1])
                return found[-1]
            time.sleep(0.5)
        raise AssertionError("no window of labelme")

    def click(self, x: float, y: float) -> None:
        self.do("mousemove", round(x), round(y), "sleep", 0.3, "click", 1, "sleep", 0.3)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the picture lies on the screen, by the marks in its corners."""
        for _ in range(40):
            shot = np.asarray(ImageGrab.grab(xdisplay=self.display).convert("RGB")).astype(int)
            marks = [np.argwhere(np.abs(shot - colour).max(2) < 40) for colour in (MAGENTA, CYAN)]
            if all(len(mark) > 100 for mark in marks):
                (y1, x1), (y2, x2) = marks[0].min(0), marks[1].max(0) + 1
                return x1 + (x2 - x1) * x / SIDE, y1 + (y2 - y1) * y / SIDE
            time.sleep(0.5)
        raise AssertionError("the picture is not on the screen")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """From a point of the picture to another, in steps as a hand does it."""
        (x1, y1), (x2, y2) = self.place(*start), self.place(*end)
        self.do(
            "mousemove", round(x1) - 3, round(y1) - 3, "sleep", 0.3, "mousemove", round(x1), round(y1), "sleep", 0.3
        )
        self.do("mousedown", 1)
        for share in (0.3, 0.6, 1):
            self.do("mousemove", round(x1 + share * (x2 - x1)), round(y1 + share * (y2 - y1)), "sleep", 0.2)
        self.do("mouseup", 1, "sleep", 0.5)


def until(what, seconds: float = 30):
    for _ in range(int(seconds * 4)):
        if what():
            return True
        time.sleep(0.25)
    return False


@pytest.mark.slow
def test_three_boxes_moved_one_picture_ticked_and_a_better_model(tmp_path, capsys, monkeypatch):
    labelme()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(24):
        draw(folder, number, labelled=number < 12)
    recipe = [
        "--model",
        "fasterrcnn_tiny_fpn",
        "--epochs",
        "5",
        "--image-size",
        "128",
        "--max-size",
        "128",
        "--device",
        "cpu",
        "--workers",
        "0",
    ]
    assert main(["loop", "train", str(folder), *recipe]) == 0
    screen = Screen()
    try:
        environment = {
            **os.environ,
            "DISPLAY": screen.display,
            "HOME": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        environment.pop("QT_QPA_PLATFORM", None)
        loop = subprocess.Popen(
            [sys.executable, "-m", "toolkit", "loop", "next", str(folder), "-n", "12"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        window = screen.window(loop)
        files = sorted((folder / ".loop" / "round-01").glob("0*.json"))
        assert len(files) == 12
        for number, file in enumerate(files):
            assert until(lambda f=file: f.stem in screen.do("getwindowname", window)), "pictures in their order"
            content = json.loads(file.read_text())
            assert content["shapes"] and all(s["description"].startswith("score ") for s in content["shapes"])
            truth = boxes_of(int(file.stem[-2:]))
            before = file.read_bytes()
            x, y = (max(values) for values in zip(*content["shapes"][0]["points"], strict=True))
            near = min(truth, key=lambda b: abs(b[2] - x) + abs(b[3] - y))
            goal = (near[2], near[3]) if abs(near[2] - x) + abs(near[3] - y) > 2 else (x - 4, y - 4)
            for _ in range(5):  # a window that is still busy may miss the mouse
                if number < 3:
                    screen.drag((x, y), goal)
                else:
                    screen.click(*REVIEWED)
                if until(lambda f=file, b=before: f.read_bytes() != b, 4):
                    break
            assert file.read_bytes() != before, f"labelme saved {file}"
            screen.click(*NEXT_IMAGE)
        screen.do("key", "--clearmodifiers", "ctrl+q")
        out, _ = loop.communicate(timeout=60)
    finally:
        loop.kill()
        screen.server.terminate()
        screen.server.wait()
    assert loop.returncode == 0, out
    assert "12 of 12 pictures reviewed" in out and " 3 moved" in out, out
    for number in range(12, 24):
        assert json.loads((folder / f"p{number}.json").read_text())["flags"] == {"reviewed": True}
    assert main(["loop", "train", str(folder), *recipe]) == 0
    first, second = json.loads((folder / "loop.json").read_text())["trainings"]
    assert second["labelled"] == 24 and second["test"] == first["test"]
    assert second["AP"] > first["AP"]
    capsys.readouterr()
    assert main(["loop", "status", str(folder)]) == 0
    assert " 3 moved" in capsys.readouterr().out
