"""How much of the bare network's rate `frcnn predict` keeps, and whether its memory grows.

    python benchmarks/predict.py RUN PICTURES [--repeat 3] [--many 20000]

Rate: pictures a second of the network on batches that lie in memory, beside `predict` from files to JSON and CSV, in
turns in one process. The main thread's own seconds tell what a free core for the threads that read would give.
Memory: the peak of a process that predicts `--many` pictures, links to the ones given, beside one that predicts a
twentieth of them, with a detector that finds 20 fixed boxes.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from label_tools.pictures import open_image
from toolkit.prediction.picture_sources import find_images
from toolkit.prediction.predict_pictures_and_film import predict


class Fixed:
    """A detector that costs nothing: 20 boxes in every picture."""

    name, identity, reads_windows = "fixed", "1", False

    def __init__(self) -> None:
        self.categories = [{"id": 1, "name": "thing"}]
        self.score_thresholds = {"thing": 0.5}
        self.opening: dict = {}

    def detect(self, pictures):
        return [[{"category_id": 1, "bbox": [n, n, 9.5, 9.5], "score": 0.9} for n in range(20)] for _ in pictures]


def rate(run: Path, folder: Path, repeat: int, workers: int, draw: bool) -> None:
    from toolkit.prediction.torch_detector import TorchDetector

    detector, files = TorchDetector(run), find_images([folder])
    loaded = [np.asarray(open_image.open_image(path)) for path, _ in files]
    batches = [loaded[i : i + 4] for i in range(0, len(loaded), 4)]
    detector.detect(batches[0])
    ratios: dict[str, list[float]] = {"cpu": [], "wall": [], "main thread": []}
    for _ in range(repeat):
        begin = time.process_time(), time.perf_counter(), time.thread_time()
        for batch in batches:
            detector.detect(batch)
        middle = time.process_time(), time.perf_counter(), time.thread_time()
        with tempfile.TemporaryDirectory() as out:
            predict(detector, files, Path(out) / "out", draw=draw, workers=workers)
        end = time.process_time(), time.perf_counter(), time.thread_time()
        for n, key in enumerate(ratios):
            ratios[key].append((middle[n] - begin[n]) / (end[n] - middle[n]))
    for key, values in ratios.items():
        shown = f"{len(files)} pictures, {repeat} times, workers {workers}, drawn {draw}"
        print(f"{key}: median ratio {statistics.median(values):.3f} ({shown})")


def peak(folder: Path, number: int) -> int:
    """MB that a process needed at most to predict `number` pictures."""
    with tempfile.TemporaryDirectory() as place:
        sources = sorted(folder.glob("*.jpg"))
        (Path(place) / "in").mkdir()
        for n in range(number):
            os.link(sources[n % len(sources)], Path(place) / "in" / f"{n:06d}.jpg")
        words = [sys.executable, __file__, "--child", place]
        return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("pictures", type=Path, nargs="?")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--child", type=Path)
    args = parser.parse_args()
    if args.child:
        predict(Fixed(), find_images([args.child / "in"]), args.child / "out", draw=False)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return
    if args.repeat:
        rate(args.run, args.pictures, args.repeat, args.workers, args.draw)
    if args.many:
        for number in (args.many // 20, args.many):
            print(f"{number} pictures: peak {peak(args.pictures, number)} MB")


if __name__ == "__main__":
    main()
