"""RoI pooling by tables of maxima: the result of `anchors.roi_pool.roi_pool`, and its gradient.

    table[a, b] at cell (y, x) = the maximum over the 2^a x 2^b cells from there
    table[a + 1, b] at (y, x)  = max of table[a, b] at (y, x) and at (y + 2^a, x)             b likewise, along x

A bin of h x w cells, 2^a <= h < 2^(a+1), 2^b <= w < 2^(b+1), is covered by four windows of that table, one from each of
its corners; they overlap, which does not change a maximum.

The gradient needs the place of each maximum: the same tables again, of whole numbers whose upper half ranks the value
and whose lower half is its place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.arguments import check_pooling
from anchors.roi_pool import Bins, pool_bins


def roi_pool(features: Tensor, rois: Tensor, output_size: int | tuple[int, int], spatial_scale: float) -> Tensor:
    """Pool features [B,C,H,W] over rois [K,5] (batch index, XYXY in pixels) -> [K,C,P,P]. (Fast R-CNN 2.1)"""
    rois = check_pooling(features, rois, spatial_scale)
    bins = pool_bins(rois, features.shape[-2:], output_size, spatial_scale)
    return _RoIPool.apply(features, rois[:, 0].long(), *bins)


class _RoIPool(torch.autograd.Function):
    """Forward by tables of the values; backward by tables of numbers that encode rank and place."""

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
    rows = (table.index_select(0, (images * height + y) * width + x) for y, x in corners)
    best = next(rows)
    for found in rows:
        torch.maximum(best, found, out=best)
    return best
