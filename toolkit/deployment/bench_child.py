"""One setting of `frcnn bench`, measured in a process of its own: its memory is that of a program that only detects."""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from label_tools.pictures.images import open_image
from label_tools.text.errors import InputError, MachineError
from toolkit.prediction.onnx_detector import OnnxDetector, found_of

WARM_UP = 2  # images before the clock runs


class Setting(NamedTuple):
    """A way to run a detector. form: torch, onnx or int8; place: the run, or the ONNX file."""

    form: str
    image_size: int | None
    proposals: int | None
    place: Path


def measure(
    setting: Setting, images: list[tuple[int, Path]], category_ids: list[int], device: str, threads: int
) -> dict[str, Any]:
    """{"detections" (COCO results), "seconds" an image (median), "cpu_seconds" an image (mean), "memory" in bytes,
    "gpu_memory"} of a setting on images (id, file). Raises InputError, MachineError."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(theirs, setting, images, category_ids, device, threads), daemon=True)
    child.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        child.join()
        raise MachineError(f"bench: the process of {setting.form} ended with {child.exitcode}; memory?") from None
    finally:
        ours.close()
    child.join()
    if isinstance(answer, str):
        raise InputError(answer)
    return answer


def _child(
    answer: Connection,
    setting: Setting,
    images: list[tuple[int, Path]],
    category_ids: list[int],
    device: str,
    threads: int,
) -> None:
    try:
        answer.send(_measured(setting, images, category_ids, device, threads))
    except InputError as error:
        answer.send(str(error))
    finally:
        answer.close()


def _measured(
    setting: Setting, images: list[tuple[int, Path]], category_ids: list[int], device: str, threads: int
) -> dict[str, Any]:
    detect: Any
    if setting.form == "torch":
        from toolkit.deployment.load_network import Loaded

        detect = Loaded.of(setting.place, setting.image_size, setting.proposals, device, threads).detect
    else:
        detect = OnnxDetector(setting.place, threads).arrays
    found: list[dict[str, Any]] = []
    wall, cpu = [], 0.0
    for number, (image_id, path) in enumerate([*images[:WARM_UP], *images]):
        image = np.asarray(open_image(path))
        start, start_cpu = time.perf_counter(), time.process_time()
        boxes, labels, scores = detect(image)
        if number >= WARM_UP:
            wall.append(time.perf_counter() - start)
            cpu += time.process_time() - start_cpu
            found += [{"image_id": image_id, **one} for one in found_of(boxes, labels, scores, category_ids)]
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
