"""COCO file -> targets -> COCO results; the batches of an epoch."""

from __future__ import annotations

import json
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from label_tools.text.errors import InputError
from toolkit.data import coco_index
from toolkit.data.boxes import coco_results, result_entries
from toolkit.data.coco_index import read_index
from toolkit.data.dataset import DetectionDataset, Unreadable
from toolkit.data.epoch_batches import EpochBatches, repeat_factors


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_boxes_labels_and_negatives_by_hand(toy_set):
    path = toy_set(num_images=6)
    document = json.loads(path.read_text())
    document["categories"] = [{"id": 7, "name": "square"}, {"id": 3, "name": "disc"}]  # order gives the labels
    for a in document["annotations"]:
        a["category_id"] = 7 if a["category_id"] == 1 else 3
    path.write_text(json.dumps(document))
    index = read_index(path)
    labels = {c: i + 1 for i, c in enumerate(index.category_ids)}
    dataset = DetectionDataset(index)
    for row, image in enumerate(document["images"]):
        pixels, target = dataset[(row, 0)]
        own = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        assert pixels.dtype == torch.uint8 and pixels.shape == (3, image["height"], image["width"])
        expected = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in own)]
        assert target["boxes"].tolist() == expected and target["boxes"].shape == (len(own), 4)
        assert target["labels"].tolist() == [labels[a["category_id"]] for a in own]
    assert index.class_counts().sum() == len(document["annotations"])
    assert any(target is not None and len(target["boxes"]) == 0 for _, target in (dataset[(r, 0)] for r in range(6)))


def test_crowds_are_no_targets(toy_set):
    path = edit(toy_set(), lambda d: d["annotations"][0].update(iscrowd=1))
    index = read_index(path)
    _, target = DetectionDataset(index)[(0, 0)]
    assert len(target["boxes"]) == 0  # image 1 holds one object, now a crowd
    assert index.class_counts().sum() == len(index.boxes) - 1


@pytest.mark.parametrize(
    "change, parts",
    [
        (lambda d: d["annotations"][0].update(bbox=[1, 1, float("nan"), 5]), ["annotation"]),
        (lambda d: d["annotations"][0].update(bbox=[1, 1, 0, 5]), ["annotation"]),
        (lambda d: d["annotations"][0].update(bbox=[500, 1, 5, 5]), ["annotation"]),
        (lambda d: d["annotations"][0].update(image_id=99), ["99"]),
        (lambda d: d.update(images=[], annotations=[]), ["no images"]),
        (lambda d: d.update(categories=[], annotations=[]), ["categories"]),
        (lambda d: d["images"][2].update(file_name="gone.png"), ["gone.png", "not found"]),
    ],
)
def test_what_would_poison_training_is_refused_by_name(toy_set, change, parts):
    path = edit(toy_set(), change)
    with pytest.raises(InputError) as error:
        read_index(path)
    for part in ["train.json", *parts]:
        assert part in str(error.value)


def test_the_last_guard_before_torchvision(tmp_path):
    # index_of stands behind readers that repair: whatever they let through must not reach torchvision (SIGSEGV)
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 10, "height": 10}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [],
    }
    wrong = ([1, 1, np.nan, 2], [np.inf, 1, 2, 2], [1, 1, -2, 2], [8, 8, 9, 9], [-5, 0, 9, 9])
    for bbox in (*wrong, [-1.1, 0, 5, 5], [0, -1.1, 5, 5], [5, 0, 6.1, 5], [0, 5, 5, 6.1]):  # a pixel outside is fine
        document["annotations"] = [{"id": 4, "image_id": 1, "category_id": 1, "bbox": bbox}]
        with pytest.raises(InputError, match="annotation 4"):
            coco_index.index_of(document, tmp_path, "x.json", check_files=False)
    document["annotations"] = [{"id": 4, "image_id": 1, "category_id": 1, "bbox": [-0.5, 0, 10.9, 10]}]
    index = coco_index.index_of(document, tmp_path, "x.json", check_files=False)
    assert index.boxes.tolist() == [[0, 0, 10, 10]]  # other tools' rounding is clipped


