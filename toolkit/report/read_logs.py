"""Read the logs of a run tolerantly: a killed run has half a line, or no file at all."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from label_tools.files.strict_reading import loads
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.training.run_folder import is_locked


@dataclass(frozen=True)
class Training:
    """steps and epochs are the records of metrics.jsonl; config is the text of config.yaml; live: it still trains."""

    run: dict
    steps: list[dict]
    epochs: list[dict]
    config: str
    problems: list[str]
    live: bool = False

    @property
    def exists(self) -> bool:
        return bool(self.run or self.steps or self.epochs or self.config)

    def losses(self, key: str) -> list[tuple[dict, float]]:
        """(record, sum of the losses) of each epoch with train_loss or val_loss, as `key` says."""
        found = [(record, record[key]) for record in self.epochs if isinstance(record.get(key), dict) and record[key]]
        return [
            (record, losses.get("loss", sum(value for name, value in losses.items() if name != "loss")))
            for record, losses in found
            if all(map(is_finite, losses.values()))
        ]


def read_training(folder: Path) -> Training:
    """Everything about the training that `folder` holds; what cannot be read becomes a problem, not an error."""
    problems: list[str] = []
    run = {}
    if (folder / "run.json").is_file():
        try:
            run = loads((folder / "run.json").read_bytes(), "run.json")
        except (InputError, OSError) as error:
            problems.append(f"run.json cannot be read: {error}")
    if not isinstance(run, dict):
        run, _ = {}, problems.append("run.json is not an object")
    records = _records(folder / "metrics.jsonl", problems)
    config = ""
    if (folder / "config.yaml").is_file():
        config = (folder / "config.yaml").read_text(encoding="utf-8", errors="replace")
    steps = [r for r in records if r.get("kind") == "step" and isinstance(r.get("step"), int)]
    epochs = [r for r in records if r.get("kind") == "epoch" and is_finite(r.get("epoch"))]
    # a resumed run may repeat an epoch: the later record counts
    by_epoch = {r["epoch"]: r for r in epochs}
    return Training(run, steps, [by_epoch[e] for e in sorted(by_epoch)], config, problems, is_locked(folder))


def _records(path: Path, problems: list[str]) -> list[dict]:
    if not path.is_file():
        return []
    records, bad = [], 0
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            bad += 1
            continue
        if isinstance(record, dict):
            records.append(record)
    if bad:
        lines = counted(bad, "line")
        problems.append(f"{lines} of metrics.jsonl cannot be read (written at this moment, or cut off)")
    return records


def is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def smooth(values: list[float], window: int) -> list[float]:
    """Mean of the last `window` values at each place."""
    total = np.cumsum(values)
    total[window:] -= total[:-window].copy()
    return (total / np.minimum(np.arange(len(values)) + 1, window)).tolist()
