"""Where samples come from: the drawn sets, the original PurdueShapes5 file, COCO and VOC folders."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from label_tools.text.errors import InputError, MissingExtra
from toolkit.single_object.data import digits, open_data, purdue_shapes5
from toolkit.single_object.data.open_data import Selection
from toolkit.single_object.data.samples import Samples, fingerprint

# --- drawn sets --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "draw",
    [
        lambda seed: purdue_shapes5.draw_shapes5(20, seed=seed),
        lambda seed: digits.draw_digits(20, seed=seed, part="train"),
        lambda seed: digits.draw_digit_grid(20, seed=seed, part="train"),
    ],
)
def test_same_seed_same_pixels(draw):
    assert fingerprint(draw(3)) == fingerprint(draw(3)) != fingerprint(draw(4))


def test_shapes5_boxes_hold_exactly_the_pixels_that_are_not_black():
    samples = purdue_shapes5.draw_shapes5(300, seed=0)
    for image, box in zip(samples.images, samples.boxes.int().tolist(), strict=True):
        y, x = (image > 0).any(0).nonzero(as_tuple=True)
        assert box == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert min(box[2] - box[0], box[3] - box[1]) >= 4


def test_shapes5_classes_are_even_and_differ_in_what_they_fill():
    samples = purdue_shapes5.draw_shapes5(1500, seed=1)
    counts = torch.bincount(samples.labels, minlength=5)
    assert counts.min() > 1500 / 5 * 0.8
    area = (samples.images > 0).any(1).sum((1, 2)) / (samples.boxes[:, 2:] - samples.boxes[:, :2]).prod(1)
    fill = [float(area[samples.labels == k].mean()) for k in range(5)]
    # a disk fills pi/4 of its box less its holes, a star far less; turned rectangles lie between
    assert fill[4] < fill[1] < fill[2] < 0.79


def test_shapes5_noise_leaves_shape_and_box_alone():
    clean, noisy = purdue_shapes5.draw_shapes5(1, seed=5), purdue_shapes5.draw_shapes5(1, seed=5, noise=0.5)
    assert torch.equal(clean.boxes, noisy.boxes)
    shape = (clean.images[0] > 0).any(0)
    assert torch.equal(clean.images[0][:, shape], noisy.images[0][:, shape])
    assert 0.4 < (noisy.images[0][:, ~shape] > 0).any(0).float().mean() < 0.6


def test_digits_have_one_or_none_and_the_box_holds_ink():
    samples = digits.draw_digits(400, seed=0, part="train")
    assert samples.size == (48, 60) and int(samples.per_image().max()) == 1
    assert 0.04 < (samples.per_image() == 0).float().mean() < 0.16  # 1/11
    for row, (x1, y1, x2, y2) in zip(samples.owner[:50].tolist(), samples.boxes[:50].int().tolist(), strict=False):
        patch = samples.images[row, 0, y1:y2, x1:x2]
        assert patch.max() > 200
        assert all(edge.max() > 50 for edge in (patch[0], patch[-1], patch[:, 0], patch[:, -1]))


def test_no_handwriting_is_in_both_parts():
    train, val = (digits.handwriting(part)[0] for part in ("train", "val"))
    assert len(train) + len(val) == 1797
    # the file itself repeats a few 8 x 8 pictures; as rows they are disjoint
    assert len({p.tobytes() for p in train} & {p.tobytes() for p in val}) <= 5


def test_digit_grid_has_one_to_four_that_hardly_overlap():
    samples = digits.draw_digit_grid(600, seed=0, part="val")
    counts = torch.bincount(samples.per_image(), minlength=5) / 600
    assert counts[0] == 0 and 0.7 < counts[1] < 0.86 and counts[4] < 0.04
    for row in (samples.per_image() == 2).nonzero().squeeze(1)[:20].tolist():
        a, b = samples.boxes[samples.owner == row]
        sides = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
        assert sides.prod() <= 0.101 * min((a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod())


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtra, match=r"frcnn-toolkit\[baselines\]") as caught:
        digits.handwriting("train")
    assert caught.value.exit_code == 3


# --- the samples themselves --------------------------------------------------------------------------------------


def samples_of(boxes: list, owner: list, images: int = 2) -> Samples:
    return Samples(
        "toy",
        ("a", "b"),
        torch.zeros(images, 3, 10, 20, dtype=torch.uint8),
        torch.tensor(owner),
        torch.tensor([i % 2 for i in range(len(owner))]),
        torch.tensor(boxes).float(),
    )


def test_several_objects_are_refused_by_name():
    with pytest.raises(InputError, match="toy_00001: 2 objects, a single-object baseline needs one"):
        samples_of([[0, 0, 5, 5], [1, 1, 6, 6]], [1, 1]).one()


@pytest.mark.parametrize("box", [[0, 0, 21, 5], [-1, 0, 5, 5], [5, 5, 5, 9], [9, 0, 5, 5], [0, 0, float("nan"), 5]])
def test_boxes_outside_or_empty_are_refused_by_name(box):
    with pytest.raises(InputError, match=r"toy_00001: box .* is empty or outside of 20 x 10 pixels"):
        samples_of([box], [1])


def test_one_gives_zeros_where_nothing_is():
    one = samples_of([[1, 2, 3, 4]], [1]).one()
    assert one.present.tolist() == [False, True]
    assert one.boxes.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4]]


def test_coco_document_of_samples():
    document = samples_of([[1, 2, 4, 8]], [1]).coco()
    assert document["annotations"] == [
        {"id": 1, "image_id": 2, "category_id": 1, "iscrowd": 0, "bbox": [1.0, 2.0, 3.0, 6.0], "area": 18.0}
    ]
    assert [c["name"] for c in document["categories"]] == ["a", "b"]


# --- the original file -------------------------------------------------------------------------------------------

NAMES = {"rectangle": 0, "triangle": 1, "disk": 2, "oval": 3, "star": 4}


def entry(box=(2, 3, 10, 12), label=3, red=7):
    return [[red] * 1024, [0] * 1024, [255] * 1024, list(box), label]


def packed(tmp_path, content):
    path = tmp_path / "PurdueShapes5-20-train.gz"
    path.write_bytes(gzip.compress(content if isinstance(content, bytes) else pickle.dumps(content)))
    return path


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_purdue_file_is_read(tmp_path, protocol):
    path = packed(tmp_path, pickle.dumps([[entry(), entry(label=0)], NAMES], protocol=protocol))
    samples = purdue_shapes5.read_purdue(path)
    assert samples.classes == purdue_shapes5.CLASSES and samples.labels.tolist() == [3, 0]
    assert samples.boxes[0].tolist() == [2, 3, 11, 13]  # inclusive -> half-open
    assert samples.images[0, :, 0, 0].tolist() == [7, 0, 255]


def test_purdue_file_as_a_dict_of_images(tmp_path):
    assert len(purdue_shapes5.read_purdue(packed(tmp_path, [{0: entry(), 1: entry()}, NAMES]))) == 2


class Shell:
    def __reduce__(self):
        return os.system, ("touch should_not_exist",)


class Builtin:
    def __reduce__(self):
        return eval, ("1+1",)


@pytest.mark.parametrize(
    "evil", [Shell(), Builtin(), [[Shell()], NAMES], [[[*entry()[:4], Shell()]], NAMES], np.zeros(3), {1, 2}.__class__]
)
def test_pickle_that_asks_for_anything_is_refused_and_runs_nothing(tmp_path, monkeypatch, evil):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"asks for .*only lists, numbers and strings"):
        purdue_shapes5.read_purdue(packed(tmp_path, evil))
    assert not (tmp_path / "should_not_exist").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "damaged pickle"),
        (b"not a pickle", "damaged pickle"),
        (pickle.dumps([[entry()], NAMES])[:-20], "damaged pickle"),
        ([1, 2, 3], "no pair"),
        ([[], NAMES], "holds no images"),
        ([[entry()], {"a": 1}], "labels are"),
        ([[entry()], {"a": True, "b": 1}], "labels are"),
        ([[entry()], ["a"]], "not a dict of strings"),
        ([[entry(label=5)], NAMES], "image 0: label 5, needs 0 to 4"),
        ([[entry(), entry(box=(5, 5, 2, 9))], NAMES], "image 1: box .* is inverted or outside"),
        ([[entry(box=(0, 0, 32, 5))], NAMES], "inverted or outside"),
        ([[entry(red=256)], NAMES], "image 0: R is not a list of 1024"),
        ([[entry()[:4]], NAMES], "no list of five"),
        ([[entry(box=(0, 0, 1.5, 5))], NAMES], "four whole numbers"),
    ],
)
def test_purdue_files_that_are_something_else(tmp_path, content, text):
    with pytest.raises(InputError, match=text):
        purdue_shapes5.read_purdue(packed(tmp_path, content))


def test_purdue_file_whose_values_cannot_be_shown(tmp_path):
    huge = 1 << 20_000  # more digits than Python writes
    deep = b"]" * 200_000 + b"a" * 199_999  # a list in a list in a list ...
    plain = pickle.dumps([[entry(label=1.5)], NAMES], protocol=2)
    nested = plain.replace(pickle.dumps(1.5, protocol=2)[2:-1], deep)
    for content, kind in (
        ([[entry(label=huge)], NAMES], "int"),
        ([[entry()], {"a": huge}], "list"),
        ([[entry(box=(0, 0, 9, huge))], NAMES], "list"),
        (nested, "list"),
    ):
        with pytest.raises(InputError, match=f"a {kind} too large to show"):
            purdue_shapes5.read_purdue(packed(tmp_path, content))


def test_purdue_file_that_names_one_image_too_often(tmp_path, monkeypatch):
    path = packed(tmp_path, [[entry()] * 1000, NAMES])  # 20 kB
    monkeypatch.setattr(purdue_shapes5, "MOST_BYTES", 3 * 32 * 32 * 999)
    with pytest.raises(InputError, match="holds 1,000 images, more than"):
        purdue_shapes5.read_purdue(path)


def test_purdue_file_that_is_no_gzip_or_missing(tmp_path):
    (tmp_path / "a.gz").write_bytes(b"plain")
    for name in ("a.gz", "absent.gz"):
        with pytest.raises(InputError, match="cannot be read as gzip"):
            purdue_shapes5.read_purdue(tmp_path / name)


# --- COCO and VOC ------------------------------------------------------------------------------------------------


def coco_set(tmp_path, objects: dict[str, list], name="train") -> object:
    """A COCO file: {file: [(x, y, w, h, class)]}, pictures of 80 x 40."""
    images, annotations = [], []
    for i, (file, boxes) in enumerate(objects.items(), 1):
        Image.new("RGB", (80, 40), (i * 20, 0, 0)).save(tmp_path / file)
        images.append({"id": i, "file_name": file, "width": 80, "height": 40})
        for x, y, w, h, c in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": abs(c),
                    "iscrowd": int(c < 0),
                    "bbox": [x, y, w, h],
                    "area": w * h,
                }
            )
    path = tmp_path / f"{name}.json"
    path.write_text(
        json.dumps(
            {
                "images": images,
                "annotations": annotations,
                "categories": [{"id": 1, "name": "bus"}, {"id": 2, "name": "pizza"}],
            }
        )
    )
    return path


OBJECTS = {
    "large.png": [(10, 5, 40, 30, 1), (0, 0, 4, 4, 2)],
    "two.png": [(0, 0, 40, 40, 1), (40, 0, 40, 40, 2)],  # one of each class: the homework's code would take both
    "small.png": [(0, 0, 10, 10, 2)],
    "empty.png": [],
    "crowd.png": [(0, 0, 80, 40, -1), (0, 0, 40, 20, 2)],
}


def test_dominant_takes_images_with_exactly_one_large_object(tmp_path):
    path = coco_set(tmp_path, OBJECTS)
    samples = open_data.read_coco(path, Selection("dominant", size=64))
    # 13 % of 80 x 40 is 416 pixels: crowd.png's 800 and large.png's 1200 pass
    assert samples.files == ("crowd.png", "large.png")
    assert samples.left_out == {
        "with several dominant objects": 1,
        "without a dominant object": 1,
        "without an object": 1,
    }
    # x * 64/80, y * 64/40: (10, 5)-(50, 35) -> (8, 8)-(40, 56)
    assert samples.boxes.tolist() == [[0, 0, 32, 32], [8, 8, 40, 56]]
    assert samples.labels.tolist() == [1, 0] and samples.images.shape == (2, 3, 64, 64)
    assert "left out: 1 with several dominant objects, 1 without a dominant object" in samples.about()


def test_dominant_in_pixels_of_the_original_image(tmp_path):
    samples = open_data.read_coco(coco_set(tmp_path, OBJECTS), Selection("dominant", size=64, min_area=1000))
    # two.png has two of 1600, crowd.png one of 800
    assert samples.files == ("large.png",)
    reached = Selection("dominant", size=64, min_area=1200)  # exactly that of large.png
    assert open_data.read_coco(tmp_path / "train.json", reached).files == ("large.png",)


def test_largest_takes_every_image_with_an_object(tmp_path):
    samples = open_data.read_coco(coco_set(tmp_path, OBJECTS), Selection("largest", size=64))
    assert samples.files == ("crowd.png", "large.png", "small.png", "two.png")
    assert samples.labels.tolist() == [1, 0, 1, 0]  # a tie goes to the first
    assert samples.left_out == {"without an object": 1}


def test_only_some_classes(tmp_path):
    path = coco_set(tmp_path, OBJECTS)
    samples = open_data.read_coco(path, Selection("dominant", size=64, classes=("pizza",)))
    assert samples.files == ("crowd.png", "two.png") and samples.classes == ("pizza",)
    with pytest.raises(InputError, match="has no class car; it has bus, pizza"):
        open_data.read_coco(path, Selection(classes=("car",)))


def test_empty_images_are_kept_when_asked(tmp_path):
    samples = open_data.read_coco(coco_set(tmp_path, OBJECTS), Selection("largest", size=64, keep_empty=True))
    assert len(samples) == 5 and samples.one().present.sum() == 4
    assert "1 image without any" in samples.about()


def test_a_recorded_max_value_opens_the_pictures(tmp_path):
    path = coco_set(tmp_path, {"a.png": [(10, 5, 40, 30, 1)]})
    Image.fromarray(np.full((40, 80), 2048, np.uint16)).save(tmp_path / "a.png")
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "info": {"max_value": 4095}}))
    samples = open_data.read_coco(path, Selection("largest", size=64))
    assert samples.images.unique().tolist() == [
        128
    ]  # 255 * 2048 / 4095 = 127.5, rounded; at the file's own 65535 it is 8


def test_only_empty_images_is_said_as_it_is(tmp_path):
    path = coco_set(tmp_path, {"empty.png": []})
    with pytest.raises(InputError, match=r"no image has a largest object \(1 image without any\)$"):
        open_data.read_coco(path, Selection("largest", size=64, keep_empty=True))


def test_nothing_left_says_what_was_left_out(tmp_path):
    path = coco_set(tmp_path, {"empty.png": [], "small.png": [(0, 0, 5, 5, 1)]})
    with pytest.raises(InputError, match=r"no image has a dominant object \(1 without a dominant object, 1 without"):
        open_data.read_coco(path, Selection("dominant"))


def test_picture_of_another_size_than_its_labels_is_refused(tmp_path):
    path = coco_set(tmp_path, {"a.png": [(0, 0, 60, 30, 1)]})
    Image.new("RGB", (40, 80)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: is 40 x 80 pixels, its labels say 80 x 40"):
        open_data.read_coco(path, Selection())


def test_folder_of_split(tmp_path):
    coco_set(tmp_path, OBJECTS)
    coco_set(tmp_path, {"v.png": [(0, 0, 70, 30, 2)]}, "val")
    train, val = open_data.open_data(str(tmp_path), None, 0, 0, Selection("largest", 64))
    assert len(train) == 4 and val.files == ("v.png",)


VOC = """<annotation><filename>{name}</filename><size><width>80</width><height>40</height><depth>3</depth></size>
<object><name>bus</name><bndbox><xmin>11</xmin><ymin>6</ymin><xmax>50</xmax><ymax>35</ymax></bndbox></object>
<object><name>pizza</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>
</annotation>"""


def test_voc_folder_with_its_own_parts(tmp_path):
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (80, 40)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        (tmp_path / "Annotations" / f"{name}.xml").write_text(VOC.format(name=f"{name}.jpg"))
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    (tmp_path / "ImageSets/Main/val.txt").write_text("b\n")
    train, val = open_data.open_data(str(tmp_path), None, 0, 0, Selection("largest", 80))
    # VOC counts from 1 and includes the last pixel: (11, 6)-(50, 35) is (10, 5)-(50, 35); y * 80/40
    assert train.boxes.tolist() == [[10, 10, 50, 70]] and len(val) == 1
    (tmp_path / "ImageSets/Main/val.txt").write_text("b\nwithout labels\n")
    _, val = open_data.open_data(str(tmp_path), None, 0, 0, Selection("largest", 80))
    assert val.about().endswith("left out: 1 listed in val.txt, without labels that can be read")
    with pytest.raises(InputError, match=r"--val x\.json: a VOC folder has its own"):
        open_data.open_data(str(tmp_path), Path("x.json"), 0, 0, Selection("largest", 80))
    (tmp_path / "ImageSets/Main/val.txt").unlink()
    with pytest.raises(InputError, match=r"val\.txt: cannot be read; a VOC folder lists its parts"):
        open_data.open_data(str(tmp_path), None, 0, 0, Selection("largest", 80))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("shapes6", "not found; needs shapes5"),
        ("digits-noise20", "only shapes5 has noise"),
    ],
)
def test_unknown_data(data, text):
    with pytest.raises(InputError, match=text):
        open_data.open_data(data, None, 1, 1, Selection())


def test_classes_of_a_purdue_file_cannot_be_chosen(tmp_path):
    path = packed(tmp_path, [[entry()], NAMES])
    with pytest.raises(InputError, match=r"--classes disk: .* is read whole"):
        open_data.open_data(str(path), path, 0, 0, Selection(classes=("disk",)))


def test_parts_with_other_classes_are_refused(tmp_path):
    first = coco_set(tmp_path, OBJECTS)
    second = coco_set(tmp_path, {"v.png": [(0, 0, 70, 30, 2)]}, "val")
    second.write_text(second.read_text().replace("pizza", "cat"))
    with pytest.raises(InputError, match="has the classes bus, cat"):
        open_data.open_data(str(first), second, 0, 0, Selection("largest", 64))
