"""Small inputs of bug reports and of labelling programs, each with its right value.

They lie beside the checkout or where `FRCNN_CASES` says, and are no part of the repository; what was wrong with each is
tested on pictures of our own, too (test_cases.py, tests/label_tools/, tests/toolkit/).
"""

from __future__ import annotations

import json
import logging
import os
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from label_tools.pictures.open_image import open_image
from label_tools.text.errors import InputError
from toolkit.__main__ import main

CASES = Path(os.environ.get("FRCNN_CASES") or Path(__file__).resolve().parents[2] / "shared" / "cases")
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="needs the cases in the folder that FRCNN_CASES names")


@pytest.fixture
def case(tmp_path, monkeypatch):
    """case("01_roboflow_coco") -> a copy of that folder, which becomes the working folder."""

    def enter(name: str) -> Path:
        shutil.copytree(CASES / name, tmp_path / name, symlinks=True)
        for path in (tmp_path / name).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        monkeypatch.chdir(tmp_path / name)
        return tmp_path / name

    return enter


def converted(words: str, out: str = "o.json", code: int = 0) -> dict:
    """The document that `frcnn convert` makes."""
    assert main(["convert", *words.split(), "--out", out]) == code
    return json.loads(Path(out).read_text())


def counts(document: dict) -> tuple[int, int]:
    return len(document["images"]), len(document["annotations"])


def boxes(document: dict) -> list:
    return [pytest.approx(a["bbox"], abs=1e-4) for a in document["annotations"]]


def classes(document: dict) -> list[str]:
    return [c["name"] for c in document["categories"]]


def test_every_case_has_a_test():
    """By the folder's name in the text of this file; one that is looked at nowhere is a case that nobody answers."""
    text = Path(__file__).read_text(encoding="utf-8")
    assert [folder.name for folder in sorted(CASES.iterdir()) if folder.is_dir() and folder.name not in text] == []


def test_01_roboflow_coco(case, capsys):
    case("01_roboflow_coco")
    assert counts(converted("coco train")) == (4, 8)
    assert "rename train/_annotations.coco.json fish= --out NEW.json" in capsys.readouterr().err
    assert main(["train", ".", "--model", "fasterrcnn_tiny_fpn", "--dry-run", "--weights", "none"]) == 0
    assert "train      4 images" in (said := capsys.readouterr().out) and "val        2 images" in said


def test_02_one_name_twice(case, capsys):
    case("02_roboflow_same_name")
    document = converted("coco train/_annotations.coco.json")
    assert (classes(document), counts(document)) == (["pistol"], (3, 3))
    assert main(["check", "train/_annotations.coco.json", "--fix", "--out", "fixed.json"]) == 0
    assert len(json.loads(Path("fixed.json").read_text())["categories"]) == 1


@pytest.mark.parametrize("file", ["result_new.json", "result_project.json", "result_local.json"])
def test_03_label_studio_coco(case, capsys, file):
    case("03_label_studio_coco")
    assert counts(converted(f"coco {file}")) == (2, 2)
    assert "--image-root .." not in (said := capsys.readouterr().err) and "delete the label" not in said


def test_04_cvat_coco_layout(case):
    case("04_cvat_coco_layout")
    assert counts(converted("coco annotations/instances_Train.json")) == (2, 2)


def test_05_all_are_crowds(case, capsys):
    case("05_cvat_sam_iscrowd")
    converted("coco instances_default.json")
    said = capsys.readouterr().err
    assert "B54" in said and "4 of 4 objects have iscrowd 1" in said and "--crowd-as-object" in said
    assert [a["iscrowd"] for a in converted(". --crowd-as-object")["annotations"]] == [0] * 4
    assert main(["check", "instances_default.json"]) == 1
    assert "SAM" in capsys.readouterr().out
    assert main(["split", "instances_default.json", "--train", ".5", "--val", ".5", "--test", "0", "--out", "DIR"]) == 0
    assert "no object at all" in capsys.readouterr().err


