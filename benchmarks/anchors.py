"""The speed of `anchors` beside torchvision's operators, as ratios from one run on one thread.

    python benchmarks/anchors.py [--repeats 15] [--json]

The two are timed in turns, and the best time of each counts: a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torchvision.ops as ops

# Run as a file, this folder comes first on the path and `anchors` would be this very file.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from anchors.fast.nms import nms
from anchors.fast.roi_align import roi_align
from anchors.fast.roi_pool import roi_pool
from anchors.nms import nms as nms_plain

SCALE = 1 / 16


def proposals(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes as an RPN makes them: crowds around objects, over an 800 x 800 image, and some anywhere."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(count // 15, 2, generator=generator) * 800
    sides = torch.rand(count // 15, 2, generator=generator) * 200 + 30
    which = torch.randint(len(centres), (count,), generator=generator)
    centre = centres[which] + torch.randn(count, 2, generator=generator) * 12
    side = sides[which] * (torch.randn(count, 2, generator=generator) * 0.15).exp()
    boxes = torch.cat((centre - side / 2, centre + side / 2), dim=1).clamp(0, 800)
    return boxes, torch.rand(count, generator=generator)


def rois(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * 800
    side = torch.rand(count, 2, generator=generator) * 400 + 32
    boxes = torch.cat((centre - side / 2, centre + side / 2), dim=1).clamp(0, 800)
    return torch.cat((torch.zeros(count, 1), boxes), dim=1)


def best_times(ours, theirs, repeats: int) -> tuple[float, float]:
    """The best of `repeats` alternating runs of each, in milliseconds."""
    best = [float("inf"), float("inf")]
    for _ in range(repeats + 1):  # the first round warms up: best() forgets it anyway
        for i, function in enumerate((ours, theirs)):
            start = time.perf_counter()
            function()
            best[i] = min(best[i], time.perf_counter() - start)
    return best[0] * 1000, best[1] * 1000


def forward_backward(function, features: torch.Tensor):
    def run():
        features.grad = None
        function(features).sum().backward()

    return run


def cases():
    """(name, goal or None, ours, theirs, are the results equal)."""
    few, few_scores = proposals(2_000)
    many, many_scores = proposals(12_000)
    for thresh, goal in ((0.7, 1.5), (0.5, None)):
        kept = ops.nms(few, few_scores, thresh)
        yield (
            f"NMS 2,000 boxes thr {thresh} ({len(kept):,} kept)",
            goal,
            lambda thresh=thresh: nms(few, few_scores, thresh),
            lambda thresh=thresh: ops.nms(few, few_scores, thresh),
            torch.equal(nms(few, few_scores, thresh), kept),
        )
    kept = ops.nms(many, many_scores, 0.7)
    yield (
        f"NMS 12,000 boxes thr 0.7, all ({len(kept):,} kept)",
        None,
        lambda: nms(many, many_scores, 0.7),
        lambda: ops.nms(many, many_scores, 0.7),
        torch.equal(nms(many, many_scores, 0.7), kept),
    )
    yield (
        "NMS 12,000 boxes thr 0.7 -> first 2,000",
        0.25,
        lambda: nms(many, many_scores, 0.7, max_keep=2_000),
        lambda: ops.nms(many, many_scores, 0.7)[:2_000],
        torch.equal(nms(many, many_scores, 0.7, max_keep=2_000), kept[:2_000]),
    )
    yield (
        "NMS 2,000 boxes thr 0.7, the plain version",
        None,
        lambda: nms_plain(few, few_scores, 0.7),
        lambda: ops.nms(few, few_scores, 0.7),
        torch.equal(nms_plain(few, few_scores, 0.7), ops.nms(few, few_scores, 0.7)),
    )
    features = torch.randn(1, 512, 50, 50, generator=torch.Generator().manual_seed(0))
    leaf = features.clone().requires_grad_()
    regions = rois(128)

    def align(x):
        return roi_align(x, regions, 7, SCALE, sampling_ratio=2, aligned=True)

    pairs = {
        "RoI pooling": (
            lambda x: roi_pool(x, regions, 7, SCALE),
            lambda x: ops.roi_pool(x, regions, 7, SCALE),
            2.0,
        ),
        "RoIAlign": (align, lambda x: ops.roi_align(x, regions, 7, SCALE, 2, True), 1.5),
    }
    for name, (ours, theirs, goal) in pairs.items():
        same = (ours(features) - theirs(features)).abs().max().item() < 2e-5
        text = f"{name}, 128 RoIs of 512x50x50"
        yield f"{text}, forward", goal, lambda f=ours: f(features), lambda f=theirs: f(features), same
        yield (
            f"{text}, forward and backward",
            None,
            forward_backward(ours, leaf),
            forward_backward(theirs, leaf),
            same,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="one JSON line for each case")
    args = parser.parse_args()
    torch.set_num_threads(1)
    late = False
    for name, goal, ours, theirs, same in cases():
        ours_ms, theirs_ms = best_times(ours, theirs, args.repeats)
        ratio = ours_ms / theirs_ms
        late |= not same or (goal is not None and ratio > goal)
        if args.json:
            row = dict(case=name, ours_ms=ours_ms, torchvision_ms=theirs_ms, ratio=ratio, goal=goal, equal=same)
            print(json.dumps(row))
            continue
        verdict = "" if goal is None else f"  goal {goal:g} {'met' if ratio <= goal else 'MISSED'}"
        equal = "same result" if same else "DIFFERENT RESULT"
        print(f"{name:52} {ours_ms:8.1f} ms {theirs_ms:8.1f} ms  x{ratio:.2f}{verdict}  {equal}", flush=True)
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
