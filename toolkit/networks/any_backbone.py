"""`fasterrcnn/NAME`: torchvision's Faster R-CNN on any backbone that has feature maps.

NAME is a classification network of torchvision (`resnet18`, `efficientnet_b0`, `convnext_tiny`, `swin_t` ...) or
`timm/NAME` (extra `timm`). Nothing is known of a network beforehand: it is run once without values (on torch's meta
device) and asked for its maps, their strides, channels and layout. FPN, anchors and heads are those of
`fasterrcnn_resnet50_fpn`, which is `fasterrcnn/resnet50` to the last tensor.
"""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models as zoo
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from label_tools.text.errors import InputError, MissingExtra
from label_tools.text.messages import near_names
from toolkit.config import ON_BACKBONE
from toolkit.networks.registry_entry import Detector, Fetched

TIMM = "timm/"
STRIDES = (4, 8, 16, 32)
FPN_CHANNELS = 256
ASKED = (192, 256)  # height and width of the image that a network is asked with: 3 to 4 tells [C,H,W] from [H,W,C]


@dataclass(frozen=True)
class Level:
    """A feature map: the module that gives it, its stride, its channels, and whether these come last."""

    module: str
    stride: int
    channels: int
    channels_last: bool


class BackboneFPN(nn.Module):
    """[B,3,H,W] -> {"0" ... of the strides of its levels, "pool": half the last one}, each [B,256,h,w].

    stages: names of the body's parameters, by the map that they come before; what freezing goes by.
    """

    out_channels = FPN_CHANNELS

    def __init__(self, body: nn.Module, levels: list[Level], stages: list[set[str]]) -> None:
        super().__init__()
        self.body, self.levels, self.stages = body, levels, stages
        self.fpn = FeaturePyramidNetwork([v.channels for v in levels], FPN_CHANNELS, LastLevelMaxPool())

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = self.body(x)
        maps = maps.values() if isinstance(maps, dict) else maps
        turned = (m.permute(0, 3, 1, 2) if v.channels_last else m for m, v in zip(maps, self.levels, strict=True))
        return self.fpn(OrderedDict((str(number), m) for number, m in enumerate(turned)))


@functools.cache
def find(name: str) -> Detector:
    """The detector of `fasterrcnn/NAME`; InputError for a backbone that is unknown or has no feature maps."""
    backbone = name.removeprefix(ON_BACKBONE)
    if backbone.startswith(TIMM):
        return _timm_detector(backbone)
    known = zoo.list_models(module=zoo)
    if backbone not in known:
        raise InputError(
            f"--backbone {backbone}: unknown{near_names(backbone, known)}; needs a classification network of "
            f"torchvision, such as resnet18, or {TIMM}NAME"
        )
    network = _network(backbone, "meta").eval()
    chosen = _last_of_each_stride(_asked(network, backbone))

    def body(levels: list[Level]) -> nn.Module:
        return create_feature_extractor(_network(backbone), {v.module: str(i) for i, v in enumerate(levels)})

    weights = getattr(zoo.get_model_weights(backbone), "DEFAULT", None)
    return _detector(backbone, f"torchvision's {backbone}", network, chosen, body, weights)


def _detector(
    backbone: str,
    about: str,
    network: nn.Module,
    found: list[Level],
    body: Callable[[list[Level]], nn.Module],
    imagenet: Any,
    **options: Any,
) -> Detector:
    """On the maps of STRIDES among those `found` in `network`; body: makes what gives them."""
    levels = [level for level in found if level.stride in STRIDES]
    if len(levels) < 2:
        raise _no_maps(backbone)
    stages = _stages(network, [level.module for level in found])
    eps = next((m.eps for m in network.modules() if isinstance(m, nn.BatchNorm2d)), 1e-5)

    def build(num_classes: int, **sizes: Any) -> nn.Module:
        made = BackboneFPN(body(levels), levels, stages)
        return FasterRCNN(made, num_classes, **_anchors(levels), **options, **sizes)

    return Detector(build, f"Faster R-CNN on {about}", imagenet=imagenet, body_eps=eps, num_layers=len(stages))


def _timm_detector(backbone: str) -> Detector:
    try:
        import timm
    except ImportError:
        raise MissingExtra(f"--backbone {backbone}: needs timm: pip install 'frcnn-toolkit[timm]'") from None
    name = backbone.removeprefix(TIMM)
    if name.split(".")[0] not in timm.list_models():
        near = near_names(name, timm.list_models())
        raise InputError(f"--backbone {backbone}: unknown{near}; `timm.list_models()` names all")
    reason: Exception | None = None
    for options in ({}, {"strict_img_size": False}):  # the latter: what is made for one size, and can do without
        make = functools.partial(timm.create_model, name, features_only=True, **options)
        try:
            with torch.device("meta"):
                network = make(pretrained=False).eval()
            with torch.no_grad():
                maps = network(torch.zeros(1, 3, *ASKED, device="meta"))
            break
        except Exception as error:  # a hundred authors' networks; whatever it is, there are no maps
            reason = reason or error
    else:
        raise _no_maps(backbone, reason)
    found = [_level(module, m) for module, m in zip(network.feature_info.module_name(), maps, strict=True)]
    whole = [level for level in found if level is not None]
    if len(whole) < len(found):
        raise _no_maps(backbone)
    indices = [number for number, level in enumerate(whole) if level.stride in STRIDES]
    body = functools.partial(make, out_indices=indices)
    config = network.default_cfg
    weights = _timm_weights(config, lambda: body(pretrained=True).state_dict())
    mean_std = {"image_mean": list(config["mean"]), "image_std": list(config["std"])}
    return _detector(backbone, f"timm's {name}", network, whole, lambda _: body(pretrained=False), weights, **mean_std)


