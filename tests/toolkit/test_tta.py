"""Test-time augmentation: views mirrored back, boxes fused, the network at another size."""

from __future__ import annotations

import numpy as np
import pytest

from label_tools.shapes import rle
from label_tools.text.errors import InputError
from tests.toolkit.test_tiles import Blobs
from tests.toolkit.training_fixtures import untrained_run
from toolkit.prediction.tiles_and_tta import Views, fused, turned
from toolkit.prediction.torch_detector import TorchDetector


def box(score: float, x: float = 0.0, category: int = 1) -> dict:
    return {"category_id": category, "score": score, "bbox": [x, 0.0, 10.0, 10.0]}


def test_fusion_by_hand():
    # boxes 0..10 at 0.8 and 1..11 at 0.4 overlap by 9/11 > 0.55: x = (0 * 0.8 + 1 * 0.4) / 1.2 = 1/3; score 1.2 / 2
    (one,) = fused([[box(0.8)], [box(0.4, x=1.0)]])
    assert one["bbox"] == pytest.approx([1 / 3, 0, 10, 10], abs=1e-3) and one["score"] == pytest.approx(0.6)
    # seen by one of two views alone: half of its score
    assert fused([[box(0.8)], []])[0]["score"] == pytest.approx(0.4)
    # two boxes of one view in a group: only its best counts, so a score never passes 1
    (one,) = fused([[box(1.0), box(0.9, x=1.0)], [box(1.0)]])
    assert one["score"] == 1
    # classes stay apart, far boxes too, best first
    found = fused([[box(0.8, x=50.0), box(0.9, category=2)], [box(0.7)]])
    assert [one["score"] for one in found] == pytest.approx([0.45, 0.4, 0.35])
    assert fused([[], []]) == []


def test_a_mirrored_view_comes_back_in_place():
    """A detector that is blind to mirroring gives with `flip` exactly what it gives without: box, score and mask."""
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[5:15, 3:20], image[20:30, 41:60] = 100, 200
    plain, found = Blobs().detect([image])[0], Views(Blobs(), ["flip"]).detect([image])[0]
    assert found == sorted(plain, key=lambda one: -one["score"])
    assert (rle.decode(rle.to_runs(found[0]["segmentation"]), 40, 60) == (image == 200).any(axis=2)).all()
    # the mask shown is that of the best view, here the plain one: the mirrored one's by itself
    (other,) = Blobs().detect([image[:, ::-1]])
    assert [turned(one, 60) for one in other] == plain


def test_scales_are_those_of_the_network_and_it_is_left_as_it_was(tmp_path):
    predictor = TorchDetector(untrained_run(tmp_path / "run", {}))
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    before = predictor.detect([image])
    sizes = predictor.model.transform.min_size, predictor.model.transform.max_size
    double = predictor.at_scale(2.0)
    other = double.detect([image])
    assert (predictor.model.transform.min_size, predictor.model.transform.max_size) == sizes
    assert predictor.detect([image]) == before != other
    assert double.identity != predictor.identity
    twice = Views(predictor, ["scales"]).detect([image])[0]
    assert twice and all(one["bbox"][0] + one["bbox"][2] <= 80.01 for one in twice)


def test_what_cannot_be_is_said():
    with pytest.raises(InputError, match="--tta: view flop: unknown; did you mean flip"):
        Views(Blobs(), ["flop"])
    with pytest.raises(InputError, match="sees pictures at one size"):
        Views(Blobs(), ["scales"])
