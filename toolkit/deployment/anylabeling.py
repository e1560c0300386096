"""Export a detector for X-AnyLabeling: an ONNX file of a type that it knows, and the YAML file that it loads.

X-AnyLabeling has no type for Faster R-CNN. Its type `dfine` asks little: a picture brought into 640 x 640 pixels, black
where it does not reach, in; labels, boxes and scores out. Our graph finds the picture in there again by its black
borders, so that the network sees objects at the size it was trained with. The program is GPL; nothing of it is
imported or copied, only the files that it reads are written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from toolkit.deployment.agreement import Arrays, Detect, Otherwise
from toolkit.deployment.onnx_file import export_module
from toolkit.networks import onnx_forward
from toolkit.prediction.onnx_detector import open_session

SIDE = 640  # of the square that the program makes of every picture
INPUTS = ("images", "orig_target_sizes")
OUTPUTS = ("labels", "boxes", "scores")  # in the order in which the program unpacks them
LOWEST = 0.01  # score that the program asks for: the thresholds of the classes lie in the graph


class InSquare(nn.Module):
    """float [1,3,640,640] in 0..1 and its size int64 [1,2] -> labels [1,N] from 0, boxes [1,N,4] XYXY pixels of the
    square, scores [1,N], from the threshold of each class."""

    def __init__(self, model: Any, thresholds: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.thresholds = torch.tensor([2.0, *thresholds])  # of label 0, which no detection has

    def forward(self, images: Tensor, orig_target_sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        square = (images[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
        lit = square.amax(2) > 0
        top, bottom = _ends(lit.any(1))
        left, right = _ends(lit.any(0))
        # the program leaves black on two sides at most; black on the other two belongs to the picture
        wide = (top + SIDE - bottom >= left + SIDE - right).long()
        top, bottom = top * wide, SIDE + (bottom - SIDE) * wide
        left, right = left * (1 - wide), SIDE + (right - SIDE) * (1 - wide)
        boxes, labels, scores = onnx_forward.detect(self.model, square[top:bottom, left:right])
        keep = torch.where(scores >= self.thresholds[labels])[0]
        boxes = boxes[keep] + torch.stack([left, top, left, top]).to(boxes)
        boxes = boxes * (orig_target_sizes[0, [1, 0, 1, 0]].to(boxes) / SIDE)
        return (labels[keep] - 1)[None], boxes[None], scores[keep][None]


def _ends(lit: Tensor) -> tuple[Tensor, Tensor]:
    """(first, one behind the last) of the places [N] that are true; all of them where none is."""
    return lit.float().argmax(0), SIDE - lit.flip(0).float().argmax(0)


def to_onnx(model: Any, thresholds: Sequence[float], name: str) -> bytes:
    """The ONNX file, without metadata. thresholds [K]: of the labels 1..K."""
    example = torch.zeros(1, 3, SIDE, SIDE)
    example[:, :, 80:560] = torch.rand(1, 3, 480, SIDE, generator=torch.Generator().manual_seed(0))
    size = torch.tensor([[SIDE, SIDE]])
    axes = {one: {1: "found"} for one in OUTPUTS}
    module = InSquare(onnx_forward.exportable(model, name), thresholds)
    return export_module(module, (example, size), INPUTS, OUTPUTS, axes)


def in_square(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, tuple[int, int]]:
    """(the square [640,640,3], the small picture in it, the scale, its corner (x, y)) as the program makes it."""
    height, width = image.shape[:2]
    scale = min(SIDE / width, SIDE / height)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    x, y = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    square = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    square[y : y + size[1], x : x + size[0]] = small
    return square, small, scale, (x, y)


def comparable(
    detect: Detect, otherwise: Otherwise, thresholds: Sequence[float], content: bytes
) -> tuple[Detect, Detect, Otherwise]:
    """(the network on the small picture, the exported file on the square, the network with other roundings): all in
    pixels of the picture, from the threshold of each class."""
    session = open_session(content, "x-anylabeling", torch.get_num_threads())
    least = np.array([2.0, *thresholds], dtype=np.float32)

    def shown(found: Arrays, scale: float) -> Arrays:
        boxes, labels, scores = found
        keep = scores >= least[labels]
        return [boxes[keep] / scale, labels[keep], scores[keep]]

    def original(image: np.ndarray) -> Arrays:
        _, small, scale, _ = in_square(image)
        return shown(detect(small), scale)

    def original_otherwise(image: np.ndarray) -> Iterator[Arrays]:
        _, small, scale, _ = in_square(image)
        yield from (shown(found, scale) for found in otherwise(small))

    def exported(image: np.ndarray) -> Arrays:
        square, _, scale, (x, y) = in_square(image)
        blob = (square.astype(np.float32) / 255.0).transpose(2, 0, 1)[None]
        size = np.array([[SIDE, SIDE]], dtype=np.int64)
        labels, boxes, scores = (one[0] for one in session.run(None, dict(zip(INPUTS, (blob, size), strict=True))))
        return [(boxes - np.array([x, y, x, y], dtype=np.float32)) / scale, labels + 1, scores]

    return original, exported, original_otherwise


def config(file_name: str, name: str, classes: Sequence[str]) -> bytes:
    """The YAML file that `Load Custom Model` asks for; model_path is beside it."""
    return yaml.safe_dump(
        {
            "type": "dfine",
            "name": name,
            "provider": "frcnn-toolkit",
            "display_name": name,
            "model_path": file_name,
            "conf_threshold": LOWEST,
            "classes": list(classes),
        },
        sort_keys=False,
        allow_unicode=True,
    ).encode()
