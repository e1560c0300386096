"""`merge`, `rename`, `remap`: classes by name, ids anew, image roots under one folder, nothing lost without a word."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_tools.__main__ import main
from label_tools.document import coco_file
from label_tools.operations.edit import merge_files, read_mapping, remap
from label_tools.text.errors import InputError


def document(files: dict[str, list[str]], classes: list[str], root: str = "images") -> dict:
    """One object per label in files[file_name], the k-th in a file at x = 10 k. Ids begin at 5 to be told apart."""
    ids = {name: k for k, name in enumerate(classes, start=5)}
    images = [{"id": 100 + k, "file_name": f, "width": 90, "height": 60} for k, f in enumerate(files)]
    annotations = [
        {
            "id": 7 * k + 3,
            "image_id": image["id"],
            "category_id": ids[label],
            "bbox": [10.0 * n, 5.0, 8.0, 9.0],
            "area": 72.0,
            "iscrowd": 0,
            "segmentation": [],
        }
        for k, (image, n, label) in enumerate(
            (image, n, label) for image in images for n, label in enumerate(files[image["file_name"]])
        )
    ]
    categories = [{"id": number, "name": name} for name, number in ids.items()]
    return {"info": {"image_root": root}, "images": images, "annotations": annotations, "categories": categories}


def save(path: Path, content: dict) -> Path:
    coco_file.write(content, path)
    return path


def said(content: dict) -> set[tuple[str, str, tuple[float, ...], int]]:
    """What a document says, without ids."""
    names = {c["id"]: c["name"] for c in content["categories"]}
    files = {i["id"]: i["file_name"] for i in content["images"]}
    return {
        (files[a["image_id"]], names[a["category_id"]], tuple(a["bbox"]), a["iscrowd"]) for a in content["annotations"]
    }


def assert_ids_from_one(content: dict) -> None:
    for key in ("images", "annotations", "categories"):
        assert [item["id"] for item in content[key]] == list(range(1, len(content[key]) + 1))


# --- merge -----------------------------------------------------------------------------------------------------


def test_merge_by_name_with_roots_of_their_own(tmp_path):
    a = save(tmp_path / "one" / "a.json", document({"x.jpg": ["cat", "dog"]}, ["cat", "dog"], "photos"))
    b = save(tmp_path / "two" / "b.json", document({"x.jpg": ["dog"], "y.jpg": ["emu"]}, ["dog", "emu"], "."))
    out = tmp_path / "out" / "merged.json"
    assert main(["merge", str(a), str(b), "--out", str(out)]) == 0
    merged = coco_file.read(out)
    assert_ids_from_one(merged)
    assert merged["info"]["image_root"] == ".."  # the folder that holds one/photos and two
    assert [c["name"] for c in merged["categories"]] == ["cat", "dog", "emu"]
    assert said(merged) == {
        ("one/photos/x.jpg", "cat", (0, 5, 8, 9), 0),
        ("one/photos/x.jpg", "dog", (10, 5, 8, 9), 0),
        ("two/x.jpg", "dog", (0, 5, 8, 9), 0),
        ("two/y.jpg", "emu", (0, 5, 8, 9), 0),
    }


def test_merge_finds_the_images_again(tmp_path):
    from PIL import Image

    for folder, colour in (("one", "red"), ("two", "blue")):
        (tmp_path / folder / "images").mkdir(parents=True)
        Image.new("RGB", (90, 60), colour).save(tmp_path / folder / "images" / "x.png")
        save(tmp_path / folder / "a.json", document({"x.png": ["cat"]}, ["cat"]))
    out = tmp_path / "deep" / "down" / "m.json"
    merge = merge_files([tmp_path / "one" / "a.json", tmp_path / "two" / "a.json"], out)
    coco_file.write(merge.document, out)
    for image in merge.document["images"]:
        assert coco_file.image_path(merge.document, out, image).is_file()


def test_same_image_said_twice_is_kept_once(tmp_path, capsys):
    a = save(tmp_path / "a.json", document({"x.jpg": ["cat"], "y.jpg": ["dog"]}, ["cat", "dog"]))
    b = save(tmp_path / "b.json", document({"x.jpg": ["cat"], "z.jpg": ["dog"]}, ["dog", "cat"]))
    assert main(["merge", str(a), str(b), "--out", str(tmp_path / "m.json")]) == 0
    assert "objects in 4 = out 3 + dropped 0 + duplicates 1" in capsys.readouterr().out
    assert len(coco_file.read(tmp_path / "m.json")["images"]) == 3
    assert main(["merge", str(a), str(b), "--out", str(tmp_path / "m.json")]) == 0
    assert "m.json (replaces an earlier one): 3 images" in capsys.readouterr().out


def test_same_image_by_another_way(tmp_path):
    a = save(tmp_path / "a.json", document({"x.jpg": ["cat"]}, ["cat"], "images"))
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    b = save(tmp_path / "sub" / "b.json", document({"x.jpg": ["cat"]}, ["cat"], "../link"))
    assert len(merge_files([a, b], tmp_path / "m.json").document["images"]) == 1


def test_files_that_disagree(tmp_path, capsys):
    a = save(tmp_path / "a.json", document({"x.jpg": ["cat"]}, ["cat", "dog"]))
    b = save(tmp_path / "b.json", document({"x.jpg": ["cat", "dog"]}, ["cat", "dog"]))
    out = tmp_path / "m.json"
    assert main(["merge", str(a), str(b), "--out", str(out)]) == 2
    assert "image x.jpg is in" in capsys.readouterr().err and not out.exists()
    assert main(["merge", str(a), str(b), "--out", str(out), "--same-image", "first"]) == 0
    assert [label for _, label, _, _ in said(coco_file.read(out))] == ["cat"]
    assert "objects in 3 = out 1 + dropped 1 + duplicates 1" in capsys.readouterr().out
    assert main(["merge", str(a), str(b), "--out", str(out), "--same-image", "join"]) == 0
    assert Counter(label for _, label, _, _ in said(coco_file.read(out))) == {"cat": 1, "dog": 1}


def test_a_file_with_fewer_objects_of_an_image_disagrees(tmp_path):
    a = save(tmp_path / "a.json", document({"x.jpg": ["cat", "dog"]}, ["cat", "dog"]))
    b = save(tmp_path / "b.json", document({"x.jpg": ["cat"]}, ["cat", "dog"]))
    with pytest.raises(InputError, match=r"with other objects \(2 there, 1 here\)"):
        merge_files([a, b], tmp_path / "m.json")
    assert len(merge_files([a, b], tmp_path / "m.json", "first").document["annotations"]) == 2


def test_two_spellings_are_refused_with_the_way_out(tmp_path, capsys):
    a = save(tmp_path / "a.json", document({"x.jpg": ["cat"]}, ["cat"]))
    b = save(tmp_path / "b b.json", document({"y.jpg": ["Cat"]}, ["Cat"]))
    assert main(["merge", str(a), str(b), "--out", str(tmp_path / "m.json")]) == 2
    assert f"frcnn rename '{b}' Cat=cat --out NEW.json" in capsys.readouterr().err  # as a shell takes it
    assert main(["rename", str(b), "Cat=cat", "--out", str(tmp_path / "c.json")]) == 0
    assert main(["merge", str(a), str(tmp_path / "c.json"), "--out", str(tmp_path / "m.json")]) == 0


def test_merge_keeps_how_the_pictures_are_opened(tmp_path):
    a = {**document({"x.jpg": ["cat"]}, ["cat"]), "info": {"image_root": "a", "max_value": 4095, "max_pixels": 2e8}}
    b = {**document({"x.jpg": ["cat"]}, ["cat"]), "info": {"image_root": "b", "max_pixels": 3e8}}
    c = {**b, "info": {"image_root": "c", "max_value": 1023}}
    paths = [save(tmp_path / f"{name}.json", one) for name, one in (("a", a), ("b", b), ("c", c))]
    info = merge_files(paths[:2], tmp_path / "m.json").document["info"]
    assert info == {"image_root": ".", "max_value": 4095, "max_pixels": 3e8}
    with pytest.raises(InputError, match=r"c\.json, info\.max_value 1023, and 4095 in .*a\.json: one file has one"):
        merge_files(paths, tmp_path / "m.json")


def test_one_file_is_no_merge(tmp_path):
    a = save(tmp_path / "a.json", document({"x.jpg": ["cat"]}, ["cat"]))
    with pytest.raises(InputError, match="two files or more"):
        merge_files([a], tmp_path / "m.json")


def ignoring(content: dict) -> dict:
    """The document with an ignore region in its first image, once per class, as `convert` writes it."""
    for category in content["categories"]:
        content["annotations"].append(
            {
                "id": 900 + category["id"],
                "image_id": content["images"][0]["id"],
                "category_id": category["id"],
                "bbox": [1.0, 40.0, 9.0, 9.0],
                "area": 81.0,
                "iscrowd": 1,
                "segmentation": [],
                "label": "__ignore__",
            }
        )
    return content


def test_ignore_regions_stand_once_per_class_after_all(tmp_path):
    a = save(tmp_path / "a.json", ignoring(document({"x.jpg": ["cat"]}, ["cat", "dog"])))
    b = save(tmp_path / "b.json", document({"y.jpg": ["emu"]}, ["emu"]))
    merged = merge_files([a, b], tmp_path / "m.json")
    assert (merged.objects_in, merged.objects_out) == (3, 3)
    regions = [a for a in merged.document["annotations"] if a["iscrowd"]]
    assert [a["category_id"] for a in regions] == [1, 2, 3] and {a["image_id"] for a in regions} == {1}
    assert_ids_from_one(merged.document)
    fewer = remap(merged.document, {"dog": "cat", "emu": None})
    assert [a["category_id"] for a in fewer.document["annotations"] if a["iscrowd"]] == [1]
    assert (fewer.objects_in, fewer.objects_out, fewer.dropped) == (3, 2, 1)


# --- rename and remap ------------------------------------------------------------------------------------------


def test_rename_keeps_order_and_swaps(tmp_path):
    whole = document({"x.jpg": ["cat", "dog", "emu"]}, ["cat", "dog", "emu"])
    before = copy.deepcopy(whole)
    edited = remap(whole, {"cat": "dog", "dog": "cat"})
    assert whole == before
    assert [c["name"] for c in edited.document["categories"]] == ["dog", "cat", "emu"]
    assert [n for _, n, *_ in sorted(said(edited.document), key=lambda s: s[2])] == ["dog", "cat", "emu"]
    assert_ids_from_one({**edited.document, "images": []})


def test_classes_become_one_and_objects_said_twice_go():
    whole = document({"x.jpg": ["cat", "dog"]}, ["cat", "dog", "emu"])
    whole["annotations"][1]["bbox"] = whole["annotations"][0]["bbox"]
    edited = remap(whole, {"dog": "cat"})
    assert [c["name"] for c in edited.document["categories"]] == ["cat", "emu"]
    assert (edited.objects_in, edited.objects_out, edited.dropped, edited.repeated) == (2, 1, 0, 1)


def test_dropping():
    whole = document({"x.jpg": ["cat", "dog"], "y.jpg": ["emu"]}, ["cat", "dog", "emu"])
    edited = remap(whole, {"cat": None})
    assert {n for _, n, *_ in said(edited.document)} == {"dog", "emu"} and edited.dropped == 1
    edited = remap(whole, {"cat": "feline"}, drop_others=True)
    assert {n for _, n, *_ in said(edited.document)} == {"feline"} and edited.dropped == 2
    assert len(edited.document["images"]) == 2  # an image without objects teaches, too
    with pytest.raises(InputError, match="no class would be left"):
        remap(whole, {"cat": None}, drop_others=True)
    with pytest.raises(InputError, match='no class "cow"; it has cat, dog, emu'):
        remap(whole, {"cow": "cat"})


def test_the_image_root_follows_the_file(tmp_path):
    a = save(tmp_path / "a.json", document({"x.jpg": ["cat"]}, ["cat"], "pictures"))
    assert main(["rename", str(a), "cat=lion", "--out", str(tmp_path / "deep" / "b.json")]) == 0
    assert coco_file.read(tmp_path / "deep" / "b.json")["info"]["image_root"] == "../pictures"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat=lion\n\n# comment\ndog = \n", {"cat": "lion", "dog": None}),
        ('{"cat": "lion", "dog": null}', {"cat": "lion", "dog": None}),
        ("\ufeffcat=big lion # the large one", {"cat": "big lion"}),
    ],
)
def test_mapping_files(tmp_path, text, expected):
    path = tmp_path / "map"
    path.write_text(text, encoding="utf-8")
    assert read_mapping(path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat=a\ncat=b", 'line 2: "cat" is mapped twice'),
        ("cat", "line 1: 'cat', needs old=new"),
        ("=b", "line 1: '=b', needs old=new"),
        ("# nothing", "no mapping in it"),
        ('{"cat": 3}', '"cat": 3, needs a class name or null'),
        ('{"cat": ', "no valid JSON"),
    ],
)
def test_bad_mapping_files(tmp_path, text, message):
    (tmp_path / "map").write_text(text)
    with pytest.raises(InputError, match=message):
        read_mapping(tmp_path / "map")


def test_commands_refuse(tmp_path, capsys):
    a = save(tmp_path / "a.json", document({"x.jpg": ["cat"]}, ["cat"]))
    before = a.read_bytes()
    (tmp_path / "notes.json").write_text('{"my": "notes"}')
    for arguments, message in (
        (["rename", str(a), "cat=dog", "--out", str(a)], "never overwritten"),
        (["rename", str(a), "cat=dog", "--out", str(tmp_path / "notes.json")], "is of no earlier edit"),
        (["rename", str(a), "cat", "--out", str(tmp_path / "b.json")], "needs OLD=NEW"),
        (["rename", str(a), "cat=a", "cat=b", "--out", str(tmp_path / "b.json")], "mapped twice"),
        (["remap", str(a), str(tmp_path / "none"), "--out", str(tmp_path / "b.json")], "cannot be read"),
        (["merge", str(a), str(a), "--out", str(a)], "never overwritten"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
    assert a.read_bytes() == before and not (tmp_path / "b.json").exists()


names = st.sampled_from(["cat", "dog", "emu", "fox"])
some_files = st.dictionaries(
    st.sampled_from(["p.jpg", "q.jpg", "r.jpg", "s.jpg"]), st.lists(names, max_size=4), min_size=1
)


@given(some_files, some_files)
@settings(max_examples=60, deadline=None)
def test_merge_says_what_both_said(tmp_path_factory, one, two):
    folder = tmp_path_factory.mktemp("merge")
    classes = ["cat", "dog", "emu", "fox"]
    a = document(one, classes, "i")
    b = document(two, classes[::-1], "i")
    merged = merge_files([save(folder / "a.json", a), save(folder / "b.json", b)], folder / "m.json", "join")
    assert said(merged.document) == said(a) | said(b)
    assert merged.objects_out == len(merged.document["annotations"])
    assert_ids_from_one(merged.document)


@given(some_files, st.dictionaries(names, st.one_of(st.none(), names), max_size=3))
@settings(max_examples=60, deadline=None)
def test_remap_by_name(files, mapping):
    whole = document(files, ["cat", "dog", "emu", "fox"])
    new = {old: mapping.get(old, old) for old in ("cat", "dog", "emu", "fox")}
    if all(value is None for value in new.values()):
        return
    edited = remap(whole, mapping)
    assert said(edited.document) == {(f, new[n], box, crowd) for f, n, box, crowd in said(whole) if new[n]}
    assert edited.objects_in == len(whole["annotations"])
    assert edited.objects_out == len(edited.document["annotations"])
