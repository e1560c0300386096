"""YOLO, by hand: fractions to pixels and back, outlines, class names, where the labels lie."""

from __future__ import annotations

import pytest

from label_tools.formats.yolo import file_text, read_classes
from label_tools.readers.convert import convert
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_makers import picture

IMAGE = {"file_name": "a.jpg", "width": 64, "height": 48}


def folder(tmp_path, text: str, names: str = "cat\ndog\n", where: str = "labels/a.txt"):
    picture(tmp_path / where.replace("labels", "images").replace(".txt", ".jpg"))
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / where).write_text(text)
    (tmp_path / "classes.txt").write_text(names)
    return tmp_path


def test_a_box_by_hand(tmp_path):
    # centre (.5, .5) of 64 x 48 is (32, 24); a quarter of 64 is 16, half of 48 is 24
    (one,) = convert(folder(tmp_path, "1 0.5 0.5 0.25 0.5\n"), "yolo").records[0].instances
    assert one.label == "dog" and one.bbox == (24, 12, 16, 24) and one.area == 384


def test_a_pixel_that_went_through_six_decimals_is_still_one(tmp_path):
    # from 63.5 to 64.5 of 640, by 6 decimals: (0.100781 - 0.099219) * 640 = 0.99968
    text = "0 0.099219 0.25 0.100781 0.25 0.100781 0.5 0.099219 0.5\n"
    picture(tmp_path / "images" / "a.jpg", (640, 64))
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text(text)
    (one,) = convert(tmp_path, "yolo", labels=["cat"]).records[0].instances
    assert one.bbox[2] == pytest.approx(0.99968)


def test_an_outline_by_hand(tmp_path):
    (one,) = convert(folder(tmp_path, "0 0.25 0.25 0.75 0.25 0.75 0.75\n"), "yolo").records[0].instances
    assert list(one.polygons[0]) == [16, 12, 48, 12, 48, 36] and one.area == 384  # 32 * 24 / 2


def test_written_lines():
    box = {"bbox": [24, 12, 16, 24], "iscrowd": 0, "segmentation": []}
    assert file_text(IMAGE, [(1, box)]) == "1 0.500000000 0.500000000 0.250000000 0.500000000\n"
    outline = {**box, "segmentation": [[16, 12, 48, 12, 48, 36]]}
    assert file_text(IMAGE, [(0, outline)], outlines=True).startswith("0 0.250000000 0.250000000 0.75")
    assert file_text(IMAGE, [(0, outline)]) == file_text(IMAGE, [(0, box)])
    two = {**box, "segmentation": [[16, 12, 48, 12, 48, 36]] * 2}
    assert file_text(IMAGE, [(0, two)], outlines=True) == file_text(IMAGE, [(0, box)])


def test_labels_beside_and_below(tmp_path):
    folder(tmp_path, "0 .5 .5 .5 .5\n", where="labels/train/x/a.txt")
    assert convert(tmp_path, "yolo", strict=True).records[0].file_name == "train/x/a.jpg"
    flat = tmp_path / "flat"
    picture(flat / "b.jpg")
    (flat / "b.txt").write_text("0 .5 .5 .5 .5\n")
    (flat / "classes.txt").write_text("cat\n")
    assert len(convert(flat, "yolo", strict=True).records) == 1


@pytest.mark.parametrize(
    "text, names",
    [
        ("names: [cat, dog]", ["cat", "dog"]),
        ("names:\n  0: cat\n  1: dog", ["cat", "dog"]),
        ("names: {9: cat, 2: dog}", ["dog", "cat"]),
    ],
)
def test_data_yaml(tmp_path, text, names):
    (tmp_path / "data.yaml").write_text(text)
    assert list(read_classes(tmp_path).names.values()) == names


@pytest.mark.parametrize(
    "text", ["names: {0: cat, 0: dog}", "names: {a: cat}", "names: 7", "nc: 2", "[", "- !!python/object:os.system x"]
)
def test_data_yaml_that_gives_no_names(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=r"data\.yaml"):
        read_classes(tmp_path)


