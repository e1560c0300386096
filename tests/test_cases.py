"""Files as people had them, each test named after what went wrong, where it goes through several rooms."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from toolkit.__main__ import main


def labelled(folder, names, *, crowd=0, categories=("ship",)):
    """COCO file of pictures of 96 x 64, each with one box of the last class; the pictures differ in their grey."""
    images, annotations = [], []
    for number, name in enumerate(names, 1):
        if len(name) < 256:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (96, 64), 9 * number).save(folder / name)
        images.append({"id": number, "file_name": name, "width": 96, "height": 64})
        box = {"bbox": [10, 8, 30, 28], "area": 840, "iscrowd": crowd, "segmentation": []}
        annotations.append({"id": number, "image_id": number, "category_id": len(categories), **box})
    classes = [{"id": k, "name": name, "supercategory": categories[0]} for k, name in enumerate(categories, 1)]
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": classes}))
    return path


def test_the_split_of_the_folders_is_mixed(tmp_path, capsys):
    path = labelled(tmp_path, ["train/a.png", "train/b.png", "train/c.png", "valid/a.png"])
    assert main(["split", str(path), "--duplicates", "off", "--out", str(tmp_path / "mixed")]) == 0
    assert "its folders say (train 3, val 1); --keep-given keeps that" in capsys.readouterr().err
    assert main(["split", str(path), "--keep-given", "--out", str(tmp_path / "kept")]) == 0
    files = json.loads((tmp_path / "kept" / "split.json").read_text())["files"]
    assert files == {"train/a.png": "train", "train/b.png": "train", "train/c.png": "train", "valid/a.png": "val"}


def test_keep_given_where_a_folder_names_no_part(tmp_path, capsys):
    path = labelled(tmp_path, ["train/a.png", "odd/b.png"])
    assert main(["split", str(path), "--keep-given"]) == 2
    assert '"odd/b.png" lies in no folder that is named after a part' in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "split", "draw", "stats", "convert coco", "export labelme", "train"])
def test_a_file_name_of_300_letters(tmp_path, capsys, command):
    path = labelled(tmp_path, ["n" * 300 + ".png"])
    more = {"check": [], "stats": [], "train": ["--val", str(path), "--dry-run"]}
    code = main([*command.split(), str(path), *more.get(command, ["--out", str(tmp_path / "out.json")])])
    assert code == {"check": 1, "stats": 0}.get(command, 2), capsys.readouterr().err


def test_crowds_alone_are_split_without_a_word(tmp_path, capsys):
    path = labelled(tmp_path, ["a.png", "b.png", "c.png"], crowd=1)
    assert main(["split", str(path), "--duplicates", "off"]) == 0
    err = capsys.readouterr().err
    assert "no object at all" in err and "3 of 3 objects have iscrowd 1" in err


def test_one_set_for_both_parts_learns_by_heart(tmp_path, capsys):
    path = labelled(tmp_path, ["a.png", "b.png"], categories=("vessels", "tug", "ferry"))
    words = ["--val", str(path), "--dry-run", "--model", "fasterrcnn_tiny_fpn", "--weights", "none"]
    assert main(["train", str(path), *words]) == 0
    assert "val has exactly the images of train" in capsys.readouterr().err


def test_a_grouping_class_is_named_before_training(tmp_path, caplog):
    from label_tools.document import coco_file

    path = labelled(tmp_path, ["a.png"], categories=("vessels", "tug"))
    coco_file.read(path)
    assert '"vessels" groups the others' in caplog.text and "vessels= --out NEW.json" in caplog.text


def test_a_grouping_class_is_said_once(tmp_path, capsys):
    path = labelled(tmp_path, ["a.png"], categories=("vessels", "tug", "ferry"))
    assert main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    assert 'no object of 1 of 3 classes: "tug"' in said and said.count('"vessels"') == 2  # its place and the text


def test_an_empty_mask_beside_a_box(tmp_path, caplog):
    from label_tools.document import coco_file

    path = labelled(tmp_path, ["a.png"])
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"] = {"size": [64, 96], "counts": [64 * 96]}
    path.write_text(json.dumps(document))
    assert coco_file.read(path)["annotations"][0]["segmentation"] == []
    assert "segmentation holds no pixel; the outline is left out, the box is kept" in caplog.text


@pytest.mark.parametrize("options, crowds, said", [([], [1, 1], True), (["--crowd-as-object"], [0, 0], False)])
def test_crowds_by_a_folder_alone(tmp_path, capsys, options, crowds, said):
    labelled(tmp_path, ["a.png", "b.png"], crowd=1)
    assert main(["convert", str(tmp_path), *options, "--out", str(tmp_path / "out.json")]) == 0
    assert [a["iscrowd"] for a in json.loads((tmp_path / "out.json").read_text())["annotations"]] == crowds
    assert ("B54" in (err := capsys.readouterr().err) and "B58" in err) == said


def test_a_folder_that_is_called_like_a_format(tmp_path, monkeypatch, capsys):
    labelled(tmp_path, ["coco/a.png", "coco/b.png"]).rename(tmp_path / "coco" / "labels.json")
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / "coco" / "labels.json").read_text().replace("coco/", "")
    (tmp_path / "coco" / "labels.json").write_text(text)
    assert main(["convert", "coco", "--out", "a.json"]) == 0
    assert main(["convert", "coco", "coco/labels.json", "--out", "b.json"]) == 0
    with pytest.raises(SystemExit):
        main(["convert", "voc", "--out", "d.json"])
    assert "required: SRC" in capsys.readouterr().err


def test_films_and_raw_files_among_the_photographs(tmp_path, capsys):
    path = labelled(tmp_path, ["a.png", "b.png"])
    for name in ("clip.mp4", "sub/c.CR2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert main(["convert", "coco", str(path), "--out", str(tmp_path / "o.json")]) == 0
    assert "not read: 1 MP4, 1 raw" in capsys.readouterr().err
    assert main(["draw", str(path), "--out", str(tmp_path / "d"), "--sheet-only"]) == 0
    assert "not read: 1 MP4, 1 raw" in capsys.readouterr().err


def test_a_class_name_with_a_line_break_is_shown_as_one(tmp_path, capsys):
    path = labelled(tmp_path, ["a.png"], categories=("a\nb",))
    assert main(["stats", str(path)]) == 2
    assert r'the label "a\nb" holds control characters' in capsys.readouterr().err


def test_a_plot_asks_for_no_bold_font_of_another_script(tmp_path, caplog):
    path = labelled(tmp_path, ["a.png", "b.png"], categories=("шайба", "螺栓"))
    assert main(["stats", str(path), "--out", str(tmp_path / "stats.png")]) == 0
    assert "findfont" not in caplog.text
