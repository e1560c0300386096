"""Evaluate a network on samples: its answers, the right metrics, and those of its document beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from toolkit.single_object import box_codes, grid_cells, metrics
from toolkit.single_object.baselines import Baseline
from toolkit.single_object.data.samples import Samples
from toolkit.single_object.predictions import Answer, Prediction, predict, read


def as_input(images: Tensor, device: torch.device, raw: bool) -> Tensor:
    """uint8 -> float on `device`: 0..255 as they are when `raw`, else 0..1."""
    floats = images.to(device, non_blocking=True).float()
    return floats if raw else floats.div_(255)


@torch.inference_mode()
def outputs(network: nn.Module, baseline: Baseline, images: Tensor, device: torch.device, batch: int) -> Any:
    """What the network gives for all images in evaluation mode, as for one batch, on the CPU."""
    was_training = network.training
    network.eval()
    try:
        found = [network(as_input(part, device, baseline.raw)) for part in images.split(batch)]
    finally:
        network.train(was_training)
    if isinstance(found[0], tuple):
        return tuple(None if parts[0] is None else _whole(parts) for parts in zip(*found, strict=True))
    return _whole(found)


def _whole(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.float().cpu() for part in parts])


def evaluate(
    network: nn.Module, baseline: Baseline, samples: Samples, device: torch.device, batch: int = 64
) -> tuple[dict[str, Any], Prediction | Tensor]:
    """-> (metrics with `document_*` beside them, the predictions; for a grid its outputs [N,2,3,7])."""
    found = outputs(network, baseline, samples.images, device, batch)
    if baseline.grid:
        return known(grid_numbers(samples, found)), found
    answer = read(found, baseline.form)
    prediction = predict(answer, baseline.code, samples.size)
    numbers = metrics.single_metrics(samples, prediction)
    return known({**numbers, **document_numbers(baseline, samples, answer, prediction)}), prediction


def known(numbers: dict[str, Any]) -> dict[str, Any]:
    """None where a number is infinite or none at all: what a network that ran away answers."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in numbers.items()}


def grid_numbers(samples: Samples, cells: Tensor) -> dict[str, Any]:
    targets, _ = grid_cells.assign(samples)
    return {**metrics.grid_metrics(samples, cells), **metrics.document_detection(cells, targets)}


def document_numbers(baseline: Baseline, samples: Samples, answer: Answer, prediction: Prediction) -> dict[str, float]:
    """The numbers that the baseline's own document computes, its way."""
    truth = samples.one()
    if baseline.data == "digits":
        assert answer.presence is not None  # these networks answer it
        rows = torch.cat((answer.presence[:, None], answer.values, answer.logits), 1)
        coded = box_codes.encode(truth.boxes, "centre", samples.size)
        labels = torch.cat((truth.present[:, None].float(), coded, truth.labels[:, None].float()), 1)
        return metrics.document_localisation(rows, labels)
    if baseline.code == "inclusive":
        return metrics.document_mse(answer.values, box_codes.encode(truth.boxes, "inclusive", samples.size))
    if baseline.data == "dominant":
        return metrics.document_mean_iou(prediction.raw_boxes, truth.boxes)
    return {}


def finds_nothing(samples: Samples, is_grid: bool) -> dict[str, Any]:
    """Numbers of an answer that never finds anything: what a metric gives away for free."""
    if is_grid:
        cells = torch.zeros(len(samples), grid_cells.ROWS, grid_cells.COLUMNS, 7)
        cells[..., 0] = -20.0
        return grid_numbers(samples, cells)
    nothing = torch.zeros(len(samples), 4)
    zeros = torch.zeros(len(samples), dtype=torch.int64)
    prediction = Prediction(torch.zeros(len(samples)), zeros, torch.ones(len(samples)), nothing, nothing)
    return metrics.single_metrics(samples, prediction)


def always_the_same(samples: Samples, train: Samples) -> dict[str, Any]:
    """Numbers of the answer that needs no picture: the commonest class and the mean box of the training set."""
    common = int(torch.bincount(train.labels).argmax())
    box = train.boxes.mean(0).expand(len(samples), 4)
    share = float((train.labels == common).float().mean())
    prediction = Prediction(
        torch.ones(len(samples)), torch.full((len(samples),), common), torch.full((len(samples),), share), box, box
    )
    return metrics.single_metrics(samples, prediction)
