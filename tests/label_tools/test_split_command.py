"""The command `split`: files, image_root, ties, manifest, refusals."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools.__main__ import main
from label_tools.document import coco_file
from label_tools.operations.split import group_by_name, split_file
from label_tools.text.errors import InputError
from tests.conftest import REAL_DATA, needs_real_data

USUAL = {"train": 0.7, "val": 0.2, "test": 0.1}


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((48, 36), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 different pictures in data/images, one object each, classes a and b in turn, data/annotations.json."""
    root = tmp_path / "data" / "images"
    root.mkdir(parents=True)
    images, annotations = [], []
    for k in range(1, 21):
        name = f"clip{k % 5}_{k:02}.png"
        picture(k).save(root / name)
        images.append({"id": k, "file_name": name, "width": 48, "height": 36})
        annotations.append(
            {
                "id": k,
                "image_id": k,
                "category_id": 1 + k % 2,
                "bbox": [1, 2, 20, 10],
                "area": 200,
                "iscrowd": 0,
                "segmentation": [],
            }
        )
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    document = {"info": {"image_root": "images"}, "images": images, "annotations": annotations}
    coco_file.write({**document, "categories": categories}, tmp_path / "data" / "annotations.json")
    return tmp_path / "data"


def files(folder: Path) -> dict[str, str]:
    return json.loads((folder / "split.json").read_text())["files"]


def test_parts_lie_beside_the_input_and_find_their_images(folder, capsys):
    assert main(["split", str(folder / "annotations.json")]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1].split() == ["images", "14", "4", "2"]
    for name, count in (("train", 14), ("val", 4), ("test", 2)):
        part = coco_file.read(folder / f"{name}.json")
        assert len(part["images"]) == count
        for image in part["images"]:
            assert coco_file.image_path(part, folder / f"{name}.json", image).is_file()


def test_another_folder_keeps_the_image_root_right(folder, tmp_path):
    out = tmp_path / "elsewhere" / "deep"
    split_file(folder / "annotations.json", fractions=USUAL, out=out)
    part = coco_file.read(out / "val.json")
    assert part["info"]["image_root"] == "../../data/images"
    assert coco_file.image_path(part, out / "val.json", part["images"][0]).is_file()


