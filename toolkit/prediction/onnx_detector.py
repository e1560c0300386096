"""A detector in an ONNX file that `frcnn export onnx` wrote, run by onnxruntime. Nothing here imports torch.

The graph holds everything from the picture's bytes to its detections; the file's metadata says what they mean.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco_file
from label_tools.text.errors import InputError, MissingExtra, one_line
from toolkit.data.boxes import result_entries
from toolkit.data.tiles import Tiles
from toolkit.prediction.tiles_and_tta import TrainedOnTiles

SUFFIX = ".onnx"
FORMAT = "1"  # of inputs, outputs and metadata
INPUT = "image"  # uint8 [height, width, 3], RGB
SHOWN = ("boxes", "labels", "scores")  # from the threshold of each class
ALL = ("all_boxes", "all_labels", "all_scores")  # from the score floor of the network
EXTRA = "needs onnxruntime: pip install 'frcnn-toolkit[onnx]'"


def is_onnx(place: Path) -> bool:
    """Whether a path names an ONNX file, rather than a run folder."""
    return Path(place).suffix.lower() == SUFFIX


class OnnxDetector(TrainedOnTiles):
    """An exported detector that is ready to run, a `Detector`.

    threads: of onnxruntime; 0: those of OMP_NUM_THREADS, else one a core. content: the file, where it is not written
    yet. Raises InputError, MissingExtra.
    """

    def __init__(self, path: Path, threads: int = 0, content: bytes | None = None) -> None:
        self.name = str(path)
        try:
            content = Path(path).read_bytes() if content is None else content
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        self.identity = hashlib.sha256(content).hexdigest()
        self._session = open_session(content, self.name, threads)
        self.meta: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        if self.meta.get("frcnn_format") != FORMAT:
            found = f"format {self.meta['frcnn_format']}" if "frcnn_format" in self.meta else "another program's model"
            raise InputError(f"{path}: found {found}, needs a file of `frcnn export onnx` (format {FORMAT})")
        try:
            self.categories: list[dict[str, Any]] = json.loads(self.meta["classes"])
            self.score_thresholds: dict[str, float] = json.loads(self.meta["score_thresholds"])
            self.category_ids = [int(category["id"]) for category in self.categories]
            opening = json.loads(self.meta.get("opening", "{}"))  # files of earlier versions say nothing of it
            tiles = json.loads(self.meta.get("tiles", "null"))
            self.tiles = Tiles(*tiles) if tiles else None
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}: its metadata names no classes; needs a file of `frcnn export onnx`") from None
        self.opening = coco_file.opening({"info": opening}, f"{path}, metadata")

    def _detect(self, images: Sequence[np.ndarray]) -> list[list[dict[str, Any]]]:
        found = map(self.arrays, images)
        return [result_entries(boxes, labels, scores, self.category_ids) for boxes, labels, scores in found]

    def arrays(self, image: np.ndarray, outputs: Sequence[str] = ALL) -> list[np.ndarray]:
        """boxes [N,4] XYXY pixels of the image [H,W,3] uint8, labels [N] 1..K, scores [N], best first."""
        return self._session.run(list(outputs), {INPUT: np.ascontiguousarray(image)})


def open_session(content: bytes, name: str, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra(f"{name}: {EXTRA}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or int(os.environ.get("OMP_NUM_THREADS") or 0)
    options.log_severity_level = 3  # warnings of a graph that is fine are not for a user
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, by the kind of damage
        reason = one_line(str(error)).partition(" : ")[2] or type(error).__name__
        raise InputError(f"{name}: is no ONNX model that onnxruntime can load: {reason[:160]}") from None