def _timm_weights(config: dict[str, Any], load: Callable[[], dict]) -> Fetched | None:
    from huggingface_hub.constants import HF_HUB_CACHE

    if not (home := config.get("hf_hub_id")):
        return None
    place = Path(HF_HUB_CACHE, f"models--{home.replace('/', '--')}")
    return Fetched(place, load, f"imagenet, timm's {home}, {config.get('license') or 'licence unknown'}")


def _no_maps(backbone: str, why: object = "") -> InputError:
    reason = f" ({str(why).splitlines()[0][:120]})" if str(why) else ""
    return InputError(
        f"--backbone {backbone}: has no feature maps of strides 4 to 32 for images of any size{reason}; "
        f"needs a network such as resnet18, mobilenet_v3_large, efficientnet_b0, convnext_tiny or swin_t"
    )


def _trunk(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that follow one another, containers opened."""
    for name, child in module.named_children():
        if type(child) in (nn.Sequential, nn.ModuleList):
            yield from _trunk(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child


def _asked(network: nn.Module, backbone: str) -> list[Level]:
    """What each module of the trunk gives that is a feature map, in the order of the answers."""
    found: list[Level | None] = []
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: found.append(_level(name, output)))
        for name, module in _trunk(network)
    ]
    try:
        with torch.no_grad():
            network(torch.zeros(1, 3, *ASKED, device=next(network.parameters()).device))
    except Exception as error:  # made for images of one size, say
        raise _no_maps(backbone, error) from None
    finally:
        for hook in hooks:
            hook.remove()
    return [level for level in found if level is not None]


def _level(module: str, output: Any) -> Level | None:
    """The feature map that a tensor is, None where it is none: both its sides are the image's, divided by a stride."""
    if not isinstance(output, torch.Tensor) or output.dim() != 4:
        return None
    _, a, b, c = output.shape
    for height, width, channels, last in ((b, c, a, False), (a, b, c, True)):
        stride = ASKED[0] // height if height else 0
        if stride and (height * stride, width * stride) == ASKED:
            return Level(module, stride, channels, last)
    return None


def _last_of_each_stride(trunk: list[Level]) -> list[Level]:
    """The last map of each stride from 2 to 32, before the maps get smaller for good."""
    chosen: dict[int, Level] = {}
    for level in trunk:
        if 2 <= level.stride <= STRIDES[-1] and level.stride >= max(chosen, default=0):
            chosen[level.stride] = level
    return list(chosen.values())


def _stages(network: nn.Module, ends: list[str]) -> list[set[str]]:
    """The names of the parameters up to and with each module of `ends`, which end a stage of the trunk."""
    trunk = list(_trunk(network))
    last = {
        end: max((i for i, (n, _) in enumerate(trunk) if _flat(n).startswith(_flat(end))), default=-1) for end in ends
    }
    stages, start = [], 0
    for stop in sorted({place + 1 for place in last.values()}):
        part = {f"{name}.{inner}" for name, m in trunk[start:stop] for inner, _ in m.named_parameters()}
        stages += [part] if part else []  # a pooling alone is none
        start = stop
    return stages


def _flat(name: str) -> str:
    """timm writes `blocks.0` for the module that it holds as `blocks_0`."""
    return f"{name}.".replace(".", "_")


def _network(backbone: str, device: str = "cpu") -> nn.Module:
    """torchvision's classification network with random weights; on "meta" without values, where it can do without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # googlenet, inception: how they begin, which weights replace
        try:
            with torch.device(device):
                return zoo.get_model(backbone, weights=None)
        except NotImplementedError:  # regnet looks at its values
            return zoo.get_model(backbone, weights=None)


def _anchors(levels: list[Level]) -> dict[str, Any]:
    """torchvision's anchors for resnet50_fpn: 32 px at stride 4, twice that at each further level."""
    sizes = tuple((8 * stride,) for stride in (*(v.stride for v in levels), 2 * levels[-1].stride))
    names = [str(number) for number in range(len(levels))]
    return {
        "rpn_anchor_generator": AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        "box_roi_pool": MultiScaleRoIAlign(names, output_size=7, sampling_ratio=2),
    }
