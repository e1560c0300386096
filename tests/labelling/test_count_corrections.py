"""What a person made of a draft, counted by hand."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from toolkit.labelling.count_corrections import difference, total


def box(label, x1, y1, x2, y2, **more):
    return {"label": label, "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle", **more}


def test_a_mask_that_labelme_packed_anew_is_kept():
    def mask(pixels, level):
        stream = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8) * 255).save(stream, format="PNG", compress_level=level)
        return box("a", 0, 0, 19, 19) | {"shape_type": "mask", "mask": base64.b64encode(stream.getvalue()).decode()}

    pixels = np.tril(np.ones((20, 20), bool))
    assert mask(pixels, 0)["mask"] != mask(pixels, 9)["mask"]
    assert difference([mask(pixels, 0)], [mask(pixels, 9)])["kept"] == 1
    assert difference([mask(pixels, 0)], [mask(pixels.T, 9)])["moved"] == 1
    broken = mask(pixels, 0) | {"mask": "?"}
    assert difference([mask(pixels, 0)], [broken])["moved"] == 1


def test_kept_moved_renamed_added_deleted_and_the_clicks():
    draft = [box("a", 0, 0, 10, 10), box("a", 20, 0, 30, 10), box("a", 40, 0, 50, 10), box("b", 60, 0, 70, 10)]
    final = [
        box("b", 40, 0, 50, 10),  # renamed
        box("a", 10, 10, 0, 0),  # the same box by its other corners: kept
        box("a", 22, 0, 32, 10),  # IoU 8 / 12: moved
        box("a", 0, 50, 10, 60),  # added; the draft at 60 is deleted
    ]
    found = difference(draft, final)
    assert {k: found[k] for k in ("kept", "moved", "renamed", "added", "deleted")} == {
        "kept": 1,
        "moved": 1,
        "renamed": 1,
        "added": 1,
        "deleted": 1,
    }
    assert found["clicks"] == 2 + 2 + 2 + 3 + 1  # moved, renamed, deleted, added, the tick
    assert found["clicks_from_nothing"] == 4 * 3
    assert total([found, found])["clicks"] == 20
    assert difference(draft, final, {"add": 5, "delete": 1, "move": 0}, ticked=False)["clicks"] == 6


def test_a_box_that_jumped_is_deleted_and_added_and_scores_mean_nothing():
    found = difference([box("a", 0, 0, 10, 10, score=0.9)], [box("a", 8, 0, 18, 10)])  # IoU 2 / 18
    assert (found["added"], found["deleted"], found["moved"]) == (1, 1, 0)
    assert difference([box("a", 0, 0, 10, 10, score=0.9)], [box("a", 0, 0, 10.2, 10)])["kept"] == 1


@pytest.mark.parametrize("draft, final", [([], []), ([box("a", 0, 0, 1, 1)], []), ([], [box("a", 0, 0, 1, 1)])])
def test_every_shape_is_counted_once(draft, final):
    found = difference(draft, final)
    assert found["kept"] + found["moved"] + found["renamed"] + found["deleted"] == len(draft)
    assert found["kept"] + found["moved"] + found["renamed"] + found["added"] == len(final)


def test_a_draft_is_the_partner_of_one_shape_alone():
    one, moved = box("a", 0, 0, 10, 10), box("a", 1, 0, 11, 10)  # IoU 9 / 11
    found = difference([one], [moved, one])
    assert (found["kept"], found["moved"], found["added"], found["deleted"]) == (1, 0, 1, 0)
    found = difference([moved, one], [one])
    assert (found["kept"], found["moved"], found["added"], found["deleted"]) == (1, 0, 0, 1)
    found = difference([one], [box("b", 0, 0, 10, 10), moved])  # the same label before the nearer box
    assert (found["moved"], found["renamed"], found["added"]) == (1, 0, 1)


def test_an_outline_costs_its_points_and_its_class():
    outline = {"label": "a", "points": [[0, 0], [9, 0], [9, 9], [0, 9]], "shape_type": "polygon"}
    assert difference([], [outline], ticked=False)["clicks"] == 5
