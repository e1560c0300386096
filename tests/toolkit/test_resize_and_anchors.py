"""What a network sees: sizes, strides and anchors against the networks themselves, coverage by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from anchors.boxes import box_iou
from anchors.grid import grid_anchors
from tests.toolkit.evaluation_fixtures import document_of
from toolkit.__main__ import main
from toolkit.data.coco_index import read_index
from toolkit.evaluation.evaluate_run import anchor_coverage
from toolkit.metrics.coco_tables import read_tables
from toolkit.networks import registry
from toolkit.networks.resize_and_anchors import Level, View, coverage, strides, view_of

SIZES = [(60, 80), (80, 60), (33, 97), (400, 401), (7, 7), (427, 640)]


def test_best_iou_by_hand():
    # one square anchor of side 16 at every multiple of 16: a box that is one of them, half of one, and far larger
    view = View(160, 160, (Level(16, (16.0,), (1.0,)),))
    boxes = np.array([[8, 8, 24, 24], [8, 8, 24, 16], [0, 0, 160, 160]], float)
    sizes = np.array([[160, 160]] * 3, float)
    # the anchor lies inside the large box: 256 / 25600 = .01
    assert view.best_iou(boxes, sizes).tolist() == pytest.approx([1.0, 0.5, 0.01])
    assert view.best_iou(np.zeros((0, 4)), np.zeros((0, 2))).shape == (0,)


def test_coverage_by_hand():
    boxes = [(1, 48, 48, 32, 32), (1, 0, 0, 8, 128), (1, 20, 48, 32, 32)]
    view = View(200, 400, (Level(16, (32,), (1.0,)),))
    found = anchor_coverage(read_tables(document_of([boxes], size=(200, 200)), []), view)
    # the first has its centre (64, 64) on the grid and the anchor's size: IoU 1.
    # the second, centre (4, 64): the anchor at (0, 64) covers x 0..8 (its right half is 16 wide), y 48..80:
    # 8 * 32 / (32 * 32 + 8 * 128 - 256) = 256 / 1792
    # the third, centre (36, 64): the nearest anchor lies 4 pixels to the left: 28 * 32 / (2 * 1024 - 896)
    assert found["best_iou"] == pytest.approx([1.0, 256 / 1792, 896 / 1152], abs=1e-3)
    assert found["covered"] == found["per_class"]["nut"]["covered"] == pytest.approx(2 / 3)
    assert found["layout"] == {
        "sizes": [[32]],
        "aspect_ratios": [[1.0]],
        "strides": [16],
        "image_size": 200,
        "max_size": 400,
    }
    assert anchor_coverage(read_tables(document_of([[]]), []), view) is None
    assert coverage(np.zeros(0)) == {
        "mean_best_iou": None,
        "covered": None,
        "covered_at_0.7": None,
        "num_objects": 0,
    }


@pytest.mark.parametrize("limits", [(800, 1333), (100, 120), (50, 51), (160, 256)])
def test_the_resize_is_torchvisions(limits):
    transform = GeneralizedRCNNTransform(*limits, [0.0] * 3, [1.0] * 3)
    for size, seen in zip(SIZES, View(*limits).seen(np.array(SIZES)).tolist(), strict=True):
        image, _ = transform.resize(torch.zeros(3, *size), None)
        assert tuple(seen) == tuple(image.shape[1:])


def test_the_teaching_network_only_shrinks():
    model = registry.find("anchors_tiny").build(num_classes=2, max_size=256)
    sizes = view_of(model).seen(np.array(SIZES)).tolist()
    assert sizes == [list(r["image_size"]) for r in (model._batch([torch.zeros(3, *s)])[1][0] for s in SIZES)]


def test_a_size_that_nobody_knows_is_taken_as_it_is():
    view = View(800, 1333, (Level(16, (16,), (1.0,)),))
    assert view.scale(np.array([[0, 0], [400, 400]])).tolist() == [[1, 1], [2, 2]]
    assert view.best_iou(np.array([[40.0, 40, 56, 56]]), np.zeros((1, 2))) == [1.0]  # centre (48, 48), on the grid


@pytest.mark.parametrize("name", registry.REGISTRY)
def test_four_cells_a_shape_are_as_good_as_all_anchors_of_the_network(name):
    """The network's own anchors on its own feature maps, as it would train with them, against `best_iou`."""
    model = registry.find(name).build(num_classes=2, min_size=100, max_size=140).eval()
    view = view_of(model)
    rng = np.random.default_rng(0)
    for size in ((60, 80), (97, 33), (150, 150)):
        corner = rng.uniform(0, 0.9, (40, 2)) * size[::-1]
        boxes = np.concatenate([corner, np.minimum(corner + rng.uniform(2, 90, (40, 2)), size[::-1])], axis=1)
        boxes = boxes.astype(np.float32)
        anchors, scaled = anchors_and_boxes(model, torch.rand(3, *size), torch.from_numpy(boxes))
        expected = box_iou(scaled.double(), anchors.double()).max(dim=1).values.numpy()
        assert view.best_iou(boxes, np.tile([size], (40, 1))) == pytest.approx(expected, abs=1e-5)


def anchors_and_boxes(model, image: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All anchors of the network over an image, and the boxes as the network sees them."""
    if not hasattr(model, "rpn"):
        batch, [record] = model._batch([image])
        with torch.inference_mode():
            cells = tuple(model.backbone(batch).shape[-2:])
        return grid_anchors(model.cell_anchors, cells, 8), boxes * record["scale"]
    images, [target] = model.transform([image], [{"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}])
    with torch.inference_mode():
        maps = [level for name, level in model.backbone(images.tensors).items() if name != "fine"]  # that of masks
    return model.rpn.anchor_generator(images, maps)[0], target["boxes"]


def test_levels_are_those_of_the_network():
    model = registry.find("fasterrcnn_resnet50_fpn").build(num_classes=2)
    levels = view_of(model).levels
    assert [level.stride for level in levels] == [4, 8, 16, 32, 64]
    assert [level.sizes for level in levels] == [(32,), (64,), (128,), (256,), (512,)]
    assert model.training and all(module.training for module in model.backbone.modules())  # left as it was
    tiny = view_of(registry.find("anchors_tiny").build(num_classes=2)).levels
    assert tiny == (Level(8, (16, 32, 64), (0.5, 1, 2)),)
    assert strides(torch.nn.Conv2d(3, 4, 4, stride=4)) == {"0": 4}  # a backbone of one map
    assert view_of(torch.nn.Identity()) is None


def test_advice_and_report_say_the_same_to_the_last_digit(toy_set, capsys):
    path = toy_set(num_images=8)
    document = json.loads(path.read_text())
    for size in (64, 100, 200):
        assert main(["advise", str(path), "--model", "fasterrcnn_tiny_fpn", "--size", str(size), "--json"]) == 0
        advised = json.loads(capsys.readouterr().out)
        model = registry.find("fasterrcnn_tiny_fpn").build(num_classes=2, min_size=size, max_size=advised["max_size"])
        reported = anchor_coverage(read_tables(document, []), view_of(model))
        assert advised["coverage"]["all"] == {
            "0.5": reported["covered"],
            "0.7": reported["covered_at_0.7"],
            "mean_iou": reported["mean_best_iou"],
            "num_objects": reported["num_objects"],
        }
        assert len(read_index(path).boxes) == reported["num_objects"]
