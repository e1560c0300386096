"""Suspects in a round trip: a folder for labelme, what a person fixed shown, and written back."""

from __future__ import annotations

import json
import shutil

import pytest

from label_tools.document import coco_file
from tests.toolkit.evaluation_fixtures import draw_images, scene
from toolkit.__main__ import main
from toolkit.evaluation.compute_metrics import Settings, compute_metrics
from toolkit.evaluation.evaluation_folder import write_evaluation
from toolkit.labelling import fix_suspects


@pytest.fixture
def evaluated(tmp_path):
    """(labels, evaluation folder): picture 1 has outlines in two pieces and no detection, others are well detected."""
    document, detections = scene(1, images=6)
    outline = [[20.0, 20.0, 60.0, 24.0, 40.0, 70.0], [80.0, 20.0, 90.0, 20.0, 85.0, 50.0]]
    document["annotations"][0].update(segmentation=outline, bbox=[20.0, 20.0, 70.0, 50.0], mine="kept")
    document["info"] = {"image_root": "images"}
    draw_images(document, tmp_path / "images")
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(document))
    evaluation = compute_metrics(document, [d for d in detections if d["image_id"] != 1], Settings(resamples=0))
    write_evaluation(tmp_path / "cv", evaluation, tmp_path / "images")
    return labels, tmp_path / "cv"


def folder_of(evaluated, capsys):
    _labels, place = evaluated
    out = place.parent / "suspects"
    assert main(["loop", "suspects", str(place), "--out", str(out)]) == 0
    return out, capsys.readouterr().out


def edit(file, **keys):
    file.write_text(json.dumps({**json.loads(file.read_text()), **keys}))


def test_the_folder_opens_in_labelme_with_suggestions_apart_from_labels(evaluated, capsys):
    out, said = folder_of(evaluated, capsys)
    document = json.loads(evaluated[0].read_text())
    suspects = json.loads((evaluated[1] / "suspects.json").read_text())
    files = sorted(out.glob("0*.json"))
    weight = []
    for file in files:
        content = json.loads(file.read_text())
        assert (out / content["imagePath"]).resolve().is_file() and content["flags"] == {"reviewed": False}
        notes = {bool(s["label"].endswith("?")): [] for s in content["shapes"]}
        for shape in content["shapes"]:
            notes[shape["label"].endswith("?")].append(shape["description"])
        assert all(note.startswith("suspect: ") for note in notes.get(True, []))
        assert all(not note or note.startswith("in doubt: ") for note in notes.get(False, []))
        name = (out / content["imagePath"]).resolve().name
        weight.append(sum(s["suspicion"] for s in suspects if s["file_name"] == name))
        wanted = [a for a in document["annotations"] if f"{a['image_id']:03d}.jpg" == name]
        pieces = 2 if name == "001.jpg" else 1  # of the first label of the first picture
        assert len(notes.get(False, [])) == len(wanted) + pieces - 1
    assert weight == sorted(weight, reverse=True)
    names = [c["name"] for c in document["categories"]]
    assert (out / "labels.txt").read_text().split() == [*names, *(f"{n}?" for n in names)]
    assert "not found" in said and f"frcnn loop apply {out}" in said
    # the detector's guesses are no labels: neither unreviewed nor ticked
    assert main(["convert", "labelme", str(out), "--out", str(out / "o.json")]) == 2


def test_fixed_pictures_go_back_and_the_rest_stays_byte_for_byte(evaluated, capsys):
    out, _ = folder_of(evaluated, capsys)
    labels = evaluated[0]
    before, raw = json.loads(labels.read_text()), labels.read_bytes()
    files = {(out / json.loads(f.read_text())["imagePath"]).resolve().name: f for f in sorted(out.glob("0*.json"))}
    first = json.loads(files["001.jpg"].read_text())
    suggestion = {**first["shapes"][0], "label": "wing?", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}
    taken = {**suggestion, "label": before["categories"][0]["name"], "points": [[2, 3], [12, 23]], "group_id": None}
    edit(files["001.jpg"], shapes=[*first["shapes"], {**taken, "description": "suspect: x"}])
    other = next(name for name in files if name != "001.jpg")
    edit(files[other], flags={"reviewed": True}, shapes=json.loads(files[other].read_text())["shapes"][1:])
    assert main(["loop", "apply", str(out), str(labels)]) == 0
    said = capsys.readouterr().out
    assert "001.jpg: " in said and "1 added" in said and f"{other}: " in said and "1 deleted" in said
    assert "nothing written; --write does" in said and not labels.with_name("labels.fixed.json").exists()
    assert main(["loop", "apply", str(out), str(labels), "--write"]) == 0
    assert labels.read_bytes() == raw  # an input is never changed
    after = coco_file.read(labels.with_name("labels.fixed.json"))
    mine = [a for a in after["annotations"] if a["image_id"] == 1]
    assert len(mine) == sum(a["image_id"] == 1 for a in before["annotations"]) + 1
    assert mine[0]["mine"] == "kept" and mine[-1]["bbox"] == [2, 3, 10, 20]
    number = int(other[:3])
    count = sum(a["image_id"] == number for a in before["annotations"])
    assert sum(a["image_id"] == number for a in after["annotations"]) == count - 1
    untouched = [a["bbox"] for a in before["annotations"] if a["image_id"] not in (1, number)]
    assert [a["bbox"] for a in after["annotations"] if a["image_id"] not in (1, number)] == untouched
    assert main(["loop", "apply", str(out), str(labels), "--write"]) == 2  # labels.fixed.json is there
    assert "never overwritten" in capsys.readouterr().err


