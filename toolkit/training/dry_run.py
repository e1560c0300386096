"""`frcnn train --dry-run`: what a run would do, before it costs hours."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch

from toolkit import config as recipes
from toolkit import device_and_seed
from toolkit.config import Config
from toolkit.data.coco_index import Index
from toolkit.data.epoch_batches import EpochBatches, repeat_factors
from toolkit.networks import first_weights, kept_maps, registry
from toolkit.networks.builder import build_model
from toolkit.training import forward_pass
from toolkit.training.out_of_memory import largest, mask_memory
from toolkit.training.progress import duration

LONG = 2.0  # seconds of a step that is not timed again
ALTERNATIVES = ("fasterrcnn_efficientnet_lite0_fpn", "fasterrcnn_tiny_fpn")  # on a CPU
HOURS = 3600  # seconds on a CPU from which on a smaller network is named


def plan(config: Config, train: Index, val: Index | None, reported: int = 0, trainings: int = 1) -> str:
    """Data, classes, network, steps, memory and an estimate of time, from a step or two on random pixels.

    Downloads nothing: weights that are not here yet are named, with the ways to get them. reported: images that are
    evaluated once more at the end, for the report. trainings: how many trainings like this one there will be.
    """
    absent = first_weights.to_download(config.model.model, config.model.weights)
    weights = first_weights.chosen(config.model.model, config.model.weights)
    device = device_and_seed.choose_device(config.run.device)
    dtype = device_and_seed.choose_precision(config.run.precision, device, registry.find(config.model.model).compact)
    model, architecture, about = build_model(config, train.classes, load=absent is None)
    if config.data.cached_views:
        kept_maps.check_frozen(model, architecture["norm"], config.model)
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    repeats = repeat_factors(train, config.data.repeat_rare)
    batches = len(EpochBatches(train, config.data.batch_size, config.run.seed, repeats=repeats))
    steps = -(-batches // config.optimizer.accumulate) * config.schedule.epochs
    one = _time(config, model, architecture["norm"], train, device, dtype)
    times = _times(config, one, train, batches, val, reported)
    seconds = sum(times.values()) * trainings
    parts = ", ".join(f"{what} {duration(spent)}" for what, spent in times.items() if spent)
    moments = {"sgd": 1, "adamw": 2}[config.optimizer.optimizer]
    memory = (total * 4 + learned * 4 * (1 + moments)) / 2**20
    counts = ", ".join(f"{name} {n}" for name, n in zip(train.classes, train.class_counts(), strict=True))
    rows = "tiles" if train.cut else "images"
    masks = mask_memory(train, config.model)[0] / 2**20 if train.outlines is not None else 0
    empty = int((train.first[1:] == train.first[:-1]).sum())
    lines = [
        f"train      {len(train)} {rows} ({empty} without objects), {len(train.boxes)} objects: {counts}",
        f"val        {len(val)} {rows}, {len(val.boxes)} objects" if val is not None else "val        none",
        f"network    {config.model.model}, {total / 1e6:.1f} M parameters, {learned / 1e6:.1f} M learn; {about}",
        f"norm       {architecture['norm']}",
        f"device     {device}, {str(dtype).removeprefix('torch.')}",
        f"steps      {steps} ({batches} batches of {config.data.batch_size} an epoch, {config.schedule.epochs} epochs)",
        f"memory     {memory:.0f} MB for weights, gradients and optimiser; activations come on top",
        f"largest    {largest(train, config.model)}: memory must hold {config.data.batch_size} of these",
        *([f"masks      at most {masks:.0f} MB for those of one image in a step"] if masks else []),
        f"time       about {duration(seconds)}: {f'{trainings} trainings, each: ' if trainings > 1 else ''}{parts}",
        *(_alternatives(config, train, val, reported, device) if device.type == "cpu" else []),
        *recipe_lines(config),
    ]
    if seconds >= HOURS and device.type == "cpu" and not registry.find(config.model.model).compact:
        lines.append("hint       long on a CPU: --model fasterrcnn_tiny_fpn is many times as fast; or use a GPU")
    if absent:
        wrong = "damaged" if absent.exists() else "not here yet"
        now = "" if weights == "imagenet" else ", or now frcnn doctor --fetch"
        lines.append(
            f"weights    {absent.name} is {wrong}: frcnn train fetches it when it starts{now}; "
            f"without internet put it into {absent.parent}, or give --weights FILE"
        )
    if note := device_and_seed.precision_note(config.run.precision, device):
        lines.append(note)
    return "\n".join(lines)


def recipe_lines(config: Config) -> list[str]:
    """The resolved value of every option that has a flag, a line for each section."""
    lines: dict[str, list[str]] = {}
    values = recipes.flat(config)
    for name, (section, option) in recipes.fields().items():
        if option.metadata["where"] != recipes.RECIPE:
            lines.setdefault(section, []).append(f"{name} {recipes.value_text(values[name])}")
    return [f"recipe     {section}: {', '.join(words)}" for section, words in lines.items()]


class _Seconds(NamedTuple):
    """For one image: forward and backward, the losses alone, its detection, its maps where they are kept."""

    step: float
    loss: float
    detect: float
    body: float = 0.0


def _time(
    config: Config, model: torch.nn.Module, norm: str, train: Index, device: torch.device, dtype: torch.dtype
) -> _Seconds:
    found = _time_an_image(model, train, config.data.batch_size, norm, device, dtype)
    if not config.data.cached_views:
        return found
    body, step = _time_kept_maps(model, train, device, dtype)
    return found._replace(step=step, body=body)


def _times(
    config: Config, one: _Seconds, train: Index, batches: int, val: Index | None, reported: int
) -> dict[str, float]:
    """{what: seconds} of a run over `train` in `batches` an epoch."""
    plan, views = config.schedule, config.data.cached_views
    per_batch, per_evaluation = one.step * config.data.batch_size, (one.loss + one.detect) * (len(val) if val else 0)
    return {
        "maps of the body": one.body * len(train) * min(views, plan.epochs),
        f"training ({per_batch:.2f} s a batch)": per_batch * batches * plan.epochs,
        f"evaluation ({duration(per_evaluation)} each)": per_evaluation * -(-plan.epochs // plan.eval_every),
        "report": one.detect * reported,
    }


def _alternatives(config: Config, train: Index, val: Index | None, reported: int, device: torch.device) -> list[str]:
    """What the other compact networks would take on this CPU, each with its own recipe."""
    lines = []
    for name in ALTERNATIVES:
        if name == config.model.model:
            continue
        other = recipes.resolve(len(train), {"model": name, "batch_size": config.data.batch_size})
        model, architecture, _ = build_model(other, train.classes, load=False)
        one = _time(other, model, architecture["norm"], train, device, torch.float32)
        batches = -(-len(train) // other.data.batch_size)
        times = _times(other, one, train, batches, val, reported)
        lines.append(
            f"or         {name}, its own recipe: about {duration(sum(times.values()))} "
            f"({one.step:.2f} s an image in training, {one.detect:.2f} s in detection)"
        )
    return lines


def _time_an_image(
    model: torch.nn.Module, train: Index, batch_size: int, norm: str, device: torch.device, dtype: torch.dtype
) -> _Seconds:
    """Measured on random images of the median size.

    A CPU takes as long for an image alone as for one of a batch (and BatchNorm needs two), a GPU does not.
    """
    count = batch_size if device.type == "cuda" else min(batch_size, 2 if norm == "batch" else 1)
    images, targets = _made_images(train, count)
    model.to(device).train()
    for _ in range(2):  # the first one warms up; where it takes long, that is a small part of it
        start = _now(device)
        total = forward_pass.training_losses(model, images, targets, device, dtype)[0]
        forward = _now(device)
        total.backward()
        end = _now(device)
        if end - start > LONG:
            break
    list(forward_pass.predict(model, [(images, targets)], device, dtype))
    return _Seconds((end - start) / count, (forward - start) / count, (_now(device) - end) / count)


def _time_kept_maps(
    model: torch.nn.Module, train: Index, device: torch.device, dtype: torch.dtype
) -> tuple[float, float]:
    """Seconds for an image's maps, and for a forward and backward from them."""
    images, targets = forward_pass.to_device(*_made_images(train, 1), device)
    model.train()
    start = _now(device)
    with forward_pass.autocast(device, dtype):
        seen = kept_maps.seen_by(model, images[0], targets[0])
        middle = _now(device)
        total = forward_pass.total(kept_maps.losses_of(model, [seen]))[0]
    total.backward()
    return middle - start, _now(device) - middle


def _made_images(train: Index, count: int) -> tuple[list[torch.Tensor], list[dict]]:
    """Random pixels of the median size, with a box each, and a mask for a network with masks."""
    height, width = (int(v) for v in sorted(train.sizes.tolist(), key=lambda s: s[0] * s[1])[len(train) // 2])
    images = [torch.randint(0, 255, (3, height, width), dtype=torch.uint8) for _ in range(count)]
    box = torch.tensor([[0.2 * width, 0.2 * height, 0.7 * width, 0.7 * height]])
    target = {"boxes": box, "labels": torch.tensor([1]), "image_id": 0}
    if train.outlines is not None:
        target["packed_masks"] = torch.ones((1, height, width), dtype=torch.uint8)
    return images, [dict(target) for _ in images]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()
