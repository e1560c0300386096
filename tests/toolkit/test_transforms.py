"""Augmentation: boxes follow the pixels, stay inside, keep their class; the seed alone decides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from label_tools.text.errors import InputError
from toolkit.data import transforms
from toolkit.data.coco_index import read_index
from toolkit.data.dataset import DetectionDataset
from toolkit.data.epoch_batches import EpochBatches
from toolkit.data.loader import Batches

LEVELS = [level for level in transforms.LEVELS if level != "none"]
PIPELINES = {level: transforms.build(level) for level in LEVELS}


def test_none_is_no_pipeline():
    assert transforms.build("none") is None


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_boxes_stay_inside_and_keep_their_rows(level, data):
    width, height = data.draw(st.integers(20, 90)), data.draw(st.integers(20, 90))
    box = st.tuples(st.floats(0, width - 3), st.floats(0, height - 3), st.floats(2.5, width), st.floats(2.5, height))
    boxes = [[x, y, min(x + w, width), min(y + h, height)] for x, y, w, h in data.draw(st.lists(box, max_size=5))]
    image = np.zeros((height, width, 3), np.uint8)
    out, moved, rows = PIPELINES[level](
        image, np.array(boxes, np.float32).reshape(-1, 4), data.draw(st.integers(0, 999))
    )
    assert out.dtype == np.uint8 and moved.shape == (len(rows), 4) and moved.dtype == np.float32
    assert len(set(rows.tolist())) == len(rows) and set(rows.tolist()) <= set(range(len(boxes)))
    if len(moved):
        assert (moved[:, 2:] > moved[:, :2]).all() and (moved >= 0).all()
        assert moved[:, 2].max() <= out.shape[1] and moved[:, 3].max() <= out.shape[0]


@pytest.mark.parametrize("level", LEVELS)
def test_boxes_follow_the_pixels(level):
    # a bright block on black: after any augmentation the bright pixels must lie where the box says
    image = np.zeros((80, 100, 3), np.uint8)
    image[30:50, 20:60] = 255
    box = np.array([[20, 30, 60, 50]], np.float32)
    for seed in range(25):
        out, moved, rows = PIPELINES[level](image, box, seed)
        if not len(rows):
            continue
        ys, xs = np.nonzero(out.min(axis=2) > 150)
        seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(moved[0] - seen).max() <= 4, (seed, moved, seen)  # blur and rotation loosen by a few pixels


def test_the_seed_alone_decides():
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    boxes = np.array([[5, 5, 30, 30]], np.float32)
    for level in LEVELS:
        a, b = transforms.build(level), PIPELINES[level]
        b(image, boxes, 77)  # whatever came before
        assert np.array_equal(a(image, boxes, 5)[0], b(image, boxes, 5)[0])
        different = {a(image, boxes, seed)[0].tobytes() for seed in range(8)}
        assert len(different) > 1


def test_rows_survive_where_float32_would_not():
    # albumentations passes labels through float32; 16777217 would come back as 16777216
    boxes = np.array([[1, 1, 20, 20], [5, 5, 30, 30]], np.float32)
    _, _, rows = PIPELINES["light"](np.zeros((40, 40, 3), np.uint8), boxes, 0)
    labels = np.array([16777217, 3])[rows]
    assert labels.tolist() == [16777217, 3]


def test_no_copies_of_objects_at_the_border():
    # a reflecting border would show the block twice
    image = np.zeros((60, 60, 3), np.uint8)
    image[2:14, 2:14] = 255
    for seed in range(40):
        out, _, _ = PIPELINES["strong"](image, np.array([[2, 2, 14, 14]], np.float32), seed)
        bright = (out.min(axis=2) > 200).astype(np.uint8)
        import cv2

        assert cv2.connectedComponents(bright)[0] - 1 <= 1, seed


def test_workers_do_not_change_what_is_seen(toy_set):
    index = read_index(toy_set(num_images=7))
    seen, targets = [], []
    for workers in (0, 2):
        plan = EpochBatches(index, 2, seed=5)
        dataset = DetectionDataset(index, transforms.build("strong"))
        batches = Batches(dataset, plan, workers, torch.device("cpu"))
        epochs = []
        try:
            for epoch in range(2):
                plan.epoch = epoch
                loaded = list(batches)
                epochs.append([image.numpy().tobytes() for images, _ in loaded for image in images])
                found = [target for _, some in loaded for target in some]
                kinds = [(t["boxes"].dtype, t["labels"].dtype, type(t["image_id"])) for t in found]
                values = [(t["boxes"].tolist(), t["labels"].tolist(), t["image_id"]) for t in found]
                targets.append((kinds, values))
        finally:
            batches.close()
        seen.append(epochs)
    assert seen[0] == seen[1]
    assert targets[:2] == targets[2:]
    assert set(targets[0][0]) == {(torch.float32, torch.int64, int)}
    assert seen[0][0] != seen[0][1]  # and epochs differ
    assert len(set(seen[0][0])) == 7


def test_a_file_of_albumentations(tmp_path):
    import albumentations as A

    path = tmp_path / "mine.json"
    A.save(A.Compose([A.HorizontalFlip(p=1.0)]), str(path), data_format="json")
    _, boxes, _ = transforms.build(str(path))(np.zeros((10, 40, 3), np.uint8), np.array([[0, 0, 10, 5]], np.float32), 0)
    assert boxes.tolist() == [[30, 0, 40, 5]]  # mirrored: 40-10, 40-0


@pytest.mark.parametrize("name, found", [("Normalize", "float32"), ("ToTensorV2", "Tensor"), ("ToGray", "(512, 512)")])
def test_what_the_network_does_itself_is_refused_in_a_file(tmp_path, name, found):
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    last = {"Normalize": A.Normalize(), "ToTensorV2": ToTensorV2(), "ToGray": A.ToGray(1, p=1.0)}[name]
    path = tmp_path / "mine.json"
    A.save(A.Compose([A.HorizontalFlip(), last]), str(path), data_format="json")
    with pytest.raises(InputError, match=r"mine\.json.*Normalize") as error:
        transforms.build(str(path))
    assert found in str(error.value)


def test_a_file_keeps_its_outermost_kind_and_chance(tmp_path):
    """OneOf does one of its members, not all; a Compose of p = 0 nothing."""
    import albumentations as A

    image = np.zeros((20, 40, 3), np.uint8)
    image[2:5, 30:36] = 255
    outer = {
        "one.json": A.OneOf([A.HorizontalFlip(p=1), A.VerticalFlip(p=1)], p=1),
        "none.json": A.Compose([A.HorizontalFlip(p=1)], p=0),
    }
    seen = {}
    for name, kind in outer.items():
        A.save(kind, str(tmp_path / name), data_format="json")
        pipeline = transforms.build(str(tmp_path / name))
        results = [pipeline(image, np.float32([[30, 2, 36, 5]]), seed) for seed in range(20)]
        assert all((found[int(b[0][1]), int(b[0][0])] == 255).all() for found, b, _ in results)  # boxes follow
        seen[name] = {tuple(map(int, b[0])) for _, b, _ in results}
    assert seen == {"one.json": {(4, 2, 10, 5), (30, 15, 36, 18)}, "none.json": {(30, 2, 36, 5)}}


@pytest.mark.parametrize("text", ["nonsense", '{"transform": {"__class_fullname__": "os.system"}}', ""])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"mine\.json"):
        transforms.build(str(path))
    with pytest.raises(InputError, match="none, light, zoom, medium, strong"):
        transforms.build("heavy")
