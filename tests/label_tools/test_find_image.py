"""The picture that a label file means: every way in which names go wrong on their way between computers."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from label_tools.__main__ import main
from label_tools.pictures.find_image import ImageFolder
from label_tools.shapes.instances import RefusedError
from tests.label_tools.bad_input_makers import picture


def find(root: Path, written: str, own: str = "", folder: Path | None = None) -> tuple[str, list[str]]:
    """(the picture, from the root; what was said)."""
    said: list[str] = []
    images = ImageFolder(root, max_pixels=10**6)
    path = images.find(written, str(folder or root), lambda *remark: said.append(remark[2]), own)
    return images.file_name(path), said


def refused(root: Path, written: str, own: str = "", folder: Path | None = None) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        find(root, written, own, folder)
    return caught.value


@pytest.mark.parametrize("ending", [".xml", ".json"])
@pytest.mark.parametrize(("photos", "labels"), [(".", "."), ("JPEGImages", "Annotations")])
def test_pictures_and_label_files_that_were_renamed_together(tmp_path, photos, labels, ending):
    """1 was called 2, 2 was 3, 3 was 1: the names inside are from before, and every one of them lies here."""
    (tmp_path / labels).mkdir(exist_ok=True)
    for number in "123":
        picture(tmp_path / photos / f"{number}.jpg")
        (tmp_path / labels / f"{number}{ending}").write_text("")
    for number, inside in zip("123", "231"):
        path, said = find(tmp_path / photos, f"{inside}.jpg", f"{number}{ending}", tmp_path / labels)
        assert path == f"{number}.jpg" and f'"{inside}.jpg" has a label file of its own' in said[0]
    (tmp_path / labels / f"2{ending}").unlink()  # now 2.jpg has none, and its name is believed
    assert find(tmp_path / photos, "2.jpg", f"1{ending}", tmp_path / labels)[0] == "2.jpg"


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        picture(root / name)
    return root


@pytest.mark.parametrize(
    ("lies", "written", "own"),
    [
        ("a.jpg", "A.JPG", ""),
        ("Day1/IMG_1.jpg", "day1/img_1.JPG", ""),  # case in any folder
        ("a b.jpg", "a%20b.jpg", ""),
        ("a b.jpg", "file:///home/x/a%20b.jpg", ""),
        ("käse.jpg", unicodedata.normalize("NFD", "käse.jpg"), ""),  # macOS
        (unicodedata.normalize("NFD", "käse.jpg"), "käse.jpg", ""),
        ("a.jpg", "..\\..\\photos\\a.jpg", ""),
        ("a.jpg", "C:\\photos\\a.jpg", ""),
        ("deep/a.jpg", "other/a.jpg", ""),
        ("a.jpg", "a", ""),  # <filename> without its extension
        ("a.1.jpg", "a.1", ""),
        ("a.jpg", "a.png", ""),
        ("a.jpg", "000012.xml", "a.xml"),  # a name from before a rename
        ("demo.jpg", "Hello.jpg", "demo.json"),
        ("a.jpg", "zzz.png", "a.jpg.txt"),
        ("x/a.jpg", "000012.xml", "a.xml"),
        ("a.jpg", "1a2b3c4d-a", "1a2b3c4d-a.xml"),  # Label Studio's exports
        ("a.jpeg", "a(1).jpeg", "a(1).xml"),  # what a drive puts behind a name, of one of the two
        ("a (2).jpg", "a.jpg", "a.txt"),
        ("a.jpg", "1a2b3c4d-a.jpg", "1a2b3c4d-a.json"),
    ],
)
def test_the_only_picture_that_can_be_meant_is_taken_and_said(tmp_path, lies, written, own):
    assert find(pictures(tmp_path, lies, "zz/unlike.jpg"), written, own)[0] == lies
    said = find(tmp_path, written, own)[1]
    assert len(said) == 1 and f'"{lies}" taken instead' in said[0]


def test_a_label_file_that_names_itself(tmp_path):
    """labelme 4 wrote the name of the label file where it should name the picture."""
    (pictures(tmp_path, "a.jpg") / "a.json").write_text("{}")
    assert find(tmp_path, "a.json", own="a.json")[0] == "a.jpg"


def test_a_name_that_is_right_is_taken_without_a_word(tmp_path):
    root = pictures(tmp_path, "a.jpg", "sub/a.jpg", "100%25.jpg", "b.jpg")
    assert find(root, "a.jpg") == ("a.jpg", [])
    assert find(root, "a.jpg", "a.json", root / "sub") == ("sub/a.jpg", [])
    assert find(root, "../a.jpg", "a.json", root / "sub") == ("a.jpg", [])
    assert find(root, "100%25.jpg") == ("100%25.jpg", [])
    assert find(root, str(root / "b.jpg")) == ("b.jpg", [])  # absolute, and inside the root


def test_labels_and_pictures_in_mirrored_folders(tmp_path):
    """Annotations/cam1/1.xml belongs to JPEGImages/cam1/1.jpg, and the pictures' own root is said by the reader."""
    root = pictures(tmp_path / "JPEGImages", "cam1/1.jpg", "cam2/1.jpg", "cam2/only.jpg")
    labels = tmp_path / "Annotations"
    assert find(root, "1.jpg", "1.xml", labels / "cam1") == ("cam1/1.jpg", [])
    assert find(root, "1.jpg", "1.xml", labels / "cam2") == ("cam2/1.jpg", [])
    assert find(root, "only.jpg", "only.xml", labels) == ("cam2/only.jpg", [])
    # one root for both: the folder still says which, with a warning
    assert find(tmp_path, "1.jpg", "1.xml", labels / "cam2")[0] == "JPEGImages/cam2/1.jpg"
    error = refused(root, "1.jpg", "1.xml", labels)
    assert error.code == "B32" and "2 files may be meant: cam1/1.jpg, cam2/1.jpg" in error.text


