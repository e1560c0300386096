"""The split itself: sizes, strata, groups, seeds, tiny sets. The command is in test_split_files.py."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_tools.document.stratified_split import part_sizes, split_document
from label_tools.text.errors import InputError

USUAL = {"train": 0.7, "val": 0.2, "test": 0.1}


def document(held: list[set[int]]) -> dict:
    """A COCO document whose image k holds one object of each category in held[k]."""
    images = [{"id": k, "file_name": f"{k:04}.jpg", "width": 9, "height": 9} for k in range(1, len(held) + 1)]
    pairs = [(k, c) for k, classes in enumerate(held, 1) for c in sorted(classes)]
    return {
        "info": {"image_root": "x"},
        "images": images,
        "annotations": [
            {"id": n, "image_id": k, "category_id": c, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0}
            for n, (k, c) in enumerate(pairs, 1)
        ],
        "categories": [{"id": c, "name": f"c{c}"} for c in sorted(set().union(*held) or {1})],
    }


def part_of(parts: dict[str, dict]) -> dict[int, str]:
    return {image["id"]: name for name, part in parts.items() for image in part["images"]}


def holders(part: dict) -> Counter:
    return Counter(c for _, c in {(a["image_id"], a["category_id"]) for a in part["annotations"]})


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (200, (140, 40, 20)),
        (10, (7, 2, 1)),
        (11, (8, 2, 1)),  # 7.7, 2.2, 1.1: the one left over goes to the largest remainder
        (3, (1, 1, 1)),  # 2.1, .6, .3 -> 2, 1, 0 -> the empty part takes one from the largest
        (4, (2, 1, 1)),  # 2.8, .8, .4 -> 3, 1, 0
        (5, (3, 1, 1)),  # 3.5, 1, .5 -> 4, 1, 0
    ],
)
def test_sizes_by_hand(count, sizes):
    assert tuple(part_sizes(count, USUAL).values()) == sizes
    parts = split_document(document([{1}] * count), USUAL)
    assert tuple(len(part["images"]) for part in parts.values()) == sizes


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_images_for_three_parts(count):
    with pytest.raises(InputError, match=f"{count} images? cannot fill 3 parts"):
        split_document(document([{1}] * count), USUAL)


def test_two_images_fill_two_parts():
    parts = split_document(document([{1}, {1}]), {"train": 0.5, "val": 0.5, "test": 0})
    assert {name: len(part["images"]) for name, part in parts.items()} == {"train": 1, "val": 1}


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.7, "val": 0.2, "test": 0.2}, r"add up to 1\.1"),
        ({"train": 1.2, "val": -0.2}, r"--train 1\.2"),
        ({"train": float("nan"), "val": 0.5}, "--train nan"),
        ({"train": 0.0, "val": 0.0}, "add up to 0"),
    ],
)
def test_bad_shares(fractions, message):
    with pytest.raises(InputError, match=message):
        split_document(document([{1}] * 9), fractions)


@given(st.lists(st.sets(st.integers(1, 6), max_size=4), min_size=3, max_size=60), st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_every_image_in_one_part_with_its_annotations(held, seed):
    whole = document(held)
    parts = split_document(whole, USUAL, seed)
    seen = [image for part in parts.values() for image in part["images"]]
    assert sorted(i["id"] for i in seen) == [i["id"] for i in whole["images"]]
    assert {n: len(p["images"]) for n, p in parts.items()} == part_sizes(len(held), USUAL)
    for part in parts.values():
        ids = {image["id"] for image in part["images"]}
        assert part["annotations"] == [a for a in whole["annotations"] if a["image_id"] in ids]
        assert part["categories"] == whole["categories"] and part["info"] == whole["info"]


@given(st.lists(st.integers(0, 9), min_size=12, max_size=60), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_groups_are_never_torn(groups, seed):
    keys = {k: group for k, group in enumerate(groups, 1) if group}  # group 0: no key, stands alone
    if len(set(keys.values())) + groups.count(0) < 3:
        return
    where = part_of(split_document(document([{1}] * len(groups)), USUAL, seed, keys))
    for group in set(keys.values()):
        assert len({where[k] for k in keys if keys[k] == group}) == 1
    assert set(where.values()) == set(USUAL)


def test_strata_are_kept_where_chance_would_lose_them():
    # 100 images: 10 hold the rare class 2, 20 hold nothing. Exact shares: 7/2/1 and 14/4/2.
    held = [{1, 2}] * 10 + [{1}] * 70 + [set()] * 20
    for seed in range(10):
        parts = split_document(document(held), USUAL, seed)
        assert [holders(part)[2] for part in parts.values()] == [7, 2, 1]
        empty = [len(p["images"]) - len({a["image_id"] for a in p["annotations"]}) for p in parts.values()]
        assert empty == [14, 4, 2]


def test_every_class_within_one_image_of_its_share():
    """300 images, 12 classes from common to a single image; a random split is off by up to 7."""
    rng = np.random.default_rng(0)
    share = 0.6 ** np.arange(12)
    held = [{c + 1 for c in np.flatnonzero(rng.random(12) < share).tolist()} for _ in range(300)]
    total = holders(document(held))

    def worst(parts: dict[str, dict]) -> float:
        return max(abs(holders(p)[c] - USUAL[n] * total[c]) for n, p in parts.items() for c in total)

    assert all(worst(split_document(document(held), USUAL, seed)) < 1 for seed in range(5))
    for _ in range(5):
        order = rng.permutation(300)
        cut = {"train": order[:210], "val": order[210:270], "test": order[270:]}
        assert worst({n: document([held[k] for k in ks]) for n, ks in cut.items()}) > 3


def test_two_images_of_a_class_are_one_to_learn_and_one_to_measure():
    # wanted: train 1.4, val .4, test .2 -> train; then train .4, val .4: the smaller part
    parts = split_document(document([{1, 2}] * 2 + [{1}] * 28), USUAL)
    assert [holders(part)[2] for part in parts.values()] == [1, 1, 0]


def test_ignore_regions_are_no_objects():
    whole = document([{1}] * 10)
    for annotation in whole["annotations"][5:]:
        annotation["iscrowd"] = 1
    # five images with objects, five with an ignore region only: two strata, each split 3 to 2
    for seed in range(10):
        where = part_of(split_document(whole, {"train": 0.6, "val": 0.4}, seed))
        assert [Counter(where[k] for k in ks) for ks in (range(1, 6), range(6, 11))] == [{"train": 3, "val": 2}] * 2


@given(st.lists(st.integers(2, 4), max_size=6), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_single_images_fill_up_what_groups_leave(sizes, seed):
    keys, number = {}, 0
    for group, size in enumerate(sizes):
        keys.update({number + k: group for k in range(1, size + 1)})
        number += size
    parts = split_document(document([{1}] * (number + 20)), USUAL, seed, keys)
    assert {n: len(p["images"]) for n, p in parts.items()} == part_sizes(number + 20, USUAL)


def test_seed_and_order():
    whole = document([{1 + k % 3} for k in range(40)])
    first = part_of(split_document(whole, USUAL, 0))
    assert part_of(split_document(whole, USUAL, 0)) == first
    assert part_of(split_document(whole, USUAL, 1)) != first
    shuffled = {**whole, "images": whole["images"][::-1]}
    assert part_of(split_document(shuffled, USUAL, 0)) == first


def test_this_split_is_for_ever():
    """Somebody published results on it: Python, numpy and we may change, seed 0 may not."""
    where = part_of(split_document(document([{1 + k % 2} for k in range(10)]), USUAL, 0))
    assert "".join(where[k][1] for k in range(1, 11)) == "rrarrrerra"  # t[r]ain, v[a]l, t[e]st


def test_large_group_goes_where_it_fits_and_no_part_is_empty():
    whole = document([{1}] * 20)
    keys = {k: "a" if k <= 10 else "b" if k <= 15 else "c" for k in range(1, 21)}
    where = part_of(split_document(whole, USUAL, 0, keys))
    # three groups, three parts: the group of 10 fits only train (14); the others must fill val and test
    assert [where[1], {where[11], where[16]}] == ["train", {"val", "test"}]


def test_fewer_groups_than_parts():
    with pytest.raises(InputError, match="20 images form only 2 groups"):
        split_document(document([{1}] * 20), USUAL, 0, {k: k % 2 for k in range(1, 21)})


def test_fixed_images_stay_and_the_rest_is_shared_out():
    old = part_of(split_document(document([{1}] * 20), USUAL, 0))
    new = part_of(split_document(document([{1}] * 40), USUAL, 5, None, old))
    assert {k: new[k] for k in old} == old
    assert Counter(new.values()) == {"train": 28, "val": 8, "test": 4}


def test_fixed_images_of_two_parts_cannot_be_tied():
    with pytest.raises(InputError, match=r"0001\.jpg \(train\), 0002\.jpg \(val\): must stay together"):
        split_document(document([{1}] * 9), USUAL, 0, {1: "a", 2: "a"}, {1: "train", 2: "val"})


def test_input_is_not_changed():
    import copy

    whole = document([{1}] * 9)
    before = copy.deepcopy(whole)
    split_document(whole, USUAL)
    assert whole == before
