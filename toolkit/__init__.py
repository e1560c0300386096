"""Fine-tune torchvision's Faster R-CNN on your own objects, and know how good it is.

    from toolkit import convert, split, train, Run

    run = train("photos", model="fasterrcnn_tiny_fpn", epochs=24)
    run.predict("new.jpg")

Names are imported when they are first used: `import toolkit` alone loads neither torch nor any image library.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # typing's own would cost half of the time in which Ctrl-C finds no handler
if TYPE_CHECKING:
    from typing import Any

    from label_tools.operations.split import split_file as split
    from label_tools.readers.convert import convert
    from toolkit.evaluation.compute_metrics import coco_metrics
    from toolkit.prediction.detections import Detections
    from toolkit.run import Run, train

__version__ = "0.1.0"
__all__ = ["Detections", "Run", "coco_metrics", "convert", "split", "train"]

_HOMES = {
    "Detections": "toolkit.prediction.detections",
    "Run": "toolkit.run",
    "coco_metrics": "toolkit.evaluation.compute_metrics",
    "convert": "label_tools.readers.convert",
    "split": "label_tools.operations.split:split_file",
    "train": "toolkit.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
