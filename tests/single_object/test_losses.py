"""Losses against torchvision's and by hand, box codes, augmentation, cells of the grid."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from torchvision import ops

from anchors.losses import smooth_l1
from label_tools.text.errors import InputError
from toolkit.single_object import grid_cells, losses, network_outputs
from toolkit.single_object.data import augment
from toolkit.single_object.data.samples import One, Samples
from toolkit.single_object.losses import WeightedSum
from toolkit.single_object.network_outputs import Answer, read
from toolkit.single_object.networks import loadnet

ORACLES = {
    "giou": ops.generalized_box_iou_loss,
    "diou": ops.distance_box_iou_loss,
    "ciou": ops.complete_box_iou_loss,
}


def random_boxes(count: int, seed: int, side: float = 100.0) -> torch.Tensor:
    dice = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=dice, dtype=torch.float64) * side
    return torch.cat((low, low + 0.5 + torch.rand(count, 2, generator=dice, dtype=torch.float64) * side), 1)


@pytest.mark.parametrize("kind", sorted(ORACLES))
@pytest.mark.parametrize("side", [1.0, 100.0])
def test_box_losses_and_gradients_are_torchvisions(kind, side):
    truth = random_boxes(200, 0, side)
    ours, theirs = (random_boxes(200, 1, side).requires_grad_() for _ in range(2))
    mine, oracle = losses.box_loss(kind, ours, truth), ORACLES[kind](theirs, truth)
    torch.testing.assert_close(mine, oracle, rtol=0, atol=1e-12)
    mine.sum().backward()
    oracle.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-10)


def test_iou_loss_is_one_minus_iou():
    a, b = random_boxes(50, 2), random_boxes(50, 3)
    torch.testing.assert_close(losses.box_loss("iou", a, b), 1 - ops.box_iou(a, b).diagonal(), rtol=0, atol=1e-9)


def test_box_losses_by_hand():
    truth = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    box = torch.tensor([[1.0, 1.0, 3.0, 3.0]])
    # IoU 1/7; hull 9, union 7: 2/9; centres (1,1), (2,2): d^2 2, c^2 18; same shape: v 0
    expected = {"iou": 6 / 7, "giou": 6 / 7 + 2 / 9, "diou": 6 / 7 + 2 / 18, "ciou": 6 / 7 + 2 / 18}
    for kind, value in expected.items():
        assert losses.box_loss(kind, box, truth).item() == pytest.approx(value, abs=1e-5)


def test_ciou_has_an_aspect_term_and_no_hull_term():
    truth, box = torch.tensor([[0.0, 0.0, 4.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 4.0]])
    # inter 2*2, union 8 + 8 - 4: IoU 1/3; centres (2,1), (2,2): 1; hull 4 x 4: 32
    v = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2
    expected = 2 / 3 + 1 / 32 + v / (2 / 3 + v) * v
    assert losses.box_loss("ciou", box, truth).item() == pytest.approx(expected, abs=1e-5)
    # the report's Eq. 2 would add |hull - union| / |hull| = (16 - 12) / 16
    assert losses.box_loss("ciou", box, truth).item() < expected + 0.2


@pytest.mark.parametrize("kind", losses.KINDS)
def test_inverted_and_flat_boxes_give_finite_losses_and_gradients(kind):
    truth = torch.tensor([[0.2, 0.2, 0.6, 0.7]]).expand(4, 4)
    boxes = torch.tensor([[0.6, 0.2, 0.2, 0.7], [0.3, 0.3, 0.3, 0.3], [0.3, 0.5, 0.6, 0.5], [0.9, 0.9, 0.1, 0.1]])
    boxes.requires_grad_()
    loss = losses.box_loss(kind, boxes, truth)
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(boxes.grad).all()
    assert (loss >= 1 - 1e-6).all()  # none of them has an overlap


def test_box_inverted_twice_is_no_refuge():
    truth, twice = torch.tensor([[0.2, 0.2, 0.6, 0.7]]), torch.tensor([[0.9, 0.9, 0.1, 0.1]])
    assert ops.generalized_box_iou_loss(twice, truth).item() < -2  # torchvision: better than a perfect box
    # hull .8 x .8, union .4 x .5, both sides inverted over the whole hull
    assert losses.box_loss("giou", twice, truth).item() == pytest.approx(1 + (0.64 - 0.2) / 0.64 + 2, abs=1e-5)


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
@pytest.mark.parametrize("start", [(0.9, 0.9, 0.1, 0.1), (0.6, 0.2, 0.2, 0.7), (0.62, 0.72, 0.58, 0.68)])
def test_the_gradient_turns_an_inverted_box_over(kind, start):
    truth, box = torch.tensor([[0.2, 0.2, 0.6, 0.7]]), torch.tensor([start], requires_grad=True)
    optimizer = torch.optim.Adam([box], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        losses.box_loss(kind, box, truth).sum().backward()
        optimizer.step()
    assert ops.box_iou(box.detach(), truth).item() > 0.8


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.1, 50), st.floats(-100, 100))
def test_box_losses_do_not_change_when_both_boxes_move_and_grow(seed, scale, shift):
    a, b = random_boxes(4, seed), random_boxes(4, seed + 1)
    for kind in losses.KINDS:
        before, after = (losses.box_loss(kind, x, y) for x, y in ((a, b), (a * scale + shift, b * scale + shift)))
        torch.testing.assert_close(before, after, rtol=0, atol=1e-6)
        assert (before > -1e-9).all()


# --- the weighted sum --------------------------------------------------------------------------------------------

SIZE = (40, 80)


def batch(presence=None):
    answer = Answer(
        torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.1, 0.1, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0]]), presence
    )
    truth = One(torch.tensor([True, False]), torch.tensor([1, 0]), torch.tensor([[8.0, 8, 40, 20], [0, 0, 0, 0]]))
    return answer, truth


def test_terms_by_hand():
    answer, truth = batch(torch.tensor([0.0, 0.0]))
    terms = WeightedSum.parse("bce + 4*mse + 25*ce + l1 + smooth_l1 + iou").terms(answer, truth, "corners", SIZE)
    # box in shares .1 .2 .5 .5: only the second number is off, by .1; the second image has no object; two images
    assert terms["mse"].item() == pytest.approx(4 * (0.1**2 / 4) / 2, abs=1e-6)
    assert terms["l1"].item() == pytest.approx(0.1 / 4 / 2, abs=1e-6)
    assert terms["smooth_l1"].item() == pytest.approx(0.5 * 0.1**2 * 9 / 4 / 2, abs=1e-6)
    assert terms["ce"].item() == pytest.approx(25 * math.log(1 + math.e) / 2, rel=1e-6)
    assert terms["bce"].item() == pytest.approx(math.log(2), rel=1e-6)  # both images, logit 0
    # in pixels 8,4,40,20 with 8,8,40,20: 384 of 512
    assert terms["iou"].item() == pytest.approx((1 - 384 / 512) / 2, abs=1e-6)


def test_smooth_l1_is_that_of_the_lesson():
    answer, truth = batch()
    mine = WeightedSum.parse("smooth_l1").terms(answer, truth, "corners", SIZE)["smooth_l1"]
    coded = network_outputs.encode(truth.boxes, "corners", SIZE)
    each = smooth_l1(answer.values - coded, beta=1 / 9).mean(1)
    torch.testing.assert_close(mine, each[0] / 2)
    oracle = functional.smooth_l1_loss(answer.values, coded, beta=1 / 9, reduction="none")
    torch.testing.assert_close(each, oracle.mean(1))


def test_images_without_an_object_teach_neither_class_nor_box():
    answer, truth = batch()
    answer = Answer(answer.logits.clone().requires_grad_(), answer.values.clone().requires_grad_())
    sum(WeightedSum.parse("ce + l1 + ciou").terms(answer, truth, "corners", SIZE).values()).backward()
    assert (answer.logits.grad[1] == 0).all() and (answer.values.grad[1] == 0).all()
    assert (answer.logits.grad[0] != 0).all()


def test_two_backward_passes_give_the_gradients_of_the_sum():
    """The documents call backward twice with retain_graph=True; one call over the sum is the same and cheaper."""
    torch.manual_seed(0)
    network = loadnet.LOADnet2()
    images, labels, boxes = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 3]), torch.rand(4, 4) * 31
    gradients = []
    for twice in (True, False):
        network.zero_grad()
        logits, box = network(images)
        first, second = functional.cross_entropy(logits, labels), functional.mse_loss(box, boxes)
        if twice:
            first.backward(retain_graph=True)
            second.backward()
        else:
            (first + second).backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert any(g.abs().max() > 1e-3 for g in gradients[0])


def test_cross_entropy_of_the_lecture_s_perfect_output_is_not_zero():
    # x[c] = 1, nine others 0: the lecture says loss 0; it is -ln(e / (e + 9))
    loss = functional.cross_entropy(torch.eye(10)[:1], torch.tensor([0]))
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + 9)), rel=1e-6) and loss.item() > 1.46


@pytest.mark.parametrize("text", ["", "ce + ", "ce + foo", "x*ce", "-1*ce", "ce + ce", "ce - l1", "2ce"])
def test_sums_that_cannot_be_read_are_refused(text):
    with pytest.raises(InputError, match="--loss"):
        WeightedSum.parse(text)


def test_sum_is_read_as_a_person_writes_it():
    assert WeightedSum.parse("25*ce+l1 + .5 * giou").weights == {"ce": 25.0, "l1": 1.0, "giou": 0.5}


def test_reading_the_three_layouts():
    rows = torch.arange(15.0)[None]
    answer = read(rows, "presence_box_class")
    assert answer.presence.tolist() == [0] and answer.values[0].tolist() == [1, 2, 3, 4]
    assert answer.logits.shape == (1, 10)
    answer = read(rows, "box_class")
    assert answer.values[0].tolist() == [0, 1, 2, 3] and answer.presence is None
    assert read((rows, rows, None), "pair").presence is None


# --- codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", network_outputs.CODES)
def test_codes_come_back(code):
    boxes = random_boxes(20, 4)
    torch.testing.assert_close(network_outputs.decode(network_outputs.encode(boxes, code, SIZE), code, SIZE), boxes)


def test_codes_by_hand():
    box = torch.tensor([[8.0, 10.0, 40.0, 20.0]])  # in 80 x 40
    assert network_outputs.encode(box, "inclusive", SIZE).tolist() == [[8, 10, 39, 19]]
    assert network_outputs.encode(box, "corners", SIZE).tolist()[0] == pytest.approx([0.1, 0.25, 0.5, 0.5])
    torch.testing.assert_close(network_outputs.encode(box, "centre", SIZE), torch.tensor([[0.3, 0.375, 0.4, 0.25]]))


def test_usable_boxes_lie_inside_and_are_never_inverted():
    raw = torch.tensor([[-5.0, -5, 90, 50], [30, 5, 10, 20], [float("nan"), 0, 10, 10], [90, 50, 99, 60]])
    boxes = network_outputs.usable(raw, SIZE)
    assert boxes[0].tolist() == [0, 0, 80, 40]
    assert (boxes[:, 2:] >= boxes[:, :2]).all() and torch.isfinite(boxes).all()
    assert network_outputs.inverted(raw).tolist() == [False, True, True, False]
    assert (boxes[3, 2:] - boxes[3, :2]).tolist() == [0, 0]


# --- augmentation ------------------------------------------------------------------------------------------------


def disk(x: float, y: float, radius: float, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    v, u = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    image = (((u - x) ** 2 + (v - y) ** 2) <= radius**2).float().expand(1, 3, size, size)
    return image, torch.tensor([[x - radius, y - radius, x + radius, y + radius]])


def box_of(image: torch.Tensor) -> torch.Tensor:
    y, x = (image[0].amax(0) > 0.5).nonzero(as_tuple=True)
    return torch.tensor([[x.min(), y.min(), x.max() + 1, y.max() + 1]]).float()


@pytest.mark.parametrize("degrees", [-10.0, 7.0, 90.0])
def test_turned_disk_and_box_stay_together(degrees):
    image, box = disk(44, 24, 9)
    turned, new = augment.turn(image, box, torch.tensor([degrees]))
    torch.testing.assert_close(new, box_of(turned), rtol=0, atol=1.2)
    if degrees == 90:  # clockwise on the screen: from the right of the centre to below it
        torch.testing.assert_close(new, torch.tensor([[31.0, 35.0, 49.0, 53.0]]), rtol=0, atol=1e-3)


def test_turning_works_in_pictures_that_are_not_square():
    image = torch.zeros(1, 3, 40, 80)
    image[..., 16:24, 56:64] = 1
    turned, new = augment.turn(image, torch.tensor([[56.0, 16, 64, 24]]), torch.tensor([30.0]))
    # the centre (60, 20) is 20 right of the middle (40, 20): turned 30 degrees to (40 + 17.3, 20 + 10)
    y, x = (turned[0, 0] > 0.5).nonzero(as_tuple=True)
    assert x.float().mean() + 0.5 == pytest.approx(57.32, abs=0.3)
    assert y.float().mean() + 0.5 == pytest.approx(30, abs=0.3)
    assert ((new[0, 0] + new[0, 2]) / 2).item() == pytest.approx(57.32, abs=0.01)


def test_flip_by_hand():
    image, box = disk(44, 24, 9)
    flipped, new = augment.flip(image, box, torch.tensor([True]))
    assert new.tolist() == [[64 - 53, 15, 64 - 35, 33]]
    torch.testing.assert_close(
        box_of(flipped),
        box_of(image)[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1.0]) + torch.tensor([64, 0, 64, 0.0]),
    )
    same, still = augment.flip(image, box, torch.tensor([False]))
    assert torch.equal(same, image) and torch.equal(still, box)


def test_picture_without_an_object_is_turned_after_a_flip_too():
    # or black corners would tell a flipped picture with an object from one without
    image, nothing = torch.rand(1, 3, 64, 64), torch.zeros(1, 4)
    flipped, box = augment.flip(image, nothing, torch.tensor([True]))
    turned, box = augment.turn(flipped, box, torch.tensor([45.0]))
    assert torch.equal(box, nothing) and turned[0, :, 0, 0].max() == 0


def test_turn_that_would_lose_the_box_is_not_made():
    image, box = torch.rand(1, 3, 64, 64), torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    turned, new = augment.turn(image, box, torch.tensor([45.0]))
    assert torch.equal(new, box)
    torch.testing.assert_close(turned, image, rtol=0, atol=1e-4)


def test_augmented_batch_is_in_range_and_empty_boxes_stay_empty():
    images, boxes = torch.rand(16, 3, 32, 32), torch.tensor([[4.0, 4, 20, 28]]).repeat(16, 1)
    boxes[3] = 0
    new, moved = augment.augment(images, boxes, torch.Generator().manual_seed(0))
    assert new.min() >= 0 and new.max() <= 1 and new.shape == images.shape
    assert moved[3].tolist() == [0, 0, 0, 0]
    others = torch.arange(16) != 3
    assert (moved[others][:, 2:] > moved[others][:, :2]).all() and (moved >= 0).all() and (moved <= 32).all()
    assert len({tuple(b) for b in moved.tolist()}) > 10


def test_colour_by_hand():
    grey = torch.full((1, 3, 2, 2), 0.5)
    torch.testing.assert_close(augment.colour(grey, torch.tensor([[1.2, 1.0, 1.0]])), torch.full_like(grey, 0.6))
    image = torch.rand(1, 3, 4, 4)
    torch.testing.assert_close(augment.colour(image, torch.ones(1, 3)), image)
    pale = augment.colour(image, torch.tensor([[1.0, 1.0, 0.0]]))
    torch.testing.assert_close(pale[:, 0], pale[:, 2])  # no saturation: grey


# --- the grid ----------------------------------------------------------------------------------------------------


def cells(boxes: list, labels: list, owner: list | None = None) -> Samples:
    return Samples(
        "toy",
        ("0", "1"),
        torch.zeros(2, 1, 48, 60, dtype=torch.uint8),
        torch.tensor(owner or [0] * len(labels)),
        torch.tensor(labels),
        torch.tensor(boxes).float(),
    )


def test_cells_by_hand_and_back():
    samples = cells([[24, 26, 36, 46], [0, 0, 10, 12]], [1, 0])
    targets, lost = grid_cells.assign(samples)
    # centre (30, 36) of 60 x 48: x .5 * 3 = 1.5, y .75 * 2 = 1.5: cell (1, 1), its middle; 12/60, 20/48
    torch.testing.assert_close(targets[0, 1, 1], torch.tensor([1, 0.5, 0.5, 0.2, 20 / 48, 1]))
    assert lost == 0 and targets[..., 0].sum() == 2 and (targets[1] == 0).all()
    back = grid_cells.boxes_of(targets, samples.size)
    torch.testing.assert_close(back[0, 1, 1], samples.boxes[0])
    torch.testing.assert_close(back[0, 0, 0], samples.boxes[1])


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_larger_object_keeps_a_cell(order):
    boxes, labels = [[0, 0, 10, 10], [2, 2, 18, 18]], [0, 1]
    targets, lost = grid_cells.assign(cells([boxes[i] for i in order], [labels[i] for i in order]))
    assert lost == 1 and targets[0, 0, 0, 5] == 1 and targets[0, 0, 0, 3].item() == pytest.approx(16 / 60)


def test_centre_on_the_right_edge_stays_in_the_last_column():
    targets, _ = grid_cells.assign(
        Samples(
            "toy",
            ("0", "1"),
            torch.zeros(1, 1, 48, 60, dtype=torch.uint8),
            torch.tensor([0]),
            torch.tensor([0]),
            torch.tensor([[59.9999, 47.9999, 60, 48]]),
        )
    )
    assert targets[0, 1, 2, 0] == 1


def test_grid_losses_by_hand():
    targets, _ = grid_cells.assign(cells([[24, 26, 36, 46]], [1]))
    outputs = torch.zeros(2, 2, 3, 7)
    outputs[..., 1] = 0.1  # off by .4 in the object's cell, by .1 in eleven empty ones
    own = ((0.4**2) + 0.5**2 + 0.2**2 + (20 / 48) ** 2) / 4
    seed, right = losses.grid_terms("grid_document", outputs, targets), losses.grid_terms("grid", outputs, targets)
    assert right["mse"].item() == pytest.approx(own, rel=1e-5)
    assert seed["mse"].item() == pytest.approx((own + 11 * 0.1**2 / 4) / 12, rel=1e-5)
    for terms in (seed, right):
        assert terms["bce"].item() == pytest.approx(math.log(2), rel=1e-6)
        assert terms["class"].item() == pytest.approx(math.log(2), rel=1e-6)


def test_neither_grid_loss_teaches_the_seventh_output():
    targets, _ = grid_cells.assign(cells([[24, 26, 36, 46]], [1]))
    for name in losses.GRID_LOSSES:
        outputs = torch.rand(2, 2, 3, 7, requires_grad=True)
        sum(losses.grid_terms(name, outputs, targets).values()).backward()
        assert (outputs.grad[..., 6] == 0).all() and (outputs.grad[..., 0] != 0).all()


def test_grid_detections_of_perfect_outputs():
    samples = cells([[24, 26, 36, 46], [0, 0, 10, 12]], [1, 0], [0, 1])
    targets, _ = grid_cells.assign(samples)
    outputs = torch.zeros(2, 2, 3, 7)
    outputs[..., 1:5] = targets[..., 1:5]
    outputs[..., 0] = (targets[..., 0] - 0.5) * 40
    outputs[..., 5] = (targets[..., 5] - 0.5) * 40
    found = grid_cells.detections(outputs, samples.size)
    assert [(d["image_id"], d["category_id"]) for d in found] == [(1, 2), (2, 1)]
    assert found[0]["bbox"] == pytest.approx([24, 26, 12, 20], abs=1e-4) and found[0]["score"] > 0.99


def test_modules_of_torch_agree_on_the_sum_of_squares():
    # "4*mse" is the document's sum over four coordinates
    answer, truth = batch()
    mine = WeightedSum.parse("4*mse").terms(answer, truth, "centre", SIZE)["mse"]
    theirs = nn.MSELoss(reduction="none")(answer.values, network_outputs.encode(truth.boxes, "centre", SIZE)).sum(1)
    torch.testing.assert_close(mine, (theirs * truth.present).mean())
