"""Checks of a run before its folder is made: whatever would stop it at its first step."""

from __future__ import annotations

import torch

from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit import device_and_seed
from toolkit.single_object.data.samples import Samples
from toolkit.single_object.recipe import Recipe, make_network
from toolkit.single_object.registry import Baseline, find
from toolkit.single_object.targets import Targets

_SIZES = {"shapes5": (3, 32, 32), "digits": (1, 48, 60), "digit_grid": (1, 48, 60)}


def check_run(recipe: Recipe, train: Samples, val: Samples) -> None:
    """Raise the InputError that training would end with: of the recipe, the loss, the pictures, the batch."""
    recipe.check()
    device_and_seed.choose_device(recipe.device)
    baseline = find(recipe.baseline)
    check_size(baseline, train)
    for samples in (train, val):
        Targets(baseline, samples, recipe)
    options = {name: value for name, value in recipe.options.items() if name != "pretrained"}
    first = torch.zeros(min(recipe.batch, len(train)), *train.images.shape[1:], device="meta")
    try:
        with torch.device("meta"), torch.no_grad():  # shapes only: nothing is allocated or computed
            make_network(baseline, options).train()(first)
    except ValueError as error:  # torch: "Expected more than 1 value per channel when training"
        if len(first) > 1:
            raise
        raise InputError(
            f"{baseline.name}: a batch of one picture, {counted(len(train), 'picture')} and --batch "
            f"{recipe.batch}; its norms need two or more of each"
        ) from error
    except RuntimeError as error:
        why = str(error).splitlines()[0][:120]
        raise InputError(
            f"{baseline.name}: cannot take pictures of {train.size[1]} x {train.size[0]} ({why}); "
            "needs another --size or --backbone"
        ) from error


def check_size(baseline: Baseline, samples: Samples) -> None:
    """The documents' networks take one size of picture."""
    wanted = _SIZES.get(baseline.data)
    if baseline.name in ("hw5net", "hw5net_mse", "hw5net_learnable"):
        wanted = (3, 256, 256)
    found = tuple(samples.images.shape[1:])
    if wanted and found != wanted:
        takes, has = (f"{w} x {h} with {counted(c, 'channel')}" for c, h, w in (wanted, found))
        raise InputError(f"{baseline.name}: takes pictures of {takes}, {samples.name} has {has}")
    if baseline.data in ("dominant", "largest") and found[0] != 3:
        raise InputError(f"{baseline.name}: takes colour pictures, {samples.name} has {counted(found[0], 'channel')}")
