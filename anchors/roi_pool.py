"""RoI pooling: a box of any size becomes P x P numbers for each channel.

    corners on the map: x1, y1, x2, y2 = round(coordinate * spatial_scale)        halves away from zero
    w = max(x2 - x1 + 1, 1), h likewise                                           the last cell belongs to it
    bin p covers cells  x1 + floor(p * w / P)  up to, but not,  x1 + ceil((p + 1) * w / P), clipped to the map
    output = the maximum over the bin's cells; 0 if the bin lies outside the map

Limits: a RoI smaller than P cells: bins share cells, each still has one. A RoI outside the map: zeros. An
inverted RoI counts as 1 x 1. The gradient goes to the first cell (row by row) that holds the maximum, and
to no other.

The lecture's numbers: 7 x 7 bins of 512 channels are 25,088 inputs for the head.

Place: Fast R-CNN 2.1. Two roundings (the corners, the bins) move the box by up to half a cell, 8 pixels:
roi_align does without.

Where others differ: the lecture's notebook cuts the coordinates off instead of rounding, and cuts the RoI
at the edge of the map before it divides; here, as in the paper's code and torchvision, the whole RoI is
divided and the bins are clipped. `torch.round` rounds halves to even, and `amax` shares the gradient among
equal cells (after a ReLU many are equal: 0).

Two versions with one result: `roi_pool_plain` is the formula in three loops. `roi_pool` looks maxima up in
tables that double: a table of the maxima over 2^a x 2^b windows comes from the one before it, and any bin
is covered by four (overlapping) windows. The gradient needs the place of each maximum as well: the same tables
again, of whole numbers whose upper half is the value and whose lower half is the place.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from anchors.arguments import check_features, check_number, check_pair, check_rois


class Bins(NamedTuple):
    """Cell ranges [start, end) of each RoI's bins, clipped to the map: y [K,P_h], x [K,P_w], all int64."""

    y_start: Tensor
    y_end: Tensor
    x_start: Tensor
    x_end: Tensor


def round_half_away(x: Tensor) -> Tensor:
    """2.5 -> 3, -2.5 -> -3, as C does. torch.round gives 2 and -2."""
    whole = x.trunc()
    return whole + x.sign() * ((x - whole).abs() >= 0.5)


def pool_bins(
    rois: Tensor, map_size: tuple[int, int], output_size: int | tuple[int, int], spatial_scale: float
) -> Bins:
    """The cells of each bin of rois [K,5] (batch index, XYXY in pixels) on a map of (height, width) cells."""
    x1, y1, x2, y2 = round_half_away(rois[:, 1:] * spatial_scale).unbind(1)

    def ranges(first: Tensor, last: Tensor, num_bins: int, length: int) -> tuple[Tensor, Tensor]:
        # The division stays in floating point, as in C: at 57 cells a bin is one cell off the exact fraction.
        size = (last - first + 1).clamp(min=1)[:, None] / num_bins
        p = torch.arange(num_bins, device=rois.device, dtype=rois.dtype)
        start = (p * size).floor() + first[:, None]
        end = ((p + 1) * size).ceil() + first[:, None]
        return start.clamp(0, length).long(), end.clamp(0, length).long()

    num_y, num_x = check_pair(output_size, "output_size")
    height, width = map_size
    return Bins(*ranges(y1, y2, num_y, height), *ranges(x1, x2, num_x, width))


def _checked(features: Tensor, rois: Tensor, spatial_scale: float) -> Tensor:
    features = check_features(features)
    if 0 in features.shape[1:]:
        raise ValueError(f"features: found shape {list(features.shape)}, needed at least one channel and one cell")
    check_rois(rois, len(features))
    check_number(spatial_scale, "spatial_scale", low=1e-9)
    return rois.detach().to(features.dtype)


def roi_pool_plain(features: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float) -> Tensor:
    """`roi_pool`, to read: one bin at a time."""
    rois = _checked(features, rois, spatial_scale)
    bins = pool_bins(rois, features.shape[-2:], output_size, spatial_scale)
    output = []
    for k, image in enumerate(rois[:, 0].long().tolist()):
        for top, bottom in zip(bins.y_start[k], bins.y_end[k]):
            for left, right in zip(bins.x_start[k], bins.x_end[k]):
                cells = features[image, :, top:bottom, left:right].flatten(1)
                # max(dim), not amax: its gradient goes to the first maximum alone
                output.append(cells.max(dim=1).values if cells.numel() else cells.sum(dim=1))
    num_channels = features.shape[1]
    pooled = torch.stack(output) if output else features.new_zeros(0, num_channels)
    shape = (len(rois), bins.y_start.shape[1], bins.x_start.shape[1], num_channels)
    return pooled.reshape(shape).permute(0, 3, 1, 2)


def roi_pool(features: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float) -> Tensor:
    """Pool features [B,C,H,W] over rois [K,5] (batch index, XYXY in pixels) -> [K,C,P,P]. (Fast R-CNN 2.1)

    spatial_scale: cells per pixel, 1/16 at stride 16. No gradient for the RoIs. Inverted RoIs are allowed
    (1 x 1).
    """
    rois = _checked(features, rois, spatial_scale)
    return _RoIPool.apply(
        features, rois[:, 0].long(), *pool_bins(rois, features.shape[-2:], output_size, spatial_scale)
    )


