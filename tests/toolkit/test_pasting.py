"""Copy-paste: boxes and labels of what was pasted, free places, inputs untouched; (row, seed) alone decides."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.data import copy_paste, transforms
from toolkit.data.coco_index import read_index
from toolkit.data.dataset import DetectionDataset, Unreadable
from toolkit.data.epoch_batches import EpochBatches
from toolkit.data.loader import Batches

NONE = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def black(width: int, height: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def block(box: list[int], label: int, width: int = 100, height: int = 80) -> copy_paste.Sample:
    """A bright block on black, as a sample."""
    image = black(width, height)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return copy_paste.Sample(image, np.array([box], np.float32), np.array([label]))


def test_the_box_lies_where_the_pixels_are_and_the_label_comes_along():
    shares = []
    for seed in range(40):
        image, boxes, labels, _ = copy_paste.paste(
            copy_paste.Sample(black(90, 70), *NONE), [block([20, 30, 60, 50], 7)], np.random.default_rng(seed)
        )
        assert labels.tolist() == [7] and boxes.shape == (1, 4) and boxes.dtype == np.float32
        ys, xs = np.nonzero(image.min(axis=2) > 100)
        seen = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert np.abs(boxes[0] - seen).max() <= 1.5, (seed, boxes, seen)  # rounding, and enlarging blurs the edge
        shares.append((boxes[0, 2] - boxes[0, 0]) / 40)
    # shorter sides 70 of 80: shares of .5 to 1.4 become scales of .4375 to 1.225, give or take a rounded pixel
    assert 0.41 <= min(shares) < 0.6 and 1.0 < max(shares) <= 1.25


def test_an_object_fades_into_its_place():
    # white on white pasted on black: inside the box all white, over the margin of 4 px (a tenth of 40) ever darker
    box = np.array([[30, 30, 70, 70]], np.float32)
    donor = copy_paste.Sample(np.full((100, 100, 3), 255, np.uint8), box, np.array([1]))
    image, boxes, *_ = copy_paste.paste(copy_paste.Sample(black(100, 100), *NONE), [donor], np.random.default_rng(1))
    x1, y1, x2, y2 = np.round(boxes[0]).astype(int)
    assert image[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() == 255
    edge = image[(y1 + y2) // 2, :, 0][:x1].astype(int)
    rising = edge[edge > 0]
    assert 2 <= len(rising) <= 7 and (np.diff(rising) > 0).all() and rising[0] < 130


def test_no_object_is_hidden_by_another():
    blocks = [block([10, 10, 40, 50], 1), block([5, 5, 45, 20], 2), block([0, 0, 30, 30], 3)]
    pasted = 0
    for seed in range(60):
        sample = block([30, 20, 70, 60], 9)
        _, boxes, labels, _ = copy_paste.paste(sample, blocks, np.random.default_rng(seed))
        assert boxes[0].tolist() == [30, 20, 70, 60] and labels[0] == 9
        assert len(boxes) == len(labels) and set(labels[1:].tolist()) <= {1, 2, 3}
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
                smaller = min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())
                assert sides.clip(0).prod() <= 0.1001 * smaller
        pasted += len(boxes) - 1
    assert pasted > 60  # there is room for more than one in most


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_boxes_stay_inside_and_inputs_as_they_are(data):
    def sample() -> copy_paste.Sample:
        width, height = data.draw(st.integers(3, 60)), data.draw(st.integers(3, 60))
        corner = st.tuples(st.floats(0, width - 1), st.floats(0, height - 1), st.floats(0.1, 60), st.floats(0.1, 60))
        drawn = data.draw(st.lists(corner, max_size=3))
        boxes = [[x, y, min(x + w, width), min(y + h, height)] for x, y, w, h in drawn]
        image = np.full((height, width, 3), data.draw(st.integers(0, 255)), np.uint8)
        return copy_paste.Sample(image, np.array(boxes, np.float32).reshape(-1, 4), np.arange(len(boxes)) + 1)

    host, donors = sample(), [sample() for _ in range(data.draw(st.integers(0, 3)))]
    before = [array.copy() for s in [host, *donors] for array in s[:3]]
    image, boxes, labels, _ = copy_paste.paste(host, donors, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert all(np.array_equal(a, b) for a, b in zip(before, [v for s in [host, *donors] for v in s[:3]], strict=True))
    assert image.shape == host[0].shape and image.dtype == np.uint8
    new = len(host[1])
    assert new <= len(boxes) == len(labels) <= new + len(donors)
    assert np.array_equal(boxes[:new], host[1]) and np.array_equal(labels[:new], host[2])
    added = boxes[new:]
    assert (added >= -1e-3).all() and (added[:, 2:] <= np.array(image.shape[1::-1]) + 1e-3).all()
    assert (added[:, 2:] - added[:, :2] >= transforms.MIN_SIZE).all()


def test_without_objects_there_is_nothing_to_paste():
    host = block([1, 1, 9, 9], 2)
    image, boxes, labels, _ = copy_paste.paste(
        host, [copy_paste.Sample(black(40, 40), *NONE)] * 3, np.random.default_rng(0)
    )
    assert np.array_equal(image, host[0]) and boxes.tolist() == [[1, 1, 9, 9]] and labels.tolist() == [2]


def same(a: tuple, b: tuple) -> bool:
    return torch.equal(a[0], b[0]) and all(torch.equal(a[1][k], b[1][k]) for k in ("boxes", "labels"))


def test_row_and_seed_alone_decide(toy_set):
    index = read_index(toy_set(num_images=7))
    first, second = (DetectionDataset(index, None, cache, copy_paste=0.5) for cache in (0, 2**20))
    keys = [(row, seed) for row in range(7) for seed in range(12)]
    seen = {key: first[key] for key in keys}
    assert all(same(second[key], seen[key]) for key in reversed(keys))  # another order, and decoded images kept
    plain = DetectionDataset(index)
    changed = sum(not torch.equal(seen[key][0], plain[key][0]) for key in keys)
    assert 0.2 * len(keys) < changed < 0.7 * len(keys)  # half of them, less those without a donor or a place
    never = DetectionDataset(index, copy_paste=0.0)
    assert all(same(never[key], plain[key]) for key in keys)


def test_workers_do_not_change_what_is_pasted(toy_set):
    index = read_index(toy_set(num_images=7))
    seen = []
    for workers in (0, 2):
        dataset = DetectionDataset(index, transforms.build("light"), copy_paste=1.0)
        batches = Batches(dataset, EpochBatches(index, 2, seed=5), workers, torch.device("cpu"))
        try:
            seen.append(
                [
                    (i.numpy().tobytes(), t["boxes"].tolist(), t["labels"].tolist())
                    for images, targets in batches
                    for i, t in zip(images, targets, strict=True)
                ]
            )
        finally:
            batches.close()
    assert seen[0] == seen[1] and len(seen[0]) == 7
    assert sum(len(boxes) for _, boxes, _ in seen[0]) > len(index.boxes)


def test_one_image_gives_to_itself(toy_set):
    index = read_index(toy_set(num_images=1))
    found = [DetectionDataset(index, copy_paste=1.0)[(0, seed)][1] for seed in range(10)]
    assert max(len(t["labels"]) for t in found) > 1
    assert {k for t in found for k in t["labels"].tolist()} == set(index.labels.tolist())


def test_crowds_are_not_pasted_and_an_unreadable_donor_is_named(toy_set):
    path = toy_set(num_images=2)
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        annotation["iscrowd"] = 1
    path.write_text(json.dumps(document))
    index = read_index(path)
    dataset = DetectionDataset(index, copy_paste=1.0)
    assert all(len(dataset[(row, seed)][1]["boxes"]) == 0 for row in range(2) for seed in range(5))
    index.path(1).write_bytes(b"")
    bad = [s for s in (dataset[(0, seed)] for seed in range(8)) if isinstance(s, Unreadable)]
    assert bad and all(index.path(1).name in s.reason for s in bad)


@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_shares_outside_0_to_1_are_refused(value):
    from label_tools.text.errors import InputError
    from toolkit.config import resolve

    with pytest.raises(InputError, match=r"--copy-paste: found .*, needs 0 to 1"):
        resolve(10, {"copy_paste": value})


def test_training_and_its_picture_paste_but_judging_does_not(toy_set, tmp_path, monkeypatch):
    from toolkit.config import resolve
    from toolkit.data import dataset
    from toolkit.fine_tune import describe_run
    from toolkit.rank_and_cores import Processes
    from toolkit.training.detection_task import Detection
    from toolkit.training.train_val_test import Split

    index = read_index(toy_set(num_images=7))
    config = resolve(7, {"model": "fasterrcnn_tiny_fpn", "copy_paste": 0.5, "workers": 0, "device": "cpu"})
    task = Detection(config, index, index, None, Processes(), None)
    task.close()
    assert task.loader.loader.dataset.copy_paste == 0.5
    assert task.val_loader.loader.dataset.copy_paste == 0.0
    asked = []
    chance = dataset.DetectionDataset.__getitem__
    monkeypatch.setattr(
        dataset.DetectionDataset, "__getitem__", lambda self, key: asked.append(self.copy_paste) or chance(self, key)
    )
    describe_run(tmp_path, config, {"train": Split("train", tmp_path, index, None)}, "")
    assert set(asked) == {0.5} and (tmp_path / "train_batch.jpg").is_file()
