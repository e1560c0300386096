"""Checkpoints: whole or not there, at any moment; damage is found; nothing in them runs code."""

from __future__ import annotations

import ast
import errno
import hashlib
import importlib
import io
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from label_tools.text.errors import InputError
from tests.toolkit import training_patches
from toolkit import checkpoint
from toolkit.networks import load_weights

ROOT = Path(__file__).resolve().parents[2]
META = {"classes": [{"id": 1, "name": "nut"}], "architecture": {"name": "none"}}


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"a": torch.full((40, 5), float(value)), "b": torch.arange(7)}


def write(run: Path, value: float, name: str = "last") -> None:
    state = {"progress": {"step": int(value)}, "optimizer": torch.full((30,), value)} if name == "last" else None
    checkpoint.save(run / name, {**META, "step": int(value)}, weights(value), state)


def value(run: Path, name: str) -> int | None:
    return checkpoint.load(run / name).meta["step"] if (run / name).is_dir() else None


@pytest.fixture
def run(tmp_path):
    """last is the third, previous the second, best the first."""
    for number in (1, 2, 3):
        write(tmp_path, number)
    write(tmp_path, 1, "best")
    return tmp_path


@pytest.fixture
def faults():
    """A fresh `checkpoint` module whose calls to the disk can be made to fail."""
    yield checkpoint
    importlib.reload(checkpoint)


def test_what_is_saved_is_loaded(run):
    found = checkpoint.load(run / "last")
    assert torch.equal(found.weights["a"], torch.full((40, 5), 3.0)) and found.weights["b"].dtype == torch.int64
    assert found.state["progress"] == {"step": 3} and found.classes == ["nut"]
    assert (value(run, "last"), value(run, "previous"), value(run, "best")) == (3, 2, 1)
    assert checkpoint.load(run / "best").state is None
    assert sorted(p.name for p in run.iterdir()) == ["best", "last", "previous"]


def events_of_a_save(run: Path, faults, name: str) -> int:
    count = [0]

    def step():
        count[0] += 1

    training_patches.faulty_calls(faults, step)
    write(run, 4, name)
    return count[0]


@pytest.mark.parametrize("name", ["last", "best"])
def test_every_call_that_fails_leaves_what_was_there(run, faults, name):
    before = {n: value(run, n) for n in checkpoint.NAMES}
    total = events_of_a_save(run, faults, name)
    assert total > 10
    for failing in range(1, total + 1):
        importlib.reload(checkpoint)
        for number in (1, 2, 3):
            write(run, number)
        write(run, 1, "best")
        calls = [0]

        def step(failing=failing, calls=calls):
            calls[0] += 1
            if calls[0] == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        training_patches.faulty_calls(faults, step)
        try:
            write(run, 4, name)
        except OSError:
            pass
        else:
            assert value(run, name) == 4  # only tidying up failed
        importlib.reload(checkpoint)
        after = {n: value(run, n) for n in checkpoint.NAMES}
        if after[name] != 4:
            assert after == before, failing
        assert None not in after.values(), failing
        checkpoint.sweep(run)
        assert not [p for p in run.rglob(".*")], failing


def killed_save(run: str, event: int, name: str) -> None:
    training_patches.kill_at_event(event)
    write(Path(run), 4, name)


def check_after_kill(run: Path, name: str, where: str) -> None:
    found, notes = checkpoint.load_last(run)  # what a resume would take, before anything was tidied
    assert not notes, where
    assert found.meta["step"] in (3, 4), where
    assert checkpoint.load(checkpoint.find(run / "best")).meta["step"] in (1, 4), where  # what predict would take
    checkpoint.sweep(run)
    assert not [p for p in run.rglob(".*")], where
    found, notes = checkpoint.load_last(run)
    assert found.meta["step"] in (3, 4) and not notes, where
    assert value(run, "best") in (1, 4), where
    kept = [value(run, n) for n in ("last", "previous")]
    assert kept in ([3, 2], [4, 3], [None, 3]), where  # [None, 3]: between the two renames, the new one is lost
    write(run, 5)  # and the run goes on
    assert value(run, "last") == 5 and value(run, "previous") in (3, 4), where


@pytest.mark.parametrize("name", ["last", "best"])
def test_kill_9_at_every_call_of_a_save(tmp_path, faults, name):
    (tmp_path / "0").mkdir()
    for number in (1, 2, 3):
        write(tmp_path / "0", number)
    write(tmp_path / "0", 1, "best")
    total = events_of_a_save(tmp_path / "0", faults, name)
    importlib.reload(checkpoint)
    context = multiprocessing.get_context("fork")
    for event in range(1, total + 1):
        run = tmp_path / str(event)
        for number in (1, 2, 3):
            write(run, number)
        write(run, 1, "best")
        child = context.Process(target=killed_save, args=(str(run), event, name))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        check_after_kill(run, name, f"killed at call {event} of {total}")


