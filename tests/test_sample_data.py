"""The sample in sample_data: that it is what its README says, and that it can be drawn again."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "sample_data"
if str(ROOT) not in sys.path:  # sample_data is a folder of the repository, not of the wheel
    sys.path.append(str(ROOT))

from sample_data import labels, make  # noqa: E402
from sample_data.canvas import Surface, lean  # noqa: E402
from sample_data.scene import labels_of, scene  # noqa: E402

DOCUMENTS = sorted((SAMPLE / "labelme").glob("*.json"))
MASK_IMAGES = sorted((SAMPLE / "masks" / "images").glob("*.jpg"))
CLASSES = (SAMPLE / "labels.txt").read_text().split()


def pixels(path_or_bytes) -> np.ndarray:
    source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else path_or_bytes
    with Image.open(source) as image:
        return np.array(image)


def documents() -> list[dict]:
    return [json.loads(path.read_text()) for path in DOCUMENTS]


def box_of(shape: dict) -> np.ndarray:
    points = np.array(shape["points"])
    if shape["shape_type"] == "circle":
        radius = np.hypot(*(points[1] - points[0]))
        return np.concatenate([points[0] - radius, points[0] + radius])
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low, high + (shape["shape_type"] == "mask")])  # a mask's corners are pixels


def objects(document: dict) -> list[tuple[str, np.ndarray]]:
    """(label, box) of each object; pieces of one group are one object."""
    found: dict = {}
    for index, shape in enumerate(document["shapes"]):
        key = ("group", shape["group_id"]) if shape["group_id"] is not None else ("shape", index)
        label, box = found.get(key, (shape["label"], box_of(shape)))
        assert label == shape["label"]
        new = box_of(shape)
        found[key] = label, np.concatenate([np.minimum(box[:2], new[:2]), np.maximum(box[2:], new[2:])])
    return list(found.values())


def test_the_sample_is_small_and_of_the_promised_size():
    assert CLASSES == ["bolt", "hex_nut", "washer"]
    assert len(DOCUMENTS) == make.IN_LABELME and len(MASK_IMAGES) == make.IN_MASKS
    assert {path.stem for path in DOCUMENTS} == {path.stem for path in (SAMPLE / "labelme").glob("*.jpg")}
    files = [path for path in SAMPLE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= 4_000_000


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_labelme_file_fits_its_image(path):
    document = json.loads(path.read_text())
    assert document["version"].startswith("5.5") and document["imageData"] is None
    assert document["imagePath"] == path.with_suffix(".jpg").name
    height, width, channels = pixels(path.with_suffix(".jpg")).shape
    assert (document["imageWidth"], document["imageHeight"], channels) == (width, height, 3)
    assert min(width, height) >= 192 and max(width, height) <= 256
    for shape in document["shapes"]:
        assert shape["label"] in CLASSES
        points = np.array(shape["points"])
        assert np.isfinite(points).all()
        needed = {"polygon": range(3, 30), "rectangle": [2], "circle": [2], "mask": [2]}[shape["shape_type"]]
        assert len(points) in needed
        if shape["shape_type"] != "circle":
            assert (points >= 0).all() and (points <= (width, height)).all()
        if shape["shape_type"] == "mask":
            (left, top), (right, bottom) = points.astype(int)
            crop = pixels(base64.b64decode(shape["mask"])) > 0
            assert crop.shape == (bottom - top + 1, right - left + 1)
            assert crop.any(axis=1)[[0, -1]].all() and crop.any(axis=0)[[0, -1]].all()
    for _, box in objects(document):
        assert min(box[2:] - box[:2]) >= 7


def test_labels_are_of_every_kind_and_balanced():
    kinds, classes, in_pieces, empty = Counter(), Counter(), 0, 0
    for document in documents():
        kinds.update(shape["shape_type"] for shape in document["shapes"])
        groups = Counter(shape["group_id"] for shape in document["shapes"] if shape["group_id"] is not None)
        in_pieces += sum(count > 1 for count in groups.values())
        assert 1 not in groups.values()
        found = objects(document)
        classes.update(label for label, _ in found)
        empty += not found
        assert len(found) <= 6
    assert set(kinds) == {"polygon", "rectangle", "circle", "mask"} and min(kinds.values()) >= 20
    assert in_pieces >= 5
    assert 6 <= empty <= 12
    assert max(classes.values()) < 1.4 * min(classes.values())


def test_masks_hold_instances_counted_over_all_classes():
    images = {path.stem for path in MASK_IMAGES}
    assert {path.stem for path in (SAMPLE / "masks" / "masks").rglob("*.png")} == images
    empty, modes = 0, Counter()
    for path in MASK_IMAGES:
        shape, seen = pixels(path).shape[:2], []
        covered = np.zeros(shape, int)
        masks = sorted((SAMPLE / "masks" / "masks").glob(f"*/{path.stem}.png"))
        for file in masks:
            assert file.parent.name in CLASSES
            with Image.open(file) as image:
                modes[image.mode] += 1
                ids = np.array(image)
            assert ids.shape == shape and ids.dtype == np.uint8
            seen += [int(identity) for identity in np.unique(ids) if identity]
            covered += ids > 0
        assert sorted(seen) == list(range(1, len(seen) + 1))
        assert covered.max() <= 1
        if not seen:
            empty += 1
            assert [file.parent.name for file in masks] == [make.EMPTY_MASK_LABEL]
    assert empty == sum(number > make.IN_LABELME for number in make.EMPTY)
    assert set(modes) == {"L", "P"}


def test_readme_counts_are_those_of_the_files():
    text = (SAMPLE / "README.md").read_text()
    shapes = Counter((s["label"], s["shape_type"]) for d in documents() for s in d["shapes"])
    in_labelme = Counter(label for document in documents() for label, _ in objects(document))
    for label in CLASSES:
        files = (SAMPLE / "masks" / "masks" / label).glob("*.png")
        in_masks = sum(int(np.count_nonzero(np.unique(pixels(file)))) for file in files)
        kinds = [shapes[label, kind] for kind in ("polygon", "rectangle", "circle", "mask")]
        row = re.search(rf"^\| `{label}` \|(.*)\|$", text, re.MULTILINE).group(1)
        assert [int(cell) for cell in row.split("|")] == [in_labelme[label], *kinds, in_masks]


def same_versions() -> bool:
    def release(version: str) -> list[str]:
        return version.split(".")[:2]

    return all(release(import_module(name).__version__) == release(made) for name, made in make.MADE_WITH.items())


@pytest.mark.parametrize("number", [3, 35, 61, 90, 117, 121, 160])
def test_drawn_again_it_is_the_committed_file(number):
    if not same_versions():
        pytest.skip(f"the sample was drawn with {make.MADE_WITH}: other versions may draw other noise")
    made = make.files(number)
    on_disk = {
        path.relative_to(SAMPLE).as_posix()
        for path in SAMPLE.rglob(f"bench_{number:03d}.*")
        if path.suffix in (".jpg", ".png", ".json")
    }
    assert set(made) == on_disk
    for path, content in made.items():
        if path.endswith(".json"):
            ours, theirs = json.loads(content), json.loads((SAMPLE / path).read_text())
            assert [label for label, _ in objects(ours)] == [label for label, _ in objects(theirs)]
            for (_, a), (_, b) in zip(objects(ours), objects(theirs), strict=True):
                assert np.abs(a - b).max() <= 1
        else:
            ours, theirs = pixels(content).astype(float), pixels(SAMPLE / path).astype(float)
            # another processor may round otherwise in the last bit: a grey value here or there, no more
            assert ours.shape == theirs.shape and np.abs(ours - theirs).mean() < 0.5


def test_the_same_seed_gives_the_same_bytes():
    first, second = make.files(61), make.files(61)
    assert first == second
    assert make.files(62) != first


@pytest.mark.parametrize("number", [2, 13, 14, 24, 33, 58, 102])
def test_labels_lie_within_two_pixels_of_what_is_seen(number):
    image, parts = make.photograph(number)
    document = labels.labelme(np.random.default_rng(0), "x.jpg", image.size, parts)
    assert [label for label, _ in objects(document)] == [label for label, _, _ in parts]
    for (_, drawn), (_, true, _) in zip(objects(document), parts, strict=True):
        assert np.abs(drawn - true).max() <= 2


@pytest.mark.parametrize("seed", range(12))
def test_endless_scenes(seed):
    size = [(224, 224), (192, 256), (160, 128)][seed % 3]
    image, parts = scene(seed, size)
    assert image.mode == "RGB" and image.size == size
    covered = np.zeros((size[1], size[0]), int)
    for label, box, mask in parts:
        assert label in CLASSES and box.shape == (4,) and box.dtype == np.float32
        assert mask.shape == covered.shape and mask.dtype == bool
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        covered += mask
    assert covered.max(initial=0) <= 1
    # a photograph, not a flat sheet: it has contrast, and is neither black nor burnt out
    grey = np.asarray(image.convert("L"), float)
    assert grey.std() > 4 and 25 < grey.mean() < 230 and (grey > 250).mean() < 0.15


def test_the_number_of_parts_can_be_asked_for():
    assert scene(5, count=0)[1] == []
    assert 1 <= len(scene(5, count=1)[1]) <= 1
    assert 1 <= len(scene(5, count=6)[1]) <= 6


def test_a_mask_is_the_part_that_is_seen():
    # 8 x 8 fine pixels are 4 x 4 pixels: too small for a label, so the scene is thrown away
    ids = np.zeros((64, 64), np.uint8)
    ids[0:8, 0:8] = 1
    part = type("Part", (), {"label": "bolt", "whole": 64.0})()
    assert labels_of(ids, [part]) is None
    # 32 x 24 fine pixels at (8, 16) are 16 x 12 at (4, 8); of the crumb of 2 x 2 pixels nothing is left
    ids[:] = 0
    ids[16:40, 8:40] = 1
    ids[56:60, 56:60] = 1
    part.whole = 32.0 * 24
    [(label, box, mask)] = labels_of(ids, [part])
    assert label == "bolt" and box.tolist() == [4, 8, 20, 20] and mask.sum() == 16 * 12
    # more than 70 % of it is hidden: no label, and so no such scene
    part.whole = 32.0 * 24 * 3.5
    assert labels_of(ids, [part]) is None


def test_outlines_run_along_pixel_edges():
    mask = np.zeros((20, 30), bool)
    mask[5:10, 3:12] = True
    mask[15:18, 20:28] = True
    first, second = labels.outlines(mask)  # 45 pixels, then 24
    for outline, box in ((first, (3, 5, 12, 10)), (second, (20, 15, 28, 18))):
        drawn = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
        assert np.abs(drawn - box).max() <= 0.13  # a quarter of a pixel is the fineness: half of that off


def test_an_object_in_two_pieces_is_one_group():
    mask = np.zeros((60, 90), bool)
    mask[20:40, 10:40] = mask[20:40, 55:80] = True
    parts = [("bolt", np.array([10, 20, 80, 40], np.float32), mask)]
    first, second = labels.labelme(np.random.default_rng(0), "x.jpg", (90, 60), parts)["shapes"]
    assert first["group_id"] == second["group_id"] == 1
    assert first["shape_type"] == second["shape_type"] == "polygon"
    # the larger piece first, each in its own place
    assert np.abs(box_of(first) - (10, 20, 40, 40)).max() < 1.1
    assert np.abs(box_of(second) - (55, 20, 80, 40)).max() < 1.1


def test_a_part_leans_on_what_it_covers():
    inside = np.ones((40, 40), bool)
    assert lean(np.zeros((40, 40), np.float32), inside) == 0
    height = np.zeros((40, 40), np.float32)
    height[:, 30:] = 20
    base = lean(height, inside)
    assert base[20, 35] == pytest.approx(20, abs=1.5) and base[20, 2] < 3


def test_surface_has_no_hole_unless_told():
    assert Surface(np.ones((2, 2), bool), np.ones((2, 2)), np.ones(3), 1.0, 0.3).hole is None


@pytest.mark.parametrize("start", [["sample_data/make.py"], ["-m", "sample_data.make"]], ids=["file", "module"])
def test_make_starts_both_ways(start):
    done = subprocess.run([sys.executable, *start, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--out" in done.stdout, done.stderr


def test_no_torch_is_needed():
    code = "import sys; import sample_data.make; print(sorted({'torch', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_two_whole_runs_give_the_same_bytes(tmp_path):
    make.make(tmp_path / "a")
    left_over = tmp_path / "b" / "masks" / "masks" / "bolt" / "bench_999.png"
    left_over.parent.mkdir(parents=True)
    left_over.write_bytes(b"of an older drawing")
    make.make(tmp_path / "b")
    assert not left_over.exists()
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(names) > 300
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