def test_05b_some_are_crowds(case, capsys):
    case("05b_cvat_mixed_iscrowd")
    file = "instances_default.json"
    main(["check", file])
    main(["convert", "coco", file, "--out", "o.json"])
    main(["train", file, "--val", file, "--model", "fasterrcnn_tiny_fpn", "--dry-run", "--weights", "none"])
    out, err = capsys.readouterr()
    assert "2 of 4 objects have iscrowd 1" in out and err.count("2 of 4 objects have iscrowd 1") >= 2


@pytest.mark.parametrize("name, expected", [("06_cvat_yolo11", (2, 2)), ("07_roboflow_yolo", (4, 4))])
def test_06_07_layouts_of_yolo(case, name, expected):
    case(name)
    assert counts(converted("yolo .")) == expected


@pytest.mark.parametrize(
    "annotations, detections",
    [
        ("gt", "predictions"),
        ("gt_text_names", "predictions_text_stem"),
        ("gt", "predictions_names"),
        ("gt", "predictions_label"),
    ],
)
def test_08_perfect_detections_of_others(case, capsys, annotations, detections):
    case("08_ultralytics_predictions")
    words = ["--annotations", f"{annotations}.json", "--detections", f"{detections}.json", "--out", "e"]
    assert main(["evaluate", *words, "--resamples", "5", "--no-report"]) == 0
    assert json.loads(Path("e/metrics.json").read_text())["AP"] == pytest.approx(1.0)
    assert "matched by" in capsys.readouterr().err


def test_12_mirrored_folders(case):
    case("12_voc_subfolders")
    document = converted("voc .")
    assert [i["file_name"] for i in document["images"]] == ["cam1/0001.jpg", "cam2/0001.jpg"]
    assert boxes(document) == [[10, 8, 30, 28], [50, 20, 30, 30]]


def test_14_x_anylabeling(case):
    case("14_x_anylabeling")
    document = converted("labelme .")
    # the cuboid's eight points lie in 45..80 x 15..50
    assert boxes(document) == [[10, 8, 30, 28], [50, 20, 30, 30], [45, 15, 35, 35]]


def test_15_renamed_image(case, capsys):
    case("15_renamed_image")
    assert counts(converted("labelme .")) == (1, 1)
    assert '"demo.jpg" taken instead' in capsys.readouterr().err


def test_18_ids_as_texts(case):
    case("18_string_ids")
    document = converted("coco gt.json")
    assert counts(document) == (2, 2) and [i["id"] for i in document["images"]] == [1, 2]


@pytest.mark.parametrize("file", ["a.json", "via_minus_one.json"])
def test_19_no_sizes(case, capsys, file):
    case("19_no_width_height")
    document = converted(f"coco {file}")
    assert (document["images"][0]["width"], document["images"][0]["height"]) == (96, 64)
    assert "B52" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["k3x3", "k4x3", "k5x2"])
def test_22_pose(case, name):
    case(f"22_yolo_pose/{name}")
    assert boxes(converted("yolo .")) == [[10, 8, 30, 28]]


@pytest.mark.parametrize(
    "name, names",
    [
        ("part_numbers", ["02146", "21008", "21010"]),
        ("yes_no", ["no", "yes"]),
        ("numbers", ["007", "1_000", "1e3", "null", "12:30"]),
    ],
)
def test_24_names_of_yaml_as_written(case, name, names):
    case(f"24_yaml_names/{name}")
    assert classes(converted("yolo .")) == names


def test_27_heic(case, caplog, capsys):
    from label_tools.pictures.unread_files import HAS_HEIC
    from toolkit.prediction.picture_sources import find_images

    case("27_heic")
    if HAS_HEIC:
        pytest.skip("pillow-heif is installed")
    with caplog.at_level(logging.WARNING):
        assert len(find_images([Path("mixed")])) == 1
    assert "not read: 2 HEIC, 1 MP4" in caplog.text
    with pytest.raises(InputError, match="1 HEIC; HEIC: export them as JPEG"):
        find_images([Path("only")])
    assert main(["convert", "labelled"]) == 2
    assert "HEIC" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["reference_checkpoint.pth", pytest.param("", marks=pytest.mark.slow, id="all")])
