"""`python -m toolkit.training.pretrain_starter --model NAME --steps N --out FILE`: make starter weights again.

From drawn scenes (`pretraining_scenes`), by AdamW with one cycle. `fasterrcnn_tiny_fpn` learns as a whole and never
sees a picture twice; of `fasterrcnn_efficientnet_lite0_fpn` FPN and heads learn over the frozen ImageNet body, from
scenes enlarged by chance, for photographs show larger things, each seen twice. Of `maskrcnn_*` the mask branch learns
over everything else as it stands, one mask for shapes of any kind, in boxes near those of the shapes. The file holds
the weights that learned, in half precision and without the predictor of boxes where the body is not ours, and, as
metadata, how they were made.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from label_tools.files.atomic_write import atomic_write
from label_tools.text.errors import exit_code_of
from toolkit import config, device_and_seed
from toolkit.data import transforms
from toolkit.data.packed_masks import pack
from toolkit.data.pretraining_scenes import SHAPES, scene
from toolkit.networks import builder, first_weights, kept_maps, registry
from toolkit.networks.load_weights import MASK_LOGITS
from toolkit.networks.mask_branch import LEARNED, loss_in_boxes
from toolkit.rank_and_cores import worker_count
from toolkit.training import forward_pass
from toolkit.training.optimizer_step import lr_factor, make_optimizer, update
from toolkit.training.progress import Progress, duration

WHOLE, HEADS = "fasterrcnn_tiny_fpn", "fasterrcnn_efficientnet_lite0_fpn"
MASKS = ("maskrcnn_tiny_fpn", "maskrcnn_efficientnet_lite0_fpn")
SIDES = (192, 224, 256)  # of the scenes for the heads
POOL, TWICE = 64, 2  # scenes whose maps are kept at a time, and how often each is seen

Losses = dict[str, torch.Tensor]


class Scenes(torch.utils.data.Dataset):
    """dataset[i] is scene number i: (image uint8 [3,side,side], target); the same for every reader."""

    def __init__(self, count: int, side: int, seed: int) -> None:
        self.count, self.side, self.seed = count, side, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[torch.Tensor, dict]:
        image, boxes, labels, _ = scene(np.random.default_rng([self.seed, i]), self.side)
        target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels), "image_id": i}
        return torch.from_numpy(image).permute(2, 0, 1), target


def collate(batch: list) -> tuple[list, list]:
    return [image for image, _ in batch], [target for _, target in batch]


def losses_of_scenes(model: torch.nn.Module, args: argparse.Namespace, device: torch.device) -> Iterator[Losses]:
    """The losses of batches of scenes, each new, through the whole network."""
    scenes, workers = Scenes(args.steps * args.batch_size, args.side, args.seed), worker_count(-1)
    loader = torch.utils.data.DataLoader(scenes, args.batch_size, num_workers=workers, collate_fn=collate)
    for images, targets in loader:
        yield model(*forward_pass.to_device(images, targets, device))


def losses_of_kept_maps(model: torch.nn.Module, args: argparse.Namespace, device: torch.device) -> Iterator[Losses]:
    """The losses of batches of scenes over a frozen body, each scene drawn once and seen twice."""
    augment = enlarged()
    rng, made = np.random.default_rng(args.seed), 0
    pool: list[kept_maps.Seen] = []
    count = args.steps * args.batch_size // TWICE
    for _ in range(args.steps):
        while made < count and len(pool) < POOL * TWICE:
            image, boxes, labels, _ = scene(np.random.default_rng([args.seed + 7, made]), int(rng.choice(SIDES)))
            image, boxes, kept = augment(image, boxes, made)
            made += 1
            target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels[kept]), "image_id": made}
            pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            images, targets = forward_pass.to_device([pixels], [target], device)
            pool += [kept_maps.seen_by(model, images[0], targets[0])] * TWICE
        rows = rng.choice(len(pool), min(args.batch_size, len(pool)), replace=False)
        batch = [pool[row] for row in rows]
        for row in sorted(rows, reverse=True):
            pool.pop(row)
        yield kept_maps.losses_of(model, batch)


def enlarged() -> transforms.Augment:
    """Mirror images by chance, and most of them larger."""
    import albumentations as A
    import cv2

    border = {"border_mode": cv2.BORDER_REFLECT_101}
    larger = A.Affine(scale=(0.9, 2.6), translate_percent=(-0.1, 0.1), p=0.8, **border)
    return transforms.Augment([A.HorizontalFlip(p=0.5), larger])


def losses_of_masks(model: Any, args: argparse.Namespace, device: torch.device) -> Iterator[Losses]:
    """The mask loss of batches of scenes, each new, in boxes near those of its shapes."""
    augment, rng, made = enlarged(), np.random.default_rng(args.seed), 0
    while True:
        pictures: list[torch.Tensor] = []
        targets: list[dict] = []
        while len(pictures) < args.batch_size:
            image, boxes, _, masks = scene(np.random.default_rng([args.seed + 13, made]), int(rng.choice(SIDES)))
            image, boxes, _, packed = augment.with_masks(image, boxes, pack(masks, *image.shape[:2]), made)
            made += 1
            if len(boxes):
                pictures.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
                around = {"boxes": torch.from_numpy(boxes), "labels": torch.ones(len(boxes), dtype=torch.int64)}
                targets.append({**around, "packed_masks": torch.from_numpy(packed), "image_id": made})
        seen, resized = model.transform(*forward_pass.to_device(pictures, targets, device))
        near, rows = zip(*(_near(target["boxes"], rng) for target in resized), strict=True)
        yield {"loss_mask": loss_in_boxes(model, seen, resized, list(near), list(rows))}


def _near(boxes: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Two boxes near each of [N,4], moved and scaled a little, as proposals are, and the rows that they stand for."""
    rows = torch.arange(len(boxes)).repeat(2)
    moved = boxes[rows]
    centre, size = (moved[:, :2] + moved[:, 2:]) / 2, moved[:, 2:] - moved[:, :2]
    shift, scale = (torch.from_numpy(rng.uniform(-1, 1, (len(rows), 2))).float().to(boxes.device) for _ in range(2))
    centre, size = centre + 0.12 * shift * size, size * (1 + 0.15 * scale)
    return torch.cat([centre - size / 2, centre + size / 2], dim=1), rows.to(boxes.device)


