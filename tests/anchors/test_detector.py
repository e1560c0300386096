"""TinyFasterRCNN: torchvision's interface, its trace, its scenes, and that it learns."""

from __future__ import annotations

import doctest
import importlib

import pytest
import torch

import anchors.heads
from anchors.boxes import box_iou
from anchors.detector import TinyFasterRCNN
from anchors.fast.roi_pool import roi_pool
from anchors.heads import FastRCNNHead
from anchors.sampling import sample_rois
from anchors.train_on_scenes import CLASSES, MAX_OVERLAP, draw_scene, draw_scenes, recall_and_precision, train_on_scenes

torch.set_num_threads(1)
LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


def make_model(**options):
    torch.manual_seed(0)
    return TinyFasterRCNN(4, **options)


def test_tiny_numbers_of_the_heads():
    result = doctest.testmod(anchors.heads)
    assert result.attempted >= 4 and result.failed == 0


def test_the_papers_head_shapes():
    # 128 RoIs of 7 x 7 x 512 = 25,088 -> 4,096 -> 4,096 -> (128, K+1) and (128, 4(K+1))
    pooled = roi_pool(torch.zeros(1, 512, 50, 50), torch.tensor([[0.0, 0, 0, 300, 400]] * 128), 7, 1 / 16)
    assert pooled.shape == (128, 512, 7, 7)
    assert pooled.flatten(1).shape == (128, 25_088)
    for num_objects in (1, 20):
        head = FastRCNNHead(25_088, 4, num_objects + 1, dropout=0.5)  # 4 for 4,096: 0.4 MB for 400
        logits, deltas = head(pooled)
        assert logits.shape == (128, num_objects + 1) and deltas.shape == (128, 4 * (num_objects + 1))
    head = FastRCNNHead(16 * 49, 8, 6, dropout=0.0)
    assert abs(head.class_logits.weight.std().item() - 0.01) < 0.003
    assert abs(head.box_deltas.weight.std().item() - 0.001) < 0.0003


def test_a_scene_comes_from_its_number_and_its_boxes_are_tight():
    for seed in range(30):
        image, target = draw_scene(seed)
        again, target_again = draw_scene(seed)
        assert torch.equal(image, again) and torch.equal(target["boxes"], target_again["boxes"])
        assert image.shape == (3, 96, 96) and image.min() >= 0 and image.max() <= 1
        boxes, labels = target["boxes"], target["labels"]
        assert 1 <= len(boxes) == len(labels) <= 3
        assert set(labels.tolist()) <= set(range(1, len(CLASSES) + 1))
        overlap = box_iou(boxes, boxes).fill_diagonal_(0)
        assert overlap.max() <= MAX_OVERLAP
    assert not torch.equal(draw_scene(0)[0], draw_scene(1)[0])


