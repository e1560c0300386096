"""Quantize an exported detector to 8-bit integers: onnxruntime's static quantization, calibrated on own pictures."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.text.errors import MissingExtra
from toolkit.prediction.onnx_detector import EXTRA, INPUT

KINDS = ["Conv", "Gemm", "MatMul"]  # what is computed in integers; NMS, RoIAlign and the resize stay as they are
MOST_PICTURES = 200  # to calibrate on


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