def test_stray_files_of_a_kill_are_swept(run):
    for path in (".last.frcnn-part", ".best.old", "val"):
        (run / path).mkdir()
    for path in (
        ".results.csv.ab12cd34.frcnn-part",
        "val/.metrics.json.x_y_z_0_.frcnn-part",
        "best/.checkpoint.json.x_y_z_0_.frcnn-part",
    ):
        (run / path).write_text("half")
    checkpoint.sweep(run)
    assert not [p for p in run.rglob(".*")]
    assert value(run, "best") == 1


def damaged(folder: Path, kind: str, rng: random.Random) -> tuple[Path, bytes]:
    path = folder / rng.choice(["weights.safetensors", "state.pt", "checkpoint.json"])
    content = path.read_bytes()
    if kind == "flip":
        position = rng.randrange(len(content))
        new = bytearray(content)
        new[position] ^= 1 << rng.randrange(8)
        path.write_bytes(new)
    elif kind == "cut":
        path.write_bytes(content[: rng.randrange(len(content))])
    else:
        path.write_bytes(bytes(len(content)))
    return path, content


@pytest.mark.parametrize("kind, times", [("flip", 200), ("cut", 50), ("zeros", 10)])
def test_damage_is_found_and_the_one_before_is_used(run, kind, times):
    rng = random.Random(kind)
    missed = 0
    for _ in range(times):
        path, content = damaged(run / "last", kind, rng)
        try:
            checkpoint.load(run / "last")
            missed += 1
        except InputError as error:
            assert str(path) in str(error) or str(path.parent) in str(error)
        found, notes = checkpoint.load_last(run)
        missed += found.meta["step"] != 2 or len(notes) != 1
        path.write_bytes(content)
    assert missed == 0
    checkpoint.load(run / "last")


def test_a_damaged_last_is_dropped_before_the_run_goes_on(run):
    (run / "last" / "state.pt").write_bytes(b"")
    checkpoint.drop_damaged_last(run)
    write(run, 5)
    assert (value(run, "last"), value(run, "previous")) == (5, 2)


@pytest.mark.parametrize("part", ["weights", "state"])
def test_what_is_not_finite_is_never_written(run, part):
    bad, state = weights(4), {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "rng": torch.zeros(2)}
    (bad["a"] if part == "weights" else state["optimizer"]["state"][0]["exp_avg"])[1] = float("nan")
    with pytest.raises(checkpoint.NotFinite, match="weights.a" if part == "weights" else "exp_avg"):
        checkpoint.save(run / "last", META, bad, state)
    assert value(run, "last") == 3 and not [p for p in run.rglob(".*")]


def test_reading_while_a_run_writes(run, monkeypatch):
    real = checkpoint._verified

    def slow(folder, digests):
        if checkpoint.read_meta(folder)["step"] == 3:
            write(run, 4)  # another process puts a new one there between the two reads
        return real(folder, digests)

    monkeypatch.setattr(checkpoint, "_verified", slow)
    assert checkpoint.load(run / "last").meta["step"] == 4


def test_new_fields_of_a_checkpoint(run):
    checkpoint.update_meta(run / "best", score_thresholds={"nut": 0.4})
    assert checkpoint.load(run / "best").meta["score_thresholds"] == {"nut": 0.4}


@pytest.mark.parametrize("path, parts", [("nowhere", ["nowhere", "not found"]), ("", ["holds no checkpoint"])])
def test_no_checkpoint_is_one_line(tmp_path, path, parts):
    for read in (checkpoint.find, checkpoint.load_last):
        with pytest.raises(InputError) as error:
            read(tmp_path / path)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError) as error:
        checkpoint.find(tmp_path / path)
    assert all(part in str(error.value) for part in parts)


def test_the_folder_of_runs_names_them(tmp_path):
    for name in ("parts", "nuts"):
        write(tmp_path / name, 1, "best")
    with pytest.raises(InputError, match="holds no checkpoint but the runs nuts, parts;"):
        checkpoint.find(tmp_path)


# --- no code from data --------------------------------------------------------------------------------------------


