"""`convert`: the account, the same bytes every time, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from label_tools.__main__ import main
from label_tools.document import coco_file
from label_tools.formats.image_records import ImageRecord, Tally
from label_tools.readers.convert import Reading, convert
from tests.label_tools.bad_input_makers import BOX, GOOD, H, W, content, labelme, picture, png, shape

REPOSITORY = Path(__file__).resolve().parents[2]


def test_same_input_same_bytes_wherever_it_lies(tmp_path):
    results = []
    for name in ("one", "two"):
        folder = tmp_path / name / "data"
        for k in range(60):
            picture(folder / f"s{k % 3}" / f"{k}.png", (32, 32))
            box = [[1 + k % 7, 2], [20, 21.5 + k % 3]]
            data = content(
                [shape(box, label=f"c{k % 4}"), shape([[1, 1]], "point")], f"{k}.png", imageWidth=32, imageHeight=32
            )
            (folder / f"s{k % 3}" / f"{k}.json").write_text(json.dumps(data))
        convert(folder, "labelme").write(folder / "annotations.json")
        results.append([(folder / f).read_bytes() for f in ("annotations.json", "conversion.json")])
    assert results[0] == results[1]
    assert str(tmp_path).encode() not in results[0][0] + results[0][1]
    account = json.loads(results[0][1])
    assert account["objects_in"] == 120 and account["dropped"] == {"B14": 60} and account["objects_out"] == 60


def test_a_second_run_over_its_own_output(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    argv = [*labelme(GOOD)(folder), "--out", str(folder / "annotations.json")]
    assert main(argv) == 0
    first = (folder / "annotations.json").read_bytes()
    assert main(argv) == 0  # its own files are not labels, and may be replaced
    assert (folder / "annotations.json").read_bytes() == first


def test_command_line(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    argv = labelme(shape([[1, 1]], "point"), GOOD)(folder)
    assert main([*argv, "--out", str(tmp_path / "a.json"), "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads((tmp_path / "a.conversion.json").read_text())
    assert "B14" in said.err and "--point-box" in said.err
    assert said.err.splitlines()[1:] == ["warning: left out: 1 object; the rest is written (exit code 1)"]
    assert main(["export", "voc", str(tmp_path / "a.json"), "--out", str(tmp_path / "v")]) == 0
    assert "2 files, 2 of 2 objects" in capsys.readouterr().out
    assert main(["export", "yolo", str(tmp_path / "a.json"), "--out", str(tmp_path / "y"), "--json"]) == 0
    assert main(["export", "labelme", str(tmp_path / "a.json"), "--out", str(tmp_path / "l")]) == 0
    assert (
        main(["convert", "voc", str(tmp_path / "v"), "--image-root", str(folder), "--out", str(tmp_path / "b.json")])
        == 0
    )
    assert (
        main(["convert", "yolo", str(tmp_path / "y"), "--images", str(folder), "--out", str(tmp_path / "c.json")]) == 0
    )
    assert main(["convert", "coco", str(tmp_path / "c.json"), "--out", str(tmp_path / "d.json")]) == 0
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "d.json").read_bytes()
    assert main(["convert", "coco", str(tmp_path / "c.json"), "--out", str(tmp_path / "c.json")]) == 2


def test_a_missing_photograph_is_exit_code_1_and_counted(tmp_path, capsys):
    """Three objects in two images; one image with two of them is gone, so one of each is left out, and 2 objects."""
    folder = tmp_path / "in"
    folder.mkdir()
    argv = [*labelme(GOOD, shape([[40, 5], [50, 20]]))(folder), "--out", str(tmp_path / "a.json")]
    assert main(argv) == 0 and "warning" not in capsys.readouterr().err
    (folder / "a.jpg").unlink()
    assert main(argv) == 1
    said = capsys.readouterr()
    assert "error B32" in said.err and 'image "a.jpg" does not exist' in said.err
    assert said.err.splitlines()[-1] == "warning: left out: 1 image, 2 objects; the rest is written (exit code 1)"
    assert "1 image (0 without objects), 1 object" in said.out and "images left out: 1" in said.out
    assert "objects in 3 = out 1 + merged 0 + dropped 2" in said.out
    assert [i["file_name"] for i in json.loads((tmp_path / "a.json").read_text())["images"]] == ["good.jpg"]


def test_a_label_file_that_cannot_be_read_is_counted_as_a_file(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    argv = [*labelme(GOOD)(folder), "--out", str(tmp_path / "a.json")]
    (folder / "a.json").write_text("{")
    assert main(argv) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("warning: left out: 1 file; the rest")


def test_drafts_that_nobody_reviewed_are_noted_and_no_error(tmp_path, capsys):
    """A draft is the model's, so its absence is no loss of what a person labelled: exit code 0, also with --strict."""
    folder = tmp_path / "in"
    folder.mkdir()
    argv = [*labelme(GOOD, flags={"reviewed": False})(folder), "--out", str(tmp_path / "a.json")]
    for more in ([], ["--strict"]):
        assert main([*argv, *more]) == 0
        said = capsys.readouterr()
        assert "note not reviewed" in said.err and "dropped 1: not reviewed" in said.out
        assert "drafts left out: 1 (--include-unreviewed uses them)" in said.out


