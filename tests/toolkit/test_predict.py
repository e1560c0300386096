"""`frcnn predict` and `detect` on a tiny checkpoint."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from label_tools.document import coco_file
from label_tools.files.marked_folders import MARKER
from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import untrained_run
from toolkit.__main__ import main
from toolkit.prediction.detect_in_batches import detect_document
from toolkit.prediction.detector import thresholds_of
from toolkit.prediction.torch_detector import TorchDetector


@pytest.fixture
def run(tmp_path):
    """A run folder whose `best` is an untrained compact network for square and disc that keeps every box."""
    return untrained_run(tmp_path / "run", {"square": 0.2})


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (80, 60), "grey").save(folder / "a.png")
    Image.new("L", (60, 80), 90).save(folder / "deep" / "b.jpg")
    return folder


def predicted(run, pictures, tmp_path, *words) -> dict:
    """detections.json of a call without drawings."""
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    assert main(["predict", str(run), str(pictures), "--out", str(out), "--no-pictures", *words]) == 0
    return json.loads((out / "detections.json").read_text())


def test_predict_writes_pictures_and_one_json(run, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["predict", str(run), str(pictures), "--out", str(out), "--score", "0"]) == 0
    content = json.loads((out / "detections.json").read_text())
    assert [r["file_name"] for r in content["images"]] == ["a.png", "deep/b.jpg"]
    for record, size in zip(content["images"], [(80, 60), (60, 80)], strict=True):
        for d in record["detections"]:
            x, y, w, h = d["bbox"]
            assert x >= 0 and y >= 0 and x + w <= size[0] + 1e-2 and y + h <= size[1] + 1e-2 and 0 <= d["score"] <= 1
        with Image.open(out / {"a.png": "a.png.jpg"}.get(record["file_name"], record["file_name"])) as picture:
            assert picture.width == size[0] and picture.height >= size[1]  # a legend below where names do not fit
    assert content["categories"] == [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}]
    assert str(out) in capsys.readouterr().out


def test_json_on_stdout_and_nothing_else(run, pictures, tmp_path, capsys):
    assert main(["predict", str(run), str(pictures), "--out", str(tmp_path / "o"), "--json", "--no-pictures"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"images", "categories", "score_thresholds"}
    made = sorted(p.name for p in (tmp_path / "o").iterdir())
    assert made == [MARKER, "counts.csv", "detections.csv", "detections.json"]


def test_thresholds_come_from_the_checkpoint_unless_given(run, pictures, tmp_path):
    predictor = TorchDetector(run)
    assert thresholds_of(predictor) == {1: 0.2, 2: 0.5}
    assert thresholds_of(predictor, 0.9) == {1: 0.9, 2: 0.9}
    everything, nothing, written = (
        predicted(run, pictures, tmp_path, *words) for words in (("--score", "0"), ("--score", "1"), ())
    )
    assert any(r["detections"] for r in everything["images"])
    assert not any(r["detections"] for r in nothing["images"])
    assert written["score_thresholds"] == {"square": 0.2, "disc": 0.5}


def test_a_broken_picture_is_named_and_the_rest_goes_on(run, pictures, tmp_path, capsys):
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    assert main(["predict", str(run), str(pictures), "--out", str(tmp_path / "o")]) == 1
    records = json.loads((tmp_path / "o" / "detections.json").read_text())["images"]
    assert ["error" in r for r in records] == [False, True, False]
    assert "broken.jpg" in capsys.readouterr().err


def test_default_folder_never_overwrites(run, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["predict", str(run), str(pictures), "--no-pictures"]) == 0
    assert (tmp_path / "predictions" / "detections.json").exists()
    assert (tmp_path / "predictions-2" / "detections.json").exists()


def test_predicting_a_folder_again_leaves_its_own_drawings_alone(run, pictures):
    for _ in range(2):
        assert main(["predict", str(run), str(pictures), "--out", str(pictures / "found"), "--score", "0"]) == 0
    assert len(list((pictures / "found").rglob("*.jpg"))) == 2
    assert len(json.loads((pictures / "found" / "detections.json").read_text())["images"]) == 2


def test_photographs_are_never_overwritten_by_drawings(run, pictures, capsys):
    before = (pictures / "deep" / "b.jpg").read_bytes()
    assert main(["predict", str(run), str(pictures / "deep"), "--out", str(pictures / "deep")]) == 2
    assert "b.jpg: is the image itself, and is never overwritten; use another --out" in capsys.readouterr().err
    assert (pictures / "deep" / "b.jpg").read_bytes() == before
    assert [p.name for p in (pictures / "deep").iterdir()] == ["b.jpg"]


def test_files_of_another_command_or_of_the_user_are_never_overwritten(run, pictures, tmp_path, capsys):
    out = tmp_path / "val"
    out.mkdir()
    (out / "detections.json").write_text("[]\n")  # of an evaluation
    words = ["predict", str(run), str(pictures), "--out", str(out), "--no-pictures"]
    assert main(words) == 2 and "exists and is of no earlier prediction" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["detections.json"] and (out / "detections.json").read_text() == "[]\n"
    (out / "detections.json").unlink()
    assert main(words) == 0
    (out / "counts.csv").write_text("mine")
    assert main(words) == 2 and "was changed since frcnn wrote it" in capsys.readouterr().err
    assert (out / "counts.csv").read_text() == "mine"


def test_a_prediction_of_an_older_version_is_ours_until_it_is_edited(run, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["predict", str(run), str(pictures), "--out", str(out), "--no-pictures"]
    for _ in range(2):
        assert main(words) == 0, capsys.readouterr().err
        (out / ".frcnn.json").unlink()  # older versions wrote none
    os.utime(out / "counts.csv", (0, 0))
    assert main(words) == 2 and "is of no earlier prediction" in capsys.readouterr().err


def test_a_folder_that_is_a_link_may_be_named(run, pictures, tmp_path, capsys):
    (tmp_path / "store").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "store")
    for _ in range(2):
        assert main(["predict", str(run), str(pictures), "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    assert (tmp_path / "store" / "detections.json").is_file() and list((tmp_path / "store").rglob("*.jpg"))


def test_what_cannot_be_loaded_leaves_no_folder(run, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(run), str(pictures), "--device", "tpu9"]) == 2
    (run / "best" / "weights.safetensors").write_bytes(b"")
    assert main(["predict", str(run), str(pictures)]) == 2
    assert capsys.readouterr().err.count("error: ") == 2 and not (tmp_path / "predictions").exists()


@pytest.mark.parametrize("case", ["no run", "no picture", "score", "labels"])
def test_wrong_use(run, pictures, tmp_path, case, capsys):
    words = {
        "no run": ["predict", str(tmp_path / "nothing"), str(pictures)],
        "no picture": ["predict", str(run), str(run)],
        "labels": ["predict", str(run), str(run / "val.json"), "--out", str(tmp_path / "made")],
        "score": ["predict", str(run), str(pictures), "--score", "7"],
    }[case]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "made").exists()


def test_detect_maps_category_ids_by_name(run, toy_set):
    path = toy_set(num_images=3)
    document = coco_file.read(path)
    straight = detect_document(TorchDetector(run), document, coco_file.image_root(document, path))
    document["categories"] = [{"id": 40, "name": "disc"}, {"id": 50, "name": "square"}]
    for a in document["annotations"]:
        a["category_id"] = {1: 50, 2: 40}[a["category_id"]]
    turned = detect_document(TorchDetector(run), document, coco_file.image_root(document, path))
    assert [{1: 50, 2: 40}[d["category_id"]] for d in straight] == [d["category_id"] for d in turned]
    assert [d["bbox"] for d in straight] == [d["bbox"] for d in turned] and straight
    document["categories"][0]["name"] = "ring"
    with pytest.raises(InputError, match="square, disc"):
        detect_document(TorchDetector(run), document, coco_file.image_root(document, path))


def test_what_is_found_depends_on_the_image_alone_not_on_its_batch(run, tmp_path):
    sizes = [(80, 60), (80, 60), (40, 80), (70, 70), (80, 60)]
    random = torch.Generator().manual_seed(0)
    for number, (width, height) in enumerate(sizes):
        pixels = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=random).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    images = [{"id": n, "file_name": f"{n - 1}.png", "width": w, "height": h} for n, (w, h) in enumerate(sizes, 1)]
    document = {
        "images": images,
        "annotations": [],
        "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}],
    }
    predictor = TorchDetector(run)
    alone, together = (detect_document(predictor, document, tmp_path, batch_size=n, workers=n // 2) for n in (1, 4))
    assert len(alone) == len(together) > 20
    for one, other in zip(alone, together, strict=True):
        assert one["image_id"] == other["image_id"]
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-2)


def test_boxes_come_back_in_the_pictures_own_pixels(run, tmp_path):
    # the same picture at three times the size must give boxes three times as large (the network resizes both alike)
    small = Image.effect_noise((32, 32), 80).convert("RGB").resize((96, 96), Image.Resampling.NEAREST)
    small.save(tmp_path / "s.png")
    small.resize((288, 288), Image.Resampling.NEAREST).save(tmp_path / "l.png")
    a, b = (TorchDetector(run).detect([np.asarray(Image.open(tmp_path / name))])[0] for name in ("s.png", "l.png"))
    assert a and b
    assert max(d["bbox"][0] + d["bbox"][2] for d in a) <= 96.01
    assert 96 < max(d["bbox"][0] + d["bbox"][2] for d in b) <= 288.01


def test_what_is_not_read_in_a_folder_is_said(tmp_path, caplog):
    """A telephone's folder: HEIC and a film beside one JPEG, and HEIC alone."""
    from label_tools.pictures.unread_files import HAS_HEIC
    from toolkit.prediction.picture_sources import find_images

    (tmp_path / "only").mkdir()
    for name in ("IMG_1.HEIC", "clip.mp4", "only/IMG_3.avif"):
        (tmp_path / name).write_bytes(b"\0" * 64)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    assert [path.name for path, _ in find_images([tmp_path])] == (["IMG_1.HEIC"] if HAS_HEIC else []) + ["a.jpg"]
    assert "1 MP4" in caplog.text and ("1 HEIC" in caplog.text) != HAS_HEIC
    with pytest.raises(InputError, match="not read: 1 AVIF; AVIF and raw: export them as JPEG"):
        find_images([tmp_path / "only"])
