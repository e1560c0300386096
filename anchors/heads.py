"""The two heads: the RPN's predictions for anchors, and the box head's for RoIs.

    RPN head    3x3 convolution, ReLU, then two 1x1 convolutions
                features [B,C,H,W]  ->  objectness [B, H*W*A]         one logit for each anchor
                                        deltas [B, H*W*A, 4]

    box head    flatten, Linear, ReLU, (dropout,) Linear, ReLU, (dropout,) then two Linears
                pooled [R,C,7,7]    ->  class logits [R, K+1]         K classes and background
                                        deltas [R, 4*(K+1)]           four for each class

Worked example: 512 channels and 7 x 7 bins are 25,088 inputs; two layers of 4,096; 128 RoIs give logits (128, K+1) and
deltas (128, 4(K+1)).

Limits: the RPN head is a convolution: it gives the same answer for the same content at any place. Each of its outputs
sees a 3x3 window of the map and still describes nine anchors, most of them larger than 48 pixels: that works because a
cell of the map has seen far more of the image than its own 16 pixels.

Place: Faster R-CNN 3.1, Fast R-CNN 2.2. Weights start from a normal distribution with standard deviation 0.01 (0.001
for the head's deltas), biases from 0: every anchor starts with p = 1/2 and with its box where it is.

Where others differ: leaving out the ReLU between the two Linears makes them one Linear. The paper's RPN has two logits
for an anchor; torchvision's and this one have one.
"""

from __future__ import annotations

from torch import Tensor, nn

from anchors.arguments import check_count, check_number


def _start(layer: nn.Linear | nn.Conv2d, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def to_anchor_order(output: Tensor, num_anchors: int) -> Tensor:
    """A convolution's [B, A*D, H, W] -> [B, H*W*A, D], rows in grid_anchors' order (y, x, anchor)."""
    num_images, channels, height, width = output.shape
    output = output.reshape(num_images, num_anchors, channels // num_anchors, height, width)
    return output.permute(0, 3, 4, 1, 2).reshape(num_images, height * width * num_anchors, -1)


class RPNHead(nn.Module):
    """Features [B,C,H,W] -> objectness [B,R] (logits) and deltas [B,R,4], R = H * W * num_anchors."""

    def __init__(self, channels: int, num_anchors: int) -> None:
        super().__init__()
        self.num_anchors = check_count(num_anchors, "num_anchors", low=1)
        self.conv = nn.Conv2d(check_count(channels, "channels", low=1), channels, 3, padding=1)
        self.relu = nn.ReLU()
        self.objectness = nn.Conv2d(channels, num_anchors, 1)
        self.deltas = nn.Conv2d(channels, 4 * num_anchors, 1)
        for layer in (self.conv, self.objectness, self.deltas):
            _start(layer, std=0.01)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.relu(self.conv(features))
        objectness = to_anchor_order(self.objectness(hidden), self.num_anchors).squeeze(2)
        return objectness, to_anchor_order(self.deltas(hidden), self.num_anchors)


class FastRCNNHead(nn.Module):
    """Pooled features [R,C,P,P] -> class logits [R,num_classes] and deltas [R,4*num_classes]."""

    def __init__(self, in_features: int, hidden: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        check_count(num_classes, "num_classes", low=2)
        check_number(dropout, "dropout", 0, 1)
        self.layers = nn.Sequential(
            nn.Flatten(1),
            nn.Linear(check_count(in_features, "in_features", low=1), check_count(hidden, "hidden", low=1)),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.class_logits = nn.Linear(hidden, num_classes)
        self.box_deltas = nn.Linear(hidden, 4 * num_classes)
        _start(self.class_logits, std=0.01)
        _start(self.box_deltas, std=0.001)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.layers(pooled)
        return self.class_logits(hidden), self.box_deltas(hidden)


__test__ = {
    "tiny numbers": """
    >>> import torch
    >>> objectness, deltas = RPNHead(8, num_anchors=9)(torch.zeros(1, 8, 50, 50))
    >>> objectness.shape, deltas.shape
    (torch.Size([1, 22500]), torch.Size([1, 22500, 4]))

    A convolution writes channel (anchor, value) at (y, x); the row of cell (0, 1), anchor 1 is 1 * 2 + 1 = 3.

    >>> to_anchor_order(torch.arange(8.0).reshape(1, 2, 2, 2), num_anchors=2)[0, :, 0]
    tensor([0., 4., 1., 5., 2., 6., 3., 7.])
    """
}
