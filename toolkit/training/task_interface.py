"""What the training loop trains: a `Task`, and its `Learner`, which is what a checkpoint saves and resume restores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from label_tools.text.errors import InputError
from toolkit import checkpoint, device_and_seed
from toolkit.stopping import StopSignal


class Learner:
    """`model` learns, through `wrapped` where several processes share the work; `evaluated` is validated and saved."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        averaged: torch.optim.swa_utils.AveragedModel | None = None,
        wrapped: nn.Module | None = None,
    ) -> None:
        self.model, self.optimizer, self.averaged = model, optimizer, averaged
        self.wrapped = model if wrapped is None else wrapped

    @property
    def evaluated(self) -> nn.Module:
        return self.model if self.averaged is None else self.averaged.module

    def resume_state(self) -> dict[str, Any]:
        """The state that resume needs besides the saved weights."""
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict(), "rng": device_and_seed.rng_state()}
        if self.averaged is not None:  # then weights.safetensors holds the average
            state |= {"model": self.model.state_dict(), "averaged": int(self.averaged.n_averaged)}
        return state

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Restore the exact state in which `found` was saved."""
        state = found.needed_state()
        try:
            self.model.load_state_dict(state.get("model", found.weights))
            if self.averaged is not None:
                self.averaged.module.load_state_dict(found.weights)
                self.averaged.n_averaged.fill_(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            device_and_seed.set_rng_state(state["rng"])
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            what = " ".join(str(error).split())[:160]
            raise InputError(f"{found.folder}: does not fit this training ({type(error).__name__} {what})") from error


class Task(ABC):
    """A network with its batches, losses and evaluation.

    What a batch is, only the task knows: the loop hands what `batches` yields to the methods below.
    """

    learner: Learner
    device: torch.device
    dtype: torch.dtype  # of the forward pass
    loss_names: tuple[str, ...]
    metric: str  # what `best` and patience go by, as a person calls it
    shown: tuple[str, ...]  # metrics in the line after an epoch
    command: str  # that takes --resume
    validates = True  # False: there is nothing to evaluate on
    log_every = 1  # steps between two records of the losses
    unreadable: list[str]  # files left out so far, with the reason

    @abstractmethod
    def __len__(self) -> int:
        """Batches of an epoch."""

    @abstractmethod
    def batches(self, epoch: int, start: int) -> Iterator[Any]:
        """The batches of `epoch` (0-based) from number `start` on, always the same ones."""

    @abstractmethod
    def train_mode(self, epoch: int) -> None:
        """Put the network into training mode, except for what is frozen in this epoch."""

    @abstractmethod
    def losses(self, batch: Any) -> tuple[torch.Tensor, dict[str, float]] | None:
        """-> (sum to differentiate, each loss), or None for a batch with no readable image. Raises NonFiniteLoss."""

    @abstractmethod
    def validate(self, stop: StopSignal) -> tuple[dict[str, Any], int]:
        """-> (metrics with "val_loss" {name: mean}, 0), the same in every process; or ({}, the signal that came)."""

    @abstractmethod
    def score(self, metrics: dict[str, Any]) -> float | None:
        """The number to maximise; None where it is undefined."""

    @abstractmethod
    def meta(self) -> dict[str, Any]:
        """What checkpoint.json says of the network, its classes and its data."""

    @abstractmethod
    def count(self, batch: Any) -> int:
        """Images of a batch."""

    @abstractmethod
    def names(self, batch: Any) -> list[str]:
        """File names of a batch."""

    @abstractmethod
    def memory_advice(self, batch: Any) -> str:
        """What was in memory when it ran out, and what to try."""

    def norm_advice(self, batch: Any) -> str:
        """What to do about a batch that leaves BatchNorm a single value a channel."""
        return "BatchNorm has one value a channel, needs two; take a larger --batch"

    def weight(self, number: int) -> float:
        """Factor of this process's losses for batch `number`, so that their mean over processes is that of images."""
        return 1.0

    def close(self) -> None:  # noqa: B027
        """Release resources; most tasks have none."""
