"""The parts of a run, made from its config: network, optimiser, averaged weights, batches; and their state."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from toolkit import checkpoint, runtime
from toolkit.config import Config
from toolkit.data import transforms
from toolkit.data.dataset import DetectionDataset, EpochBatches, Index, repeat_factors
from toolkit.data.loader import Batches, cache_share, in_order
from toolkit.networks import registry
from toolkit.networks.from_config import build_model, set_class_loss
from toolkit.training import optim


class Parts:
    """What `train` lets act: `model` learns (through `wrapped` with several processes), `judged` is evaluated and
    saved, `batches` come in the order of `sampler`. `about`: a line on the weights."""

    def __init__(
        self,
        config: Config,
        train: Index,
        val: Index | None,
        processes: runtime.Processes,
        resume: checkpoint.Checkpoint | None,
    ) -> None:
        self.config, self.processes = config, processes
        self._make_network(train, resume)
        self._make_batches(train, val, resume.state["progress"]["unreadable"] if resume else [])

    def _make_network(self, train: Index, resume: checkpoint.Checkpoint | None) -> None:
        config, run = self.config, self.config.run
        runtime.seed_everything(run.seed, run.deterministic)
        self.device = runtime.choose_device(run.device, self.processes.local_rank)
        self.dtype = runtime.choose_precision(run.precision, self.device, registry.find(config.model.model).compact)
        known = resume.meta["architecture"] if resume else None
        self.model, self.architecture, self.about = build_model(config, len(train.classes) + 1, known)
        self.model.to(self.device, memory_format=torch.channels_last if run.channels_last else torch.preserve_format)
        self.ema = optim.averaged(self.model, config.optimizer.ema) if config.optimizer.ema else None
        for network in (self.model, self.ema.module if self.ema else None):  # after the copy: hooks cannot be copied
            if network is not None:
                set_class_loss(network, config, train.class_counts())
        self.judged = self.ema.module if self.ema is not None else self.model
        self.optimizer = optim.make_optimizer(self.model, config.optimizer)
        if run.compile:
            self.model.backbone.compile()
        self.wrapped: nn.Module = self.model
        if self.processes.world_size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            self.wrapped = nn.parallel.DistributedDataParallel(self.model, device_ids=ids)
            torch.manual_seed(run.seed + self.processes.rank)  # each process samples its own anchors

    def _make_batches(self, train: Index, val: Index | None, unreadable: list[str]) -> None:
        data, processes = self.config.data, self.processes
        workers = runtime.worker_count(data.workers)
        self.sampler = EpochBatches(
            train,
            data.batch_size,
            self.config.run.seed,
            rank=processes.rank,
            world_size=processes.world_size,
            group_aspect=data.group_aspect,
            repeats=repeat_factors(train, data.repeat_rare),
        )
        cache = cache_share(data.cache_mb, workers)
        dataset = DetectionDataset(train, transforms.build(data.augment), cache, copy_paste=data.copy_paste)
        self.batches = Batches(dataset, self.sampler, workers, self.device, int(data.skip_bad * len(train)), unreadable)
        self.val_batches = None
        if val is not None:
            plan = in_order(val, data.batch_size, processes.rank, processes.world_size)
            self.val_batches = Batches(DetectionDataset(val, None, cache // 4), plan, workers, self.device)

    def close(self) -> None:
        """End the loader processes."""
        for batches in (self.batches, self.val_batches):
            if batches is not None:
                batches.close()

    def resume_state(self) -> dict[str, Any]:
        """What resume needs beside the weights that are saved."""
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict(), "rng": runtime.rng_state()}
        if self.ema is not None:  # then weights.safetensors holds the average
            state |= {"model": self.model.state_dict(), "averaged": int(self.ema.n_averaged)}
        return state

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Be exactly what was when `found` was saved."""
        state = found.state
        self.model.load_state_dict(state.get("model", found.weights))
        if self.ema is not None:
            self.ema.module.load_state_dict(found.weights)
            self.ema.n_averaged.fill_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        runtime.set_rng_state(state["rng"])
        if self.processes.rank:
            torch.manual_seed(self.config.run.seed + self.processes.rank + state["progress"]["step"])
