"""The backward of a 3 x 3 convolution from the few cells that have a gradient, on a CPU: the same result, less work.

The loss of an RPN looks at 256 anchors an image, so of some ten thousand cells behind the convolution of its head two
in a hundred have a gradient at all. For those,

    gradient of the weight = sum over cells of (gradient of the cell) x (the 3 x 3 patch under it)
    gradient of the input  = (gradient of the cell) @ weight, added to that patch

are two small matrix products.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

FEW = 0.25  # of the cells; beyond it the dense backward is quicker


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
