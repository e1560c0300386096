"""Make the ONNX file of a detector: the traced network, perhaps in 8-bit integers, with what it means as metadata.

It is traced by torch's older exporter: the newer one (dynamo) fails on the shapes that NMS leaves open. 8-bit integers
come from onnxruntime's static quantization, calibrated on pictures of the user."""

from __future__ import annotations

import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import nms

from label_tools.document import coco_file
from label_tools.pictures.open_image import open_image
from label_tools.text.errors import MissingExtra
from toolkit import __version__, checkpoint
from toolkit.deployment.original_network import Loaded
from toolkit.networks import onnx_forward
from toolkit.prediction.onnx_detector import ALL, EXTRA, FORMAT, INPUT, SHOWN

OPSET = 17  # onnxruntime 1.13 and later; RoiAlign as torchvision computes it came with 16
MOVED_APART = 1000  # boxes up to which torchvision's batched_nms moves classes apart on a CPU
EXAMPLE = (251, 333)  # height and width of the traced picture: no multiple of any stride
PACKAGES = ("torch", "torchvision", "onnx", "onnxruntime")  # whose versions a file names
KINDS = ["Conv", "Gemm", "MatMul"]  # what is computed in integers; NMS, RoIAlign and the resize stay as they are
MOST_PICTURES = 200  # to calibrate on


class Detection(nn.Module):
    """uint8 [H,W,3] -> boxes, labels, scores from each class's threshold, and the same of everything detected."""

    def __init__(self, model: Any, thresholds: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.thresholds = torch.tensor([2.0, *thresholds])  # of label 0, which no detection has

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        everything = onnx_forward.detect(self.model, image)
        keep = torch.where(everything[2] >= self.thresholds[everything[1]])[0]
        return *(one[keep] for one in everything), *everything


class _NmsByClass(torch.autograd.Function):
    """boxes [N,4], scores [C,N] (under 0: not of this class) -> indices [M]: ONNX's NonMaxSuppression over classes."""

    @staticmethod
    def forward(ctx: Any, boxes: Tensor, scores: Tensor, iou: float) -> Tensor:
        kept = []
        for row in scores:
            (of_class,) = torch.where(row >= 0)
            kept.append(of_class[nms(boxes[of_class], row[of_class], iou)])
        return torch.cat(kept)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, iou: float) -> Any:
        def constant(value: Any, dtype: torch.dtype) -> Any:
            return g.op("Constant", value_t=torch.tensor(value, dtype=dtype))

        batch = constant([0], torch.int64)
        limits = constant([sys.maxsize], torch.int64), constant([iou], torch.float32), constant([-0.5], torch.float32)
        found = g.op(
            "NonMaxSuppression", g.op("Unsqueeze", boxes, batch), g.op("Unsqueeze", scores, batch), *limits
        )  # [M,3]: image, class, box
        return g.op("Gather", found, constant(2, torch.int64), axis_i=1)


@contextmanager
def _nms_as_on_a_cpu(num_classes: int) -> Iterator[None]:
    """torchvision's NMS of many classes, traced to decide as it does untraced on a CPU.

    There it moves the classes apart, which rounds the boxes, and only up to 1000; more are taken class by class. Traced
    it always moves them: another rounding, another decision wherever an IoU lies on the threshold.
    """

    def batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou: float) -> Tensor:
        few = (torch._shape_as_tensor(boxes)[:1] <= MOVED_APART).to(boxes)
        largest = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max()  # of none it is 0
        moved = boxes + (classes.to(boxes) * (largest + 1) * few)[:, None]
        of_class = classes[None] == torch.arange(num_classes)[:, None]
        kept = _NmsByClass.apply(moved, torch.where(of_class, scores[None], scores.new_tensor(-1.0)), iou)
        return kept[scores[kept].argsort(descending=True)]

    usual, torchvision.ops.boxes.batched_nms = torchvision.ops.boxes.batched_nms, batched_nms
    try:
        yield
    finally:
        torchvision.ops.boxes.batched_nms = usual


