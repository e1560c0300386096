"""The interface between the training loop and what it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch

from toolkit.stopping import StopSignal
from toolkit.training.save_and_resume import Learner


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
