"""A detector as ONNX, by torch's tracing exporter: the newer one (dynamo) fails on the shapes that NMS leaves open."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.networks import traceable
from toolkit.prediction.onnx_detector import ALL, INPUT, SHOWN

OPSET = 17  # onnxruntime 1.13 and later; RoiAlign as torchvision computes it came with 16
EXAMPLE = (251, 333)  # height and width of the traced picture: no multiple of any stride


class Detection(nn.Module):
    """uint8 [H,W,3] -> boxes, labels, scores from each class's threshold, and the same of everything detected."""

    def __init__(self, model: Any, thresholds: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.thresholds = torch.tensor([2.0, *thresholds])  # of label 0, which no detection has

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        everything = traceable.detect(self.model, image)
        keep = torch.where(everything[2] >= self.thresholds[everything[1]])[0]
        return *(one[keep] for one in everything), *everything


def to_onnx(model: nn.Module, thresholds: Sequence[float], name: str) -> bytes:
    """The ONNX file of a detector, without metadata. thresholds [K]: of the labels 1..K."""
    module = Detection(traceable.exportable(model, name), thresholds).eval()
    example = torch.randint(0, 256, (*EXAMPLE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    names = [*SHOWN, *ALL]
    axes = {INPUT: {0: "height", 1: "width"}} | {one: {0: "all" if one in ALL else "shown"} for one in names}
    buffer: Any = io.BytesIO()  # which the tracing exporter takes, other than its types say
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the tracer's doubts about Python values: the comparison that follows settles
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module,
            (example,),
            buffer,
            dynamo=False,
            input_names=[INPUT],
            output_names=names,
            dynamic_axes=axes,
            opset_version=OPSET,
        )
    return buffer.getvalue()
