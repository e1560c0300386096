"""Measure one setting of `frcnn bench` in a process of its own, so that its memory is that of detection alone."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from label_tools.pictures.open_image import open_image
from label_tools.text.errors import InputError, MachineError
from toolkit.data.boxes import result_entries
from toolkit.prediction.onnx_detector import OnnxDetector

WARM_UP = 2  # images before the clock runs


class Setting(NamedTuple):
    """A way to run a detector. form: torch, onnx or int8; place: the run, or the ONNX file."""

    form: str
    image_size: int | None
    proposals: int | None
    place: Path


def measure(*what: Any) -> dict[str, Any]:
    """`measured` in a process of its own. Raises InputError, MachineError."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, *what), daemon=True)
    child.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        child.join()
        raise MachineError(f"bench: the process of {what[0].form} ended with {child.exitcode}; memory?") from None
    finally:
        ours.close()
    child.join()
    if isinstance(answer, str):
        raise InputError(answer)
    return answer


def _child(answer: Connection, *what: Any) -> None:
    try:
        answer.send(measured(*what))
    except InputError as error:
        answer.send(str(error))
    finally:
        answer.close()


def measured(
    setting: Setting,
    images: list[tuple[int, Path]],
    opening: Mapping[str, Any],
    category_ids: list[int],
    device: str,
    threads: int,
) -> dict[str, Any]:
    """{"detections" (COCO results), "seconds" an image (median), "cpu_seconds" an image (mean), "memory" in bytes,
    "gpu_memory"} of a setting on images (id, file). opening: `coco_file.opening` of their document."""
    detect: Any
    if setting.form == "torch":
        from toolkit.deployment.original_network import Loaded

        detect = Loaded.of(setting.place, setting.image_size, setting.proposals, device, threads).detect
    else:
        detect = OnnxDetector(setting.place, threads).arrays
    found: list[dict[str, Any]] = []
    wall, cpu = [], 0.0
    for number, (image_id, path) in enumerate([*(first := images[:WARM_UP]), *images]):
        image = np.asarray(open_image(path, **opening))
        start, start_cpu = time.perf_counter(), time.process_time()
        boxes, labels, scores = detect(image)
        if number >= len(first):
            wall.append(time.perf_counter() - start)
            cpu += time.process_time() - start_cpu
            found += [{"image_id": image_id, **one} for one in result_entries(boxes, labels, scores, category_ids)]
    return {
        "detections": found,
        "seconds": float(np.median(wall)),
        "cpu_seconds": cpu / len(wall),
        "memory": _peak_memory(),
        "gpu_memory": _gpu_memory(),
    }


def _peak_memory() -> int | None:
    """Bytes that this process held at most; None where the system does not say."""
    try:
        # not the rusage of Linux, which begins with what the parent held
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def _gpu_memory() -> int | None:
    torch = sys.modules.get("torch")
    return torch.cuda.max_memory_allocated() if torch is not None and torch.cuda.is_initialized() else None
