"""Cell anchors, the grid, and the counts of the worked example."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from anchors.grid import generate_cell_anchors, grid_anchors, inside_image, legacy_cell_anchors

torch.set_num_threads(1)
SIZES, RATIOS = [128, 256, 512], [0.5, 1.0, 2.0]


def test_cell_anchors_have_the_asked_area_and_ratio():
    w_h = generate_cell_anchors(SIZES, RATIOS, dtype=torch.float64)[:, 2:] * 2
    areas = torch.tensor([128.0, 256, 512] * 3, dtype=torch.float64) ** 2  # ratio slow, size fast
    torch.testing.assert_close(w_h.prod(1), areas)
    ratios = torch.tensor([0.5] * 3 + [1.0] * 3 + [2.0] * 3, dtype=torch.float64)
    torch.testing.assert_close(w_h[:, 1] / w_h[:, 0], ratios)


def test_rounded_cell_anchors_are_torchvisions():
    ours = generate_cell_anchors(SIZES, RATIOS, rounded=True)
    # half sides of 128 at ratio 1/2: 128 * sqrt(2) / 2 = 90.51 -> 91, 128 / sqrt(2) / 2 = 45.25 -> 45
    assert ours[:3, 2:].tolist() == [[91, 45], [181, 91], [362, 181]]
    assert ours[3:6, 2:].tolist() == [[64, 64], [128, 128], [256, 256]]
    for sizes, ratios in ((SIZES, RATIOS), ([17, 33.5], [0.3, 1.7]), ([8], [1])):
        theirs = AnchorGenerator(((1,),), ((1,),)).generate_anchors(sizes, ratios)
        assert torch.equal(generate_cell_anchors(sizes, ratios, rounded=True), theirs)


def test_cell_anchors_of_detectron2():
    # its published test: sizes 32, 64 and ratios 1/4, 1, 4; its order is size slow, ratio fast
    published = torch.tensor([[-32.0, -8, 32, 8], [-16, -16, 16, 16], [-8, -32, 8, 32]])
    published = torch.cat((published, published * 2))
    ours = generate_cell_anchors([32, 64], [0.25, 1, 4]).reshape(3, 2, 4).transpose(0, 1).reshape(-1, 4)
    torch.testing.assert_close(ours, published)


@pytest.mark.parametrize("grid", [(50, 50), (3, 7), (1, 1)])
def test_grid_at_offset_0_is_torchvisions(grid):
    height, width = grid
    generator = AnchorGenerator((tuple(SIZES),), (tuple(RATIOS),))
    images = ImageList(torch.zeros(1, 3, height * 16, width * 16), [(height * 16, width * 16)])
    theirs = generator(images, [torch.zeros(1, 1, height, width)])[0]
    ours = grid_anchors(generate_cell_anchors(SIZES, RATIOS, rounded=True), grid, 16, offset=0)
    assert torch.equal(ours, theirs)
    # with 0.5 and no rounding: half a stride (8) away, up to the rounding of half a pixel
    centred = grid_anchors(generate_cell_anchors(SIZES, RATIOS), grid, 16)
    assert (centred - 8 - theirs).abs().max() <= 0.5


def test_the_order_is_y_x_anchor():
    cell = generate_cell_anchors([2, 4], [1])
    anchors = grid_anchors(cell, (3, 5), (10, 20)).reshape(3, 5, 2, 4)
    centres = (anchors[..., :2] + anchors[..., 2:]) / 2
    for y in range(3):
        for x in range(5):
            for a in range(2):
                assert centres[y, x, a].tolist() == [(x + 0.5) * 20, (y + 0.5) * 10]
                assert torch.equal(anchors[y, x, a, 2:] - anchors[y, x, a, :2], cell[a, 2:] * 2)


def test_22500_and_8940():
    anchors = grid_anchors(generate_cell_anchors(SIZES, RATIOS), (50, 50), 16)
    assert len(anchors) == 50 * 50 * 9 == 22_500
    inside = inside_image(anchors, (800, 800))
    assert int(inside.sum()) == 8_940
    per_template = inside.reshape(-1, 9).sum(0).tolist()
    assert per_template == [1672, 1064, 112, 1764, 1156, 324, 1672, 1064, 112]

    # the same by counting: n(s) centres 8 + 16 i have s/2 pixels to both edges; a w x h anchor has n(w) * n(h)
    def n(side):
        return sum(8 + 16 * i >= side / 2 and 8 + 16 * i + side / 2 <= 800 for i in range(50))

    sides = [(s / r**0.5, s * r**0.5) for r in RATIOS for s in SIZES]
    assert per_template == [n(w) * n(h) for w, h in sides]
    assert [n(s) for s in (90.5, 128, 181, 256, 362, 512, 724)] == [44, 42, 38, 34, 28, 18, 4]


def test_why_9321_and_9132_are_also_right():
    # torchvision: centres at the cells' corners (0, 16, ...) and rounded half sides
    corners = grid_anchors(generate_cell_anchors(SIZES, RATIOS, rounded=True), (50, 50), 16, offset=0)
    assert int(inside_image(corners, (800, 800)).sum()) == 9_321
    # the paper's code: pixel indices around a 16 x 16 base box, x2 < W
    legacy = legacy_cell_anchors([8, 16, 32], RATIOS, base_size=16)
    # its published first anchor: -84 -40 99 55, that is 184 x 96 with the +1
    assert legacy[0].tolist() == [-84, -40, 99, 55]
    assert legacy[3:6].tolist() == [[-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263]]
    anchors = grid_anchors(legacy, (50, 50), 16, offset=0)
    assert int(inside_image(anchors, (800, 800), last_pixel=True).sum()) == 9_132


def test_the_papers_20000_and_6000():
    # 1000 x 600 is 63 x 38 cells (62.5 x 37.5 rounded up): 21,546 anchors, "about 20,000"; inside 8,044, not 6,000
    anchors = grid_anchors(generate_cell_anchors(SIZES, RATIOS), (38, 63), 16)
    assert len(anchors) == 21_546
    assert int(inside_image(anchors, (600, 1000)).sum()) == 8_044


def test_inside_with_a_border_and_on_the_edge():
    boxes = torch.tensor([[0.0, 0, 10, 20], [-1, 0, 10, 20], [0, 0, 10.5, 20], [0, 0, 10, 21]])
    assert inside_image(boxes, (20, 10)).tolist() == [True, False, False, False]
    assert inside_image(boxes, (20, 10), border=1).tolist() == [True] * 4
    assert inside_image(boxes, (20, 10), last_pixel=True).tolist() == [False] * 4
    last = torch.tensor([[0.0, 0, 9, 19], [0, 0, 10, 19], [0, 0, 9, 20]])
    assert inside_image(last, (20, 10), last_pixel=True).tolist() == [True, False, False]


def test_empty():
    assert generate_cell_anchors([], [1]).shape == (0, 4)
    assert grid_anchors(torch.zeros(0, 4), (2, 2), 16).shape == (0, 4)
    assert grid_anchors(generate_cell_anchors([4], [1]), (0, 5), 16).shape == (0, 4)
    assert inside_image(torch.zeros(0, 4), (5, 5)).shape == (0,)


def test_bad_input_is_named():
    cell = generate_cell_anchors([4], [1])
    with pytest.raises(ValueError, match=r"^sizes: found -4, needed a number"):
        generate_cell_anchors([-4], [1])
    with pytest.raises(ValueError, match=r"^aspect_ratios: found \[0\], needed positive"):
        generate_cell_anchors([4], [0])
    with pytest.raises(ValueError, match=r"^stride: found -16"):
        grid_anchors(cell, (2, 2), -16)
    with pytest.raises(ValueError, match=r"^offset: found 2, needed a number in \[0, 1\]"):
        grid_anchors(cell, (2, 2), 16, offset=2)
    with pytest.raises(ValueError, match=r"^cell_anchors: found .* needed x2 > x1"):
        grid_anchors(torch.zeros(1, 4), (2, 2), 16)
    with pytest.raises(ValueError, match=r"^border: found -1"):
        inside_image(cell, (5, 5), border=-1)
    with pytest.raises(ValueError, match=r"^base_size: found 0"):
        legacy_cell_anchors([8], [1], base_size=0)