class _RoIPool(torch.autograd.Function):
    """Forward by tables of the values. Backward by the same tables of numbers that know their places."""

    @staticmethod
    def forward(ctx, features: Tensor, images: Tensor, *bins: Tensor) -> Tensor:
        ctx.save_for_backward(features, images, *bins)
        return _max_by_tables(features, images, Bins(*bins))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        features, images, *bins = ctx.saved_tensors
        bins = Bins(*bins)
        winners = _max_by_tables(_with_places(features), images, bins)
        winners = features.numel() - 1 - (winners & 0xFFFFFFFF)  # where in the flattened features
        filled = (bins.y_end > bins.y_start)[:, None, :, None] & (bins.x_end > bins.x_start)[:, None, None, :]
        grad_features = features.new_zeros(features.numel())
        grad_features.scatter_add_(0, winners.flatten(), (grad * filled).flatten())
        return grad_features.reshape(features.shape), None, None, None, None, None


def _with_places(features: Tensor) -> Tensor:
    """[B,C,H,W] int64, in the order of the values, and among equal values the first cell is the greatest.

    The upper 32 bits are the value's rank, the lower ones its place, counted down. The bits of a float32, read as a
    whole number, are in the order of the values already; below 0 they run backwards and are turned around (IEEE 754).
    """
    if features.dtype == torch.float32:
        bits = (features + 0.0).view(torch.int32)  # -0.0 + 0.0 is 0.0: they tie
        ranks = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    else:
        ranks = features.unique(return_inverse=True)[1]
    places = torch.arange(features.numel() - 1, -1, -1, device=features.device).reshape(features.shape)
    return (ranks << 32) | places


def _max_by_tables(features: Tensor, images: Tensor, bins: Bins) -> Tensor:
    heights, widths = bins.y_end - bins.y_start, bins.x_end - bins.x_start
    # The largest power of two that fits a side: two such windows, one from each end, cover it. Empty: -1.
    level_y = torch.frexp(heights.double()).exponent - 1
    level_x = torch.frexp(widths.double()).exponent - 1
    shape = (len(images), heights.shape[1], widths.shape[1])
    levels = torch.stack((level_y[:, :, None].expand(shape), level_x[:, None, :].expand(shape)))
    output = features.new_zeros(*shape, features.shape[1])
    rows = features.permute(0, 2, 3, 1).contiguous()  # channels last: a look-up is one run of memory
    for a in range(int(level_y.max()) + 1 if level_y.numel() else 0):
        if a:
            rows = torch.maximum(rows[:, : -(2 ** (a - 1))], rows[:, 2 ** (a - 1) :])
        table = rows
        for b in range(int(level_x.max()) + 1):
            if b:
                table = torch.maximum(table[:, :, : -(2 ** (b - 1))], table[:, :, 2 ** (b - 1) :])
            k, i, j = ((levels[0] == a) & (levels[1] == b)).nonzero(as_tuple=True)
            if len(k):
                top, left = bins.y_start[k, i], bins.x_start[k, j]
                bottom, right = bins.y_end[k, i] - 2**a, bins.x_end[k, j] - 2**b
                ys, xs = (top, bottom) if a else (top,), (left, right) if b else (left,)
                corners = [(y, x) for y in ys for x in xs]
                output[k, i, j] = _best_of(table, images[k], corners)
    return output.permute(0, 3, 1, 2).contiguous()


def _best_of(table: Tensor, images: Tensor, corners) -> Tensor:
    """The maximum [n,C] of the rows of table [B,H,W,C] at each of the (y, x) corners."""
    _, height, width, num_channels = table.shape
    table = table.reshape(-1, num_channels)
    best = None
    for y, x in corners:
        found = table.index_select(0, (images * height + y) * width + x)
        best = found if best is None else torch.maximum(best, found, out=best)
    return best


__test__ = {
    "tiny numbers": """
    A 4 x 4 map of 0..15, two RoIs of 3 x 3 cells, 2 x 2 bins: bins of ceil(1.5) = 2 cells that overlap by
    one.

    >>> features = torch.arange(16.0).reshape(1, 1, 4, 4)
    >>> rois = torch.tensor([[0.0, 0, 0, 20, 20], [0.0, 0, 10, 30, 30]])
    >>> roi_pool(features, rois, 2, 0.1)[:, 0]
    tensor([[[ 5.,  6.],
             [ 9., 10.]],
    <BLANKLINE>
            [[ 9., 11.],
             [13., 15.]]])
    >>> torch.equal(roi_pool_plain(features, rois, 2, 0.1), roi_pool(features, rois, 2, 0.1))
    True
    >>> round_half_away(torch.tensor([0.5, 1.5, 2.5, -0.5])), torch.round(torch.tensor([0.5, 1.5, 2.5, -0.5]))
    (tensor([ 1.,  2.,  3., -1.]), tensor([0., 2., 2., -0.]))
    """
}
