"""`stats`: the numbers by hand, the size in the model as torchvision makes it, the table and the picture."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from label_tools.__main__ import main
from label_tools.commands.stats import table
from label_tools.document import coco_file
from label_tools.operations.stats import measure, model_scale, summarise
from label_tools.readers.open_labels import Source


def document(boxes: list[tuple[int, int, tuple[float, float, float, float]]], sizes: list[tuple[int, int]]) -> dict:
    """boxes: (image number, category, bbox)."""
    return {
        "info": {},
        "images": [{"id": k, "file_name": f"{k}.png", "width": w, "height": h} for k, (w, h) in enumerate(sizes, 1)],
        "annotations": [
            {
                "id": k,
                "image_id": image,
                "category_id": category,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": 0,
                "segmentation": [],
            }
            for k, (image, category, box) in enumerate(boxes, 1)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def numbers(doc: dict, min_size: int = 800, max_size: int = 1333) -> dict:
    return summarise(Source("a.json", doc, Path()), measure(doc, min_size, max_size), min_size, max_size)


def test_by_hand():
    doc = document(
        [(1, 1, (0, 0, 10, 40)), (1, 1, (0, 0, 60, 60)), (2, 2, (0, 0, 100, 100))], [(400, 200), (300, 300), (50, 50)]
    )
    doc["annotations"].append({**doc["annotations"][0], "id": 4, "iscrowd": 1})
    result = numbers(doc, 400, 600)
    assert (result["images"], result["images_without_objects"], result["ignore_regions"]) == (3, 1, 1)
    assert result["most_objects_in_an_image"] == 2
    cat, dog = result["classes"]["cat"], result["classes"]["dog"]
    # sizes sqrt(10 * 40) = 20 and 60
    assert (cat["objects"], cat["images"], cat["small"], cat["medium"], cat["large"]) == (2, 1, 1, 1, 0)
    assert (cat["size"]["min"], cat["size"]["median"], cat["size"]["max"]) == (20, 40, 60)
    assert (cat["aspect_ratio"]["min"], cat["aspect_ratio"]["max"]) == (1, 4)  # height / width
    # 400 x 200: the shorter side to 400 would make 800 x 400; the longer one may be 600: factor 1.5
    assert cat["model_size"]["max"] == 90
    # 300 x 300 -> 400 x 400
    assert dog["model_size"]["median"] == pytest.approx(400 / 3, abs=1e-3) and dog["model_large"] == 1
    assert result["all"]["objects"] == 3


def test_limits_of_the_size_classes():
    doc = document([(1, 1, (0, 0, s, s)) for s in (31.9, 32, 95.9, 96)], [(200, 200)])
    every = numbers(doc)["all"]
    assert (every["small"], every["medium"], every["large"]) == (1, 2, 1)


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(16, 1400), st.integers(16, 2000))
@settings(max_examples=200, deadline=None)
def test_scale_keeps_both_limits(width, height, min_size, max_size):
    x, y = model_scale(width, height, min_size, max_size)
    sides = sorted((x * width, y * height))
    assert sides[1] <= max(max_size, 1) + 1e-6
    assert sides[0] <= max(min_size, 1) + 1e-6


def test_scale_is_that_of_torchvision():
    torch = pytest.importorskip("torch")
    transform = pytest.importorskip("torchvision.models.detection.transform")
    for min_size, max_size in ((800, 1333), (320, 640), (160, 200)):
        resize = transform.GeneralizedRCNNTransform(min_size, max_size, [0.0] * 3, [1.0] * 3).eval()
        for width, height in ((640, 480), (333, 777), (1999, 31), (64, 64), (501, 500)):
            box = torch.tensor([[3.0, 5.0, 13.0, 25.0]])
            _, (target,) = resize([torch.zeros(3, height, width)], [{"boxes": box}])
            x, y = model_scale(width, height, min_size, max_size)
            expected = [3 * x, 5 * y, 13 * x, 25 * y]
            assert target["boxes"][0].tolist() == pytest.approx(expected, rel=1e-5)


def test_nothing_in_it():
    for doc in (document([], []), document([], [(10, 10)])):
        result = numbers(doc)
        assert result["all"]["objects"] == 0 and result["all"]["size"] is None
        assert "0 objects in one" in table(result)


@pytest.fixture
def file(tmp_path) -> Path:
    boxes = [(1 + k % 3, 1 + k % 2, (k, k, 5.0 + 3 * k, 10.0 + k)) for k in range(20)]
    coco_file.write(document(boxes, [(200, 150), (150, 200), (640, 480), (99, 99)]), tmp_path / "a.json")
    return tmp_path / "a.json"


def test_table_and_json(file, capsys):
    assert main(["stats", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [["cat", "3", "10"], ["dog", "3", "10"], ["all", "3", "20"]]
    assert "4 images (1 without objects), 99 x 99 to 640 x 480" in lines[4]
    assert main(["stats", str(file), "--json", "--min-size", "300"]) == 0
    assert json.loads(capsys.readouterr().out)["min_size"] == 300


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_picture_and_its_numbers(file, tmp_path, capsys, kind):
    for name in ("one", "two"):
        assert main(["stats", str(file), "--out", str(tmp_path / f"{name}.{kind}")]) == 0
    data = (tmp_path / f"one.{kind}").read_bytes()
    assert data == (tmp_path / f"two.{kind}").read_bytes()
    if kind == "png":
        assert Image.open(BytesIO(data)).size == (1430, 836)
    assert json.loads((tmp_path / "one.json").read_text())["all"]["objects"] == 20


def test_pictures_of_odd_sets(tmp_path):
    names = ["$x^2$", "ünï<&>", "a" * 200, "\u202eabc", *(f"class {k}" for k in range(60))]
    doc = document([(1, 1 + k % 64, (0, 0, 1 + k, 1)) for k in range(80)], [(100, 100)])
    doc["categories"] = [{"id": k, "name": name} for k, name in enumerate(names, 1)]
    coco_file.write(doc, tmp_path / "many.json")
    assert main(["stats", str(tmp_path / "many.json"), "--out", str(tmp_path / "many_picture.png")]) == 0
    coco_file.write(document([], [(10, 10)]), tmp_path / "none.json")
    assert main(["stats", str(tmp_path / "none.json"), "--out", str(tmp_path / "none_picture.png")]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "a.jpg"], "needs the ending"),
        (["--min-size", "0"], "--min-size 0"),
        (["--out", "a.png"], "never overwritten"),
    ],
)
def test_refusals(file, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(file.parent)
    before = file.read_bytes()
    assert main(["stats", str(file), *arguments]) == 2
    assert message in capsys.readouterr().err and file.read_bytes() == before
