"""Train on drawn scenes from random weights, and measure recall and precision.

A scene is 1 to 3 rectangles, ellipses and triangles on a noisy ground, with their true boxes and masks. Its seed
determines it: the same seed gives the same pixels on every machine. Nothing is read from disk, so the detector of this
package can be trained and shown anywhere in a minute.

    recall = found / objects                precision = found / detections

    a detection (score >= score_thresh) finds an object of its class if their IoU is at least 0.5
    and no better detection has found it before

Limits: no detection: recall 0, and precision 0 rather than 0/0. In other words: recall = TP / (TP + FN), precision =
TP / (TP + FP). A model can have one of them at 1 and be useless.

Place: the loop is plain Faster R-CNN 3.2, with Adam, a short warm-up and one drop of the learning rate. `frcnn train`
has a loop for real data; this one is for an experiment of a minute and for the walkthrough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from anchors.arguments import check_count, check_number
from anchors.boxes import box_iou

Scene = tuple[Tensor, dict[str, Tensor]]
CLASSES = ("rectangle", "ellipse", "triangle")
MAX_OVERLAP = 0.1
FOUND_IOU = 0.5
WARM_UP = 50  # steps


def _mask(label: int, box: Tensor, size: int) -> Tensor:
    """True [size,size] on the pixels whose centre lies in the shape that fills the box."""
    centre = torch.arange(size) + 0.5
    x1, y1, x2, y2 = box.tolist()
    u = ((centre - x1) / (x2 - x1))[None, :]  # 0..1 across the box
    v = ((centre - y1) / (y2 - y1))[:, None]
    inside = (u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)
    if CLASSES[label - 1] == "ellipse":
        return (2 * u - 1) ** 2 + (2 * v - 1) ** 2 <= 1
    if CLASSES[label - 1] == "triangle":  # its tip in the middle of the upper side
        return inside & ((2 * u - 1).abs() <= v)
    return inside


def draw_scene(
    seed: int, *, size: int = 96, max_objects: int = 3, smallest: int = 20, largest: int = 48
) -> tuple[Tensor, dict[str, Tensor]]:
    """Image [3,size,size] float32 in 0..1, and {"boxes" [N,4] XYXY, "labels" [N] int64 in 1..3,
    "masks" [N,size,size] bool}: the pixels of an object that no later one covers.

    Objects hardly overlap (IoU <= 0.1), so that each can be seen. Boxes have whole-number corners.
    """
    check_count(seed, "seed")
    check_count(size, "size", low=largest)
    check_count(max_objects, "max_objects", low=1)
    random = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=random))

    ground = torch.rand(3, 1, 1, generator=random) * 0.6 + 0.2
    image = ground + torch.randn(3, size, size, generator=random) * 0.04
    labels: list[int] = []
    boxes, masks = torch.zeros(0, 4), torch.zeros(0, size, size, dtype=torch.bool)
    for _ in range(whole(1, max_objects)):
        for _ in range(50):  # tries to find a free place; a full scene has one object less
            w, h = whole(smallest, largest), whole(smallest, largest)
            x, y = whole(0, size - w), whole(0, size - h)
            box = torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32)
            if not (box_iou(boxes, box) > MAX_OVERLAP).any():
                break
        else:
            continue
        label = whole(1, len(CLASSES))
        colour = torch.rand(3, generator=random)
        while (colour - ground.flatten()).abs().max() < 0.35:  # visible against the ground
            colour = torch.rand(3, generator=random)
        mask = _mask(label, box[0], size)
        texture = torch.randn(3, int(mask.sum()), generator=random) * 0.04
        image[:, mask] = colour[:, None] + texture
        boxes, labels, masks = torch.cat((boxes, box)), [*labels, label], torch.cat((masks & ~mask, mask[None]))
    return image.clamp(0, 1), {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64), "masks": masks}


def draw_scenes(first_seed: int, count: int, **options) -> list[Scene]:
    """`count` scenes of consecutive seeds."""
    check_count(count, "count")
    return [draw_scene(seed, **options) for seed in range(first_seed, first_seed + count)]


def train_on_scenes(
    model: nn.Module,
    scenes: Sequence[Scene],
    *,
    steps: int,
    batch_size: int = 4,
    lr: float = 1e-3,
    seed: int = 0,
    after_step: Callable[[int, dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Train in place; the losses of every step. `after_step(step, losses)` may draw or print."""
    check_count(steps, "steps")
    check_count(batch_size, "batch_size", low=1)
    check_count(len(scenes), "the number of scenes", low=1)
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    history = []
    for step in range(steps):
        rate = lr * min(1, (step + 1) / WARM_UP) * (0.1 if step >= 0.8 * steps else 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        batch = [scenes[i] for i in torch.randint(len(scenes), (batch_size,)).tolist()]
        losses = model([image for image, _ in batch], [target for _, target in batch])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
        if after_step is not None:
            after_step(step, history[-1])
    return history


@torch.no_grad()
def recall_and_precision(
    model: nn.Module, scenes: Sequence[Scene], *, score_thresh: float = 0.5
) -> tuple[float, float]:
    """(recall, precision) of the model's detections on scenes; the class must be right too."""
    check_number(score_thresh, "score_thresh", 0, 1)
    model.eval()
    num_found = num_detections = num_objects = 0
    for image, target in scenes:
        detections = model([image])[0]
        sure = detections["scores"] >= score_thresh
        iou = box_iou(detections["boxes"][sure], target["boxes"])
        iou[detections["labels"][sure][:, None] != target["labels"]] = 0
        num_detections += len(iou)
        num_objects += len(target["boxes"])
        for row in range(len(iou)):  # best score first, as the model gives them
            if iou.shape[1] and iou[row].max() >= FOUND_IOU:
                num_found += 1
                iou[:, iou[row].argmax()] = 0  # found: no second detection can find it
    return num_found / max(num_objects, 1), num_found / max(num_detections, 1)


@contextmanager
def one_thread() -> Iterator[None]:
    """The layers are small: more threads mostly wait, and the sums would depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
