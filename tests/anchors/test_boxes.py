"""Boxes: by hand, by property, against torchvision.ops."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops as ops
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors.boxes import FORMATS, box_area, box_convert, box_iou, clip_boxes, remove_small_boxes

torch.set_num_threads(1)


def random_boxes(count, generator, dtype=torch.float32, extent=100.0):
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * extent
    return torch.cat((corner, corner + torch.rand(count, 2, generator=generator, dtype=dtype) * extent), dim=1)


def test_iou_by_hand():
    a = torch.tensor([[0.0, 0, 2, 2]])
    b = torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2], [0, 0, 4, 4]])
    # areas 4 and 4, overlap 1: 1/(4+4-1); equal; touching; inside: 4/16
    assert torch.equal(box_iou(a, b)[0], torch.tensor([1 / 7, 1.0, 0.0, 0.25]))


def test_iou_of_two_empty_boxes_is_0_or_what_was_asked():
    point = torch.tensor([[1.0, 1, 1, 1]])
    assert box_iou(point, point).item() == 0
    assert torch.isnan(box_iou(point, point, empty=float("nan"))).all()
    assert torch.isnan(ops.box_iou(point, point)).all()
    # empty against not empty is 0/area = 0 in both
    assert box_iou(point, torch.tensor([[0.0, 0, 2, 2]])).item() == 0


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_iou_and_area_equal_torchvision(dtype, rtol):
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        a, b = random_boxes(17, generator, dtype), random_boxes(23, generator, dtype)
        torch.testing.assert_close(box_iou(a, b), ops.box_iou(a, b), rtol=rtol, atol=0)
        assert torch.equal(box_area(a), ops.box_area(a))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float16])
def test_small_dtypes_are_widened_before_the_product(dtype):
    # 200 x 200 = 40,000: too large for uint8, and above int16's 32,767
    boxes = torch.tensor([[0, 0, 200, 200], [100, 0, 200, 200]]).to(dtype)
    assert box_area(boxes).tolist() == [40_000, 20_000]
    assert box_iou(boxes, boxes)[0].tolist() == [1.0, 0.5]
    torch.testing.assert_close(box_iou(boxes, boxes), ops.box_iou(boxes, boxes), rtol=1e-6, atol=0)


def test_iou_of_two_dtypes():
    whole = torch.tensor([[0, 0, 2, 2]])
    assert box_iou(whole, whole.double()).dtype == torch.float64
    assert box_iou(whole.float(), whole).item() == 1


coordinates = st.floats(-1000, 1000, width=32)
sides = st.floats(0.125, 1000, width=32)
box = st.tuples(coordinates, coordinates, sides, sides).map(lambda v: [v[0], v[1], v[0] + v[2], v[1] + v[3]])


@settings(max_examples=200, deadline=None)
@given(st.lists(box, min_size=1, max_size=5), st.lists(box, min_size=1, max_size=5))
def test_iou_is_symmetric_in_0_to_1_and_free_of_place_and_scale(first, second):
    a, b = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    iou = box_iou(a, b)
    assert torch.equal(iou, box_iou(b, a).T)
    assert bool(((iou >= 0) & (iou <= 1)).all())
    assert torch.equal(box_iou(a, a).diagonal(), torch.ones(len(a), dtype=torch.float64))
    torch.testing.assert_close(box_iou(a + 17, b + 17), iou, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(box_iou(a * 3, b * 3), iou, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clip_and_remove_equal_torchvision_also_on_inverted_boxes(dtype):
    generator = torch.Generator().manual_seed(1)
    boxes = torch.randn(500, 4, generator=generator, dtype=dtype) * 60 + 30  # half of them inverted
    assert torch.equal(clip_boxes(boxes, (50, 70)), ops.clip_boxes_to_image(boxes, (50, 70)))
    for min_size in (0, 1e-3, 16):
        assert torch.equal(remove_small_boxes(boxes, min_size), ops.remove_small_boxes(boxes, min_size))


def test_clip_to_the_last_pixel_and_keep_at_least():
    boxes = torch.tensor([[-5.0, 2, 200, 300]])
    assert clip_boxes(boxes, (100, 80)).tolist() == [[0, 2, 80, 100]]
    assert clip_boxes(boxes, (100, 80), last_pixel=True).tolist() == [[0, 2, 79, 99]]
    sixteen = torch.tensor([[0.0, 0, 16, 16], [0, 0, 15.9, 16]])
    assert remove_small_boxes(sixteen, 16).tolist() == [0]  # exactly 16 stays


@pytest.mark.parametrize("in_format", FORMATS)
@pytest.mark.parametrize("out_format", FORMATS)
def test_convert_equals_torchvision(in_format, out_format):
    boxes = random_boxes(50, torch.Generator().manual_seed(2))
    assert torch.equal(box_convert(boxes, in_format, out_format), ops.box_convert(boxes, in_format, out_format))


def test_empty():
    none = torch.zeros(0, 4)
    some = torch.tensor([[0.0, 0, 2, 2]])
    assert box_area(none).shape == (0,)
    assert box_iou(none, some).shape == (0, 1)
    assert box_iou(some, none).shape == (1, 0)
    assert clip_boxes(none, (5, 5)).shape == (0, 4)
    assert remove_small_boxes(none, 1).shape == (0,)
    assert box_convert(none, "xyxy", "cxcywh").shape == (0, 4)


def test_bad_input_is_named():
    good = torch.tensor([[0.0, 0, 2, 2]])
    inverted = torch.tensor([[0.0, 0, 2, 2], [5, 0, 2, 2]])
    with pytest.raises(ValueError, match=r"^b: found \[5.0, 0.0, 2.0, 2.0\] at row 1, needed x2 >= x1"):
        box_iou(good, inverted)
    with pytest.raises(ValueError, match=r"^a: found .*nan.* needed finite numbers"):
        box_iou(good * float("nan"), good)
    with pytest.raises(ValueError, match=r"^boxes: found shape \[2\], needed \[N, 4\]"):
        box_area(torch.zeros(2))
    with pytest.raises(ValueError, match=r"^boxes: found list, needed a tensor of shape \[N, 4\]"):
        box_area([[0, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"^boxes: found dtype torch.bool"):
        box_area(torch.zeros(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"^min_size: found -1, needed a number in \[0, infinity\)"):
        remove_small_boxes(good, -1)
    with pytest.raises(ValueError, match=r"^min_size: found nan"):
        remove_small_boxes(good, float("nan"))
    with pytest.raises(ValueError, match=r"^image_size: found \(0, 5\), needed \(height, width\)"):
        clip_boxes(good, (0, 5))
    with pytest.raises(ValueError, match=r"^out_format: found 'yolo', needed one of xyxy, xywh, cxcywh"):
        box_convert(good, "xyxy", "yolo")