def test_an_unreadable_or_changed_picture_is_named_not_raised(toy_set):
    path = toy_set()
    dataset = DetectionDataset(read_index(path))
    picture = dataset.index.path(0)
    picture.write_bytes(picture.read_bytes()[:100])
    bad = dataset[(0, 0)]
    assert isinstance(bad, Unreadable) and picture.name in bad.reason
    dataset.index.path(1).write_bytes(dataset.index.path(2).read_bytes())  # another size now
    assert "the annotations say" in dataset[(1, 0)].reason


def test_cache_keeps_to_its_limit_and_gives_the_same_pixels(toy_set):
    index = read_index(toy_set())
    one = int(np.prod(index.sizes[0])) * 3
    dataset = DetectionDataset(index, cache_bytes=one + 10)
    first = dataset.pixels(0)
    assert dataset.pixels(0) is first and dataset.pixels(1) is not dataset.pixels(1)
    assert not pickle.loads(pickle.dumps(dataset))._cache  # test: a spawned worker starts empty


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 3), st.booleans(), st.integers(0, 5))
def test_an_epoch_deals_every_image_once(num, batch_size, world_size, group, epoch):
    index = _index(num)
    plans = [
        EpochBatches(index, batch_size, 3, rank=r, world_size=world_size, group_aspect=group) for r in range(world_size)
    ]
    for plan in plans:
        plan.epoch = epoch
    dealt = [list(plan) for plan in plans]
    assert len({len(batches) for batches in dealt}) == 1  # all processes take as many steps
    assert all(batch for batches in dealt for batch in batches)
    rows = Counter(row for batches in dealt for batch in batches for row, _ in batch)
    assert set(rows) == set(range(num))
    # weights make the mean over processes the mean over images: what only keeps a process in step counts nothing
    counted = 0.0
    for number in range(len(dealt[0])):
        weights = [plan.weight(number) for plan in plans]
        assert sum(weights) == pytest.approx(world_size)
        counted += sum(len(batches[number]) for batches, w in zip(dealt, weights, strict=True) if w)
    assert counted == num
    assert len(plans[0]) == len(dealt[0])


def test_batches_follow_from_seed_and_epoch_and_can_start_anywhere():
    index = _index(20)

    def plan(seed, epoch, start=0):
        batches = EpochBatches(index, 3, seed)
        batches.epoch, batches.start = epoch, start
        return list(batches)

    assert plan(0, 4) == plan(0, 4)
    assert plan(0, 4) != plan(0, 5) and plan(0, 4) != plan(1, 4)
    assert plan(0, 4, 3) == plan(0, 4)[3:]
    seeds = [seed for e in range(3) for batch in plan(0, e) for _, seed in batch]
    assert len(set(seeds)) == len(seeds)  # augmentation differs in every image and epoch


def test_aspect_groups_do_not_mix_more_than_one_batch():
    index = _index(40)
    wide = index.sizes[:, 1] >= index.sizes[:, 0]
    mixed = [len({bool(wide[row]) for row, _ in batch}) > 1 for batch in EpochBatches(index, 4, 0)]
    assert sum(mixed) <= 1


def test_batches_of_alike_images_come_in_any_order():
    index = _index(40)  # every other one is wider than high
    wide = [bool(index.sizes[batch[0][0]][1] > 50) for batch in EpochBatches(index, 4, 0)]
    assert len(wide) == 10 and wide != sorted(wide)


def test_repeat_factors_by_hand():
    # class 2 is in 1 of 10 images: share .1, threshold .4 -> sqrt(.4/.1) = 2; class 1 in all: max(1, sqrt(.4)) = 1
    index = _index(10, labels=[[1]] * 9 + [[1, 2]])
    factors = repeat_factors(index, 0.4)
    assert factors.tolist() == [1.0] * 9 + [2.0]
    assert repeat_factors(index, 0.0).tolist() == [1.0] * 10
    rows = Counter(row for batch in EpochBatches(index, 4, 0, repeats=factors) for row, _ in batch)
    assert rows[9] == 2 and sum(rows.values()) == 11


