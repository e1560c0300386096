"""`python -m toolkit.training.pretrain_starter --steps 12000 --out FILE`: make the starter weights again.

AdamW, one cycle, batches of endless drawn scenes (`scenes`); no picture is ever seen twice. The file holds the
weights in half precision and, as metadata, how they were made.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from label_tools.text.errors import exit_code_of
from toolkit import runtime
from toolkit.networks import builder, first_weights
from toolkit.networks.starter.scenes import SHAPES, scene
from toolkit.processes import worker_count
from toolkit.training import engine, schedule
from toolkit.training.progress import Progress, duration


class Scenes(torch.utils.data.Dataset):
    """dataset[i] is scene number i: (image uint8 [3,side,side], target); the same for every reader."""

    def __init__(self, count: int, side: int, seed: int) -> None:
        self.count, self.side, self.seed = count, side, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[torch.Tensor, dict]:
        image, boxes, labels = scene(np.random.default_rng([self.seed, i]), self.side)
        target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels), "image_id": i}
        return torch.from_numpy(image).permute(2, 0, 1), target


def collate(batch: list) -> tuple[list, list]:
    return [image for image, _ in batch], [target for _, target in batch]


def pretrain(out: Path, steps: int, batch_size: int, lr: float, side: int, seed: int, device_name: str) -> None:
    """Train from nothing for `steps` and write `out`."""
    runtime.seed_everything(seed)
    device = runtime.choose_device(device_name)
    model, _, _ = builder.build(
        "fasterrcnn_tiny_fpn",
        len(SHAPES) + 1,
        weights="none",
        trainable_layers=5,
        norm="batch",
        batch_size=batch_size,
        sizes={"min_size": side, "max_size": 2 * side, "box_batch_size_per_image": 64},
    )
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)
    workers = worker_count(-1)
    loader = torch.utils.data.DataLoader(
        Scenes(steps * batch_size, side, seed), batch_size, num_workers=workers, collate_fn=collate
    )
    progress, started = Progress(every=30), time.monotonic()
    means: dict[str, float] = {}
    for step, (images, targets) in enumerate(loader, 1):
        for group in optimizer.param_groups:
            group["lr"] = lr * schedule.factor("onecycle", step - 1, steps, 0)
        total, losses = engine.training_losses(model, images, targets, device, torch.float32)
        total.backward()
        engine.update(optimizer, clip_norm=10.0)
        for name, value in losses.items():
            means[name] = 0.99 * means.get(name, value) + 0.01 * value
        left = (time.monotonic() - started) / step * (steps - step)
        text = "  ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in means.items())
        progress.step(f"step {step}/{steps}  {text}  {duration(left)} left")
        if step % 1000 == 0 or step == steps:
            made = {"steps": f"{step} of {steps}", "batch_size": batch_size, "lr": lr, "side": side, "seed": seed}
            write(out, model, made)
    progress.close()


def write(out: Path, model: torch.nn.Module, made: dict) -> None:
    """Half-precision weights and how they were made."""
    from safetensors.torch import save

    from label_tools.text.atomic import atomic_write

    state = {k: v.detach().cpu().half() if v.is_floating_point() else v.cpu() for k, v in model.state_dict().items()}
    with atomic_write(out) as file:
        file.write(save(state, metadata={k: str(v) for k, v in made.items()}))


def run(args: argparse.Namespace) -> int:
    pretrain(args.out, args.steps, args.batch_size, args.lr, args.side, args.seed, args.device)
    print(args.out)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=first_weights.STARTER)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    return exit_code_of(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
