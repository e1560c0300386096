"""The swap: a torchvision Faster R-CNN that runs on this package's operators gives what it gave before.

Anchor generator, matchers, samplers, coders, RoI pooling, NMS and IoU are exchanged in one of two equal networks.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from anchors.boxes import box_iou
from anchors.deltas import decode, encode
from anchors.fast.nms import nms
from anchors.fast.roi_align import roi_align
from anchors.fast.roi_pool import roi_pool
from anchors.grid import generate_cell_anchors, grid_anchors
from anchors.matching import match_anchors, to_matched_idxs
from anchors.nms import batched_nms
from anchors.sampling import sample_labels
from anchors.train_on_scenes import draw_scenes

torch.set_num_threads(1)
SIDE, STRIDE, SIZES, RATIOS = 96, 8, (16, 32, 48), (0.5, 1.0, 2.0)


class Grid(nn.Module):
    """In place of AnchorGenerator."""

    def forward(self, images, features):
        cell = generate_cell_anchors(SIZES, RATIOS, rounded=True)
        anchors = grid_anchors(cell, tuple(features[0].shape[-2:]), STRIDE, offset=0)
        return [anchors for _ in images.image_sizes]


class Match:
    """In place of Matcher."""

    BELOW_LOW_THRESHOLD, BETWEEN_THRESHOLDS = -1, -2

    def __init__(self, high_thresh, low_thresh, low_quality):
        self.options = dict(high_thresh=high_thresh, low_thresh=low_thresh, low_quality=low_quality)

    def __call__(self, iou):
        return to_matched_idxs(*match_anchors(iou, **self.options, force_zero_iou=True))


class Sample:
    """In place of BalancedPositiveNegativeSampler."""

    def __init__(self, num_samples, positive_fraction):
        self.options = dict(num_samples=num_samples, positive_fraction=positive_fraction)

    def __call__(self, labels_of_images):
        masks = [], []
        for labels in labels_of_images:
            for part, indices in zip(masks, sample_labels(labels.long(), **self.options)):
                part.append(torch.zeros_like(labels, dtype=torch.uint8).index_fill(0, indices, 1))
        return masks


class Code:
    """In place of BoxCoder."""

    def __init__(self, weights):
        self.weights = weights

    def encode(self, gt_boxes, anchors):
        # without a gt torchvision passes boxes of zeros here, whose targets train nothing; ours refuses them
        real = [torch.where((gt[:, 2:] > gt[:, :2])[:, :1], gt, own) for gt, own in zip(gt_boxes, anchors)]
        return [encode(gt, own, self.weights) for gt, own in zip(real, anchors)]

    def decode(self, deltas, anchors):
        return decode(deltas, torch.cat(list(anchors)), self.weights)


class Pool(nn.Module):
    """In place of MultiScaleRoIAlign (ours) or beside it (torchvision's roi_pool)."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, features, boxes, image_shapes):
        rois = torch.cat([torch.cat((b.new_full((len(b), 1), i), b), dim=1) for i, b in enumerate(boxes)])
        if self.kind == "ours, pool":
            return roi_pool(features["0"], rois, 7, 1 / STRIDE)
        if self.kind == "ours, align":
            return roi_align(features["0"], rois, 7, 1 / STRIDE, sampling_ratio=2, aligned=False)
        return torchvision.ops.roi_pool(features["0"], rois, 7, 1 / STRIDE)


class Head(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(1), nn.Linear(64 * 49, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())


def torchvision_model(pooling):
    layers, before = [], 3
    for after, halve in ((16, True), (32, True), (64, True), (64, False)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if halve else []
        before = after
    backbone = nn.Sequential(*layers)
    backbone.out_channels = 64
    model = FasterRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator((SIZES,), (RATIOS,)),
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        box_head=Head(),
        box_predictor=torchvision.models.detection.faster_rcnn.FastRCNNPredictor(64, 4),
        min_size=SIDE,
        max_size=SIDE,
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_pre_nms_top_n_train=600,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_train=100,
        rpn_post_nms_top_n_test=50,
        rpn_batch_size_per_image=64,
        box_batch_size_per_image=32,
    )
    if pooling == "pool":
        model.roi_heads.box_roi_pool = Pool("torchvision's, pool")
    return model


def swapped(model, pooling):
    """A copy whose operators are ours. The constructor wants torchvision's classes: they are assigned after it."""
    model = copy.deepcopy(model)
    model.rpn.anchor_generator = Grid()
    model.rpn.box_similarity = box_iou
    model.rpn.proposal_matcher = Match(0.7, 0.3, True)
    model.rpn.fg_bg_sampler = Sample(64, 0.5)
    model.rpn.box_coder = Code((1.0, 1.0, 1.0, 1.0))
    model.roi_heads.proposal_matcher = Match(0.5, 0.5, False)
    model.roi_heads.fg_bg_sampler = Sample(32, 0.25)
    model.roi_heads.box_coder = Code((10.0, 10.0, 5.0, 5.0))
    model.roi_heads.box_roi_pool = Pool(f"ours, {pooling}")
    return model


@contextmanager
def our_nms_and_iou(calls):
    """torchvision's detectors call these two by their module: exchange them there, and count the calls."""
    module = torchvision.ops.boxes
    before = {name: getattr(module, name) for name in ("nms", "batched_nms", "box_iou")}

    def counted(name, function):
        def call(*args, **kwargs):
            calls[name] = calls.get(name, 0) + 1
            return function(*args, **kwargs)

        return call

    for name, function in (("nms", nms), ("batched_nms", batched_nms), ("box_iou", box_iou)):
        setattr(module, name, counted(name, function))
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(module, name, function)


def losses_and_gradients(model, images, targets):
    torch.manual_seed(7)
    losses = model.train()(images, targets)
    model.zero_grad()
    sum(losses.values()).backward()
    return {k: v.detach() for k, v in losses.items()}, {k: p.grad.clone() for k, p in model.named_parameters()}


def batch(first_seed, count):
    images, targets = zip(*draw_scenes(first_seed, count))
    return list(images), list(targets)


def trained(pooling, steps):
    torch.manual_seed(0)
    model = torchvision_model(pooling).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        losses = model(*batch(4 * (step % 50), 4))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("pooling", ["pool", "align"])
@pytest.mark.parametrize("steps", [0, 12])
def test_the_swap_changes_neither_losses_nor_gradients_nor_detections(pooling, steps):
    theirs = trained(pooling, steps)
    ours = swapped(theirs, pooling)
    images, targets = batch(1000, 4)
    # one image without objects goes torchvision's own way for background
    targets[1] = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    expected, expected_grads = losses_and_gradients(theirs, images, targets)
    calls = {}
    with our_nms_and_iou(calls):
        found, found_grads = losses_and_gradients(ours, images, targets)
    assert calls["batched_nms"] == 4 and calls["box_iou"] >= 3
    for name, value in expected.items():
        assert abs(found[name] - value) <= 1e-6, name
        assert value > 0, name
    assert set(found_grads) == set(expected_grads)
    for name, grad in expected_grads.items():
        assert (found_grads[name] - grad).abs().max() <= 1e-6, name

    theirs.eval(), ours.eval()
    theirs.roi_heads.score_thresh = ours.roi_heads.score_thresh = 0.0  # so young a network is sure of nothing
    with torch.no_grad():
        expected = theirs(images)
        with our_nms_and_iou(calls):
            found = ours(images)
    assert sum(len(result["boxes"]) for result in expected) > 20
    for a, b in zip(expected, found):
        assert torch.equal(a["labels"], b["labels"])
        if pooling == "pool":
            assert torch.equal(a["boxes"], b["boxes"]) and torch.equal(a["scores"], b["scores"])
        else:  # the mean over a bin's points is summed in another order
            torch.testing.assert_close(b["boxes"], a["boxes"], rtol=0, atol=1e-4)
            torch.testing.assert_close(b["scores"], a["scores"], rtol=0, atol=1e-6)


def test_a_wrong_operator_is_noticed():
    theirs = trained("pool", 0)
    images, targets = batch(1000, 2)
    expected, _ = losses_and_gradients(theirs, images, targets)
    ours = swapped(theirs, "pool")
    ours.rpn.proposal_matcher = Match(0.7, 0.3, False)  # without the best anchor of each gt
    with our_nms_and_iou({}):
        found, _ = losses_and_gradients(ours, images, targets)
    assert abs(found["loss_rpn_box_reg"] - expected["loss_rpn_box_reg"]) > 1e-3


def mean_average_precision(results, scenes):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = {"images": [], "annotations": [], "categories": [{"id": c, "name": str(c)} for c in (1, 2, 3)]}
    detections = []

    def bbox(box):
        x1, y1, x2, y2 = box.tolist()
        return [x1, y1, x2 - x1, y2 - y1]

    for i, ((_, target), result) in enumerate(zip(scenes, results), start=1):
        truth["images"].append({"id": i, "width": SIDE, "height": SIDE, "file_name": ""})
        for box, label in zip(target["boxes"], target["labels"].tolist()):
            entry = {"id": len(truth["annotations"]) + 1, "image_id": i, "category_id": label, "bbox": bbox(box)}
            truth["annotations"].append(entry | {"area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0})
        for box, label, score in zip(result["boxes"], result["labels"].tolist(), result["scores"].tolist()):
            detections.append({"image_id": i, "category_id": label, "bbox": bbox(box), "score": score})
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    evaluator = COCOeval(coco, coco.loadRes(detections), "bbox")
    evaluator.evaluate(), evaluator.accumulate(), evaluator.summarize()
    return evaluator.stats.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["pool", "align"])
def test_a_trained_network_has_the_same_map_over_a_whole_split(pooling):
    theirs = trained(pooling, 350).eval()
    ours = swapped(theirs, pooling).eval()
    scenes = draw_scenes(5000, 200)
    results = [], []
    with torch.no_grad():
        for image, _ in scenes:
            results[0].append(theirs([image])[0])
            with our_nms_and_iou({}):
                results[1].append(ours([image])[0])
    for a, b in zip(*results):
        assert torch.equal(a["labels"], b["labels"])
        torch.testing.assert_close(b["boxes"], a["boxes"], rtol=0, atol=1e-4)
    stats = [mean_average_precision(part, scenes) for part in results]
    assert stats[0][0] > 0.2  # a network that finds something
    assert stats[1] == stats[0]  # all twelve numbers, to the last digit