def test_fractional_repeats_keep_epochs_equally_long():
    index = _index(10, labels=[[1]] * 8 + [[1, 2]] * 2)
    factors = repeat_factors(index, 0.45)  # sqrt(.45/.2) = 1.5 for two images: one of them twice
    plan = EpochBatches(index, 4, 0, repeats=factors)
    for epoch in range(6):
        plan.epoch = epoch
        assert sum(len(batch) for batch in plan) == 11


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 50), st.floats(0.5, 40), st.floats(0.5, 40)), max_size=5))
def test_xywh_to_xyxy_and_back(tmp_path_factory, boxes):
    document = {
        "images": [{"id": 9, "file_name": "a", "width": 100, "height": 100}],
        "categories": [{"id": 5, "name": "a"}],
        "annotations": [{"id": i + 1, "image_id": 9, "category_id": 5, "bbox": list(b)} for i, b in enumerate(boxes)],
    }
    index = coco_index.index_of(document, tmp_path_factory.getbasetemp(), "x", check_files=False)
    output = {
        "boxes": torch.from_numpy(index.boxes),
        "labels": torch.from_numpy(index.labels),
        "scores": torch.ones(len(boxes)),
    }
    results = coco_results(9, output, index.category_ids)
    assert [r["category_id"] for r in results] == [5] * len(boxes)
    for result, box in zip(results, boxes, strict=True):
        assert result["bbox"] == pytest.approx(list(box), abs=2e-3)


def test_entries_of_results_by_hand():
    boxes = np.array([[0.1, 0.2, 10.1004, 20.2006], [3, 4, 5, 6]], dtype=np.float32)
    scores = np.array([0.12345678, 0.9], dtype=np.float32)  # not the best first: the order is the caller's
    # width 10.1004 - 0.1 = 10.0004 -> 10.0, height 20.2006 - 0.2 = 20.0006 -> 20.001; as float32 0.1 is 0.10000000149
    expected = [
        {"category_id": 3, "bbox": [0.1, 0.2, 10.0, 20.001], "score": 0.123457},
        {"category_id": 7, "bbox": [3.0, 4.0, 2.0, 2.0], "score": 0.9},
    ]
    found = result_entries(boxes, np.array([2, 1]), scores, (7, 3))  # label 1 is the first id
    assert found == expected
    assert json.loads(json.dumps(found)) == expected  # plain numbers, that JSON can hold
    assert result_entries(boxes, [2, 1], scores.tolist(), (7, 3)) == expected
    assert result_entries(np.zeros((0, 4)), [], [], (7, 3)) == []
    with pytest.raises(ValueError, match="shorter"):
        result_entries(boxes, [2, 1], [0.5], (7, 3))


def test_the_white_level_counts_in_the_fingerprint(tmp_path):
    image = {"id": 1, "file_name": "a.png", "width": 10, "height": 10}
    document = {"images": [image], "categories": [{"id": 1, "name": "a"}], "annotations": []}
    infos = ({}, {"max_value": 1023}, {"max_value": 4095})
    found = [coco_index.index_of({**document, "info": i}, tmp_path, "x.json", check_files=False) for i in infos]
    assert len({index.fingerprint for index in found}) == 3


def _index(num: int, labels: list[list[int]] | None = None) -> coco_index.Index:
    labels = labels or [[1]] * num
    images = [{"id": i + 1, "file_name": f"{i}.png", "width": 40 if i % 2 else 60, "height": 50} for i in range(num)]
    annotations = [
        {"image_id": i + 1, "category_id": k, "bbox": [1, 1, 9, 9]} for i, ks in enumerate(labels) for k in ks
    ]
    for i, a in enumerate(annotations):
        a["id"] = i + 1
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    from pathlib import Path

    return coco_index.index_of(document, Path("."), "x.json", check_files=False)
