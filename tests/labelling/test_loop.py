"""The labelling loop end to end without a window: the test edits the files as a person would in labelme."""

from __future__ import annotations

import json
import os
import socket

import pytest
from PIL import Image

from label_tools.files import marked_folders
from label_tools.text.errors import InputError
from toolkit.__main__ import main
from toolkit.labelling import labelling_round, loop_file, train_loop
from toolkit.labelling.labelling_round import Pick

NOTHING = {"version": "5.5.0", "flags": {}, "shapes": [], "imageData": None, "imageHeight": 40, "imageWidth": 60}


def box(label, x1, y1, x2, y2, **more):
    return {"label": label, "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle", "flags": {}, **more}


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.jpg", "b.jpg", "c.png", "deep/d.jpg", "e.jpg")):
        Image.effect_noise((60, 40), 60 + i).convert("RGB").save(folder / name)
    (tmp_path / "labels.txt").write_text("square\ndisc\n")
    return folder


def started(pictures, *drafts):
    """A round with these drafts of a.jpg, b.jpg, c.png, deep/d.jpg."""
    with loop_file.held(pictures) as loop:
        loop.classes = ["square", "disc"]
        names = ("a.jpg", "b.jpg", "c.png", "deep/d.jpg")
        picks = [Pick(name, {**NOTHING, "shapes": shapes}, "random") for name, shapes in zip(names, drafts)]
        return labelling_round.open_round(loop, picks)


def edit(file, **keys):
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, **keys}))


def test_a_round_takes_over_what_was_ticked_or_changed_and_nothing_else(pictures, capsys):
    one = box("square", 2, 2, 20, 20, score=0.9, description="score 0.90")
    folder = started(pictures, [one], [one], [one], [])
    assert sorted(p.name for p in folder.glob("00*")) == [
        f"00{i}_{name}.{end}"
        for i, name, suffix in ((1, "a", "jpg"), (2, "b", "jpg"), (3, "c", "png"), (4, "d", "jpg"))
        for end in sorted((suffix, "json"))
    ]
    for file in folder.glob("0*.json"):  # labelme opens each file by its picture
        content = json.loads(file.read_text())
        assert (folder / content["imagePath"]).is_file() and content["flags"] == {"reviewed": False}
    edit(folder / "001_a.json", flags={"reviewed": True})  # one tick
    edit(folder / "002_b.json", shapes=[box("square", 2, 2, 24, 20), box("disc", 30, 5, 50, 25)])  # one saved change
    edit(folder / "004_d.json", flags={"reviewed": True})  # nothing in it: a picture without objects
    assert main(["loop", str(pictures)]) == 0 and "3 of 4 pictures reviewed" in capsys.readouterr().out
    assert main(["loop", "close", str(pictures)]) == 0
    out = capsys.readouterr().out
    assert "3 of 4 pictures reviewed: 1 kept, 1 moved, 0 renamed, 1 added, 0 deleted" in out
    # ticks of a and d 2, a box moved 2, one drawn 3; from nothing three boxes of 3
    assert "7 clicks, 9 to draw them from nothing" in out
    labels = {p.relative_to(pictures).as_posix(): json.loads(p.read_text()) for p in pictures.rglob("?.json")}
    assert set(labels) == {"a.json", "b.json", "deep/d.json"}
    assert labels["deep/d.json"]["imagePath"] == "d.jpg" and labels["a.json"]["flags"] == {"reviewed": True}
    assert "score" not in labels["a.json"]["shapes"][0] and not labels["a.json"]["shapes"][0]["description"]
    assert not folder.exists()
    assert main(["loop", "status", str(pictures)]) == 0 and "in all: 0.0 minutes, 1 kept" in capsys.readouterr().out


