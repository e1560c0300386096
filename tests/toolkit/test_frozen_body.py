"""Training over kept maps of a frozen body: what the whole network would see, one body pass a view."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import draw_data
from toolkit import checkpoint, config
from toolkit.data.coco_index import read_index
from toolkit.networks import builder, kept_maps
from toolkit.networks.kept_maps import losses_of
from toolkit.rank_and_cores import Processes
from toolkit.training import detection_task, dry_run, forward_pass
from toolkit.training.detection_task import FrozenBody

NAME = "fasterrcnn_efficientnet_lite0_fpn"
SIZES = {"min_size": 64, "max_size": 96}
FLAGS = {
    "model": NAME,
    "norm": "frozen",
    "trainable_layers": 0,
    "cached_views": 2,
    "image_size": 64,
    "max_size": 96,
    "batch_size": 2,
    "epochs": 5,
    "workers": 0,
    "device": "cpu",
    "roi_batch": 16,
}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A file of random weights of the whole detector, so that something may be frozen without the extra."""
    torch.manual_seed(0)
    words = {"trainable_layers": 5, "norm": "batch", "batch_size": 2, "sizes": SIZES}
    model = builder.build(NAME, 3, weights="none", **words)[0].train()
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = 1.0  # the statistics of one batch, so that frozen norms give maps around 1
    model.backbone(torch.randn(4, 3, 64, 64))
    path = tmp_path_factory.mktemp("weights") / "first.pth"
    torch.save(model.state_dict(), path)
    return path


def task(folder, first, processes=None, **flags) -> FrozenBody:
    index = read_index(draw_data(folder) / "train.json")
    chosen = config.resolve(len(index), {**FLAGS, "weights": str(first), **flags})
    return FrozenBody(chosen, index, None, None, processes or Processes(), None)


def test_rpn_and_heads_get_what_the_whole_network_gives_them(tmp_path, first):
    one = task(tmp_path, first, augment="none")
    model = one.learner.model
    model.train()
    given = []
    model.rpn.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    model.roi_heads.register_forward_pre_hook(lambda _, inputs: given.append(inputs))
    kept, _ = next(iter(one.batches(0, 0)))
    del given[:]  # the body's pass for the maps went on through the network
    found = losses_of(model, kept)
    rows = [list(one.train.image_ids).index(seen.target["image_id"]) for seen in kept]
    images, targets = zip(*(one.loader.dataset[row, 0] for row in rows), strict=True)
    want = model(*forward_pass.to_device(list(images), list(targets), one.device))
    assert found.keys() == want.keys()
    (here, levels, here_targets), (heads_levels, _, sizes, _) = given[:2]
    (there, want_levels, there_targets), (_, _, want_sizes, _) = given[2:]
    assert here.image_sizes == there.image_sizes == sizes == want_sizes == [(64, 64)] * 2
    assert here.tensors.shape == there.tensors.shape and heads_levels is levels
    for name, level in want_levels.items():  # of maps in half precision: 11 bits
        torch.testing.assert_close(levels[name], level, rtol=2e-3, atol=2e-3 * float(level.detach().abs().max()))
    for a, b in zip(here_targets, there_targets, strict=True):
        assert torch.equal(a["boxes"], b["boxes"]) and torch.equal(a["labels"], b["labels"])


def test_a_view_passes_the_body_once_and_only_what_follows_it_learns(tmp_path, first, monkeypatch):
    passes = []
    seen = kept_maps.seen_by
    monkeypatch.setattr(kept_maps, "seen_by", lambda *given: passes.append(1) or seen(*given))
    index = read_index(draw_data(tmp_path / "data") / "train.json")
    chosen = config.resolve(len(index), {**FLAGS, "weights": str(first)})
    trained = detection_task.fit(chosen, tmp_path, index, None, None)

    before, after = torch.load(first, weights_only=True), checkpoint.load(trained.folder / "best").weights
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and not any(name.startswith("backbone.body.") for name in moved)
    assert any(name.startswith("backbone.fpn.") for name in moved)
    # 6 images, 2 views each; 5 epochs draw 30
    assert 6 < len(passes) <= 12


def test_half_precision_maps_learn_under_bf16(tmp_path, first):
    one = task(tmp_path, first, precision="bf16")
    one.learner.model.train()
    total, parts = one.losses(next(iter(one.batches(0, 0))))
    assert one.dtype == torch.bfloat16 and torch.isfinite(total) and len(parts) == 4


def test_batches_follow_from_seed_and_epoch_alone(tmp_path, first):
    whole = list(task(tmp_path / "a", first).batches(3, 0))
    rest = list(task(tmp_path / "b", first).batches(3, 1))
    assert len(rest) == len(whole) - 1
    for (there, _), (here, _) in zip(whole[1:], rest, strict=True):
        for a, b in zip(there, here, strict=True):
            assert a.target["image_id"] == b.target["image_id"]
            assert all(torch.equal(a.maps[level], b.maps[level]) for level in a.maps)


def test_maps_of_other_sizes_are_padded_with_zeros(tmp_path, first):
    one = task(tmp_path, first)
    one.learner.model.train()
    (a, b), _ = next(iter(one.batches(0, 0)))
    narrow = replace(b, padded=(64, 32), size=(64, 32), maps={k: v[..., : v.shape[2] // 2] for k, v in b.maps.items()})
    empty = {**b.target, "boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = losses_of(one.learner.model, [a, replace(narrow, target=empty)])
    assert all(torch.isfinite(value) for value in losses.values())


def test_what_cannot_be_read_is_refused_or_left_out(tmp_path, first):
    one = task(tmp_path, first, skip_bad=0.2)  # one of six
    one.train.path(0).write_bytes(b"no picture")
    left = [seen.target["image_id"] for batch, _ in one.batches(0, 0) for seen in batch]
    assert sorted(left) == sorted(one.train.image_ids[1:]) and len(one.unreadable) == 1
    with pytest.raises(InputError, match=r"train1\.png"):
        list(replace_bad(one).batches(0, 0))


def replace_bad(one: FrozenBody) -> FrozenBody:
    one.loader.max_bad = 0
    return one


@pytest.mark.parametrize(
    ("flags", "processes", "reason"),
    [
        ({"trainable_layers": 2}, None, "--cached-views: needs --trainable-layers 0 and first weights, found 2"),
        ({"norm": "group"}, None, f"frozen norms; {NAME} has others here"),
        ({"model": "anchors_tiny", "weights": "none", "norm": "batch"}, None, "need a network with an FPN"),
        ({}, Processes(rank=0, world_size=2), "works in one process"),
    ],
)
def test_what_it_cannot_do_is_refused(tmp_path, first, monkeypatch, flags, processes, reason):
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", lambda model, **_: model)
    with pytest.raises(InputError, match=reason):
        task(tmp_path, first, processes, **flags)
    if not processes:  # and by the dry run, in the same words
        train = read_index(draw_data(tmp_path / "again") / "train.json")
        chosen = config.resolve(len(train), {**FLAGS, "weights": str(first), **flags})
        with pytest.raises(InputError, match=reason):
            dry_run.plan(chosen, train, None)
