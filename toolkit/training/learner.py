"""Network, optimiser and averaged weights (EMA): what a checkpoint saves and resume restores."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from label_tools.text.errors import InputError
from toolkit import checkpoint, runtime


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
        """What resume needs beside the weights that are saved."""
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict(), "rng": runtime.rng_state()}
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
            runtime.set_rng_state(state["rng"])
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            what = " ".join(str(error).split())[:160]
            raise InputError(f"{found.folder}: does not fit this training ({type(error).__name__} {what})") from error
