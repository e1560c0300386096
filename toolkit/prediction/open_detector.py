"""Open the detector at a path: a run, a checkpoint or an exported file."""

from __future__ import annotations

from pathlib import Path

from label_tools.text.errors import InputError
from toolkit.prediction.detector import Detector
from toolkit.prediction.onnx_detector import OnnxDetector, is_onnx


def open_detector(place: Path, device: str = "auto") -> Detector:
    """The detector at `place`: a run folder, a checkpoint in one, or an ONNX file of ours, which needs no torch. Raises
    InputError."""
    if is_onnx(place):
        if device not in ("auto", "cpu"):
            raise InputError(f"--device {device}: an ONNX file runs on the CPU here; needs auto or cpu")
        return OnnxDetector(place)
    from toolkit.prediction.torch_detector import TorchDetector

    return TorchDetector(place, device)
