"""Train a TinyFasterRCNN on the picture for half a minute, so that the figures show a trained network.

It sees the picture at a quarter of its size (200 x 200), with the nine anchors at a quarter of their sizes, and
mirrored, shifted, brighter and darker copies. That shows how training goes; it says nothing about other pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from anchors.detector import TinyFasterRCNN
from anchors.train_on_scenes import Scene, one_thread, train_on_scenes
from anchors.walkthrough.picture import SIDE, Picture

SHRINK = 4
STEPS, QUICK_STEPS = 300, 6
SHOWN = (0.0, 0.08, 0.17, 0.33, 0.6, 1.0)  # of the steps: when detections are looked at
COPIES = 64


@dataclass
class Learned:
    """history: the four losses of every step. snapshots: (step, detections in pixels of the picture). test, train:
    what `trace` recorded for the picture at the end, boxes in pixels of the small picture (times SHRINK)."""

    history: list[dict[str, float]]
    test: dict
    train: dict
    snapshots: list[tuple[int, dict[str, Tensor]]] = field(default_factory=list)


def small(picture: Picture) -> Scene:
    pixels = F.avg_pool2d(picture.pixels[None], SHRINK)[0]
    return pixels, {"boxes": picture.boxes / SHRINK, "labels": picture.labels}


def copies(picture: Picture, count: int, seed: int) -> list[Scene]:
    """The small picture and changed copies of it: mirrored, moved by up to an eighth, brighter or darker."""
    pixels, target = small(picture)
    random = torch.Generator().manual_seed(seed)
    made = [(pixels, target)]
    side = pixels.shape[-1]
    while len(made) < count:
        image, boxes = pixels, target["boxes"].clone()
        for axis, (low, high) in ((2, (0, 2)), (1, (1, 3))):  # left and right, then top and bottom
            if torch.rand((), generator=random) < 0.5:
                image, boxes[:, [low, high]] = image.flip(axis), side - boxes[:, [high, low]]
        dx, dy = torch.randint(-side // 8, side // 8 + 1, (2,), generator=random).tolist()
        reach = side // 8 + 1
        padded = F.pad(image[None], (reach,) * 4, mode="replicate")[0]
        image = padded[:, reach - dy : reach - dy + side, reach - dx : reach - dx + side]
        boxes = (boxes + torch.tensor([dx, dy, dx, dy])).clamp(0, side)
        light = 0.75 + 0.5 * float(torch.rand((), generator=random))
        kept = ((boxes[:, 2:] - boxes[:, :2]) >= 4).all(1)
        made.append(((image * light).clamp(0, 1), {"boxes": boxes[kept], "labels": target["labels"][kept]}))
    return made


def train_on_picture(picture: Picture, *, seed: int, quick: bool) -> Learned:
    """Train, and run detection on the picture now and then. One seed gives the same figures on one machine."""
    steps = QUICK_STEPS if quick else STEPS
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(seed)
        model = TinyFasterRCNN(
            num_classes=len(picture.classes) + 1, sizes=(32, 64, 128), max_side=SIDE // SHRINK, score_thresh=0.05
        )
        image, target = small(picture)
        snapshots = [(0, detect(model, image))]
        when = sorted({round(share * steps) for share in SHOWN} - {0})

        def look(step: int, losses: dict[str, float]) -> None:
            if step + 1 in when:
                snapshots.append((step + 1, detect(model, image)))

        history = train_on_scenes(
            model, copies(picture, COPIES, seed), steps=steps, batch_size=2, lr=1e-3, seed=seed, after_step=look
        )
        with torch.no_grad():
            model.eval()
            _, test = model.trace([image])
            model.train()
            torch.manual_seed(seed)
            _, train = model.trace([image], [target])
    return Learned(history, test["images"][0], train["images"][0], snapshots)


@torch.no_grad()
def detect(model: TinyFasterRCNN, image: Tensor) -> dict[str, Tensor]:
    model.eval()
    found = model([image])[0]
    return {**found, "boxes": found["boxes"] * SHRINK}