def test_names_by_option_and_none_at_all(tmp_path):
    source = folder(tmp_path, "1 .5 .5 .5 .5\n")
    assert convert(source, "yolo", labels=["a", "b"]).records[0].instances[0].label == "b"
    (source / "classes.txt").unlink()
    with pytest.raises(InputError, match="--labels"):
        convert(source, "yolo")


BOX = "0 0.5 0.5 0.25 0.5\n"  # of 64 x 48: (24, 12, 16, 24)


def layout(tmp_path, **files: str):
    """Pictures and label files: {label file: its lines}, the picture where its program puts it."""
    for path, lines in files.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(lines)
    return tmp_path


@pytest.mark.parametrize(
    "image, label, others",
    [
        ("images/train/a.jpg", "labels/train/a.txt", {"data.yaml": "names: [cat]\ntrain: images/train"}),
        (
            "train/images/a.jpg",
            "train/labels/a.txt",
            {"data.yaml": "names: ['cat']\nnc: 1", "README.roboflow.txt": "a set", "README.dataset.txt": "1 2 3"},
        ),
        (
            "obj_train_data/a.jpg",
            "obj_train_data/a.txt",
            {"obj.names": "cat\n", "obj.data": "classes = 1", "train.txt": "data/obj_train_data/a.jpg\n"},
        ),
        ("images/a.jpg", "labels/a.txt", {"labels/classes.txt": "cat\n"}),
        ("a.jpg", "a.txt", {"classes.txt": "cat\n"}),
        ("a.jpg", "labels/a.txt", {"classes.txt": "cat\n"}),
        ("images/x/a.jpg", "labels/x/a.txt", {"config.yaml": "names:\n  0: cat\nformat: yolo\n"}),
    ],
    ids=["Ultralytics", "Roboflow", "CVAT", "labelImg", "labelImg, flat", "labels beside", "LightlyTrain"],
)
def test_layouts(tmp_path, image, label, others):
    picture(tmp_path / image)
    layout(tmp_path, **{label: BOX, **others})
    conversion = convert(tmp_path, "yolo", strict=True)
    (record,) = conversion.records
    assert [(i.label, i.bbox) for i in record.instances] == [("cat", (24, 12, 16, 24))]
    assert (conversion.image_root / record.file_name).samefile(tmp_path / image) and not conversion.tally.skipped


def test_one_part_of_a_set(tmp_path):
    for part in ("train", "val"):
        picture(tmp_path / "images" / part / f"{part}.jpg")
        layout(tmp_path, **{f"labels/{part}/{part}.txt": BOX})
    (tmp_path / "data.yaml").write_text("names: [cat]")
    (record,) = convert(tmp_path, "yolo", images=tmp_path / "images" / "train", strict=True).records
    assert record.file_name == "train.jpg"


def test_numbers_with_gaps(tmp_path):
    source = folder(tmp_path, "90 .5 .5 .25 .5\n1 .5 .5 .5 .5\n")
    (source / "classes.txt").unlink()
    (source / "data.yaml").write_text("names:\n  1: person\n  3: car\n  90: toothbrush\n")
    conversion = convert(source, "yolo", strict=True)
    assert [i.label for i in conversion.records[0].instances] == ["toothbrush", "person"]
    assert conversion.names == ["person", "car", "toothbrush"]
    (source / "labels" / "a.txt").write_text("2 .5 .5 .25 .5\n")
    with pytest.raises(InputError, match="class 2, but there are 3 class names, numbered from 1 to 90 with gaps"):
        convert(source, "yolo")


@pytest.mark.parametrize(
    "text, names",
    [
        ("names: [02146, 21008]", ["02146", "21008"]),
        ("names:\n  0: no\n  1: yes", ["no", "yes"]),
        (
            "names: [007, 1_000, 1e3, null, 12:30, 2024-01-31, ~]",
            ["007", "1_000", "1e3", "null", "12:30", "2024-01-31", "~"],
        ),
        ("names: ['no', \"1.50\"]", ["no", "1.50"]),
    ],
)
def test_names_are_as_written(tmp_path, text, names):
    (tmp_path / "data.yaml").write_text(text)
    assert list(read_classes(tmp_path).names.values()) == names


