"""Check whether a run can be resumed, and which options may change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit import checkpoint
from toolkit.config import Schedule
from toolkit.training.progress import epochs_text

# what a reason to end (`Trained.ended`, in run.json) begins with, and the option that takes up such a run again
_TAKES_UP = {"finished": "epochs", "early stop": "patience", "--max-time": "max_time"}


def why_over(folder: Path, record: Mapping[str, Any], changed: Collection[str]) -> str:
    """Why a run is finished, by its run.json; "" when training can go on.

    changed: names of the options that the caller gives another value. InputError when one of them would take up a run
    again that ended for another reason.
    """
    if record.get("status") != "finished":
        return ""
    ended = str(record.get("ended", "finished"))
    needed = next((option for why, option in _TAKES_UP.items() if ended.startswith(why)), "epochs")
    if needed in changed:
        return ""
    if others := sorted(set(changed) & set(_TAKES_UP.values())):
        given, flag = (f"--{name.replace('_', '-')}" for name in (others[0], needed))
        raise InputError(f"{folder}: {given} alone does not take it up again ({ended}); needs a higher {flag}")
    return ended


def check_epochs(folder: Path, plan: Schedule, epochs: int, done: float) -> None:
    """Refuse another number of epochs where the run has passed it, or where its learning rate does not allow it.

    A learning rate that falls depends on the share of all steps: with other epochs it would jump.
    """
    if epochs == plan.epochs:
        return
    if epochs < done:
        raise InputError(f"{folder}: --epochs {epochs}: {epochs_text(done)} trained already; needs more")
    if plan.schedule != "constant":
        raise InputError(
            f"{folder}: --epochs {epochs} cannot change here: the learning rate was planned for "
            f"{counted(plan.epochs, 'epoch')} ({plan.schedule}) and would jump; needs a run with --schedule constant, "
            f"or a new run that starts from it: --weights {folder}"
        )


def check_same_data(found: checkpoint.Checkpoint, folder: Path, train: str, val: str) -> None:
    """Refuse fingerprints of other pictures or labels than a run began with."""
    for part, now, key in (("training", train, "data_fingerprint"), ("validation", val, "val_fingerprint")):
        if found.meta.get(key, now) != now:
            raise InputError(f"{folder}: the {part} pictures or labels are not those that it began with")


def open_run(folder: Path) -> checkpoint.Checkpoint:
    """Tidy up after a kill and load the newest intact checkpoint. Call with the run's lock held.

    A damaged `last` goes: the next save would make it `previous`.
    """
    checkpoint.sweep(folder)
    checkpoint.drop_damaged_last(folder)
    return checkpoint.load_last(folder)[0]