def test_what_cannot_be_taken_over_is_named_and_kept(pictures, capsys):
    folder = started(pictures, [], [], [], [])
    (folder / "001_a.json").write_text('{"shapes": [')
    edit(folder / "002_b.json", shapes=[box("dics", 2, 2, 9, 9)])
    edit(folder / "003_c.json", flags={"reviewed": True})
    (pictures / "c.png").unlink()
    edit(folder / "004_d.json", flags={"reviewed": True})
    (pictures / "deep" / "d.json").write_text('{"shapes": [], "mine": 1}')
    assert main(["loop", "close", str(pictures)]) == 1
    out = capsys.readouterr().out
    assert "001_a.json" in out and '"dics" is none of the classes (square, disc)' in out
    assert "c.png: the picture is gone" in out and "d.json: was written by somebody else" in out
    assert sorted(p.name for p in folder.iterdir()) == ["001_a.json", "002_b.json", "003_c.json", "004_d.json"]
    assert json.loads((pictures / "deep" / "d.json").read_text()) == {"shapes": [], "mine": 1}
    assert main(["loop", str(pictures)]) == 0 and capsys.readouterr().out.count("kept back in an earlier round: ") == 4
    assert main(["loop", "next", str(pictures), "--no-window", "-n", "2"]) == 0  # the loop goes on
    assert "round 2" in capsys.readouterr().out
    assert main(["loop", str(pictures)]) == 0  # those of the open round are no such files
    out = capsys.readouterr().out
    assert out.count("kept back in an earlier round: ") == 4 and f"{folder / '001_a.json'}; fix it" in out
    edit(folder / "002_b.json", shapes=[box("disc", 2, 2, 9, 9)])
    (folder / "002_b.json").rename(pictures / "b.json")  # as that line says
    assert main(["loop", str(pictures)]) == 0 and "1 labelled" in capsys.readouterr().out


def test_two_at_once_are_told_who_holds_it_and_a_dead_holder_holds_nothing(pictures, capsys):
    with loop_file.held(pictures):
        assert main(["loop", "close", str(pictures)]) == 2
        assert f"at {socket.gethostname()} works on it since" in capsys.readouterr().err
    lock = pictures / ".loop" / "lock"
    other = {"who": "anna", "host": "elsewhere", "process": 1, "since": "2026-01-01 10:00"}
    lock.write_text(json.dumps(other))
    assert main(["loop", "close", str(pictures)]) == 2 and "anna at elsewhere" in capsys.readouterr().err
    gone = os.fork() if hasattr(os, "fork") else None
    if gone == 0:
        os._exit(0)
    if gone:
        os.waitpid(gone, 0)
        lock.write_text(json.dumps({**other, "host": socket.gethostname(), "process": gone}))
        with loop_file.held(pictures):
            pass
    assert not lock.exists() or gone is None


@pytest.mark.parametrize("text", ["{", "[]", '{"frcnn_loop": 2}', '{"frcnn_loop": 1, "classes": 3}'])
def test_a_state_that_is_no_state_is_refused_and_left(pictures, capsys, text):
    (pictures / "loop.json").write_text(text)
    for words in (["loop", str(pictures)], ["loop", "next", str(pictures), "--no-window"]):
        assert main(words) == 2 and "loop.json" in capsys.readouterr().err
    assert (pictures / "loop.json").read_text() == text


def test_killed_before_the_state_is_saved_the_same_command_goes_on(pictures, capsys, monkeypatch):
    """`next` between its folder and loop.json, `close` between the label files and loop.json."""
    save = loop_file.Loop.save

    def killed(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop_file.Loop, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        started(pictures, [], [])
    monkeypatch.setattr(loop_file.Loop, "save", save)
    folder = started(pictures, [], [])
    assert folder.name == "round-02" and folder.is_dir()
    edit(folder / "001_a.json", shapes=[box("square", 2, 2, 24, 20)])
    monkeypatch.setattr(loop_file.Loop, "save", killed)
    assert main(["loop", "close", str(pictures)]) == 130 and (pictures / "a.json").is_file()
    monkeypatch.setattr(loop_file.Loop, "save", save)
    capsys.readouterr()
    assert main(["loop", "close", str(pictures)]) == 0
    assert "1 of 2 pictures reviewed" in capsys.readouterr().out
    assert labelling_round.kept_back(loop_file.read(pictures)) == []


def _set(content, *path_and_value):
    *path, last, value = path_and_value
    for key in path:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    "change",
    [
        ("rounds", 0, "number", "=1+1"),
        ("rounds", 0, "minutes", None),
        ("rounds", 0, "pictures", 0, "file", 1),
        ("rounds", 0, "pictures", 0, "file", "../../b.jpg"),
        ("rounds", 0, "pictures", 0, "name", "../a.jpg"),
        ("rounds", 0, "pictures", 5),
        ("rounds", 0, "changes", "clicks", "x"),
        ("rounds", 0, "changes", {}),
        ("trainings", [1]),
        ("trainings", [{}]),
        ("trainings", [{"when": "", "run": "", "labelled": 9, "test": 2, "AP": 0.5, "interval": [0.4]}]),
        ("classes", [{}]),
        ("parts", {"test": 1}),
        ("costs", {"add": 1}),
    ],
)
def test_a_state_that_is_wrong_deep_inside_is_refused_and_left(pictures, capsys, change):
    folder = started(pictures, [])
    edit(folder / "001_a.json", flags={"reviewed": True})
    assert main(["loop", "close", str(pictures)]) == 0
    content = json.loads((pictures / "loop.json").read_text())
    _set(content, *change)
    (pictures / "loop.json").write_text(json.dumps(content))
    for words in (["state"], ["status"], ["close"], ["next", "--no-window"]):
        capsys.readouterr()
        assert main(["loop", words[0], str(pictures), *words[1:]]) == 2
        assert "is not what `frcnn loop` wrote" in capsys.readouterr().err
    assert json.loads((pictures / "loop.json").read_text()) == content