@pytest.mark.parametrize("points, shape", [(3, "[3, 3]"), (4, "[4, 3]"), (5, "[5, 2]")])
def test_pose_keeps_the_box(tmp_path, points, shape):
    numbers = " ".join("0.1 0.2 2" if shape.endswith("3]") else "0.1 0.2" for _ in range(points))
    source = folder(tmp_path, f"0 0.5 0.5 0.25 0.5 {numbers}\n{BOX.replace('0.25', '0.3')}0 .5 .5 .2 .2 .1\n")
    (source / "classes.txt").unlink()
    (source / "data.yaml").write_text(f"names: [cat]\nkpt_shape: {shape}")
    conversion = convert(source, "yolo")
    assert [i.bbox for i in conversion.records[0].instances] == [(24, 12, 16, 24), pytest.approx((22.4, 12, 19.2, 24))]
    assert conversion.tally.dropped == {"B09": 1}
    assert ["key points" in f.text for f in conversion.findings if f.code == "B14"] == [True]


def test_an_oriented_box_is_its_outline(tmp_path):
    source = folder(tmp_path, "0 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5\n")
    (one,) = convert(source, "yolo", strict=True).records[0].instances
    assert one.bbox == (16, 12, 32, 24) and one.area == 384  # half of 32 x 24


@pytest.mark.parametrize(
    "line, text",
    [
        ("0 .5 .5 .25 .5 .93", "a confidence: what a detector found"),
        ("0 .5 .5 .25 .5 .93 12", "a confidence and a track"),
        ("12 12 30 12 30 30 12 30 ship 0", "DOTA"),
        ("imagesource:GoogleEarth", "DOTA"),
        ("0 .1 .1 .5 .1 .5 .5 .91", "an outline and a confidence"),
        ("0 .1 .1 .5 .1 .5 .5 .1 .5 .91", "an outline and a confidence"),
        ("0 .5 .5 .2 .2 .4 .4 2 .6 .6 0", r"2 key points .* `kpt_shape: \[2, 3\]` in data.yaml"),
    ],
)
def test_what_is_no_label_file_is_refused_by_name(tmp_path, line, text):
    with pytest.raises(InputError, match=text):
        convert(folder(tmp_path, line + "\n"), "yolo")


@pytest.mark.parametrize(
    "place", ["labels/train/classes.txt", "coin.names", "data/coin.names", "../classes.txt", "../obj.names"]
)
def test_where_programs_put_the_names(tmp_path, place):
    """labelImg beside the labels, darknet in data/, and above one part of a set."""
    source = folder(tmp_path / "set", "1.0 0.5 0.5 0.25 0.5\n", where="labels/train/a.txt")  # some write 1.0
    (source / place).parent.mkdir(exist_ok=True)
    (source / "classes.txt").rename(source / place)
    (one,) = convert(source, "yolo", strict=True).records[0].instances
    assert one.label == "dog"


def test_the_yaml_above_one_part_of_a_set(tmp_path):
    source = folder(tmp_path / "train", BOX)
    (source / "classes.txt").unlink()
    (tmp_path / "data.yaml").write_text("names: [cat, dog]")
    assert len(convert(source, "yolo", strict=True).records) == 1


def test_lists_of_names_that_differ(tmp_path):
    source = folder(tmp_path, BOX)
    (source / "classes.txt").rename(source / "labels" / "a.names")
    (source / "b.names").write_text("dog\n")
    with pytest.raises(InputError, match=r"b\.names and .*a\.names have different class names"):
        convert(source, "yolo")


def test_a_class_by_its_name(tmp_path):
    (finding,) = convert(folder(tmp_path, "cat .5 .5 .25 .5\n"), "yolo").tally.findings
    assert 'class "cat" is a name, YOLO needs its number' in finding.text


def test_a_label_file_without_its_image(tmp_path):
    source = folder(tmp_path, BOX)
    layout(source, **{"labels/b.txt": BOX, "labels/notes.txt": "looked at by Ann\n", "labels/c.txt": ""})
    conversion = convert(source, "yolo")
    assert conversion.tally.skipped == {"label files without an image": 2}  # b, and c without an object


