"""Images per second of our training beside the loop of torchvision's reference recipe, in one run.

    python benchmarks/train.py --data FILE --model fasterrcnn_resnet50_fpn --image-size 320 --steps 12 [--ablate]

The reference is what references/detection does: float32, torchvision's own 512 sampled RoIs, SGD, batches of alike
aspect ratio, a DataLoader with torchvision's transforms, images decoded anew in every epoch. Ours: `toolkit` with its
defaults for this machine. Both have the same network, weights (random, norms frozen), layers that learn, batches of
the same files in the same order, size, threads and loader processes. They take their steps in turns, so that other
work on the machine slows both; two steps warm up. `--ablate` takes our choices back, or others in, one at a time.

"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2

from label_tools.pictures import open_image as pictures
from toolkit import device_and_seed
from toolkit.config import Config, resolve
from toolkit.data import coco_index, dataset, epoch_batches, transforms
from toolkit.data.loader import Batches, cache_share
from toolkit.networks import builder, registry
from toolkit.networks.cpu_operators import FewCellsConv2d, TableRoIAlign
from toolkit.rank_and_cores import worker_count
from toolkit.training import forward_pass
from toolkit.training.optimizer_step import make_optimizer, update

WARM_UP = 2
ABLATIONS = {
    "ours, 512 RoIs": {"roi_batch": 512},
    "ours, 128 RoIs": {"roi_batch": 128},
    "ours, torchvision's operators": {"operators": "torchvision"},
    "ours, channels_last": {"channels_last": True},
    "ours, no cache": {"cache_mb": 0},
    "ours, no augmentation": {"augment": "none"},
    "ours, float32": {"precision": "fp32"},
    "ours, bf16": {"precision": "bf16"},
    "ours, compiled backbone": {"compile": True},
}

Step = Callable[[], int]


def endless(make: Callable[[], Iterator]) -> Iterator:
    while True:
        yield from make()


class ReferenceDataset(torch.utils.data.Dataset):
    """What references/detection does: decode, flip, to float."""

    def __init__(self, index: coco_index.Index) -> None:
        self.index = index
        self.flip = v2.RandomHorizontalFlip(0.5)
        self.to_float = v2.ToDtype(torch.float32, scale=True)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, key: epoch_batches.Key) -> tuple[torch.Tensor, dict]:
        row, _ = key
        image = v2.functional.to_image(pictures.open_image(self.index.path(row)))
        here = self.index.objects(row)
        boxes = tv_tensors.BoundingBoxes(
            torch.from_numpy(self.index.boxes[here].copy()), format="XYXY", canvas_size=tuple(image.shape[-2:])
        )
        image, target = self.flip(image, {"boxes": boxes, "labels": torch.from_numpy(self.index.labels[here].copy())})
        return self.to_float(image), {"boxes": target["boxes"].as_subclass(torch.Tensor), "labels": target["labels"]}


def reference(config: Config, index: coco_index.Index, device: torch.device) -> Step:
    """A step of the reference loop (references/detection/engine.py, train.py) -> images in it."""
    m = config.model
    detector = registry.find(m.model)
    model = detector.build(num_classes=len(index.classes) + 1, min_size=m.image_size, max_size=m.max_size)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    builder.set_norm(model.backbone, "frozen", 1e-5)
    builder.freeze(model, detector, m.trainable_layers)
    model.to(device).train()
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=1e-4, momentum=0.9, weight_decay=1e-4)
    loader = torch.utils.data.DataLoader(
        ReferenceDataset(index),
        batch_sampler=epoch_batches.EpochBatches(index, config.data.batch_size, 0),
        collate_fn=as_tuples,
        num_workers=worker_count(config.data.workers),
    )
    batches = endless(lambda: iter(loader))

    def step() -> int:
        images, targets = next(batches)
        images = [image.to(device) for image in images]
        targets = [{k: v.to(device) for k, v in t.items()} for t in targets]
        loss = sum(model(images, targets).values())
        loss.item()  # the reference stops where it is not finite
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return len(images)

    return step


def ours(
    config: Config, index: coco_index.Index, device: torch.device, *, in_memory: bool = False, operators: str = "ours"
) -> Step:
    """A step of the toolkit's own parts -> images in it."""
    model, _, _ = builder.build_model(config, index.classes)
    builder.freeze(model, registry.find(config.model.model), config.model.trainable_layers)  # random weights: all learn
    if operators == "torchvision":
        for module in model.modules():
            if isinstance(module, (TableRoIAlign, FewCellsConv2d)):
                module.__class__ = MultiScaleRoIAlign if isinstance(module, TableRoIAlign) else nn.Conv2d
    layout = torch.channels_last if config.run.channels_last else torch.preserve_format
    model.to(device, memory_format=layout).train()
    if config.run.compile:
        model.backbone.compile()
    optimizer = make_optimizer(model, config.optimizer)
    dtype = device_and_seed.choose_precision(config.run.precision, device, registry.find(config.model.model).compact)
    workers = worker_count(config.data.workers)
    kept = cache_share(config.data.cache_mb, workers)
    pictures = dataset.DetectionDataset(index, transforms.build(config.data.augment), kept)
    loader = Batches(pictures, epoch_batches.EpochBatches(index, config.data.batch_size, 0), workers, device)
    batches = endless(lambda: iter(loader))
    first = next(batches) if in_memory else None

    def step() -> int:
        images, targets = first or next(batches)
        total, _ = forward_pass.training_losses(model, images, targets, device, dtype)
        total.backward()
        update(optimizer, config.optimizer.clip_norm)
        return len(images)

    return step


