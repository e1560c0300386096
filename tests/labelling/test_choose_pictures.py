"""Which pictures come next: each sign, their ranks and the choice, by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from toolkit.labelling import choose_pictures
from toolkit.labelling.choose_pictures import Signs
from toolkit.prediction.tiles_and_tta import turned


def found(*detections):
    return [{"category_id": k, "score": s, "bbox": list(box)} for k, s, *box in detections]


def test_each_sign_by_hand():
    first = found((1, 0.5, 0, 0, 10, 10), (1, 0.9, 20, 0, 10, 10), (2, 0.04, 50, 0, 10, 10))
    second = found((2, 0.8, 0, 0, 10, 10))
    mirror = found((1, 0.3, 0, 0, 10, 8), (2, 0.6, 20, 0, 10, 10))
    signs = choose_pictures.signs_of([first, second, []], [mirror, second, []], {1: 3, 2: 0}, [np.zeros(0)] * 3)
    # 1 - |2 * .5 - 1| = 1 and 1 - |2 * .9 - 1| = .2, the .04 is under LEAST; 1 - |2 * .8 - 1| = .4; nothing
    assert signs.uncertainty == pytest.approx([1.2, 0.4, 0])
    # IoU of the first pair 80 / 100: .5 - .3 = .2; .9 finds class 2 in its place, no partner: .9; the mirror's .3 is
    # less than its partner, its .6 has none
    assert signs.disagreement == pytest.approx([0.2 + 0.9 + 0.6, 0, 0])
    # (.5 + .9) / (1 + 3 labels) + .04 / (1 + 0); .8 / (1 + 0)
    assert signs.rarity == pytest.approx([0.35 + 0.04, 0.8, 0])


def test_boxes_of_the_mirrored_picture_are_turned_back():
    one = turned(found((1, 0.5, 10, 4, 20, 6))[0], 100)
    assert one["bbox"] == [70, 4, 20, 6]  # its right edge, 30, is 70 from the left of a picture of 100


def pool(uncertainty, features=None):
    n = len(uncertainty)
    empty = np.zeros((n, 0)) if features is None else np.array(features, float)
    return Signs(np.array(uncertainty, float), np.zeros(n), np.zeros(n), empty)


def ranked(signs, number, **more):
    return choose_pictures.chosen_rows(signs, number, np.random.default_rng(0), random_share=0, **more)


def test_the_most_useful_come_first_and_say_why():
    # disagreement and rarity are equal in all, so that uncertainty decides: ranks 1/3, 1, 0, 2/3
    assert [row for row, _ in ranked(pool([0.2, 0.9, 0.1, 0.5]), 3)] == [1, 3, 0]
    assert ranked(pool([0.2, 0.9, 0.1, 0.5]), 1) == [(1, "uncertainty")]


def test_ranks_not_sizes_are_added():
    # ranks: uncertainty 0, .5, 1; disagreement .5, 1, 0; rarity 0, .5, 1. Sums .5, 2, 2, however large the 1000 is
    signs = Signs(np.array([0.0, 1, 1000]), np.array([1.0, 2, 0]), np.array([0.0, 0.1, 0.2]), np.zeros((3, 0)))
    first = Counter(
        choose_pictures.chosen_rows(signs, 1, np.random.default_rng(seed), random_share=0)[0][0] for seed in range(40)
    )
    assert set(first) == {1, 2} and min(first.values()) > 8  # equal sums: by lot


def test_equal_values_share_the_mean_of_their_ranks():
    # uncertainty .25, .25, 1; disagreement .5, 1, 0: sums .75, 1.25, 1. With ranks 0, 0, 1 rows 1 and 2 would be equal
    signs = Signs(np.array([1.0, 1, 3]), np.array([2.0, 3, 1]), np.zeros(3), np.zeros((3, 0)))
    for seed in range(8):
        assert choose_pictures.chosen_rows(signs, 1, np.random.default_rng(seed), random_share=0)[0][0] == 1


def test_a_scene_that_is_labelled_or_chosen_counts_less():
    right, up = [1, 0], [0, 1]
    # from the labelled picture, `right`, rows 0 and 1 are 1 - 0 off, row 2 1 - .8 = .2, row 3 nothing: 0 or 1 comes;
    # then the other one is like the chosen one, and row 2 is still min(.2, 1 - .6) off
    signs = pool([0.5, 0.5, 0.5, 0.5], [up, up, [0.8, 0.6], right])
    chosen = ranked(signs, 2, known_features=np.array([right]))
    assert chosen[0][0] in (0, 1) and chosen[1] == (2, "unlikeness")
    # nothing is labelled: all are as far off, and the first is drawn by lot
    assert ranked(signs, 4, known_features=np.zeros(0)) == ranked(signs, 4)


def test_of_look_alikes_one_and_none_that_is_labelled():
    chosen = ranked(pool([0.9, 0.8, 0.7, 0.6]), 4, groups=["a", "a", "b", "c"], used={"b"})
    assert [row for row, _ in chosen] == [0, 3]


def test_a_share_of_the_round_is_by_chance():
    signs = pool(np.linspace(0, 1, 50))
    for seed in range(5):
        chosen = choose_pictures.chosen_rows(signs, 10, np.random.default_rng(seed), random_share=0.3)
        assert Counter(why == choose_pictures.RANDOM for _, why in chosen) == {True: 3, False: 7}
        assert len({row for row, _ in chosen}) == 10
    everything = choose_pictures.chosen_rows(signs, 10, np.random.default_rng(0), random_share=1)
    assert {why for _, why in everything} == {choose_pictures.RANDOM}


def test_labelled_pictures_are_opened_as_the_model_was_trained(tmp_path, monkeypatch):
    """White is 1000 in a picture of 16 bits: 500 is half of it, 127.5 of 255; not 500 / 65535."""

    class Detector:
        def __init__(self):
            self.opening = {"max_value": 1000}

    monkeypatch.setattr(choose_pictures, "features_of", lambda _, pixels: pixels.mean((0, 1)))
    file = tmp_path / "a.png"
    Image.fromarray(np.full((8, 8), 500, np.uint16)).save(file)
    assert choose_pictures.known_features(Detector(), [file]) == pytest.approx(np.full((1, 3), 127.5), abs=0.5)


def test_signs_compare_boxes_and_turn_no_mask(tmp_path, monkeypatch):
    class Detector:
        opening, reads_windows = {}, False

        def detect(self, images):
            """The one bright pixel, with a mask that nobody can read."""
            ends = [int(np.argmax(image[0, :, 0])) for image in images]
            return [[{"category_id": 1, "score": 0.9, "bbox": [x, 0, 1, 1], "segmentation": None}] for x in ends]

    monkeypatch.setattr(choose_pictures, "features_of", lambda *_: np.ones(1))
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, 1] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    signs = choose_pictures.pool_signs(Detector(), [tmp_path / "a.png"], {})
    assert signs.disagreement == [0.0]  # the mirrored box, turned back, lies on the other
