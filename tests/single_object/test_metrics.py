"""The right numbers by hand, and the documents' own, bugs included."""

from __future__ import annotations

import pytest
import torch

from anchors.boxes import box_iou
from toolkit.single_object import baselines, evaluate_baseline, grid_cells
from toolkit.single_object.data import digits
from toolkit.single_object.data.samples import Samples
from toolkit.single_object.network_outputs import Answer, Prediction, predict

NAMES = ("a", "b")


def samples() -> Samples:
    """Four images of 40 x 20; the last has no object."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [10, 0, 30, 10], [0, 0, 40, 20]])
    return Samples(
        "toy",
        NAMES,
        torch.zeros(4, 3, 20, 40, dtype=torch.uint8),
        torch.tensor([0, 1, 2]),
        torch.tensor([0, 1, 1]),
        boxes,
    )


def prediction(boxes, labels=(0, 1, 0, 0), presence=(1.0, 1.0, 1.0, 0.0)) -> Prediction:
    raw = torch.tensor(boxes).float()
    from toolkit.single_object.network_outputs import usable

    return Prediction(torch.tensor(presence), torch.tensor(labels), torch.full((4,), 0.9), raw, usable(raw, (20, 40)))


def test_a_box_of_a_pixel_is_no_detection():
    found = prediction([[0, 0, 10, 10], [5, 5, 6, 15], [5, 5, 15, 6], [5, 5, 7, 7]], presence=(1.0,) * 4).detections()
    assert [(d["image_id"], d["bbox"]) for d in found] == [(1, [0, 0, 10, 10]), (4, [5, 5, 2, 2])]


PERFECT = [[0, 0, 10, 10], [10, 0, 30, 10], [0, 0, 40, 20], [0, 0, 5, 5]]


def test_numbers_by_hand():
    boxes = [[0, 0, 10, 10], [20, 0, 40, 10], [0, 0, 40, 10], [0, 0, 5, 5]]
    found = evaluate_baseline.single_metrics(samples(), prediction(boxes))
    # IoU 1, 10*10 / 30*10 = 1/3, 1/2; classes right, right, wrong; the empty image is answered with none
    assert found["mean_iou"] == pytest.approx((1 + 1 / 3 + 1 / 2) / 3)
    assert found["iou50"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(3 / 4) and found["class_accuracy"] == pytest.approx(2 / 3)
    assert found["confusion"] == {"classes": ["a", "b", "none"], "counts": [[1, 0, 0], [1, 1, 0], [0, 0, 1]]}
    both = pytest.approx((1 / 3 + 1 / 2) / 2)
    assert found["per_class"]["b"] == {"accuracy": 0.5, "mean_iou": both, "num_objects": 2}
    assert found["box_l1_px"] == pytest.approx((0 + 20 + 10) / 12)  # two corners by 10 each; one by 10


def test_perfect_answers():
    found = evaluate_baseline.single_metrics(samples(), prediction(PERFECT, labels=(0, 1, 1, 0)))
    assert [found[k] for k in ("accuracy", "mean_iou", "AP", "AP50", "AP75")] == pytest.approx([1.0] * 5)
    assert found["inverted_boxes"] == 0


def test_object_that_is_not_found_has_iou_zero_and_counts_as_wrong():
    found = evaluate_baseline.single_metrics(samples(), prediction(PERFECT, (0, 1, 1, 0), (1.0, 0.2, 1.0, 0.9)))
    assert found["mean_iou"] == pytest.approx(2 / 3) and found["accuracy"] == pytest.approx(2 / 4)
    assert found["class_accuracy"] == 1.0
    assert found["confusion"]["counts"] == [[1, 0, 0], [0, 1, 1], [1, 0, 0]]


def test_inverted_boxes_are_counted_and_worth_nothing():
    boxes = [[10, 10, 0, 0], *PERFECT[1:]]
    found = evaluate_baseline.single_metrics(samples(), prediction(boxes, labels=(0, 1, 1, 0)))
    assert found["inverted_boxes"] == 1 and found["mean_iou"] == pytest.approx(2 / 3)


def test_paired_iou_is_that_of_the_lesson():
    dice = torch.Generator().manual_seed(0)
    low, side = torch.rand(2, 50, 2, generator=dice), torch.rand(2, 50, 2, generator=dice)
    a, b = (torch.cat((low[i], low[i] + side[i]), 1) for i in range(2))
    torch.testing.assert_close(evaluate_baseline.paired_iou(a, b), box_iou(a, b).diagonal())
    assert evaluate_baseline.paired_iou(torch.zeros(1, 4), torch.zeros(1, 4)).tolist() == [0]


def test_untaught_network_can_be_judged():
    # its boxes of one pixel look like fractions of the image, which the evaluator refuses
    found = evaluate_baseline.single_metrics(samples(), prediction([[0, 0, 1, 1]] * 4))
    assert found["AP"] == 0.0


def test_predictions_come_from_answers():
    answer = Answer(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.5, 0.5, 0.5, 1.0]]), torch.tensor([-1.0]))
    made = predict(answer, "centre", (20, 40))
    assert made.boxes.tolist() == [[10, 0, 30, 20]] and made.labels.tolist() == [1] and not made.found.any()
    (detection,) = made.detections()
    assert detection["bbox"] == [10, 0, 20, 20] and detection["category_id"] == 2
    assert detection["score"] == pytest.approx(0.2689 * 0.8808, abs=1e-3)


# --- the documents' metrics --------------------------------------------------------------------------------------


def pair(a, b) -> float:
    return evaluate_baseline.iou_plus_one(torch.tensor([a]).float(), torch.tensor([b]).float()).item()


def test_plus_one_on_pixel_indices_is_right():
    # pixels 0..1 and 1..2 in both directions: 1 of 4 + 4 - 1
    assert pair([0, 0, 1, 1], [1, 1, 2, 2]) == pytest.approx(1 / 7)


def test_plus_one_on_shares_rewards_boxes_that_do_not_touch():
    # opposite corners of the image: sides -.8 + 1 = .2; inter .04; areas 1.1^2 each: .04 / (2.42 - .04)
    assert pair([0, 0, 0.1, 0.1], [0.9, 0.9, 1, 1]) == pytest.approx(0.04 / 2.38)
    # a true IoU of 1/7 (.1 of .2 each way): inter 1.1^2, areas 1.2^2
    assert pair([0, 0, 0.2, 0.2], [0.1, 0.1, 0.3, 0.3]) == pytest.approx(1.21 / (2.88 - 1.21))
    dice = torch.Generator().manual_seed(0)
    boxes = []
    for _ in range(2):  # unrelated boxes: sides uniform in 0..1, each anywhere in the image
        side = torch.rand(20_000, 2, generator=dice)
        low = torch.rand(20_000, 2, generator=dice) * (1 - side)
        boxes.append(torch.cat((low, low + side), 1))
    assert evaluate_baseline.iou_plus_one(*boxes).mean().item() == pytest.approx(0.54, abs=0.01)
    assert evaluate_baseline.paired_iou(*boxes).mean().item() == pytest.approx(0.15, abs=0.01)


def test_localisation_metric_as_the_document_has_it():
    same = [1, 0.5, 0.5, 0.2, 0.2, 3]
    truth = torch.tensor([same, same, [0, 0, 0, 0, 0, 0], [1, 0, 0, 1, 1, 4]])
    outputs = torch.zeros(4, 15)
    outputs[:, 0] = torch.tensor([5.0, 5.0, -5.0, -5.0])
    outputs[:, 1:5] = truth[:, 1:5]
    outputs[0, 5 + 3] = outputs[1, 5 + 4] = 9.0
    found = evaluate_baseline.document_localisation(outputs, truth)
    # right: the first and the empty one; IoU 1 for two found objects, divided by all four images
    assert found == {"document_accuracy": 0.5, "document_iou": 0.5}


def test_grid_that_finds_nothing_is_praised_by_the_document_s_metric():
    samples = digits.draw_digit_grid(300, seed=0, part="val")
    found = evaluate_baseline.finds_nothing(samples, is_grid=True)
    # 1.28 objects in six cells: about .79 of the cells are empty
    assert found["document_accuracy"] == pytest.approx(1 - 1.26 / 6, abs=0.025)
    assert found["document_iou"] == pytest.approx(0.81, abs=0.02)
    assert found["mean_iou"] == 0 and found["object_accuracy"] == 0 and found["AP"] == 0


def test_grid_class_is_right_by_output_six_only_in_the_document():
    boxes = torch.tensor([[24.0, 26, 36, 46]])
    samples = Samples(
        "toy", ("0", "1"), torch.zeros(1, 1, 48, 60, dtype=torch.uint8), torch.tensor([0]), torch.tensor([0]), boxes
    )
    targets, _ = grid_cells.assign(samples)
    outputs = torch.full((1, 2, 3, 7), -9.0)
    outputs[..., 1:5] = targets[..., 1:5]
    outputs[0, 1, 1, 0] = 9.0
    # output 5 at -2 says "not 1"; output 6, never taught, at -3 makes the document read "1"
    outputs[0, 1, 1, 5], outputs[0, 1, 1, 6] = -2.0, -3.0
    assert evaluate_baseline.grid_metrics(samples, outputs)["object_accuracy"] == 1.0
    assert evaluate_baseline.document_detection(outputs, targets)["document_accuracy"] == pytest.approx(5 / 6)


def test_mean_over_batches_weighs_a_short_last_batch_as_much():
    truth = torch.tensor([[0.0, 0, 2, 2]]).repeat(17, 1)
    boxes = truth.clone()
    boxes[16] = torch.tensor([5.0, 5, 6, 6])  # IoU 0, alone in the second batch of 16
    assert evaluate_baseline.document_mean_iou(boxes, truth)["document_iou"] == pytest.approx(0.5)


def test_references_of_the_table():
    val, train = digits.draw_digits(60, seed=1, part="val"), digits.draw_digits(60, seed=0, part="train")
    nothing, same = evaluate_baseline.finds_nothing(val, False), evaluate_baseline.always_the_same(val, train)
    empty = float((val.per_image() == 0).float().mean())
    assert nothing["accuracy"] == pytest.approx(empty) and nothing["mean_iou"] == 0
    assert 0 < same["mean_iou"] < 0.4 and 0 < same["accuracy"] < 0.4


def test_document_numbers_stand_beside_the_right_ones():
    baseline = baselines.find("cnn1")
    val = digits.draw_digits(20, seed=1, part="val")
    found, _ = evaluate_baseline.evaluate(baseline.build(), baseline, val, torch.device("cpu"))
    assert {"document_accuracy", "document_iou", "accuracy", "mean_iou", "AP50"} <= found.keys()