def test_a_single_object_fills_its_box():
    for seed in range(60):
        image, target = draw_scene(seed, max_objects=1)
        x1, y1, x2, y2 = (int(v) for v in target["boxes"][0])
        ground = image.flatten(1).median(dim=1).values[:, None, None]  # an object covers a quarter at most
        different = ((image - ground).abs() > 0.28).any(dim=0)  # seven deviations of the noise
        ys, xs = different.nonzero(as_tuple=True)
        # the tip of a triangle and the ends of an ellipse may miss the last pixel's centre
        found = torch.tensor([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        assert (found - torch.tensor([x1, y1, x2, y2])).abs().max() <= 2


def test_training_gives_four_losses_with_gradients_for_every_weight():
    for pooling in ("pool", "align"):
        model = make_model(pooling=pooling).train()
        images, targets = zip(*draw_scenes(0, 2))
        losses = model(list(images), list(targets))
        assert set(losses) == LOSSES
        assert all(loss.ndim == 0 and loss > 0 for loss in losses.values())
        sum(losses.values()).backward()
        for name, weight in model.named_parameters():
            assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_detection_of_images_of_different_sizes():
    model = make_model(score_thresh=0.0, max_detections=7).eval()
    sizes = [(96, 96), (57, 130), (600, 300), (10, 9)]
    with torch.no_grad():
        results = model([torch.rand(3, *size) for size in sizes])
    assert len(results) == len(sizes)
    for (height, width), result in zip(sizes, results):
        boxes, labels, scores = result["boxes"], result["labels"], result["scores"]
        assert boxes.shape == (len(scores), 4) and len(scores) <= 7
        assert labels.dtype == torch.int64 and set(labels.tolist()) <= {1, 2, 3}
        assert bool((scores.diff() <= 0).all())
        assert bool((boxes >= 0).all())
        assert bool((boxes[:, 2] <= width).all()) and bool((boxes[:, 3] <= height).all())
    assert results[2]["boxes"][:, 3].max() > 256  # in the pixels of the image, not of the shrunk one


def test_the_batch_does_not_change_what_is_found():
    model = make_model(score_thresh=0.0).eval()
    small, large = torch.rand(3, 64, 80), torch.rand(3, 128, 96)
    with torch.no_grad():
        alone = model([large])[0]
        together = model([small, large])[1]  # the small one is padded, the large one is not
    assert torch.equal(alone["labels"], together["labels"])
    torch.testing.assert_close(alone["boxes"], together["boxes"], rtol=0, atol=1e-3)


def test_the_trace_holds_every_step_and_they_fit_together():
    model = make_model(border=0).train()
    images, targets = zip(*draw_scenes(3, 2))
    losses, trace = model.trace(list(images), list(targets))
    assert set(trace["losses"]) == LOSSES == set(losses)
    assert trace["features"].shape == (2, 64, 12, 12)
    for record, target in zip(trace["images"], targets):
        assert len(record["anchors"]) == 12 * 12 * 9 == len(record["objectness"]) == len(record["deltas"])
        sampled = record["sampled_labels"]
        assert bool((sampled[record["anchor_labels"] == -1] == -1).all())
        assert int((sampled >= 0).sum()) == 64
        inside = (record["anchors"] >= 0).all(1) & (record["anchors"] <= 96).all(1)
        assert bool((record["anchor_labels"][~inside] == -1).all())
        assert len(record["candidates"].boxes) <= 600
        assert torch.equal(record["proposals"], record["candidates"].boxes[record["nms_keep"]])
        sample = record["roi_sample"]
        assert len(sample.rois) <= 32 and torch.equal(record["rois"][:, 1:], sample.rois)
        assert bool((sample.labels > 0).any())
        assert record["pooled"].shape == (len(sample.rois), 64, 7, 7)
        assert record["bins"].y_start.shape == (len(sample.rois), 7)
        assert torch.equal(record["gt_boxes"], target["boxes"])
    model.eval()
    with torch.no_grad():
        results, trace = model.trace(list(images))
    for record, result in zip(trace["images"], results):
        assert torch.equal(record["detections"].scores, result["scores"])
        assert "roi_sample" not in record


def test_a_larger_image_is_shrunk_with_its_boxes():
    model = make_model(max_side=48).train()
    image, target = draw_scene(0)
    _, trace = model.trace([image], [target])
    record = trace["images"][0]
    assert record["image_size"] == (48, 48) and record["original_size"] == (96, 96)
    torch.testing.assert_close(record["gt_boxes"], target["boxes"] / 2)


def test_boxes_of_a_shrunk_image_stay_inside_it():
    # shrinking and growing again rounds: in float32, 48 / (48 / width) is above some of these widths
    widths = [w for w in range(97, 200) if float(torch.tensor(48.0) / torch.tensor(48 / w)) > w]
    assert widths
    model = make_model(max_side=48, score_thresh=0.0).eval()
    with torch.no_grad():
        for width in widths[:3]:
            boxes = model([torch.rand(3, 90, width)])[0]["boxes"]
            assert boxes[:, 2].max() == width  # some end at the edge, none beyond it


def test_images_without_objects_train_the_background():
    model = make_model().train()
    image, target = draw_scene(0)
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model([image], [nothing])
    assert losses["loss_rpn_box_reg"] == 0 and losses["loss_box_reg"] == 0
    sum(losses.values()).backward()
    losses = model([image, image], [nothing, target])
    assert all(torch.isfinite(loss) for loss in losses.values())
    model.eval()
    assert model([]) == []


@pytest.mark.parametrize("pooling", ["pool", "align"])
def test_it_computes_under_autocast(pooling):
    model = make_model(pooling=pooling).train()
    images, targets = zip(*draw_scenes(0, 2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(list(images), list(targets))
        sum(losses.values()).backward()
        results = model.eval()(list(images))
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses.values())
    assert results[0]["boxes"].dtype == torch.float32


def test_bad_input_is_named():
    model = make_model().train()
    image, target = draw_scene(0)
    boxes, labels = target["boxes"], target["labels"]
    cases = [
        (image, [target], r"^images: found Tensor, needed a list"),
        ([image[None]], [target], r"^images\[0\]: found \[1, 3, 96, 96\], needed a tensor of shape \[3, H, W\]"),
        ([(image * 255).byte()], [target], r"^images\[0\]: found dtype torch.uint8"),
        ([image], None, r"^targets: found NoneType, needed a list of 1"),
        ([image], [], r"^targets: found 0, needed a list of 1"),
        ([], [], r"^targets: found 0"),
        ([image], [{"boxes": boxes}], r"^targets\[0\]: found keys \['boxes'\], needed 'boxes' and 'labels'"),
        ([image], [{"boxes": boxes, "labels": labels[:0]}], r"^targets\[0\]\['labels'\]: found 0 entries"),
        ([image], [{"boxes": boxes, "labels": labels * 0}], r"^targets\[0\]\['labels'\]: found 0 to 0, needed 1"),
        ([image], [{"boxes": boxes, "labels": labels * 9}], r"^targets\[0\]\['labels'\]: found .* needed 1 to 3"),
        ([image], [{"boxes": boxes * 0, "labels": labels}], r"^targets\[0\]\['boxes'\]: found .* needed x2 > x1"),
    ]
    for images, targets, message in cases:
        with pytest.raises(ValueError, match=message):
            model(images, targets)
    with pytest.raises(ValueError, match=r"^pooling: found 'max', needed 'pool' or 'align'"):
        TinyFasterRCNN(4, pooling="max")
    with pytest.raises(ValueError, match=r"^num_classes: found 1, needed a whole number, 2 or more"):
        TinyFasterRCNN(1)


def test_recall_and_precision_by_hand():
    class Says(torch.nn.Module):
        def forward(self, images):
            boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60], [20, 20, 30, 30]])
            return [
                {"boxes": boxes, "labels": torch.tensor([1, 1, 1, 2]), "scores": torch.tensor([0.9, 0.8, 0.7, 0.4])}
            ]

    target = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [80, 80, 90, 90]]),
        "labels": torch.tensor([1, 2, 1]),
    }
    scenes = [(torch.zeros(3, 96, 96), target)]
    # above 0.5: one hit, one double of it, one false: 1 of 3 objects, 1 of 3 detections
    assert recall_and_precision(Says(), scenes) == (1 / 3, 1 / 3)
    # above 0.3 the object of class 2 is found as well
    assert recall_and_precision(Says(), scenes, score_thresh=0.3) == (2 / 3, 2 / 4)
    assert recall_and_precision(Says(), scenes, score_thresh=0.95) == (0, 0)