class Payload:
    """A pickle that runs something when it is loaded."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def payloads(proof: Path) -> list:
    return [
        Payload(os.system, f"touch {proof}"),
        Payload(eval, f"__import__('os').mkdir({str(proof)!r})"),
        Payload(exec, f"import os; os.mkdir({str(proof)!r})"),
        Payload(subprocess.call, ["touch", str(proof)]),
        Payload(Path.touch, proof),
        Payload(os.mkdir, str(proof)),
    ]


def forge(folder: Path, name: str, content: bytes) -> None:
    """Put `content` in a checkpoint with fitting sums: whoever makes a checkpoint can do that."""
    (folder / name).write_bytes(content)
    meta = json.loads((folder / "checkpoint.json").read_text())
    meta["sha256"][name] = hashlib.sha256(content).hexdigest()
    (folder / "checkpoint.json").write_bytes(checkpoint._sealed(meta))


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_pickles_in_a_checkpoint_or_in_weights_run_nothing(run, tmp_path, number, form):
    proof = tmp_path / "proof"
    content = io.BytesIO()
    if form == "pickle":
        content.write(pickle.dumps(payloads(proof)[number]))
    else:
        torch.save({"model": payloads(proof)[number]}, content)
    pickle.loads(pickle.dumps(payloads(tmp_path / "works")[number]))  # the payload is one
    assert (tmp_path / "works").exists()
    for name in ("state.pt", "weights.safetensors"):
        write(run, 3)
        forge(run / "last", name, content.getvalue())
        with pytest.raises(InputError):
            checkpoint.load(run / "last")
    for suffix in (".pt", ".pth", ".safetensors"):
        (tmp_path / f"w{suffix}").write_bytes(content.getvalue())
        with pytest.raises(InputError, match=r"cannot be read as weights|no names with tensors"):
            load_weights.read(tmp_path / f"w{suffix}")
    assert not proof.exists()


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9) | st.integers() | st.none(), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_other_json_is_refused(content):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        sealed = checkpoint._sealed({**content, "format": 1})
        for text in (json.dumps(content).encode(), sealed, b"[" * 100_000):
            (Path(folder) / "checkpoint.json").write_bytes(text)
            with pytest.raises(InputError):
                checkpoint.load(Path(folder))


def test_a_file_outside_of_the_checkpoint_is_not_read(run):
    secret = run / "secret"
    secret.write_text("x")
    meta = json.loads((run / "last" / "checkpoint.json").read_text())
    meta["sha256"]["../secret"] = hashlib.sha256(b"x").hexdigest()
    (run / "last" / "checkpoint.json").write_bytes(checkpoint._sealed(meta))
    with pytest.raises(InputError, match="names the files"):
        checkpoint.load(run / "last")


def test_no_source_file_can_load_code():
    """No pickle, eval, exec, marshal, yaml.load, np.load(allow_pickle=True), torch.load without weights_only=True."""
    banned = {
        "eval",
        "exec",
        "yaml.load",
        "yaml.unsafe_load",
        "yaml.full_load",
        "marshal.loads",
        "marshal.load",
        "pickle.load",
        "pickle.loads",
        "dill.load",
        "joblib.load",
        "shelve.open",
    }
    scanned = 0
    for package in ("anchors", "label_tools", "toolkit", "benchmarks", "sample_data"):
        for path in sorted((ROOT / package).rglob("*.py")):
            scanned += 1
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    where = f"{path.relative_to(ROOT)}:{node.lineno}"
                    name = ast.unparse(node.func)
                    words = {k.arg: ast.unparse(k.value) for k in node.keywords}
                    assert name not in banned, where
                    if name in ("torch.load", "load_state_dict_from_url"):
                        assert words.get("weights_only") == "True", where
                    assert words.get("allow_pickle", "False") == "False", where
    assert scanned > 50


def test_a_checkpoint_without_a_state_says_that_it_cannot_be_gone_on_from(tmp_path):
    with pytest.raises(InputError, match="holds no state to go on from"):
        checkpoint.Checkpoint(tmp_path / "best", {}, {}, None).needed_state()


def test_what_a_kill_left_aside_is_no_obstacle(run):
    shutil.copytree(run / "best", run / ".best.old")
    write(run, 7, "best")
    assert value(run, "best") == 7 and not [p for p in run.iterdir() if p.name.startswith(".")]


def test_which_checkpoint_a_path_means(run):
    assert checkpoint.find(run) == run / "best" and checkpoint.find(run, "last") == run / "last"
    assert checkpoint.find(run / "previous") == run / "previous"
    shutil.rmtree(run / "best")
    assert checkpoint.find(run) == run / "last"


def test_older_checkpoints_stay_readable(run):
    """The number of the format, and the text that the seal is of."""
    assert checkpoint.read_meta(run / "last")["format"] == 1
    assert json.loads(checkpoint._sealed({"a": 1}))["seal"] == hashlib.sha256(b'{\n "a": 1\n}').hexdigest()


def test_nothing_to_resume_from_is_not_called_damaged(run):
    for name in ("last", "previous"):
        (run / name / "state.pt").write_bytes(b"")
    with pytest.raises(InputError, match="every checkpoint is damaged"):
        checkpoint.load_last(run)
    for name in ("last", "previous"):
        shutil.rmtree(run / name)
    with pytest.raises(InputError, match="holds no checkpoint to resume from"):
        checkpoint.load_last(run)
