"""RoIAlign as two matrix products: the result of `anchors.roi_align.roi_align`, and its gradient.

The points of a RoI are a grid, and a bilinear weight is a product of one weight for y and one for x. So

    output = Y @ map @ X^T        Y [P,H]: how much each row of the map counts for each row of bins; X [P,W] likewise
    gradient of the map = Y^T @ gradient of the output @ X

Only the rows and columns that count are taken from the map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.arguments import check_pair, check_pooling, check_ratio
from anchors.roi_align import corners_on_map


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    *,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Align features [B,C,H,W] over rois [K,5] (batch index, XYXY in pixels) -> [K,C,P,P]. (Mask R-CNN 3)"""
    rois = check_pooling(features, rois, spatial_scale)
    check_ratio(sampling_ratio)
    num_y, num_x = check_pair(output_size, "output_size")
    start, size = corners_on_map(rois, spatial_scale, aligned)
    rows = axis_matrix(start[:, 1], size[:, 1], num_y, sampling_ratio, features.shape[2])
    columns = axis_matrix(start[:, 0], size[:, 0], num_x, sampling_ratio, features.shape[3])
    return _RoIAlign.apply(features, rois[:, 0].long(), rows, columns)


def sample_points(start: Tensor, size: Tensor, num_bins: int, sampling_ratio: int) -> tuple[Tensor, Tensor]:
    """Along one axis: coordinates [K,P,S] of the points of each bin, and each one's share in the bin's mean.

    Adaptive sampling has a number of points for each RoI: S is the largest, the points beyond a RoI's own
    count 0.
    """
    bin_size = size / num_bins
    if sampling_ratio > 0:
        num_points = torch.full_like(size, sampling_ratio)
    else:
        num_points = bin_size.ceil().clamp(min=0)
    most = int(num_points.max()) if len(size) else 0
    i = torch.arange(most, device=size.device, dtype=size.dtype)
    p = torch.arange(num_bins, device=size.device, dtype=size.dtype)
    per_bin = num_points.clamp(min=1)
    points = (
        start[:, None, None] + p[:, None] * bin_size[:, None, None] + (i + 0.5) * (bin_size / per_bin)[:, None, None]
    )
    share = (i < num_points[:, None]) / per_bin[:, None]
    return points, share[:, None, :].expand_as(points)


def axis_matrix(start: Tensor, size: Tensor, num_bins: int, sampling_ratio: int, length: int) -> Tensor:
    """[K,P,length]: how much each cell of one axis counts for each bin. Rows sum to 1, less at the edge."""
    points, share = sample_points(start, size, num_bins, sampling_ratio)
    share = share * ((points >= -1) & (points <= length))
    points = points.clamp(0, length - 1)
    low = points.floor()
    fraction = points - low
    low = low.long()
    matrix = points.new_zeros(*points.shape[:2], length)
    matrix.scatter_add_(2, low, share * (1 - fraction))
    return matrix.scatter_add_(2, (low + 1).clamp(max=length - 1), share * fraction)


def _counting_cells(matrix: Tensor) -> list[tuple[int, int]]:
    """For each RoI the first and one past the last cell that counts, from [K,P,length]."""
    counts = matrix.ne(0).any(dim=1)
    length = counts.shape[1]
    start = counts.int().argmax(dim=1)  # the first of equal maxima
    end = length - counts.flip(1).int().argmax(dim=1)
    return list(zip(start.tolist(), torch.where(counts.any(dim=1), end, start).tolist()))


def _spans(images: Tensor, rows: Tensor, columns: Tensor):
    """(RoI, its image, its rows of the map, its columns) for each RoI that has any."""
    spans = zip(images.tolist(), _counting_cells(rows), _counting_cells(columns))
    for k, (image, y, x) in enumerate(spans):
        if y[0] < y[1] and x[0] < x[1]:
            yield k, image, y, x


class _RoIAlign(torch.autograd.Function):
    """Y @ map @ X^T for each RoI, and its transpose for the gradient; in full precision under autocast too."""

    @staticmethod
    def forward(ctx, features: Tensor, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        ctx.save_for_backward(images, rows, columns)
        ctx.map_shape = features.shape
        table = features.permute(0, 2, 3, 1).contiguous()  # channels last: a crop's row is one run of memory
        num_channels = table.shape[3]
        output = features.new_zeros(len(images), rows.shape[1], columns.shape[1], num_channels)
        with torch.autocast(features.device.type, enabled=False):
            for k, image, (top, bottom), (left, right) in _spans(images, rows, columns):
                crop = table[image, top:bottom, left:right].reshape(bottom - top, -1)
                by_row = (rows[k, :, top:bottom] @ crop).reshape(-1, right - left, num_channels)
                torch.matmul(columns[k, :, left:right], by_row, out=output[k])
        return output.permute(0, 3, 1, 2).contiguous()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        images, rows, columns = ctx.saved_tensors
        num_images, num_channels, height, width = ctx.map_shape
        table = grad.new_zeros(num_images, height, width, num_channels)
        grad = grad.permute(0, 2, 3, 1).contiguous()
        with torch.autocast(grad.device.type, enabled=False):
            for k, image, (top, bottom), (left, right) in _spans(images, rows, columns):
                by_row = columns[k, :, left:right].T @ grad[k]
                crop = rows[k, :, top:bottom].T @ by_row.reshape(by_row.shape[0], -1)
                table[image, top:bottom, left:right] += crop.reshape(bottom - top, right - left, num_channels)
        return table.permute(0, 3, 1, 2), None, None, None
