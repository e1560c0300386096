"""One step and what surrounds it: gradients, accumulation, weight decay, averages, the loss on validation images."""

from __future__ import annotations

import copy
import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from label_tools.text.errors import InputError
from toolkit import config
from toolkit.data.coco_index import Index
from toolkit.data.epoch_batches import EpochBatches, repeat_factors
from toolkit.networks import builder, class_loss
from toolkit.training import forward_pass, optimizer_step

CPU = torch.device("cpu")


def tiny(norm="batch", **sizes):
    torch.manual_seed(0)
    sizes = {"min_size": 64, "max_size": 96, "box_batch_size_per_image": 16, **sizes}
    model, _, _ = builder.build(
        "fasterrcnn_tiny_fpn", 3, weights="none", trainable_layers=5, norm=norm, batch_size=2, sizes=sizes
    )
    return model


def batch(count=2, seed=0):
    rng = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (3, 64, 64), generator=rng, dtype=torch.uint8) for _ in range(count)]
    targets = [
        {"boxes": torch.tensor([[5.0, 8.0, 40.0, 44.0]]), "labels": torch.tensor([1 + i % 2]), "image_id": i}
        for i in range(count)
    ]
    return images, targets


def state(model):
    values = [*model.parameters(), *model.buffers()]
    return hashlib.sha256(b"".join(v.detach().contiguous().numpy().tobytes() for v in values)).hexdigest()


@pytest.fixture
def first_samples(monkeypatch):
    """Anchors and RoIs are the first ones, not random ones, equally many of every image."""
    monkeypatch.setattr(torch, "randperm", lambda count, **options: torch.arange(count))


# --- the step -----------------------------------------------------------------------------------------------------


def test_accumulated_batches_are_one_big_batch(first_samples):
    """Exact where it is defined: group norm, the same number of samples in every image."""
    images, targets = batch(4)
    whole = tiny("group").train()
    whole.rpn.fg_bg_sampler.batch_size_per_image = 32
    parts = copy.deepcopy(whole)
    total, _ = forward_pass.training_losses(whole, images, targets, CPU, torch.float32)
    total.backward()
    parts.train()
    for i in range(4):
        total, _ = forward_pass.training_losses(parts, images[i : i + 1], targets[i : i + 1], CPU, torch.float32)
        (total / 4).backward()
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=2e-5, rtol=1e-3), name


def test_images_without_objects_teach(first_samples):
    """All anchors and RoIs are background: a loss to learn from, none for boxes, and a gradient for the whole body."""
    images, _ = batch(2)
    targets = [
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64), "image_id": i} for i in range(2)
    ]
    model = tiny("group").train()
    total, losses = forward_pass.training_losses(model, images, targets, CPU, torch.float32)
    assert losses["loss_objectness"] > 0 and losses["loss_classifier"] > 0
    assert losses["loss_box_reg"] == 0 and losses["loss_rpn_box_reg"] == 0
    total.backward()
    assert all(p.grad is not None for p in model.backbone.parameters())


def test_clipping_by_hand():
    # gradient (3, 4): norm 5, clipped to 1 -> (0.6, 0.8); lr 1
    layer = nn.Linear(2, 1, bias=False)
    for clip, step in ((1.0, (0.6, 0.8)), (0.0, (3.0, 4.0)), (10.0, (3.0, 4.0))):
        before = layer.weight.detach().clone()
        layer.weight.grad = torch.tensor([[3.0, 4.0]])
        optimizer_step.update(torch.optim.SGD(layer.parameters(), lr=1.0), clip)
        assert torch.allclose(before - layer.weight, torch.tensor([step]), atol=1e-5)
        assert layer.weight.grad is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_moves_nothing(value):
    layer = nn.Linear(2, 1)
    before = state(layer)
    layer.weight.grad = torch.tensor([[1.0, value]])
    with pytest.raises(forward_pass.NonFiniteLoss, match="gradient norm"):
        optimizer_step.update(torch.optim.SGD(layer.parameters(), lr=1.0), 10.0)
    assert state(layer) == before and layer.weight.grad is None


@pytest.mark.parametrize(
    "boxes, labels",
    [
        ([[5, 8, float("nan"), 44]], [1]),
        ([[5, 8, 5, 44]], [1]),
        ([[5, 8, 40, 99]], [1]),
        ([[5, 8, 40, 44]], [0]),
        ([[-3, 8, 40, 44]], [1]),
        ([[5, 8, 40, 44]], [1, 1]),
    ],
)
def test_targets_that_would_crash_or_poison_are_stopped(boxes, labels):
    """A NaN box ends the process by SIGSEGV in torchvision (vision#9273); label 0 trains silently."""
    target = {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels), "image_id": 1}
    with pytest.raises(AssertionError, match="image 1"):
        forward_pass.to_device(batch(1)[0], [target], CPU)


