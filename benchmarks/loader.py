"""Images per second of our data loader alone, beside a loop that only decodes the same files, in one run.

    python benchmarks/loader.py --data FILE [--images 100] [--repeat 3]

The peer: `open_image` of every file to an array, in one process. Ours: the batches that `frcnn train` makes (decode,
augmentation, targets, collation), for each level of augmentation, with 0, 1 and 2 worker processes, with decoded images
kept or not. Each row is an epoch after a first one, in which worker processes start and images are kept; the fastest of
`--repeat` counts. Two workers keep images each for itself, so that some are decoded twice. Figures: docs/measurements.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from label_tools.pictures import open_image as pictures
from toolkit.data import coco_index, dataset, transforms
from toolkit.data.loader import Batches, cache_share

KEPT_MB = 2048  # of decoded images, over all workers: enough for all of them


def rate(epoch: Callable[[], int], repeat: int) -> float:
    """Images per second of the fastest of `repeat` epochs."""
    best = 0.0
    for _ in range(repeat):
        started = time.perf_counter()
        count = epoch()
        best = max(best, count / (time.perf_counter() - started))
    return best


def decode(index: coco_index.Index, rows: range) -> int:
    for row in rows:
        np.asarray(pictures.open_image(index.path(row)))
    return len(rows)


def ours(
    index: coco_index.Index, rows: range, augment: str, workers: int, keep: bool, batch_size: int, repeat: int
) -> float:
    """Images per second of an epoch of our batches over `rows`."""
    pictures = dataset.DetectionDataset(index, transforms.build(augment), cache_share(KEPT_MB if keep else 0, workers))
    keys = [(row, 7919 * (row + 1)) for row in rows]
    plan = [keys[i : i + batch_size] for i in range(0, len(keys), batch_size)]
    batches = Batches(pictures, plan, workers, torch.device("cpu"))

    def epoch() -> int:
        return sum(len(images) for images, _ in batches)

    try:
        epoch()
        return rate(epoch, repeat)
    finally:
        batches.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="COCO file")
    parser.add_argument("--images", type=int, default=100, help="images of an epoch at most")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    index = coco_index.read_index(args.data)
    rows = range(min(args.images, len(index)))
    height, width = np.median(index.sizes[: len(rows)], axis=0)
    decode(index, rows)  # from here on the files lie in the system's memory
    peer = rate(lambda: decode(index, rows), args.repeat)
    print(f"{len(rows)} images, median {width:.0f} x {height:.0f} px, batches of {args.batch_size}\n")
    print(f"{'augment':10}{'workers':>8}{'kept':>6}{'images/s':>10}{'to decoding':>13}")
    print(f"{'decode':10}{'':>8}{'':>6}{peer:10.0f}{1:12.2f}x")
    for augment in transforms.LEVELS:
        for workers in (0, 1, 2):
            for keep in (False, True):
                value = ours(index, rows, augment, workers, keep, args.batch_size, args.repeat)
                print(
                    f"{augment:10}{workers:8}{'yes' if keep else 'no':>6}{value:10.0f}{value / peer:12.2f}x", flush=True
                )
    again = rate(lambda: decode(index, rows), args.repeat)
    print(f"{'decode':10}{'':>8}{'':>6}{again:10.0f}{again / peer:12.2f}x  again, to see what else the machine did")


if __name__ == "__main__":
    main()
