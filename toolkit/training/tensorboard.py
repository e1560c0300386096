"""TensorBoard events beside metrics.jsonl: the extra `tensorboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from label_tools.text.errors import MissingExtra


def writer_class() -> type:
    """torch's SummaryWriter; MissingExtra where the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtra(
            "--tensorboard: tensorboard is not installed; pip install 'frcnn-toolkit[tensorboard]'"
        ) from None
    return SummaryWriter


class Events:
    """Records of metrics.jsonl as scalars: `step/lr`, `step/loss_...`, `epoch/AP`, `epoch/val_loss`."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        self.writer = writer_class()(str(folder / "tensorboard"), purge_step=purge_step)

    def write(self, **record: Any) -> None:
        kind = record.get("kind")
        if kind not in ("step", "epoch"):
            return
        for name, value in record.items():
            if isinstance(value, dict):
                value = sum(value.values())
            if name not in ("kind", "step", "epoch") and isinstance(value, int | float):
                self.writer.add_scalar(f"{kind}/{name}", value, record["step"])

    def close(self) -> None:
        self.writer.close()
