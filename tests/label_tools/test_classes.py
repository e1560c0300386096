"""Which labels are classes, in which order and spelling."""

from __future__ import annotations

import pytest

from label_tools.readers.classes import alike, class_table, read_labels
from label_tools.text.errors import InputError

COCO80 = """
person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant stop_sign bench bird
parking_meter cat dog horse sheep cow elephant bear zebra giraffe backpack umbrella handbag tie suitcase
frisbee skis snowboard sports_ball kite baseball_bat baseball_glove skateboard surfboard tennis_racket bottle
wine_glass cup fork knife spoon bowl banana apple sandwich orange broccoli carrot hot_dog pizza donut cake
chair couch potted_plant bed dining_table toilet tv laptop mouse remote keyboard cell_phone microwave oven
toaster sink refrigerator book clock vase scissors teddy_bear hair_drier toothbrush
"""


def test_labels_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("__ignore__\n_background_\n dog \n\ncat\n", encoding="utf-8-sig")
    assert read_labels(path) == ["__ignore__", "_background_", "dog", "cat"]
    for bad, match in (("cat\ncat\n", "line 2.*twice"), ("\n", "no class"), ("_background_\n", "no class")):
        path.write_text(bad)
        with pytest.raises(InputError, match=match):
            read_labels(path)


def test_a_refused_label_names_the_files_that_hold_it():
    files = {"dgo": ["a.json", "b.json", "c.json", "d.json"], "Dog": ["a.json"], "dog": ["b.json"]}
    with pytest.raises(InputError, match=r'"dgo" \(7, in a.json, b.json, c.json and 1 more\), did you .*frcnn rename'):
        class_table({"dgo": 7}, ["dog"], files=files)
    with pytest.raises(InputError, match=r'"dog" \(5, in b.json\), "Dog" \(1, in a.json\)'):
        class_table({"Dog": 1, "dog": 5}, None, files=files)


def test_class_table():
    assert class_table({"b": 1, "a": 2, "__ignore__": 3}, None)[0] == ["a", "b"]
    names, spelling = class_table({"Cat": 1, "cat": 5, "CAT": 2}, None, merge_case=True)
    assert names == ["cat"] and set(spelling.values()) == {"cat"}
    assert class_table({"Cat": 1}, ["dog", "cat"], merge_case=True)[1] == {"Cat": "cat"}
    assert class_table({"cat": 1, "Cat": 2}, ["cat", "Cat"])[0] == ["cat", "Cat"]  # both are wanted
    with pytest.raises(InputError, match=r'"cat" \(5\), "Cat" \(1\)'):
        class_table({"Cat": 1, "cat": 5}, None)
    with pytest.raises(InputError, match=r'"dgo" \(3\), did you mean "dog"\?; "\\x1b" \(1\)'):
        class_table({"dgo": 3, "\x1b": 1, "cat": 1}, ["cat", "dog"])


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"bolt": 9, "bolts": 1}, [("bolts", "bolt")]),  # the rarer one first
        ({"bolt": 1, "bolts": 9}, [("bolt", "bolts")]),
        ({"box": 2, "boxes": 2}, [("boxes", "box")]),
        ({"hex_nut": 5, "hexnut": 1, "hex nut": 2}, [("hex nut", "hex_nut"), ("hexnut", "hex_nut")]),
        ({"raccoon": 100, "racoon": 10}, [("racoon", "raccoon")]),  # one letter, a tenth of the objects
        ({"raccoon": 100, "racoon": 11}, []),  # more than a slip of the hand
        ({"washer": 20, "wahser": 1}, [("wahser", "washer")]),  # two letters in the wrong order
        ({"washer": 20, "wasser": 2}, [("wasser", "washer")]),
        ({"cat": 50, "car": 1}, []),  # too short to tell a slip from a word
        ({"stage_1": 50, "stage_2": 1, "type_a": 50, "type_b": 1, "cellA": 50, "cellB": 1}, []),  # numbered on purpose
        ({"left wing": 50, "left wign": 1}, []),  # four letters
        ({"Cat": 1, "cat": 50}, []),  # is said elsewhere
        ({"glass": 50, "as": 1, "a": 1, "": 1}, []),
        ({}, []),
        ({"robin": 100, "robyn": 1}, [("robyn", "robin")]),  # five letters, and four are too few
        ({"bird": 100, "burd": 1}, []),
    ],
)
def test_alike(counts, expected):
    assert alike(counts) == expected


def test_the_names_of_real_sets_are_not_alike():
    """COCO's classes with 1, 20, 400, ... objects in turn: of every pair one is rare enough to be a slip."""
    names = COCO80.split()
    assert len(names) == 80
    for reverse in (False, True):
        assert alike({name: 20**k for k, name in enumerate(sorted(names, reverse=reverse))}) == []