def test_28_weights_as_people_keep_them(case, monkeypatch, form):
    """Every tensor is read; the head is new, because the files name no classes."""
    from toolkit.networks.builder import build

    folder = case("28_own_weights")
    (folder / "made").mkdir()
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda what, path: save(what, path) if path.endswith(form) else None)
    monkeypatch.setattr(sys, "argv", ["make_weights.py", "made"])
    runpy.run_path("make_weights.py")
    files = sorted(Path("made").iterdir())
    assert len(files) == (1 if form else 7)
    sizes = {"min_size": 160, "max_size": 160}
    words = {"trainable_layers": 5, "batch_size": 4, "norm": "auto", "sizes": sizes, "classes": ["bolt", "nut"]}
    for file in files:
        _, _, about = build("fasterrcnn_mobilenet_v3_large_320_fpn", 3, weights=str(file), **words)
        assert "280 of 280 tensors of the detector, new box predictor" in about, file


def test_28_going_on(case, capsys):
    """What a run knows of its classes is kept; a finished run takes more epochs, or says why not and what to do."""
    case("28_own_weights")
    words = ["two", "--model", "fasterrcnn_tiny_fpn", "--image-size", "64", "--epochs", "1", "--no-report"]
    assert main(["train", *words, "--weights", "none", "--name", "a"]) == 0
    assert main(["train", "--resume", "runs/a", "--epochs", "20"]) == 2
    assert "planned for 1 epoch (onecycle)" in (said := capsys.readouterr().err) and "--weights runs/a" in said
    assert main(["train", *words, "--weights", "runs/a", "--name", "b", "--schedule", "constant"]) == 0
    assert "box predictor kept for bolt, nut" in capsys.readouterr().err
    assert main(["train", "--resume", "runs/b", "--epochs", "2", "--no-report"]) == 0
    assert "finished after 2 epochs" in capsys.readouterr().err


def test_30_letters(case, capsys):
    case("30_label_scripts")
    assert main(["draw", "train.json", "--out", "d"]) == 0
    assert main(["stats", "train.json", "--out", "stats.png"]) == 0
    assert "Glyph" not in (said := capsys.readouterr().err) and "findfont" not in said


def test_37_copies_stay_together(case, capsys):
    case("37_augmented_copies")
    assert main(["split", ".", "--out", "parts"]) == 0
    parts: dict[str, set] = {}
    for file, part in json.loads(Path("parts/split.json").read_text())["files"].items():
        parts.setdefault(file.partition("_jpg")[0], set()).add(part)
    assert len(parts) == 10 and all(len(some) == 1 for some in parts.values())


@pytest.mark.parametrize(
    "folder, says",
    [("createml", "CreateML"), ("csv", "a CSV table"), ("datumaro", "Datumaro"), ("sly", "Supervisely")],
)
def test_40_programs_that_are_not_read(case, capsys, folder, says):
    case("40_own_formats")
    assert main(["convert", folder, "--out", "o.json"]) == 2
    assert says in (said := capsys.readouterr().err) and "COCO" in said


@pytest.mark.parametrize("words", ["ls", "cvat", "cvat cvat", "labelstudio ls/project-1.json"])
def test_40_programs_that_are_read(case, words):
    case("40_own_formats")
    assert counts(converted(words)) == (1, 1)


def test_42_turned_boxes(case, capsys):
    """60 x 10 around (50, 25), turned by 90 degrees: 45..55 x -5..55, of which 0..55 is in the picture."""
    case("42_cvat_rotation")
    for words in ("coco annotations/instances_default.json --image-root images/default", "voc voc"):
        out = f"{words[:3]}.json"
        assert boxes(converted(words, out)) == [[45, 0, 10, 55]]
        assert "turned by 90 degrees" in capsys.readouterr().err


