"""Images per second of our training beside the loop of torchvision's reference recipe, in one run.

    python benchmarks/train.py --data DIR --model fasterrcnn_resnet50_fpn --image-size 320 --steps 12

The reference: float32, torchvision's own 512 sampled RoIs, SGD, a DataLoader with torchvision's transforms, images
decoded anew in every epoch. Ours: `toolkit` with its defaults for this machine. Same network, weights (random), images,
batch and size; both warm up for two steps. A third row trains on one batch that is already in memory: what the loader
costs. `--ablate` takes our choices back one at a time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from label_tools import images as pictures
from toolkit import data, engine, models, network, optim, runtime, transforms
from toolkit.config import Config, resolve
from toolkit.loader import Batches


def endless(make: Callable[[], Iterator]) -> Iterator:
    while True:
        yield from make()


class ReferenceDataset(torch.utils.data.Dataset):
    """What references/detection does: decode, to tensor, flip."""

    def __init__(self, index: data.Index) -> None:
        self.index = index
        self.flip = v2.RandomHorizontalFlip(0.5)
        self.to_float = v2.ToDtype(torch.float32, scale=True)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, dict]:
        image = v2.functional.to_image(pictures.open_image(self.index.path(row)))
        here = self.index.objects(row)
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(self.index.boxes[here].copy()), format="XYXY",
                                         canvas_size=tuple(image.shape[-2:]))  # fmt: skip
        image, target = self.flip(image, {"boxes": boxes, "labels": torch.from_numpy(self.index.labels[here].copy())})
        return self.to_float(image), {"boxes": target["boxes"].as_subclass(torch.Tensor), "labels": target["labels"]}


def reference(config: Config, index: data.Index, device: torch.device, steps: int) -> float:
    """Images per second of the reference loop."""
    m = config.model
    model = models.find(m.model).build(num_classes=len(index.classes) + 1, min_size=m.image_size, max_size=m.max_size)
    models.set_norm(model.backbone, "frozen", 1e-5)
    model.to(device).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)
    loader = torch.utils.data.DataLoader(
        ReferenceDataset(index), config.data.batch_size, shuffle=True, drop_last=True, collate_fn=as_tuples,
        num_workers=runtime.worker_count(config.data.workers),
    )  # fmt: skip
    batches = endless(lambda: iter(loader))

    def step() -> int:
        images, targets = next(batches)
        images = [image.to(device) for image in images]
        targets = [{k: v.to(device) for k, v in t.items()} for t in targets]
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()  # the reference prints it
        return len(images)

    return rate(step, steps, device)


def ours(config: Config, index: data.Index, device: torch.device, steps: int, in_memory: bool = False) -> float:
    """Images per second of the toolkit's own parts."""
    model, _, _ = network.build_model(config, len(index.classes) + 1)
    models.set_norm(model.backbone, "frozen", 1e-5)
    model.to(device).train()
    optimizer = optim.make_optimizer(model, config.optimizer)
    dtype = runtime.choose_precision(config.run.precision, device, models.find(config.model.model).compact)
    dataset = data.DetectionDataset(index, transforms.build(config.data.augment), config.data.cache_mb * 2**20)
    sampler = data.EpochBatches(index, config.data.batch_size, 0)
    batches = endless(lambda: iter(Batches(dataset, sampler, runtime.worker_count(config.data.workers), device)))
    kept = next(batches)

    def step() -> int:
        images, targets = kept if in_memory else next(batches)
        total, _ = engine.training_losses(model, images, targets, device, dtype)
        total.backward()
        engine.update(model, optimizer, config.optimizer.clip_norm)
        return len(images)

    return rate(step, steps, device)


def rate(step: Callable[[], int], steps: int, device: torch.device) -> float:
    for _ in range(2):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    started, count = time.perf_counter(), 0
    for _ in range(steps):
        count += step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - started)


def as_tuples(batch: list) -> tuple:
    return tuple(zip(*batch, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="COCO file")
    parser.add_argument("--model", default="fasterrcnn_resnet50_fpn")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ablate", action="store_true")
    args = parser.parse_args()
    index = data.read_index(args.data)
    flags = {"model": args.model, "image_size": args.image_size, "max_size": round(args.image_size * 1333 / 800),
             "batch_size": args.batch_size, "weights": "none", "norm": "frozen"}  # fmt: skip
    device = runtime.choose_device(args.device)
    torch.manual_seed(0)
    base = reference(resolve(len(index), flags), index, device, args.steps)
    print(f"{'reference loop':34} {base:7.2f} images/s  1.00x")
    rows = {"ours": {}}
    if args.ablate:
        rows |= {"ours, float32": {"precision": "fp32"}, "ours, 512 RoIs": {"roi_batch": 512},
                 "ours, no cache": {"cache_mb": 0}, "ours, channels_last": {"channels_last": True}}  # fmt: skip
    for name, change in rows.items():
        value = ours(resolve(len(index), {**flags, **change}), index, device, args.steps)
        print(f"{name:34} {value:7.2f} images/s  {value / base:.2f}x")
    value = ours(resolve(len(index), flags), index, device, args.steps, in_memory=True)
    print(f"{'ours, one batch in memory':34} {value:7.2f} images/s  {value / base:.2f}x")


if __name__ == "__main__":
    main()
