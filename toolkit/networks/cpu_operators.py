"""Two operators of torchvision's detectors made lighter for a CPU: RoIAlign, and the backward of the RPN's convolution.

RoIAlign over all levels as one weighted sum gives the same numbers in a tenth of the time. Each bin is a sum over 16
cells (2 x 2 points of 4 neighbours): their weights are the same for every channel. So all levels are put into one table
[cells, C], each bin names its cells and weights, and one `embedding_bag` adds whole rows; its gradient goes back the
same way. torchvision's operator works the weights out anew for every channel.

The loss of an RPN looks at 256 anchors an image, so of some ten thousand cells behind the 3 x 3 convolution of its head
two in a hundred have a gradient at all. For those,

    gradient of the weight = sum over cells of (gradient of the cell) x (the 3 x 3 patch under it)
    gradient of the input  = (gradient of the cell) @ weight, added to that patch

are two small matrix products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import MultiScaleRoIAlign

from anchors.fast.roi_align import sample_points

FEW = 0.25  # of the cells; beyond it the dense backward is quicker


class TableRoIAlign(MultiScaleRoIAlign):
    """A MultiScaleRoIAlign whose scales are set. In full precision on a CPU only; else torchvision's own forward."""

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        maps = [feature for name, feature in x.items() if name in self.featmap_names]
        fits = all(feature.device.type == "cpu" and feature.dtype in (torch.float32, torch.float64) for feature in maps)
        if not fits or self.scales is None or self.sampling_ratio < 1 or not sum(map(len, boxes)):
            return super().forward(x, boxes, image_shapes)
        images = torch.cat([torch.full((len(some),), i) for i, some in enumerate(boxes)])
        levels = self.map_levels(boxes) if len(maps) > 1 else torch.zeros_like(images)
        return pool(maps, self.scales, torch.cat(boxes), images, levels, self.output_size, self.sampling_ratio)


def pool(
    maps: list[Tensor],
    scales: list[float],
    boxes: Tensor,
    images: Tensor,
    levels: Tensor,
    output_size: tuple[int, int],
    sampling_ratio: int,
) -> Tensor:
    """maps: [B,C,H,W] of each level; boxes [K,4] XYXY, each of one image and one level -> [K,C,P,Q]."""
    sizes = torch.tensor([feature.shape[2:] for feature in maps])
    ends = torch.tensor([len(feature) for feature in maps]) * sizes.prod(dim=1)
    table = torch.cat([feature.permute(0, 2, 3, 1).flatten(0, 2) for feature in maps])
    boxes = boxes.detach() * boxes.new_tensor(scales)[levels, None]
    height, width = sizes[levels].unbind(1)
    start, size = boxes[:, :2], (boxes[:, 2:] - boxes[:, :2]).clamp(min=1)  # torchvision: at least one cell
    y, y_weight = _cells(start[:, 1], size[:, 1], output_size[0], sampling_ratio, height)
    x, x_weight = _cells(start[:, 0], size[:, 0], output_size[1], sampling_ratio, width)
    first = (ends.cumsum(0) - ends)[levels] + images * height * width
    rows = (first[:, None, None] + y * width[:, None, None])[:, :, None, :, None] + x[:, None, :, None, :]
    weight = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
    bins = functional.embedding_bag(
        rows.flatten(0, 2).flatten(1), table, mode="sum", per_sample_weights=weight.flatten(0, 2).flatten(1)
    )
    return bins.view(len(boxes), *output_size, -1).permute(0, 3, 1, 2)


def _cells(start: Tensor, size: Tensor, num_bins: int, sampling_ratio: int, length: Tensor) -> tuple[Tensor, Tensor]:
    """The cells [K,P,2S] of one axis that each bin reads, and their weights. `length` [K]: cells of that axis."""
    points, share = sample_points(start, size, num_bins, sampling_ratio)
    length = length[:, None, None]
    share = share * ((points >= -1) & (points <= length))  # further out counts nothing
    points = torch.minimum(points.clamp(min=0), length - 1.0)
    low = points.floor()
    fraction, low = points - low, low.long()
    high = torch.minimum(low + 1, length - 1)
    return torch.cat([low, high], dim=2), torch.cat([share * (1 - fraction), share * fraction], dim=2)


class FewCellsConv2d(nn.Conv2d):
    """An nn.Conv2d of 3 x 3, stride 1, padding 1. Without autocast on a CPU only; else torch's own."""

    @staticmethod
    def suits(conv: nn.Conv2d) -> bool:
        plain = (conv.kernel_size, conv.stride, conv.padding, conv.dilation) == ((3, 3), (1, 1), (1, 1), (1, 1))
        return type(conv) is nn.Conv2d and plain and conv.groups == 1 and conv.padding_mode == "zeros"

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        fits = input.device.type == "cpu" and input.dtype == weight.dtype
        if not fits or not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return super()._conv_forward(input, weight, bias)
        return _Conv.apply(input, weight, bias)


class _Conv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return nn.functional.conv2d(x, weight, bias, padding=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad)
        cells = grad.ne(0).any(dim=1).nonzero()  # [n,3]: image, y, x; NaN is not 0 either
        if len(cells) > FEW * grad[:, 0].numel():
            return torch.ops.aten.convolution_backward(
                grad, x, weight, [weight.shape[0]], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted
            )
        return _from_cells(grad, x, weight, cells, wanted)


def _from_cells(
    grad: Tensor, x: Tensor, weight: Tensor, cells: Tensor, wanted: list[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of input [B,C,H,W], weight [D,C,3,3] and bias [D], where `grad` [B,D,H,W] is 0 outside `cells`."""
    num_in, height, width = x.shape[1:]
    image, row, column = cells.T
    value = grad[image, :, row, column]  # [n,D]
    step = torch.arange(3) - 1
    rows, columns = row[:, None] + step.repeat_interleave(3), column[:, None] + step.repeat(3)  # [n,9]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)  # the padding is 0
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    grad_x = grad_weight = None
    if wanted[0]:
        by_cell = value @ weight.permute(0, 2, 3, 1).reshape(len(weight), -1)  # [n,9*C]
        table = x.new_zeros(len(x) * height * width, num_in)
        place = (image[:, None] * height + rows) * width + columns
        table.index_add_(0, place[inside], by_cell.view(-1, 9, num_in)[inside])
        grad_x = table.view(len(x), height, width, num_in).permute(0, 3, 1, 2)
    if wanted[1]:
        patches = x[image[:, None], :, rows, columns] * inside[:, :, None]  # [n,9,C]
        grad_weight = (value.T @ patches.flatten(1)).view(-1, 3, 3, num_in).permute(0, 3, 1, 2)
    return grad_x, grad_weight, value.sum(dim=0) if wanted[2] else None