def test_the_loss_falls_and_two_scenes_are_learnt_by_heart():
    scenes = draw_scenes(1, 2)
    model = make_model()
    history = train_on_scenes(model, scenes, steps=160, batch_size=2)
    totals = [sum(losses.values()) for losses in history]
    assert sum(totals[-10:]) < 0.3 * sum(totals[:10])
    recall, precision = recall_and_precision(model, scenes)
    assert recall == 1.0 and precision >= 0.8


@pytest.mark.slow
def test_trained_from_nothing_it_finds_unseen_objects():
    # a thousand steps, about a minute of one core; mean of three seeds
    results = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = TinyFasterRCNN(4)
        train_on_scenes(model, draw_scenes(10_000 * seed, 200), steps=1000, seed=seed)
        results.append(recall_and_precision(model, draw_scenes(1_000_000 + 10_000 * seed, 100)))
    recall, precision = (sum(values) / 3 for values in zip(*results))
    assert recall >= 0.7 and precision >= 0.7, results


def test_the_detector_is_made_of_this_packages_operators_only():
    import ast
    import inspect

    for name in ("detector", "heads", "train_on_scenes"):
        source = inspect.getsource(importlib.import_module(f"anchors.{name}"))
        assert "torchvision." not in source.replace("torchvision.ops", "torchvision.")
        modules = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).split(".")[0]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        assert modules <= {"__future__", "anchors", "collections", "contextlib", "torch", "typing"}
    kinds = {type(module).__name__ for module in make_model().modules() if not list(module.children())}
    assert kinds == {"Conv2d", "Linear", "GroupNorm", "ReLU", "MaxPool2d", "Flatten", "Dropout"}
    assert sample_rois.__module__ == "anchors.sampling"