def test_class_names_that_are_nearly_alike_are_one_warning(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    shapes = [shape([[40, 5], [50, 20]], label="cats"), shape([[2, 32], [12, 40]], label="cat ")]
    argv = [*labelme(*shapes)(folder), "--out", str(tmp_path / "a.json")]
    assert main(argv) == 0  # good.json holds a cat
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "alike" in line]
    assert line == (
        f'warning B36 {folder}: class names that are nearly alike: "cats" (1, in {folder / "a.json"}) and "cat" (2); '
        "one class? fix the labels, or frcnn rename FILE cats=cat --out NEW.json"
    )
    (tmp_path / "labels.txt").write_text("cat\ncats\n")
    assert main([*argv, "--labels", str(tmp_path / "labels.txt")]) == 0  # both are wanted
    assert "alike" not in capsys.readouterr().err
    (folder / "a.json").write_text(json.dumps(content(shapes[:1])))
    assert main([*argv, "--strict"]) == 0 and "alike" in capsys.readouterr().err  # neither a repair nor a loss
    assert main(["check", str(folder)]) == main(["check", str(tmp_path / "a.json")]) == 0
    said = capsys.readouterr().out
    assert said.count("nearly alike") == 2 and f"frcnn rename {tmp_path / 'a.json'} cats=cat --out NEW.json" in said


def test_what_to_do_when_nothing_can_be_converted(tmp_path, capsys):
    """Three label files of which none has its photograph; a folder that holds only files of ours; a folder for coco."""
    folder = tmp_path / "in"
    folder.mkdir()
    labelme(GOOD)(folder)
    assert main(["convert", "labelme", str(folder), "--out", str(folder / "annotations.json")]) == 0
    assert main(["export", "voc", str(folder), "--out", str(tmp_path / "voc")]) == 0
    capsys.readouterr()
    assert main(["convert", "voc", str(tmp_path / "voc"), "--out", str(tmp_path / "o.json")]) == 2
    error = capsys.readouterr().err
    assert "--image-root" in error and error.endswith("delete the label file; and 1 more)\n"), error
    for name in ("a.json", "good.json"):
        (folder / name).unlink()
    assert main(["convert", "labelme", str(folder), "--out", str(tmp_path / "o.json")]) == 2
    assert "no LabelMe file (*.json) in it" in capsys.readouterr().err
    assert main(["convert", "coco", str(folder), "--out", str(folder / "annotations.json")]) == 2
    assert "is the input itself" in capsys.readouterr().err
    assert main(["convert", "coco", str(folder), "--out", str(tmp_path / "o.json")]) == 0


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from label_tools.__main__ import main\n"
        "try: main(['convert', 'labelme', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'pycocotools', 'matplotlib', 'yaml', 'cv2'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_embedded_images_are_extracted_on_request(tmp_path):
    import base64

    data = base64.b64encode(picture(tmp_path / "x.jpg").read_bytes()).decode()
    folder = tmp_path / "labels"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.json").write_text(json.dumps(content([shape(BOX)], imageData=data)))
    (folder / "b.json").write_text(json.dumps(content([shape(BOX)], imageData=png(np.zeros((H, W))))))
    conversion = convert(folder, "labelme", extract_images=tmp_path / "images", strict=True)
    conversion.write(tmp_path / "out" / "annotations.json")
    document = coco_file.read(tmp_path / "out" / "annotations.json")
    assert [i["file_name"] for i in document["images"]] == ["images/b.png", "images/sub/a.jpg"]
    paths = [coco_file.image_path(document, tmp_path / "out" / "annotations.json", i) for i in document["images"]]
    assert all(p.is_file() for p in paths) and paths[1].read_bytes() == (tmp_path / "x.jpg").read_bytes()
    assert sorted(os.listdir(folder)) == ["b.json", "sub"]


def test_notes_of_one_kind_are_summed_after_a_few(tmp_path, capsys):
    two_parts = np.zeros((H, W), np.uint8)
    two_parts[2:9, 2:9] = two_parts[20:30, 20:30] = 1
    for number in range(9):
        picture(tmp_path / "in" / "images" / f"{number}.jpg")
        (tmp_path / "in" / "masks").mkdir(exist_ok=True)
        Image.fromarray(two_parts).save(tmp_path / "in" / "masks" / f"{number}.png")
    out = tmp_path / "out.json"
    argv = ["convert", "masks", str(tmp_path / "in"), "--mode", "instance", "--class", "cat", "--out", str(out)]
    assert main(argv) == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said[:-1]] == [f"note B89 {tmp_path}/in/masks/{k}.png" for k in range(3)]
    account = tmp_path / "out.conversion.json"
    assert said[-1] == f"note B89 ... and 6 more like it (all in {account})"
    assert [f["code"] for f in json.loads(account.read_text())["findings"]] == ["B89"] * 9


def test_images_come_folder_by_folder_whatever_the_order_on_disk():
    """Though - sorts before /: what lies in one folder stays together."""
    names = ["b/1.png", "a-1.png", "a/2.png"]
    reading = Reading(Path("."), Path("."), [ImageRecord(name, 9, 9, [], name) for name in names], Tally())
    assert [record.file_name for record in reading.records] == ["a/2.png", "a-1.png", "b/1.png"]


def test_objects_are_counted_by_class(tmp_path):
    labelme(GOOD, shape(BOX, "circle", "dog"), shape([[1, 1], [4, 4]], label="__ignore__"))(tmp_path)
    conversion = convert(tmp_path, "labelme", labels=["cat", "dog", "owl"])
    assert conversion.class_counts() == {"cat": 2, "dog": 1}  # one cat in a second file
    account = conversion.account(tmp_path / "annotations.json")
    assert account["classes"] == {"cat": 2, "dog": 1, "owl": 0} and account["ignore_regions"] == 1
    assert account["annotations_written"] == 2 + 1 + 3  # the ignore region once per class