def test_where_label_files_without_images_are_looked_for(tmp_path):
    folder(tmp_path / "a", "0 .5 .5 .5 .5\n")
    (tmp_path / "a" / "notes.txt").write_text("0 .5 .5 .5 .5\n")  # beside a folder of labels: no label file
    assert convert(tmp_path / "a", "yolo").tally.skipped == {}
    picture(tmp_path / "b" / "a.jpg")
    for name in ("a", "gone"):
        (tmp_path / "b" / f"{name}.txt").write_text("0 .5 .5 .5 .5\n")  # without such a folder they lie anywhere
    assert convert(tmp_path / "b", "yolo", labels=["cat"]).tally.skipped == {"label files without an image": 1}


def test_an_image_without_labels_is_a_negative_where_that_is_said(tmp_path):
    folder(tmp_path, "0 .5 .5 .5 .5\n")
    picture(tmp_path / "images" / "b.jpg")
    assert [r.file_name for r in convert(tmp_path, "yolo").records] == ["a.jpg"]
    assert [len(r.instances) for r in convert(tmp_path, "yolo", unlabeled_is_negative=True).records] == [1, 0]


def test_a_label_file_whose_picture_is_called_a_little_differently(tmp_path):
    """Upper and lower case, percent-encoding, a.jpg.txt, accents as macOS writes them; one with labels stays."""
    for name in ("A.JPG", "b c.jpg", "d.jpg", "e\u0301.jpg", "own.jpg"):
        picture(tmp_path / "images" / name)
    (tmp_path / "labels").mkdir()
    for name in ("a.txt", "b%20c.txt", "d.jpg.txt", "\u00e9.txt", "own.txt", "OWN.jpg.txt", "gone.txt"):
        (tmp_path / "labels" / name).write_text("0 .5 .5 .25 .5\n")
    (tmp_path / "classes.txt").write_text("cat\n")
    conversion = convert(tmp_path, "yolo")
    assert len(conversion.records) == 5
    assert not any("is it meant" in f.fix for f in conversion.findings)  # own.jpg has its labels
    picture(tmp_path / "images" / "gone2.jpg")
    assert any('"gone2.jpg" lies here, is it meant?' in f.fix for f in convert(tmp_path, "yolo").findings)
    lost = sorted(f.file.rpartition("/")[2] for f in conversion.findings if f.level == "error")
    assert lost == ["OWN.jpg.txt", "gone.txt"]
    assert sum("taken instead" in f.text for f in conversion.findings) == 3  # d.jpg is its own name


def test_two_yaml_files_that_disagree(tmp_path):
    source = folder(tmp_path, BOX)
    (source / "classes.txt").unlink()
    (source / "a.yaml").write_text("names: [cat]")
    (source / "b.yaml").write_text("names: [dog]")
    with pytest.raises(InputError, match=r"a\.yaml, b\.yaml have different `names`"):
        convert(source, "yolo")


def test_images_behind_a_link_that_git_wrote_as_a_file(tmp_path):
    picture(tmp_path / "images" / "train" / "a.jpg")
    layout(
        tmp_path,
        **{"boxes/labels/train/a.txt": BOX, "boxes/images": "../images\n", "boxes/config.yaml": "names: [cat]"},
    )
    conversion = convert(tmp_path / "boxes", "yolo")
    assert conversion.records[0].file_name == "train/a.jpg"
    assert [f.code for f in conversion.findings] == ["B32"]
    with pytest.raises(InputError, match="boxes"):  # one folder higher there are no class names, but a set
        convert(tmp_path, "yolo")


def test_a_label_file_that_cannot_be_read_is_counted_as_a_file(tmp_path):
    source = folder(tmp_path, "0 .5 .5 .2 .2\n")
    folder(tmp_path, "", where="labels/b.txt")
    (tmp_path / "labels" / "b.txt").write_bytes(b"\xff\xfe\0")
    tally = convert(source, "yolo").tally
    assert tally.skipped["label files that cannot be read"] == 1 and not tally.dropped and tally.objects_in == 1


def test_lines_are_counted_from_one_blank_ones_too(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt, line 2:"):
        convert(folder(tmp_path, "\n0 .1 .1 .5 .1 .5 .5 .1 .5 .91\n"), "yolo")
