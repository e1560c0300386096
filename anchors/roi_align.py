"""RoIAlign: RoI pooling without rounding.

    corners on the map: coordinate * spatial_scale - offset        offset .5 (aligned) or 0
    each of P x P bins: the mean of s x s points, in the middle of s x s equal parts of the bin
    value at a point = bilinear: (1-fy)(1-fx) v00 + (1-fy) fx v01 + fy (1-fx) v10 + fy fx v11

Pixel i's value sits at i + .5 in box coordinates and at i in the array: that is the offset of .5
(detectron2; torchvision calls it `aligned`, off by default, and then also makes every RoI at least 1 x 1).

Limits: a point more than one cell outside the map counts 0; up to one cell outside, the edge's value. On a
constant map every inside bin is that constant; on a ramp it is the ramp at the bin's centre. sampling_ratio
<= 0: ceil(size / P) points for each bin. A RoI of size 0: with `aligned` and adaptive sampling 0, otherwise
the value at its point.

Place: Mask R-CNN 3; torchvision's Faster R-CNN uses it instead of RoI pooling.

Two versions with one result: `roi_align_plain` is the formula in loops. But the points of a RoI are a grid,
and bilinear weights are a product of one for y and one for x. So all of it is two small matrix products,

    output = Y @ map @ X^T      Y [P,H]: how much each row of the map counts for each row of bins; X likewise

whose gradient is the transpose of the same: Y^T @ grad @ X. Only the rows and columns that count are taken
from the map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.arguments import check_features, check_number, check_pair, check_rois


def _corners(rois: Tensor, spatial_scale: float, aligned: bool) -> tuple[Tensor, Tensor]:
    """Starts and sizes of rois [K,5] on the map, each [K,2] as (x, y)."""
    on_map = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    start, size = on_map[:, :2], on_map[:, 2:] - on_map[:, :2]
    return start, size if aligned else size.clamp(min=1)


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


def _checked(features: Tensor, rois: Tensor, spatial_scale: float, sampling_ratio: int) -> Tensor:
    features = check_features(features)
    if 0 in features.shape[1:]:
        raise ValueError(f"features: found shape {list(features.shape)}, needed at least one channel and one cell")
    check_rois(rois, len(features))
    check_number(spatial_scale, "spatial_scale", low=1e-9)
    if isinstance(sampling_ratio, bool) or not isinstance(sampling_ratio, int):
        raise ValueError(f"sampling_ratio: found {sampling_ratio!r}, needed a whole number (0 or less is adaptive)")
    return rois.detach().to(features.dtype)


def roi_align_plain(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    *,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """`roi_align`, to read: one bin, one point at a time."""
    rois = _checked(features, rois, spatial_scale, sampling_ratio)
    num_y, num_x = check_pair(output_size, "output_size")
    (start, size) = _corners(rois, spatial_scale, aligned)
    ys, y_share = sample_points(start[:, 1], size[:, 1], num_y, sampling_ratio)
    xs, x_share = sample_points(start[:, 0], size[:, 0], num_x, sampling_ratio)
    output = features.new_zeros(len(rois), features.shape[1], num_y, num_x)
    for k, image in enumerate(rois[:, 0].long().tolist()):
        for p in range(num_y):
            for q in range(num_x):
                for y, wy in zip(ys[k, p].tolist(), y_share[k, p].tolist()):
                    for x, wx in zip(xs[k, q].tolist(), x_share[k, q].tolist()):
                        output[k, :, p, q] += wy * wx * bilinear(features[image], y, x)
    return output


def bilinear(feature_map: Tensor, y: float, x: float) -> Tensor:
    """The value [C] of a map [C,H,W] at a point between its cells; 0 more than one cell outside."""
    _, height, width = feature_map.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return torch.zeros_like(feature_map[:, 0, 0])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    upper = (1 - fx) * feature_map[:, top, left] + fx * feature_map[:, top, right]
    lower = (1 - fx) * feature_map[:, bottom, left] + fx * feature_map[:, bottom, right]
    return (1 - fy) * upper + fy * lower


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float,
    *,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Align features [B,C,H,W] over rois [K,5] (batch index, XYXY in pixels) -> [K,C,P,P]. (Mask R-CNN 3)

    spatial_scale: cells per pixel. sampling_ratio: points for each side of a bin (2), 0 or less: adaptive.
    aligned: detectron2 True, torchvision's default False. No gradient for the RoIs.
    """
    rois = _checked(features, rois, spatial_scale, sampling_ratio)
    num_y, num_x = check_pair(output_size, "output_size")
    start, size = _corners(rois, spatial_scale, aligned)
    rows = axis_matrix(start[:, 1], size[:, 1], num_y, sampling_ratio, features.shape[2])
    columns = axis_matrix(start[:, 0], size[:, 0], num_x, sampling_ratio, features.shape[3])
    return _RoIAlign.apply(features, rois[:, 0].long(), rows, columns)


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


__test__ = {
    "tiny numbers": """
    A 5 x 5 map of 0..24; the RoI from (1, 1) to (3, 3) in 4 x 4 bins of half a cell. The first bin's centre
    is (1.25, 1.25) in box coordinates: 5 * 1.25 + 1.25 = 7.5 without the half-pixel offset, 5 * .75 + .75 =
    4.5 with it.

    >>> features, rois = torch.arange(25.0).reshape(1, 1, 5, 5), torch.tensor([[0.0, 1, 1, 3, 3]])
    >>> roi_align(features, rois, 4, 1.0, sampling_ratio=2, aligned=False)[0, 0, 0]
    tensor([7.5000, 8.0000, 8.5000, 9.0000])
    >>> roi_align(features, rois, 4, 1.0, sampling_ratio=2, aligned=True)[0, 0, 0]
    tensor([4.5000, 5.0000, 5.5000, 6.0000])
    """
}
