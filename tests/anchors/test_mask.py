"""The mask branch: by hand, and equal to torchvision's targets, loss, head and pasting."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection import mask_rcnn, roi_heads

from anchors.mask import MaskHead, mask_loss, mask_probabilities, mask_targets, paste_masks
from anchors.train_on_scenes import draw_scene

torch.set_num_threads(1)


def boxes_near(boxes, count, generator, spread=12.0):
    """Boxes [count,4] around the given ones, some across the edge of the image."""
    which = torch.randint(len(boxes), (count,), generator=generator)
    moved = boxes[which] + (torch.rand(count, 4, generator=generator) - 0.5) * spread
    return torch.cat((moved[:, :2], moved[:, 2:].maximum(moved[:, :2] + 1)), dim=1), which


def test_targets_by_hand():
    mask = torch.zeros(2, 40, 40, dtype=torch.bool)
    mask[0, 10:30, 10:30] = True
    rois = torch.tensor([[12.0, 12, 26, 26], [12.0, 12, 26, 26], [30.0, 30, 39, 39]])
    targets = mask_targets(mask, rois, torch.tensor([0, 1, 0]), size=7)
    assert targets.shape == (3, 7, 7)
    assert (targets[0] == 1).all()  # well inside the object
    assert (targets[1] == 0).all()  # the same place in the other object's mask, which is empty
    # beside the object: only the first bilinear point at 30.3 reaches no further back than pixel 30, which is 0
    assert (targets[2] == 0).all()


@pytest.mark.parametrize("size", [7, 28])
def test_targets_and_loss_equal_torchvision(size):
    generator = torch.Generator().manual_seed(0)
    for seed in range(10):
        target = draw_scene(seed)[1]
        rois, gt_idxs = boxes_near(target["boxes"], 12, generator)
        theirs = roi_heads.project_masks_on_boxes(target["masks"], rois, gt_idxs, size)
        ours = mask_targets(target["masks"], rois, gt_idxs, size=size)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
        logits = torch.randn(12, 4, size, size, generator=generator).requires_grad_()
        loss = mask_loss(logits, target["labels"][gt_idxs], ours)
        expected = roi_heads.maskrcnn_loss(logits, [rois], [target["masks"]], [target["labels"]], [gt_idxs])
        torch.testing.assert_close(loss, expected, rtol=0, atol=1e-6)
        grads = [torch.autograd.grad(value, logits)[0] for value in (loss, expected)]
        torch.testing.assert_close(*grads, rtol=0, atol=1e-7)


def test_only_the_own_class_is_trained():
    logits = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = mask_loss(logits, torch.tensor([1, 2]), torch.ones(2, 4, 4))
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    touched = logits.grad.abs().sum(dim=(2, 3)) > 0
    assert touched.tolist() == [[False, True, False], [False, False, True]]
    # each of 2 * 16 cells has the gradient (sigmoid(0) - 1) / 32
    assert logits.grad[0, 1].unique().item() == pytest.approx(-0.5 / 32)


def test_probabilities_are_those_of_the_detected_class():
    logits = torch.randn(5, 4, 6, 6, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([1, 3, 2, 2, 1])
    (theirs,) = roi_heads.maskrcnn_inference(logits, [labels])
    assert torch.equal(mask_probabilities(logits, labels), theirs[:, 0])


def test_pasting_equals_torchvision():
    generator = torch.Generator().manual_seed(2)
    for seed in range(10):
        boxes, _ = boxes_near(draw_scene(seed)[1]["boxes"], 8, generator, spread=60)
        masks = torch.rand(8, 28, 28, generator=generator)
        theirs = roi_heads.paste_masks_in_image(masks[:, None], boxes, (96, 90))[:, 0]
        assert torch.equal(paste_masks(masks, boxes, (96, 90)), theirs)


def test_pasted_over_the_edge_and_outside():
    ones = torch.ones(3, 28, 28)
    boxes = torch.tensor([[-50.0, -50, 10, 10], [200, 200, 260, 260], [5, 5, 5, 5]])
    pasted = paste_masks(ones, boxes, (20, 30))
    assert (pasted[0, :10, :10] == 1).all() and not pasted[0, 14:].any() and not pasted[0, :, 14:].any()
    assert not pasted[1].any()  # outside
    assert int((pasted[2] > 0).sum()) == 1  # a box without size still has a pixel


def test_there_and_back():
    # a disc of radius 40 in its own box: what 28 x 28 cells of 3 pixels give back
    y, x = torch.meshgrid(torch.arange(100) + 0.5, torch.arange(100) + 0.5, indexing="ij")
    disc = (x - 50) ** 2 + (y - 50) ** 2 <= 40**2
    box = torch.tensor([[10.0, 10, 90, 90]])
    back = paste_masks(mask_targets(disc[None], box, torch.tensor([0])), box, (100, 100))[0] >= 0.5
    assert int((disc & back).sum()) / int((disc | back).sum()) > 0.97


def test_the_head_equals_torchvisions():
    ours = MaskHead(6, 8, 3)
    theirs = torch.nn.Sequential(
        mask_rcnn.MaskRCNNHeads(6, (8, 8, 8, 8), dilation=1), mask_rcnn.MaskRCNNPredictor(8, 8, 3)
    )
    weights = dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True))
    theirs.load_state_dict(weights)
    pooled = torch.randn(2, 6, 14, 14, generator=torch.Generator().manual_seed(3))
    assert ours(pooled).shape == (2, 3, 28, 28)
    torch.testing.assert_close(ours(pooled), theirs(pooled))


def test_empty():
    assert mask_targets(torch.zeros(0, 9, 9), torch.zeros(0, 4), torch.zeros(0).long()).shape == (0, 28, 28)
    logits = torch.zeros(0, 3, 28, 28, requires_grad=True)
    loss = mask_loss(logits, torch.zeros(0).long(), torch.zeros(0, 28, 28))
    assert loss.item() == 0
    loss.backward()
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)


def test_bad_input_is_named():
    targets, labels = torch.zeros(2, 4, 4), torch.tensor([1, 2])
    with pytest.raises(ValueError, match=r"^labels: found 0 to 2, needed 1 to 2 \(0 is background, "):
        mask_loss(torch.zeros(2, 3, 4, 4), torch.tensor([0, 2]), targets)
    with pytest.raises(ValueError, match=r"^labels: found 1 to 3, needed 1 to 2"):
        mask_probabilities(torch.zeros(2, 3, 4, 4), torch.tensor([1, 3]))
    with pytest.raises(ValueError, match=r"^targets: found shape \[2, 4, 4\], needed \[2, 5, 5\]"):
        mask_loss(torch.zeros(2, 3, 5, 5), labels, targets)
    with pytest.raises(ValueError, match=r"^gt_idxs: found 1 entries, needed 2, one for each of rois"):
        mask_targets(torch.zeros(1, 9, 9), torch.zeros(2, 4), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"^gt_idxs: found 1, needed 0 to 0, a row of gt_masks"):
        mask_targets(torch.zeros(1, 9, 9), torch.zeros(1, 4), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"^boxes: found 1 rows, needed 2"):
        paste_masks(targets, torch.zeros(1, 4), (5, 5))
