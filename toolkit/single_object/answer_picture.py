"""answers.png: predictions of a trained baseline on the first validation pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from toolkit import checkpoint
from toolkit.single_object import validation
from toolkit.single_object.data.contact_sheet import answers_of, contact_sheet, save_png
from toolkit.single_object.data.samples import Samples
from toolkit.single_object.recipe import restored

MOST = 25  # pictures


def draw_answers(folder: Path, val: Samples) -> None:
    """Write answers.png into a run folder, from its last weights."""
    baseline, network = restored(checkpoint.load(checkpoint.find(folder, "last")))
    few = val.first(MOST)
    _, predicted = validation.evaluate(network, baseline, few, torch.device("cpu"))
    save_png(
        contact_sheet(few, range(len(few)), answers_of(predicted, few)),
        folder / "answers.png",
    )