def test_several_are_named_and_none_is_taken(tmp_path):
    root = pictures(tmp_path, "w/a.jpg", "x/a.jpg", "y/a.jpg", "z/a.jpg")
    error = refused(root, "a.jpg")
    assert error.text.endswith("4 files may be meant: w/a.jpg, x/a.jpg, y/a.jpg and 1 more")
    assert find(root, "C:\\photos\\y\\a.jpg")[0] == "y/a.jpg"  # the written folder decides
    pictures(root, "b.jpg", "c.png")
    assert "2 files may be meant: b.jpg, c.png" in refused(root, "c.jpg", "b.json").text  # one by each sign


def test_a_picture_with_a_label_file_of_its_own_is_left_to_it(tmp_path):
    """day1/a.jpg is gone; day2/a.jpg has its own label file, so the other one must not have it."""
    root = pictures(tmp_path, "day2/a.jpg")
    for day in ("day1", "day2"):
        (root / day).mkdir(exist_ok=True)
        (root / day / "a.json").touch()
    assert refused(root, "a.jpg", "a.json", root / "day1").code == "B32"
    (root / "day2" / "a.json").unlink()
    assert find(root, "a.jpg", "a.json", root / "day1")[0] == "day2/a.jpg"
    mirrored = tmp_path / "xml"
    for day in ("day1", "day2"):
        (mirrored / day).mkdir(parents=True)
        (mirrored / day / "a.xml").touch()
    assert refused(root, "a.jpg", "a.xml", mirrored / "day1").code == "B32"


def test_where_was_looked_and_what_lies_near(tmp_path):
    root = pictures(tmp_path, "scene_0012.jpg", "x.jpg")
    error = refused(root, "scene_012.jpg", "zzz.json")
    assert f"looked beside the label file and among the 2 images of {root}" in error.text
    assert '"scene_0012.jpg" lies here, is it meant?' in error.fix
    assert "is it meant" not in refused(root, "scene_0013.jpg", "zzz.json").fix  # another number, another photograph


def test_the_advice_about_the_root_is_quoted_and_helps(tmp_path, monkeypatch):
    """Followed once, it finds the picture; the folder's blank is quoted for the shell."""
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path, "my set/photos/a.jpg")
    labels = tmp_path / "my set" / "labels"
    labels.mkdir()
    error = refused(labels, "../photos/a.jpg", "a.json")
    assert error.code == "B31" and error.fix.endswith("--image-root 'my set'")
    assert find(tmp_path / "my set", "../photos/a.jpg", "a.json", labels) == ("photos/a.jpg", [])
    # a name that starts from the root: the root above finds it, too, and does not ask for one more
    error = refused(labels, "../photos/a.jpg")
    assert error.fix.endswith("--image-root 'my set'")
    assert find(tmp_path / "my set", "../photos/a.jpg")[0] == "photos/a.jpg"
    # nothing lies out there: no advice to look there
    assert "--image-root ." not in refused(labels, "../photos/b.jpg").fix


def test_never_outside_the_root(tmp_path):
    pictures(tmp_path, "outside.jpg")
    root = pictures(tmp_path / "root", "a.jpg")
    os.symlink(tmp_path / "outside.jpg", root / "link.jpg")
    assert refused(root, "../outside.jpg").code == "B31"
    assert refused(root, str(tmp_path / "outside.jpg")).code == "B31"
    assert refused(root, "elsewhere/link.jpg").code == "B31"  # found by its name, and still a link
    assert refused(root, "../../etc/passwd", "a.json").code == "B31"  # no picture's name: no guess


def test_fifty_repairs_are_three_lines_and_a_sum(tmp_path, capsys):
    """Stale <filename>s of a whole folder, as two public data sets have them."""
    xml = (
        "<annotation><filename>{}.xml</filename><size><width>64</width><height>48</height><depth>3</depth></size>"
        "<object><name>cat</name><bndbox><xmin>2</xmin><ymin>3</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
        "</annotation>"
    )
    for i in range(50):
        picture(tmp_path / f"image{i}.jpg")
        (tmp_path / f"image{i}.xml").write_text(xml.format(f"{i:06d}"))
    assert main(["convert", "voc", str(tmp_path), "--out", str(tmp_path / "o.json")]) == 0
    said = capsys.readouterr()
    assert "50 images" in said.out
    assert said.err.count("taken instead") == 3 and "and 47 more like it" in said.err