def test_46_the_split_that_is_there(case):
    case("46_ultralytics_split")
    assert main(["convert", "."]) == 0
    assert [counts(json.loads(Path(f"{part}.json").read_text())) for part in ("train", "val")] == [(4, 4), (2, 2)]
    assert counts(converted("yolo . --images images/train", "one.json")) == (4, 4)


def test_47_over_the_limit(case, capsys):
    case("47_large_aerial")
    with pytest.raises(InputError, match="more than the limit of 100000000"):
        open_image("ortho.png")
    assert (
        main(["train", "train.json", "--val", "train.json", "--model", "fasterrcnn_tiny_fpn", "--weights", "none"]) == 2
    )
    assert "12000 x 9000 pixels" in (said := capsys.readouterr().err) and "tiles" in said
    assert main(["check", "train.json"]) == 1 and not Path("runs").exists()


def test_48_upper_and_lower_case_in_a_folder(case, capsys):
    case("48_voc_case_in_subfolder")
    assert counts(converted("voc .")) == (1, 1)
    assert '"day1/IMG_1.jpg" taken instead' in capsys.readouterr().err


def test_49_deep_pictures(case, capsys):
    case("49_geotiff")
    assert main(["check", "train.json", "--decode"]) == 0
    assert capsys.readouterr().out.count("nearly black") == 2
    values = np.asarray(open_image("three_band_u16.tif", max_value=900))[..., 0]
    assert (values.min(), values.max()) == (85, 255)  # 300 to 900
    thermal = np.asarray(open_image("thermal_nodata.tif"))[..., 0]
    assert len(np.unique(thermal)) >= 3  # the object, the background, and what holds no data


def test_r01_an_empty_mask_beside_a_box(case, capsys):
    case("r01_empty_rle_export")
    assert main(["export", "labelme", "c.json", "--out", "out"]) == 0
    assert "segmentation holds no pixel" in capsys.readouterr().err
    (shape,) = json.loads(Path("out/a.json").read_text())["shapes"]
    assert shape["shape_type"] == "rectangle" and shape["points"] == [[1, 1], [21, 21]]


@pytest.mark.parametrize(
    "command", ["check", "split --out s", "draw --out d", "export voc --out e", "stats", "convert coco --out o.json"]
)
def test_r03_a_long_file_name(case, capsys, command):
    case("r03_long_file_name")
    assert main([*command.split(), "c.json"]) in (0, 1, 2)


@pytest.mark.parametrize(
    "name, shown", [("r05_cr_in_class_name", r"a\x0db"), ("r06_escape_in_class_name", r"cat\x1b]0;pwned\x07\x1b[31m")]
)
def test_r05_r06_control_characters_in_a_class_name(case, capsys, name, shown):
    case(name)
    words = ["--annotations", "c.json", "--detections", "d.json", "--out", "ev"]
    for command in (["evaluate", *words], ["convert", "coco", "c.json", "--out", "o.json"]):
        assert main(command) == 2
        assert f'the label "{shown}" holds control characters' in capsys.readouterr().err
    assert not Path("ev").exists()


def test_r07_a_line_break_in_a_class_name(case, capsys):
    case("r07_newline_in_class_name_yolo")
    assert main(["export", "yolo", "c.json", "--out", "y"]) == 2
    assert r'the label "a\nb" holds control characters' in capsys.readouterr().err and not Path("y").exists()


def test_r08_no_file_from_outside(case, capsys):
    folder = case("r08_copy_images_from_image_root")
    (folder / "link.png").symlink_to("/etc/hostname")
    for file in ("c.json", "link.json"):
        assert main(["export", "yolo", file, "--out", "y", "--copy-images"]) == 2
    assert not Path("y").exists()
    assert "is absolute" in (said := capsys.readouterr().err) and "leads out of the image root" in said


def test_r12_a_box_beyond_all_numbers(case, capsys):
    case("r12_huge_box")
    words = ["--annotations", "c.json", "--detections", "d.json", "--out", "ev", "--no-report"]
    assert main(["evaluate", *words]) == 2
    assert "coordinate 1e+308 lies far outside the image of 64 x 48" in capsys.readouterr().err