def test_image_root_in_place_of_the_files_own(folder, tmp_path):
    document = coco_file.read(folder / "annotations.json")
    coco_file.write({**document, "info": {}}, tmp_path / "foreign" / "instances.json")
    arguments = ["split", str(tmp_path / "foreign" / "instances.json"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert main([*arguments, "--image-root", str(folder / "images")]) == 0
    part = coco_file.read(tmp_path / "out" / "test.json")
    assert part["info"]["image_root"] == "../data/images"


def test_same_input_same_bytes_and_no_absolute_path(folder, tmp_path):
    copy = tmp_path / "other place"
    shutil.copytree(folder, copy)
    for place in (folder, copy):
        split_file(place / "annotations.json", fractions=USUAL)
    for name in ("train.json", "val.json", "test.json", "split.json"):
        assert (folder / name).read_bytes() == (copy / name).read_bytes()
        assert str(tmp_path) not in (folder / name).read_text()


@pytest.mark.parametrize("jobs", [1, 2])
def test_copies_and_likes_stay_together(folder, jobs):
    root = folder / "images"
    picture(3).save(root / "clip0_20.png")  # the same pixels as clip3_03.png
    picture(4).save(root / "clip4_19.jpg", quality=60)  # looks like clip4_04.png
    document = coco_file.read(folder / "annotations.json")
    document["images"][18]["file_name"] = "clip4_19.jpg"
    coco_file.write(document, folder / "annotations.json")
    for seed in range(5):
        manifest = split_file(folder / "annotations.json", fractions=USUAL, seed=seed, jobs=jobs)
        where = manifest["files"]
        assert where["clip3_03.png"] == where["clip0_20.png"]
        assert where["clip4_04.png"] == where["clip4_19.jpg"]
    assert manifest["kept_together"] == [
        {"why": "same pixels", "files": ["clip3_03.png", "clip0_20.png"]},
        {"why": "look alike", "files": ["clip4_04.png", "clip4_19.jpg"]},
    ]


def test_exact_ties_only_copies_and_off_opens_nothing(folder):
    root = folder / "images"
    picture(3).save(root / "clip0_20.png")
    exact = split_file(folder / "annotations.json", fractions=USUAL, duplicates="exact")
    assert [tie["why"] for tie in exact["kept_together"]] == ["same pixels"]
    shutil.rmtree(root)
    off = split_file(folder / "annotations.json", fractions=USUAL, duplicates="off")
    assert off["kept_together"] == []
    with pytest.raises(InputError, match=r"clip1_01\.png: no such file; .*--duplicates off"):
        split_file(folder / "annotations.json", fractions=USUAL)


def test_group_by_keeps_clips_together(folder):
    manifest = split_file(folder / "annotations.json", fractions=USUAL, group_by=r"clip(\d)_")
    for clip in range(5):
        assert len({part for name, part in manifest["files"].items() if name.startswith(f"clip{clip}")}) == 1
    # five clips of four images: 14/4/2 cannot be kept, and the person is told
    assert {name: p["images"] for name, p in manifest["parts"].items()} == {"train": 12, "val": 4, "test": 4}
    assert any("test got 4 of 20 images (20%, not 10%)" in warning for warning in manifest["warnings"])


def test_group_by_name():
    names = ["a/x_1.jpg", "a/x_2.jpg", "b/y.jpg"]
    assert group_by_name(names, "folder") == ["a", "a", "b"]
    assert group_by_name(names, r"(\w)_\d") == ["x", "x", None]
    assert group_by_name(names, r"^\w/") == ["a/", "a/", "b/"]
    with pytest.raises(InputError, match="not a regular expression"):
        group_by_name(names, "(")
    with pytest.raises(InputError, match="matches no file_name"):
        group_by_name(names, "zebra")


def test_a_class_that_train_lacks_is_said(folder):
    document = coco_file.read(folder / "annotations.json")
    for annotation in document["annotations"]:
        annotation["category_id"] = 1
    document["annotations"][7]["category_id"] = 2
    coco_file.write(document, folder / "annotations.json")
    manifest = split_file(folder / "annotations.json", fractions=USUAL)
    assert manifest["files"]["clip3_08.png"] == "train"  # the only one of its class is for learning
    assert [w for w in manifest["warnings"] if "holds no object of b" in w] == [
        "val holds no object of b: nothing there measures it; label more images of it",
        "test holds no object of b: nothing there measures it; label more images of it",
    ]


def test_a_picture_that_cannot_be_opened_says_what_to_do(folder, capsys):
    path = str(folder / "annotations.json")
    picture = next(p for p in (folder / "images").rglob("*") if p.is_file())
    picture.write_bytes(picture.read_bytes()[:-30])
    assert main(["split", path]) == 2
    error = capsys.readouterr().err
    assert picture.name in error and f"frcnn check {path} --decode --fix" in error and "--duplicates off" in error
    (folder / "images").rename(folder / "elsewhere")
    assert main(["split", path]) == 2
    assert "no such file; --image-root DIR names" in capsys.readouterr().err
    assert not (folder / "train.json").exists()


def test_keep_leaves_images_where_they_were(folder):
    path = folder / "annotations.json"
    document = coco_file.read(path)
    first = {**document, "images": document["images"][:10], "annotations": document["annotations"][:10]}
    coco_file.write(first, folder / "first.json")
    split_file(folder / "first.json", fractions=USUAL, out=folder / "a")
    split_file(path, fractions=USUAL, seed=9, keep=folder / "a" / "split.json", out=folder / "b")
    old, new = files(folder / "a"), files(folder / "b")
    assert {name: new[name] for name in old} == old and len(new) == 20


def test_keep_knows_an_image_by_its_file_when_names_start_from_another_folder(folder):
    """As after `merge` with another folder: "a.jpg" has become "pictures/a.jpg". By name none would be kept."""
    path = folder / "annotations.json"
    split_file(path, fractions=USUAL, out=folder / "a")
    document = coco_file.read(path)
    root = coco_file.image_root(document, path).resolve()
    for image in document["images"]:
        image["file_name"] = f"{root.name}/{image['file_name']}"
    relative = Path(os.path.relpath(root.parent, folder.resolve())).as_posix()
    coco_file.write({**document, "info": {**document["info"], "image_root": relative}}, folder / "merged.json")
    split_file(folder / "merged.json", fractions=USUAL, seed=9, keep=folder / "a" / "split.json", out=folder / "b")
    assert files(folder / "b") == {f"{root.name}/{name}": part for name, part in files(folder / "a").items()}


def test_keep_of_a_split_of_other_images_is_refused(folder):
    path = folder / "annotations.json"
    split_file(path, fractions=USUAL, out=folder / "a")
    manifest = folder / "a" / "split.json"
    manifest.write_text(manifest.read_text().replace('.jpg"', '.jpeg"').replace('.png"', '.jpeg"'))
    with pytest.raises(InputError, match="none of which is in"):
        split_file(path, fractions=USUAL, keep=manifest, out=folder / "b")
    assert not (folder / "b").exists()


def test_an_earlier_split_is_replaced_whole(folder):
    path = folder / "annotations.json"
    split_file(path, fractions=USUAL)
    split_file(path, fractions={"train": 0.5, "val": 0.5, "test": 0.0})
    assert not (folder / "test.json").exists() and set(files(folder).values()) == {"train", "val"}


def test_nobodys_files_are_overwritten(folder, capsys):
    path = folder / "annotations.json"
    (folder / "val.json").write_text("mine")
    assert main(["split", str(path)]) == 2
    assert "val.json: exists and is of no earlier split" in capsys.readouterr().err
    (folder / "val.json").unlink()
    path.rename(folder / "train.json")
    before = (folder / "train.json").read_bytes()
    assert main(["split", str(folder / "train.json")]) == 2
    assert "is an input of this command" in capsys.readouterr().err
    assert (folder / "train.json").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["images", "train.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "line 1 column 2"), ("[]", "no manifest"), ('{"files": {"a": "dev"}, "parts": {}}', "no manifest")],
)
def test_bad_manifest(folder, text, message):
    (folder / "kept.json").write_text(text)
    with pytest.raises(InputError, match=message):
        split_file(folder / "annotations.json", fractions=USUAL, keep=folder / "kept.json")


def test_json_on_stdout_is_the_manifest(folder, capsys):
    assert main(["split", str(folder / "annotations.json"), "--json", "--duplicates", "off"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((folder / "split.json").read_text())


@needs_real_data("raccoon")
def test_raccoons(tmp_path):
    """200 photographs, four of them present twice: found, and never in two parts."""
    raccoons = REAL_DATA / "raccoon"
    names = sorted(path.name for path in raccoons.glob("*.jpg"))
    images = [{"id": k, "file_name": n, "width": 9, "height": 9} for k, n in enumerate(names, 1)]
    document = {
        "info": {"image_root": "r"},
        "images": images,
        "annotations": [],
        "categories": [{"id": 1, "name": "raccoon"}],
    }
    (tmp_path / "r").symlink_to(raccoons)
    coco_file.write(document, tmp_path / "a.json")
    manifest = split_file(tmp_path / "a.json", fractions=USUAL)
    same = [t["files"] for t in manifest["kept_together"] if t["why"] == "same pixels"]
    assert [[name.removeprefix("raccoon-") for name in group] for group in same] == [
        ["11.jpg", "116.jpg"],
        ["120.jpg", "83.jpg"],
        ["52.jpg", "74.jpg"],
        ["65.jpg", "98.jpg"],
    ]
    for tie in manifest["kept_together"]:
        assert len({manifest["files"][name] for name in tie["files"]}) == 1


def test_augmented_copies_stay_together(tmp_path, capsys):
    """Ten photographs in three copies each, as Roboflow names them: no photograph lies in two parts, whatever the
    pictures show (--duplicates off opens none). `check` finds those of a split that tore them."""
    names = [f"IMG_{k:04}_jpg.rf.{1000 * k + c:08x}.jpg" for k in range(10) for c in range(3)]
    box = {"category_id": 1, "bbox": [1, 2, 20, 10], "area": 200, "iscrowd": 0, "segmentation": []}
    document = {
        "info": {},
        "images": [{"id": k, "file_name": name, "width": 48, "height": 36} for k, name in enumerate(names, 1)],
        "annotations": [{**box, "id": k, "image_id": k} for k in range(1, 31)],
        "categories": [{"id": 1, "name": "x"}],
    }
    coco_file.write(document, tmp_path / "annotations.json")
    for k, name in enumerate(names):
        picture(k).save(tmp_path / name)
    assert main(["split", str(tmp_path), "--duplicates", "off"]) == 0
    assert "kept together: 10 copies by name" in capsys.readouterr().out
    parts_of: dict[str, set[str]] = {}
    for name, part in files(tmp_path).items():
        parts_of.setdefault(name[:8], set()).add(part)
    assert len(parts_of) == 10 and all(len(parts) == 1 for parts in parts_of.values())
    for part, images in (("one", document["images"][0::3]), ("two", document["images"][1::3])):
        held = {image["id"] for image in images}
        annotations = [a for a in document["annotations"] if a["image_id"] in held]
        coco_file.write({**document, "images": images, "annotations": annotations}, tmp_path / f"{part}.json")
    assert main(["check", str(tmp_path / "one.json"), str(tmp_path / "two.json")]) == 0  # a warning
    assert "10 photographs with copies in two parts, by their names" in capsys.readouterr().out