def pretrain(args: argparse.Namespace) -> None:
    """Train for `steps` and write `out`."""
    device_and_seed.seed_everything(args.seed)
    device = device_and_seed.choose_device(args.device)
    heads, masks = args.model == HEADS, args.model in MASKS
    model, _, _ = builder.build(
        args.model,
        2 if masks else len(SHAPES) + 1,
        weights="auto" if masks else "none",
        trainable_layers=5,
        norm="auto" if masks else "frozen" if heads else "batch",
        batch_size=args.batch_size,
        sizes={"min_size": args.side, "max_size": args.side * 10 // 7, "box_batch_size_per_image": 64},
    )
    if masks:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.startswith(LEARNED))
    elif heads:
        body = builder.body_of(model)
        body.load_state_dict(first_weights.packaged(registry.find(HEADS).imagenet), strict=False)
        body.requires_grad_(False)
    model.to(device).train()
    optimizer = make_optimizer(model, config.Optimizer(optimizer="adamw", weight_decay=1e-2))
    give: Callable[..., Iterator[Losses]]
    give = losses_of_masks if masks else losses_of_kept_maps if heads else losses_of_scenes
    progress, started = Progress(every=30), time.monotonic()
    means: dict[str, float] = {}
    for step, found in zip(range(1, args.steps + 1), give(model, args, device)):
        for group in optimizer.param_groups:
            group["lr"] = args.lr * lr_factor("onecycle", step - 1, args.steps, 0)
        total, losses = forward_pass.total(found)
        total.backward()
        update(optimizer, clip_norm=10.0)
        for name, value in losses.items():
            means[name] = 0.99 * means.get(name, value) + 0.01 * value
        left = (time.monotonic() - started) / step * (args.steps - step)
        text = "  ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in means.items())
        progress.step(f"step {step}/{args.steps}  {text}  {duration(left)} left")
        if step % 1000 == 0 or step == args.steps:
            state = model.state_dict()
            if masks:
                state = {k: v for k, v in state.items() if k.startswith(LEARNED)}
                state |= {k: v[1:] for k, v in state.items() if k.startswith(MASK_LOGITS)}  # the background has no mask
            elif heads:
                others = ("backbone.body.", "roi_heads.box_predictor.")
                state = {k: v for k, v in state.items() if not k.startswith(others)}
            asked = {k: v for k, v in vars(args).items() if k not in ("out", "device", "steps")}
            write(args.out, state, {"steps": f"{step} of {args.steps}", **asked})
    progress.close()


def write(out: Path, state: dict[str, torch.Tensor], made: dict[str, Any]) -> None:
    """Half-precision weights and how they were made."""
    state = {k: v.detach().cpu().half() if v.is_floating_point() else v.cpu() for k, v in state.items()}
    state = {k: v.contiguous() for k, v in state.items()}
    with atomic_write(out) as file:
        file.write(save(state, metadata={k: str(v) for k, v in made.items()}))


def run(args: argparse.Namespace) -> int:
    pretrain(args)
    print(args.out)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=(WHOLE, HEADS, *MASKS), default=WHOLE)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    return exit_code_of(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