def as_tuples(batch: list) -> tuple:
    return tuple(zip(*batch, strict=True))


def measure(contenders: dict[str, Step], steps: int, device: torch.device) -> dict[str, tuple[float, float]]:
    """{name: (images per second, processor seconds per image)}; a step of each in turns."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    totals = {name: [0, 0.0, 0.0] for name in contenders}
    for number in range(-WARM_UP, steps):
        for name, step in contenders.items():
            wait()
            wall, processor = time.perf_counter(), time.process_time()
            count = step()
            wait()
            if number >= 0:
                spent = (count, time.perf_counter() - wall, time.process_time() - processor)
                totals[name] = [a + b for a, b in zip(totals[name], spent, strict=True)]
    return {name: (count / wall, processor / count) for name, (count, wall, processor) in totals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="COCO file")
    parser.add_argument("--model", default="fasterrcnn_resnet50_fpn")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--trainable-layers", type=int, default=3, help="torchvision's default with weights")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ablate", nargs="*", metavar="WORD", help="rows whose name holds a WORD; without one: all")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    index = coco_index.read_index(args.data)
    flags = {
        "model": args.model,
        "image_size": args.image_size,
        "max_size": round(args.image_size * 1333 / 800),
        "batch_size": args.batch_size,
        "trainable_layers": args.trainable_layers,
        "weights": "none",
        "norm": "frozen",
        "optimizer": "sgd",
    }
    device = device_and_seed.choose_device(args.device)
    base = resolve(len(index), flags)
    makers: dict[str, Callable[[], Step]] = {
        "reference loop": lambda: reference(base, index, device),
        "ours": lambda: ours(base, index, device),
        "ours, one batch in memory": lambda: ours(base, index, device, in_memory=True),
    }
    for name, change in ABLATIONS.items() if args.ablate is not None else ():
        if not args.ablate or any(word in name for word in args.ablate):
            change = dict(change)
            operators = str(change.pop("operators", "ours"))
            config = resolve(len(index), {**flags, **change})
            makers[name] = lambda config=config, operators=operators: ours(config, index, device, operators=operators)
    contenders = {}
    for name, make in makers.items():
        torch.manual_seed(0)
        contenders[name] = make()
    found = measure(contenders, args.steps, device)
    images, processor = found["reference loop"]
    print(f"{args.model}, {args.image_size} px, batch {args.batch_size}, {device}, {torch.get_num_threads()} threads")
    print(f"{'':32}{'images/s':>10}{'ratio':>8}{'CPU s/image':>14}{'ratio':>8}")
    for name, (rate, seconds) in found.items():
        print(f"{name:32}{rate:10.2f}{rate / images:7.2f}x{seconds:14.2f}{processor / seconds:7.2f}x")


if __name__ == "__main__":
    main()
