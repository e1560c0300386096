"""Masks -> COCO, by hand and by property; the pixels come back bit for bit."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from label_tools.formats.masks import smeared_values, turn_pixels
from label_tools.pictures.own_output import DRAWN
from label_tools.readers.convert import convert
from label_tools.readers.masks_folder import read_colors
from label_tools.shapes.rle import decode, to_runs
from label_tools.text.errors import InputError

H, W = 48, 64


def folder(tmp_path: Path, masks: dict[str, np.ndarray], images: tuple[str, ...] = ("a",)) -> Path:
    for name in images:
        path = tmp_path / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (W, H)).save(path)
    for name, values in masks.items():
        path = tmp_path / "masks" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
    return tmp_path


def blocks(*filled: tuple[int, slice, slice], dtype=np.uint8) -> np.ndarray:
    values = np.zeros((H, W), dtype)
    for value, rows, columns in filled:
        values[rows, columns] = value
    return values


A = (1, slice(10, 20), slice(5, 25))  # 10 rows, 20 columns
B = (2, slice(30, 31), slice(40, 41))  # one pixel


def test_instances_by_hand(tmp_path):
    document = convert(folder(tmp_path, {"a": blocks(A, B)}), "masks", mode="instance", class_name="cat").document("x")
    assert [a["bbox"] for a in document["annotations"]] == [[5, 10, 20, 10], [40, 30, 1, 1]]  # min to max + 1
    assert [a["area"] for a in document["annotations"]] == [200, 1]
    assert document["categories"] == [{"id": 1, "name": "cat"}]


def test_one_folder_per_class(tmp_path):
    masks = {"cat/a": blocks(A), "dog/a": blocks(B), "dog/b": blocks(A), "cat/deep/c": blocks(A)}
    source = folder(tmp_path, masks, ("a", "b", "deep/c"))
    conversion = convert(source, "masks", mode="instance")
    assert conversion.names == ["cat", "dog"]
    assert [(r.file_name, [i.label for i in r.instances]) for r in conversion.records] == [
        ("a.jpg", ["cat", "dog"]),
        ("b.jpg", ["dog"]),
        ("deep/c.jpg", ["cat"]),
    ]


@pytest.mark.parametrize("options, expected", [({}, 1), ({"components": True}, 3)])
def test_parts_are_one_object_until_asked_for(tmp_path, options, expected):
    mask = blocks(
        (255, slice(5, 10), slice(5, 10)),
        (255, slice(10, 12), slice(10, 12)),  # touches the first at a corner: one part
        (255, slice(20, 22), slice(5, 9)),
        (255, slice(40, 44), slice(40, 44)),
    )
    conversion = convert(folder(tmp_path, {"a": mask}), "masks", mode="binary", class_name="cat", **options)
    assert len(conversion.records[0].instances) == expected
    assert sum(i.area for i in conversion.records[0].instances) == 25 + 4 + 8 + 16


def test_class_ids_and_void(tmp_path):
    mask = blocks((1, A[1], A[2]), (2, B[1], B[2]), (255, slice(0, 2), slice(0, 9)))
    labels = ["__ignore__", "_background_", "cat", "dog"]
    with pytest.raises(InputError, match="--void 255"):
        convert(folder(tmp_path, {"a": mask}), "masks", mode="class", labels=labels)
    conversion = convert(tmp_path, "masks", mode="class", labels=labels, void=255)
    assert [(i.label, i.area) for i in conversion.records[0].instances] == [("cat", 200), ("dog", 1)]


def test_colours(tmp_path):
    mask = np.zeros((H, W, 3), np.uint8)
    mask[A[1], A[2]] = (255, 0, 10)
    source = folder(tmp_path, {"a": mask})
    conversion = convert(source, "masks", mode="class", colors={(255, 0, 10): "cat", (1, 2, 3): "dog"})
    assert [(i.label, i.bbox) for i in conversion.records[0].instances] == [("cat", (5, 10, 20, 10))]
    with pytest.raises(InputError, match=r"\(255 0 10\)"):
        convert(source, "masks", mode="class", colors={(1, 2, 3): "dog"})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            "# colours\n\n255 0 10 a cat\n1 2 3 dog\n2 2 2 dog\n",
            {(255, 0, 10): "a cat", (1, 2, 3): "dog", (2, 2, 2): "dog"},
        ),
        ("1 2 3 e\u0301\n1 2 3 \u00e9\n", {(1, 2, 3): "\u00e9"}),  # one name, composed
        ("1 2 3 dog\n256 0 0 cat\n", "line 2: '256 0 0 cat', needs `R G B name`"),
        ("1 2 dog\n", "line 1: '1 2 dog', needs"),
        ("1 2 3 dog\n1 2 3 cat\n", 'line 2: 1 2 3 is the colour of "dog" already'),
        ("1 2 3 d\x07g\n", "line 1: .*control characters"),
        ("# nothing\n", "no colour in it"),
    ],
)
def test_a_file_of_colours(tmp_path, text, found):
    (tmp_path / "colors.txt").write_text(text)
    if isinstance(found, dict):
        assert read_colors(tmp_path / "colors.txt") == found
    else:
        with pytest.raises(InputError, match=found):
            read_colors(tmp_path / "colors.txt")


def test_masks_among_the_photographs_and_drawings_are_no_photographs(tmp_path):
    source = folder(tmp_path, {"a": blocks(A)})
    (source / "masks").rename(source / "images" / "masks")
    Image.new("RGB", (W, H)).save(source / "images" / "drawn.jpg", comment=DRAWN)
    where = {"masks": source / "images" / "masks", "unlabeled_is_negative": True}
    conversion = convert(source, "masks", mode="instance", class_name="cat", **where)
    assert [record.file_name for record in conversion.records] == ["a.jpg"]


def test_a_thousand_ids_of_16_bits(tmp_path):
    ids = np.zeros((H, W), np.uint16)
    numbers = np.random.default_rng(0).permutation(np.arange(1, 65536))[:1000]
    for k, value in enumerate(numbers):  # 1000 objects of one pixel each
        ids[k // 40 + 1, k % 40 + 1] = value
    conversion = convert(folder(tmp_path, {"a": ids}), "masks", mode="instance", class_name="cat")
    instances = conversion.records[0].instances
    assert [i.place for i in instances] == [f"id {v}" for v in sorted(numbers)]
    assert all(i.area == 1 and i.bbox[2:] == (1, 1) for i in instances)


def test_suffixes(tmp_path):
    source = folder(tmp_path, {"a_mask": blocks(A), "b_gt": blocks(A)}, ("a", "b"))
    with pytest.raises(InputError, match="--mask-suffix=_gt"):
        convert(source, "masks", mode="instance", class_name="cat", strict=True)
    conversion = convert(
        source, "masks", mode="instance", class_name="cat", mask_suffixes=("_mask", "_gt"), strict=True
    )
    assert [r.file_name for r in conversion.records] == ["a.jpg", "b.jpg"]


def test_no_mask_no_negative_unless_said(tmp_path):
    source = folder(tmp_path, {"a": blocks(A)}, ("a", "b"))
    assert len(convert(source, "masks", mode="instance", class_name="cat").records) == 1
    negatives = convert(source, "masks", mode="instance", class_name="cat", unlabeled_is_negative=True)
    assert [len(r.instances) for r in negatives.records] == [1, 0]


def test_an_image_loses_all_its_objects_when_one_of_its_masks_is_bad(tmp_path):
    source = folder(tmp_path, {"cat/a": blocks(A), "cat/b": blocks(A), "dog/a": np.ones((5, 5), np.uint8)}, ("a", "b"))
    account = convert(source, "masks", mode="instance").account(tmp_path / "x.json")
    assert account["images"] == 1 and account["objects_in"] == 2 and account["dropped"] == {"B80": 1}


ids_of = hnp.arrays(np.uint16, st.just((H, W)), elements=st.sampled_from([0, 0, 0, 1, 2, 300, 65535]), fill=st.just(0))


@settings(max_examples=40, deadline=None)
@given(ids_of)
def test_mask_coco_mask_is_bit_exact(ids):
    with tempfile.TemporaryDirectory() as name:
        conversion = convert(folder(Path(name), {"a": ids}), "masks", mode="instance", class_name="cat")
        document = conversion.document(Path(name) / "out.json")
    back = np.zeros((H, W), np.uint16)
    values = [int(i.place.split()[1]) for i in conversion.records[0].instances]
    for value, annotation in zip(values, document["annotations"]):
        mask = decode(to_runs(annotation["segmentation"]), H, W)
        back[mask] = value
        rows, columns = np.nonzero(mask)
        assert annotation["area"] == mask.sum()
        assert annotation["bbox"] == [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
    assert (back == ids).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_as_pillow_turns_them(orientation):
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = Image.fromarray(values)
    picture.getexif()[0x112] = orientation
    assert turn_pixels(values, orientation).tolist() == np.asarray(ImageOps.exif_transpose(picture)).tolist()


def test_grey_saved_as_rgb_is_read_as_ids(tmp_path):
    source = folder(tmp_path, {"a": np.repeat(blocks(A, B)[:, :, None], 3, 2)})
    (record,) = convert(source, "masks", mode="instance", class_name="cat").records
    assert [i.area for i in record.instances] == [200, 1]


def test_smeared_values_by_hand():
    # 5 fills a block; 3 touches its corner from above left, 4 its side from the left, 2 stands by itself
    ids = np.zeros((9, 9), int)
    ids[5:7, 5:7], ids[4, 4], ids[6, 4], ids[1, 1] = 5, 3, 4, 2
    assert smeared_values(ids, [2, 3, 4, 5]) == 2


def test_two_values_without_a_ground_are_no_binary_mask(tmp_path):
    source = folder(tmp_path, {"a": np.where(blocks(A) == 1, 1, 2).astype(np.uint8)})
    with pytest.raises(InputError, match="values 1, 2 are not a binary mask"):
        convert(source, "masks", mode="binary", class_name="cat")