# --- the optimiser ------------------------------------------------------------------------------------------------


def test_norms_and_biases_do_not_decay_and_the_body_has_its_rate():
    model = tiny()
    options = config.Optimizer(lr=0.1, backbone_lr=0.2, weight_decay=0.05)
    optimizer = optimizer_step.make_optimizer(model, options)
    names = {id(p): n for n, p in model.named_parameters()}
    seen = set()
    for group in optimizer.param_groups:
        for p in group["params"]:
            name = names[id(p)]
            seen.add(name)
            assert group["weight_decay"] == (0.05 if p.ndim > 1 else 0.0), name
            assert group["share"] == (0.2 if name.startswith("backbone.body") else 1.0), name
    assert seen == {n for n, p in model.named_parameters() if p.requires_grad}
    rate = optimizer_step.prepare_step(optimizer, config.Schedule(schedule="constant", warmup=0), 0.1, 0, 5, False)
    assert rate == 0.1 and {g["lr"] for g in optimizer.param_groups} == {0.1, 0.1 * 0.2}


def test_nothing_left_to_learn_is_refused():
    model = tiny()
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(InputError, match="--trainable-layers"):
        optimizer_step.make_optimizer(model, config.Optimizer())


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_in_the_epochs_of_the_heads_the_body_stays(kind):
    model = tiny("group").train()
    optimizer = optimizer_step.make_optimizer(model, config.Optimizer(optimizer=kind, lr=0.01, weight_decay=0.1))
    body = state(model.backbone.body)
    for heads_only in (True, False):
        total, _ = forward_pass.training_losses(model, *batch(), CPU, torch.float32)
        total.backward()
        optimizer_step.prepare_step(optimizer, config.Schedule(), 0.01, 0, 1, heads_only)
        fpn = state(model.backbone.fpn)
        optimizer_step.update(optimizer, 10.0)
        assert (state(model.backbone.body) == body) == heads_only
        assert state(model.backbone.fpn) != fpn