def test_labelme_files_are_fixed_and_what_they_were_is_kept(evaluated, tmp_path, capsys):
    out, _ = folder_of(evaluated, capsys)
    pictures = tmp_path / "images"
    file = next(f for f in sorted(out.glob("0*.json")))
    picture = (out / json.loads(file.read_text())["imagePath"]).resolve()
    (picture.with_suffix(".json")).write_text('{"shapes": [], "flags": {}, "other": 1}')
    edit(file, flags={"reviewed": True})
    assert main(["loop", "apply", str(out), str(pictures), "--write"]) == 0
    now = json.loads(picture.with_suffix(".json").read_text())
    assert now["other"] == 1 and now["shapes"] and not any(s["label"].endswith("?") for s in now["shapes"])
    kept = pictures / ".loop" / "before-fix" / picture.with_suffix(".json").name
    assert json.loads(kept.read_text())["shapes"] == []


def test_bad_folders_and_files_are_named(evaluated, tmp_path, capsys):
    assert main(["loop", "apply", str(tmp_path), str(evaluated[0])]) == 2
    assert "not a folder that `frcnn loop suspects` made" in capsys.readouterr().err
    out, _ = folder_of(evaluated, capsys)
    file = sorted(out.glob("0*.json"))[0]
    file.write_text("{")
    assert main(["loop", "apply", str(out), str(evaluated[0])]) == 1
    assert f"not usable: {file}" in capsys.readouterr().out
    assert main(["loop", "suspects", str(evaluated[1]), "--out", str(out)]) == 2  # exists
    shutil.rmtree(tmp_path / "cv")
    assert main(["loop", "suspects", str(evaluated[1]), "--out", str(tmp_path / "new")]) == 2


def without(suspect, key):
    return {k: v for k, v in suspect.items() if k != key}


def test_suspects_and_drafts_of_another_kind_are_one_line(evaluated, capsys):
    """suspects.json and drafts.json as somebody else may have left them; each entry of a kind of its own."""
    out, _ = folder_of(evaluated, capsys)
    first, *rest = json.loads((evaluated[1] / "suspects.json").read_text())
    odd = [{**first, "kind": 0}, {**first, "bbox": [1, "x"]}, {**first, "image_id": [1]}, {**first, "suspicion": "x"}]
    texts = [json.dumps([*rest, one]) for one in (*odd, without(first, "annotation"), 5)]
    for text in (*texts, "", "[" * 100_000, "\0", "{}1"):
        (evaluated[1] / "suspects.json").write_text(text)
        assert main(["loop", "suspects", str(evaluated[1]), "--out", str(out.parent / "o")]) == 2, text[:80]
        assert "not as `frcnn evaluate` wrote it" in capsys.readouterr().err
    file = json.loads((out / "drafts.json").read_text())
    for drafts in ([], {**file, next(iter(file)): "x"}, {**file, next(iter(file)): [{"label": 1}]}):
        (out / "drafts.json").write_text(json.dumps(drafts))
        assert main(["loop", "apply", str(out), str(evaluated[0])]) == 0  # nothing was ticked


def test_the_cross_validation_opens_pictures_as_the_run_does(tmp_path, monkeypatch):
    document, _ = scene(1, images=2)
    document["info"] = {"image_root": "..", "max_value": 1000}
    run = tmp_path / "runs" / "one"
    (run / "best").mkdir(parents=True)
    for name, image in zip(("train", "val"), document["images"]):
        part = {"images": [image], "annotations": [a for a in document["annotations"] if a["image_id"] == image["id"]]}
        (run / f"{name}.json").write_text(json.dumps({**document, **part}))
    seen = []
    monkeypatch.setattr(fix_suspects, "crossval", lambda labels, *_, **__: seen.append(coco_file.read(labels)))
    fix_suspects.evaluated(run, 3)
    assert coco_file.opening(seen[0]) == {"max_value": 1000} and len(seen[0]["images"]) == 2