def to_onnx(model: nn.Module, thresholds: Sequence[float], name: str) -> bytes:
    """The ONNX file of a detector, without metadata. thresholds [K]: of the labels 1..K."""
    example = torch.randint(0, 256, (*EXAMPLE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    names = [*SHOWN, *ALL]
    axes = {INPUT: {0: "height", 1: "width"}} | {one: {0: "all" if one in ALL else "shown"} for one in names}
    return export_module(Detection(onnx_forward.exportable(model, name), thresholds), (example,), [INPUT], names, axes)


def export_module(
    module: Any, example: tuple[Tensor, ...], inputs: Sequence[str], outputs: Sequence[str], axes: dict
) -> bytes:
    """The ONNX file of a module with a `model` of torchvision's kind and `thresholds` of its labels, traced on
    `example`. axes: {input or output: {dimension: name}} of those that vary."""
    buffer: Any = io.BytesIO()  # which the tracing exporter takes, other than its types say
    most = max(len(module.thresholds), len(module.model.rpn.anchor_generator.sizes))  # classes, or levels of the RPN
    with warnings.catch_warnings(), torch.inference_mode(), _nms_as_on_a_cpu(most):
        warnings.simplefilter("ignore")  # the tracer's doubts about Python values: the comparison that follows settles
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            module.eval(),
            example,
            buffer,
            dynamo=False,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes=axes,
            opset_version=OPSET,
        )
    return buffer.getvalue()


def calibration_images(document: dict[str, Any], image_root: Path) -> Iterator[np.ndarray]:
    """The pictures whose activations set the ranges of 8-bit integers, evenly over the document."""
    images, opening = document["images"], coco_file.opening(document)
    for image in images[:: -(-len(images) // MOST_PICTURES)]:
        yield np.asarray(open_image(Path(image_root, image["file_name"]), **opening))


def metadata(loaded: Loaded) -> dict[str, str]:
    """What the file says of itself, all of it text."""
    meta, model = loaded.found.meta, loaded.model
    return {
        "frcnn_format": FORMAT,
        "classes": json.dumps(meta["classes"]),
        "score_thresholds": json.dumps(dict(zip(loaded.found.classes, loaded.thresholds, strict=True))),
        "opening": json.dumps(meta.get("opening", {})),
        "tiles": json.dumps(meta.get("tiles")),
        "input": f"{INPUT}: uint8 [height, width, 3], RGB, upright, any size",
        "outputs": "boxes [N,4] XYXY pixels of the input, labels [N] 1..K, scores [N]: from each class's threshold; "
        "all_boxes, all_labels, all_scores: from the score floor; best first",
        "architecture": loaded.name,
        "image_size": str(model.transform.min_size[-1]),
        "max_size": str(model.transform.max_size),
        "proposals": str(model.rpn.post_nms_top_n()),
        "precision": "float32",
        "score_floor": str(model.roi_heads.score_thresh),
        "checkpoint_sha256": meta["sha256"][checkpoint.WEIGHTS],
        "first_weights": str(meta["architecture"].get("first_weights", "unknown")),
        "data_fingerprint": str(meta.get("data_fingerprint", "")),
        "opset": str(OPSET),
        "versions": json.dumps({"frcnn-toolkit": __version__, **{name: version(name) for name in PACKAGES}}),
    }


def with_metadata(content: bytes, meta: dict[str, str]) -> bytes:
    """The ONNX file with these entries."""
    try:
        import onnx
    except ImportError:
        raise MissingExtra(f"export onnx: {EXTRA}") from None
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    for key, value in meta.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "frcnn-toolkit", __version__
    return model.SerializeToString()


def quantized(content: bytes, images: Iterable[np.ndarray]) -> bytes:
    """The ONNX file with 8-bit weights, one scale a channel, and activations whose ranges are those seen in `images`
    [H,W,3] uint8. Without metadata. Raises MissingExtra."""
    try:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ImportError:
        raise MissingExtra(f"export onnx --int8: {EXTRA}") from None

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {INPUT: image}

    before = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises a preparation that changes nothing for convolutions
    try:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
            source.write_bytes(content)
            quantize_static(
                source,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=KINDS,
            )
            return target.read_bytes()
    finally:
        logging.root.setLevel(before)