@given(st.floats(0.1, 0.999), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_average_is_the_formula(decay, steps):
    """The first update copies; then mean = d * mean + (1 - d) * value, d = min(decay, (1 + n) / (10 + n))."""
    layer = nn.Linear(1, 1, bias=False)
    average, want = optimizer_step.averaged(layer, decay), None
    for n in range(steps):
        with torch.no_grad():
            layer.weight.fill_(float(n * n))
        average.update_parameters(layer)
        d = min(decay, (1 + n) / (10 + n))
        want = float(n * n) if n == 0 else d * want + (1 - d) * n * n
    assert average.module.weight.item() == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_average_takes_the_buffers_along():
    norm = nn.BatchNorm1d(2)
    average = optimizer_step.averaged(norm, 0.9)
    for _ in range(2):
        norm(torch.randn(8, 2) + 5)
        average.update_parameters(norm)
    assert average.module.running_mean.abs().sum() > 0
    assert average.module.num_batches_tracked == norm.num_batches_tracked


# --- validation loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_validation_loss_touches_nothing(training):
    model = tiny("batch").train(training)
    builder.freeze_norms(model.backbone.body[0])
    before, modes = state(model), [m.training for m in model.modules()]
    generator = torch.get_rng_state()
    batches = [batch(2, 1), batch(1, 2)]
    first = forward_pass.validation_loss(model, batches, CPU, torch.float32)
    assert state(model) == before  # weights, and the running statistics of BatchNorm
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(p.grad is None for p in model.parameters())
    torch.manual_seed(99)  # the same whatever was drawn before
    assert forward_pass.validation_loss(model, batches, CPU, torch.float32) == first
    assert set(first) == set(forward_pass.LOSSES)


def test_validation_loss_is_the_mean_over_images(first_samples):
    model = tiny("group")
    a, b = batch(2, 1), batch(1, 2)
    one, two = (forward_pass.validation_loss(model, [part], CPU, torch.float32) for part in (a, b))
    both = forward_pass.validation_loss(model, [a, b, ([], [])], CPU, torch.float32)
    for name in forward_pass.LOSSES:
        assert both[name] == pytest.approx((2 * one[name] + two[name]) / 3, rel=1e-5)
    assert forward_pass.validation_loss(model, [], CPU, torch.float32) == {}


def test_validation_loss_sees_the_size_of_evaluation(first_samples):
    """Multi-scale is for training."""
    model = tiny("group")
    want = forward_pass.validation_loss(model, [batch()], CPU, torch.float32)
    model.transform.min_size = (32, 40, 48, 56, 64)
    assert forward_pass.validation_loss(model, [batch()], CPU, torch.float32) == want


def test_a_stop_ends_validation_and_prediction():
    model = tiny("group")
    polls = []

    def stop():
        polls.append(1)
        return True

    assert forward_pass.validation_loss(model, [batch()] * 9, CPU, torch.float32, stop)
    assert len(list(forward_pass.predict(model, [batch()] * 9, CPU, torch.float32, stop))) == 2
    assert len(polls) == 2


# --- class weights, smoothing, rare classes -----------------------------------------------------------------------


def with_loss(**options):
    model = tiny("group")
    class_loss.set_class_loss(model, config.Config(optimizer=config.Optimizer(**options)), np.array([90, 10]))
    return model


def classifier_loss(model):
    model.train()
    torch.manual_seed(1)
    return forward_pass.training_losses(model, *batch(), CPU, torch.float32)[1]


def test_label_smoothing_and_class_weights_change_this_loss_alone():
    plain = classifier_loss(with_loss())
    for options in ({"label_smoothing": 0.1}, {"class_weights": "balanced"}):
        other = classifier_loss(with_loss(**options))
        assert other["loss_classifier"] != pytest.approx(plain["loss_classifier"], rel=1e-6)
        for name in set(forward_pass.LOSSES) - {"loss_classifier"}:
            assert other[name] == plain[name]
    same = classifier_loss(with_loss(label_smoothing=1e-9))
    assert same["loss_classifier"] == pytest.approx(plain["loss_classifier"], rel=1e-5)


def test_evaluation_knows_nothing_of_the_loss():
    model, plain = with_loss(label_smoothing=0.3).eval(), with_loss().eval()
    images, _ = forward_pass.to_device(*batch(), CPU)
    with torch.inference_mode():
        for a, b in zip(model(images), plain(images), strict=True):
            assert torch.equal(a["boxes"], b["boxes"]) and torch.equal(a["scores"], b["scores"])


def index_of_classes(holds):
    """One 10 x 10 image for each list of labels."""
    labels = np.array([label for image in holds for label in image], dtype=np.int64)
    first = np.cumsum([0, *map(len, holds)])
    count = len(holds)
    return Index(
        None,
        ("a", "b"),
        (1, 2),
        np.arange(1, count + 1),
        np.full((count, 2), 10, np.int32),
        np.tile(np.float32([1, 1, 5, 5]), (len(labels), 1)),
        labels,
        np.zeros(len(labels), bool),
        first,
        np.zeros(0, np.uint8),
        np.zeros(count, np.int64),
        "",
    )


def test_repeat_factors_by_hand():
    # b is in 1 of 16 images: sqrt(0.25 / (1/16)) = 2; a in 15 of 16: 1; the empty image 1
    factors = repeat_factors(index_of_classes([[1]] * 14 + [[1, 2], []]), 0.25)
    assert factors.tolist() == [1.0] * 14 + [2.0, 1.0]
    assert repeat_factors(index_of_classes([[1], [2]]), 0.0).tolist() == [1.0, 1.0]
    # a crowd of class 2 in the second image is no target: no reason to see that image twice
    crowd = dataclasses.replace(index_of_classes([[1, 2], [1, 2]]), crowd=np.array([False, False, False, True]))
    assert repeat_factors(crowd, 1.0).tolist() == pytest.approx([2**0.5, 1.0])  # share of class 2: one of two


@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 5), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_every_epoch_has_the_same_length_and_every_image(images, size, seed, threshold):
    index = index_of_classes([[1 + (i % 5 == 0)] for i in range(images)])
    factors = repeat_factors(index, threshold)
    sampler = EpochBatches(index, size, seed, repeats=factors)
    plans = []
    for epoch in range(3):
        sampler.epoch = epoch
        keys = [key for part in sampler for key in part]
        assert len(list(sampler)) == len(sampler) and len(keys) == round(factors.sum())
        assert {row for row, _ in keys} == set(range(images))
        plans.append(keys)
        sampler.start = len(sampler) // 2
        assert [key for part in sampler for key in part] == keys[len(keys) - sum(map(len, sampler)) :]
        sampler.start = 0
    assert images == 1 or plans[0] != plans[1]


# --- strides of RoIAlign ------------------------------------------------------------------------------------------


def test_strides_do_not_depend_on_the_first_image():
    """torchvision takes 45 px padded to 64 for stride 4, and keeps it for every image that follows."""
    small, large = tiny("group", min_size=45, max_size=64).eval(), tiny("group", min_size=45, max_size=64).eval()
    with torch.inference_mode():
        small([torch.rand(3, 45, 45)])
        large([torch.rand(3, 45, 64)])
    assert small.roi_heads.box_roi_pool.scales == large.roi_heads.box_roi_pool.scales == [1 / 8, 1 / 16, 1 / 32]
