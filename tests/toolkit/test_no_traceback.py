"""Bad files and places that ended in a traceback once: one line that says what is wrong, and exit code 2."""

from __future__ import annotations

import csv
import json
import pickle
import shutil

import pytest
import torch

from label_tools.files.write_json_csv import cell_text, write_csv
from label_tools.text.errors import InputError, exit_code_of
from tests.toolkit.evaluation_fixtures import draw_images, scene
from tests.toolkit.test_evaluate_run import save_network
from toolkit import __main__ as command_line
from toolkit import checkpoint, config
from toolkit.networks import builder, load_weights
from toolkit.prediction.picture_sources import find_images


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "the file is empty"), (pickle.dumps(print), "damaged, or"), (b"\x80\x04garbage", "damaged, or")],
)
def test_weights_that_are_none(tmp_path, content, said):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        load_weights.read(path)
    assert "weights_only" not in str(caught.value) and "torch.load" not in str(caught.value)


ODD_META = [("num_classes", -3), ("num_classes", "x"), ("sizes", {"min_size": "x"}), ("name", ["a"])]


@pytest.mark.parametrize(("key", "value"), [*ODD_META, ("sizes", None), ("trainable_layers", "x")])
def test_a_checkpoint_resealed_with_another_network(tmp_path, key, value):
    save_network(tmp_path)
    found = checkpoint.load(tmp_path / "best")
    architecture = {**found.meta["architecture"], key: value}
    checkpoint.save(tmp_path / "odd", {**found.meta, "architecture": architecture}, found.weights, None)
    with pytest.raises(InputError):
        builder.restored(checkpoint.load(tmp_path / "odd"))


@pytest.mark.parametrize("state", [{}, {"optimizer": 3}, {"model": {"a": torch.ones(2)}}, {"optimizer": {}, "rng": 1}])
def test_a_state_resealed_with_something_else(tmp_path, state):
    from toolkit.training.save_and_resume import Learner

    save_network(tmp_path)
    found = checkpoint.load(tmp_path / "best")
    model = builder.restored(found)
    learner = Learner(model, torch.optim.SGD(model.parameters(), lr=1.0))
    checkpoint.save(tmp_path / "odd", found.meta, found.weights, state)
    with pytest.raises(InputError, match="does not fit this training"):
        learner.restore(checkpoint.load(tmp_path / "odd"))


def test_ctrl_c_while_the_commands_are_imported(monkeypatch, capsys):
    def parser():
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "parser", parser)
    assert command_line.main(["doctor"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def evaluate(folder, out) -> int:
    words = ["--annotations", folder / "a.json", "--detections", folder / "d.json", "--out", out, "--resamples", "5"]
    return command_line.main(["evaluate", *map(str, words), "--no-report"])


def test_an_output_that_is_a_file(tmp_path, capsys):
    document, detections = scene(1, images=2)
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "d.json").write_text(json.dumps(detections))
    for out in (tmp_path / "a.json", tmp_path / "a.json" / "below"):
        assert evaluate(tmp_path, out) == 2
    assert (tmp_path / "a.json").read_text() == json.dumps(document)


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    names = ["=1+1", "+1", "-1", "@a", "a=b", "", "'quoted'"]
    write_csv(tmp_path / "a.csv", names, [names, [-1, -0.5, None]])
    with open(tmp_path / "a.csv", newline="") as file:
        header, first, numbers = csv.reader(file)
    assert header == first == ["'=1+1", "'+1", "'-1", "'@a", "a=b", "", "'quoted'"]
    assert numbers == ["-1", "-0.5", ""]  # numbers stay numbers
    assert [cell_text(cell) for cell in first] == names
    write_csv(tmp_path / "a.csv", ["file", "n"], [["a\rb.jpg", 1]])  # one row, also where csv does not quote "\r"
    with open(tmp_path / "a.csv", newline="") as file:
        assert list(csv.reader(file))[1:] == [["a\\x0db.jpg", "1"]]


NAME = "a\x1b[31m\x9bb\u2028c\u202ed"


def test_names_move_no_cursor(tmp_path, capsys):
    out = tmp_path / "out"
    document, detections = scene(1, images=2)
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "d.json").write_text(json.dumps(detections))
    assert evaluate(tmp_path, out) == 0
    text = (out / "metrics.json").read_text().replace(document["categories"][0]["name"], json.dumps(NAME)[1:-1])
    (out / "metrics.json").write_text(text)
    (out / ".frcnn.json").unlink()
    capsys.readouterr()
    for shape in ("--markdown", "--latex"):
        assert command_line.main(["report", str(out), shape]) == 0
        said = capsys.readouterr().out
        assert "[31m" in said and all(c.isprintable() for c in said.replace("\n", ""))


def test_a_class_that_looks_like_a_formula_keeps_its_curves(tmp_path):
    document, detections = scene(1, images=3)
    document["categories"][0]["name"] = "=SUM(A1)"
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "d.json").write_text(json.dumps(detections))
    out = tmp_path / "out"
    assert evaluate(tmp_path, out) == 0 and command_line.main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "<title>=SUM(A1)</title>" in page  # its curve, on hover
    shutil.rmtree(out)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "x", "out/a.json"), 4, "error: out/a.json: No space left on device\n"),
        (OSError(36, "x", "n" * 9), 2, "error: nnnnnnnnn: File name too long\n"),
        (PermissionError(13, "x"), 2, "error: Permission denied\n"),
        (MemoryError(), 4, "error: this machine has not enough memory for it\n"),
    ],
)
def test_what_only_the_system_refuses(capsys, error, code, said):
    def command():
        raise error

    assert exit_code_of(command) == code
    assert capsys.readouterr().err == said


def test_a_picture_with_a_name_too_long_for_a_disk(tmp_path):
    for name in ("a" * 300 + ".jpg", "b" * 300):
        with pytest.raises(InputError, match="not found"):
            find_images([tmp_path / name / name])


def test_a_recipe_with_a_timestamp_that_is_no_date(tmp_path):
    (tmp_path / "r.yaml").write_text("epochs: !!timestamp xx\n")
    with pytest.raises(InputError, match=r"r\.yaml: is not valid YAML: a !!timestamp that is no date"):
        config.read_file(tmp_path / "r.yaml")


def test_detections_of_any_size_have_their_pictures(tmp_path):
    document, detections = scene(1, images=2)
    draw_images(document, tmp_path / "images")
    for k, box in enumerate(([-1e308, -1e308, 1.7e308, 1.7e308], [1e308, 5, 1e308, 5], [5, -1e308, 1, 1e308])):
        detections.append({**detections[0], "bbox": box, "score": 0.99 - k / 100})
    (tmp_path / "a.json").write_text(json.dumps({**document, "info": {"image_root": "images"}}))
    (tmp_path / "d.json").write_text(json.dumps(detections))
    assert evaluate(tmp_path, tmp_path / "out") == 0