def test_the_folder_says_what_is_labelled_broken_and_without_a_picture(pictures, capsys):
    (pictures / "a.json").write_text(json.dumps({**NOTHING, "imagePath": "a.jpg"}))
    (pictures / "b.json").write_text(json.dumps({**NOTHING, "imagePath": "b.jpg", "flags": {"reviewed": False}}))
    (pictures / "e.json").write_text('{"shapes": [{"label": "square", "points": [1, 2]}]}')
    (pictures / "gone.json").write_text(json.dumps({**NOTHING, "imagePath": "gone.jpg"}))
    assert main(["loop", str(pictures)]) == 0
    out = capsys.readouterr().out
    assert "5 pictures: 1 labelled, 1 drafted and not reviewed, 2 without labels" in out
    assert 'e.json, shapes[0] "square": needs points' in out and "gone.json: deleted or renamed?" in out
    assert main(["loop", str(pictures / "nowhere")]) == 2


def test_a_label_file_that_cannot_be_used_is_named_in_training(pictures, capsys, monkeypatch):
    for i in range(9):
        Image.effect_noise((60, 40), 40 + i).convert("RGB").save(pictures / f"n{i}.png")
        named = {**NOTHING, "imagePath": f"n{i}.png", "shapes": [box("square", 2, 2, 20, 20)]}
        (pictures / f"n{i}.json").write_text(json.dumps(named))
    (pictures / "a.json").write_text('{"shapes": 7')

    class Trained:
        folder = pictures.parent / "runs" / "loop-1"

        def metrics(self, _):
            return {"AP": 0.5, "AP50": 0.9}

    monkeypatch.setattr(train_loop, "train", lambda *_, **__: Trained())
    assert main(["loop", "train", str(pictures)]) == 0
    out = capsys.readouterr().out
    assert f"note: error B20 {pictures / 'a.json'}, line 1" in out and "9 labelled, AP 0.500" in out


def test_parts_of_a_curve_take_as_many_steps_as_the_whole():
    from toolkit.experiments.label_curve import equal_steps

    document = {"images": [{"id": i} for i in range(40)], "annotations": [], "categories": []}
    options = {"model": "fasterrcnn_tiny_fpn", "epochs": 6, "batch_size": 4}
    assert equal_steps(document, options, 40)[1] == 60  # 6 epochs of 10 batches
    for images, epochs in ((40, 6), (10, 20), (3, 60)):  # 10, 3, 1 batches an epoch
        found, steps = equal_steps(document, options, images)
        assert (found["epochs"], steps) == (epochs, 60) and found["preset"] == "few"


def test_a_simulation_replaces_no_file_of_the_user(tmp_path, capsys):
    labels, mine = tmp_path / "labels.json", tmp_path / "mine.json"
    for file in (labels, mine):
        file.write_text("{}")
    for out, why in ((labels, "is an input of this command"), (mine, "exists and is of no earlier simulation")):
        assert main(["loop", "simulate", str(labels), "--out", str(out)]) == 2
        assert why in capsys.readouterr().err and out.read_text() == "{}"
    (tmp_path / "link").symlink_to(tmp_path)  # which the user named, as for other single files
    with pytest.raises(InputError, match=r"mine\.json: exists and is of no earlier simulation"):
        marked_folders.refuse_foreign_file(tmp_path / "link" / "mine.json", "simulation")
    marked_folders.refuse_foreign_file(tmp_path / "link" / "new.json", "simulation")
