"""Made input for the tests of training: drawn pictures of a few hundred bytes, a small recipe, and processes that
start in a moment because torch is loaded already."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("square", "disc")
SIDE = 64
# the smallest training that has everything: two steps of warm-up, evaluation, a head to learn
TINY = (
    f"--model fasterrcnn_tiny_fpn --weights none --image-size {SIDE} --max-size 96 --multi-scale 0 --batch-size 2 "
    "--epochs 2 --workers 0 --augment none --device cpu --precision fp32 --roi-batch 16 --norm group --no-report "
    "--cache-mb 8"
).split()


def recipe(folder: Path, **options: object) -> list[str]:
    """`--config FILE` with these options, some of which have no flag."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{'-'.join(options)}.yaml"
    path.write_text(json.dumps(options))
    return ["--config", str(path)]


def untrained_run(
    folder: Path, score_thresholds: dict[str, float], model: str = "fasterrcnn_tiny_fpn", **more: object
) -> Path:
    """A run folder whose `best` is an untrained compact network for NAMES that keeps every box. more: of its meta.
    -> folder"""
    import torch

    from toolkit import checkpoint
    from toolkit.networks import builder

    torch.manual_seed(3)
    network, architecture, _ = builder.build(
        model,
        len(NAMES) + 1,
        weights="none",
        trainable_layers=5,
        norm="group",
        batch_size=1,
        sizes={"min_size": SIDE, "max_size": 96, "box_score_thresh": 0.0},
    )
    meta = {
        "classes": [{"id": i, "name": name} for i, name in enumerate(NAMES, 1)],
        "architecture": architecture,
        "score_thresholds": score_thresholds,
        **more,
    }
    checkpoint.save(folder / "best", meta, network.state_dict(), None)
    return folder


def draw_data(folder: Path, train: int = 6, val: int = 3, seed: int = 0, names: tuple[str, ...] = NAMES) -> Path:
    """folder/{train,val}.json with pictures beside them; every third picture holds no object. -> folder"""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("val", val)):
        images, annotations = [], []
        for i in range(1, count + 1):
            name = f"{part}{i}.png"
            picture = Image.new("RGB", (SIDE, SIDE), (40, 60, 50))
            pen = ImageDraw.Draw(picture)
            for _ in range(0 if i % 3 == 0 else 2):
                w, h = (int(v) for v in rng.integers(14, 30, 2))
                x, y = int(rng.integers(0, SIDE - w)), int(rng.integers(0, SIDE - h))
                kind = int(rng.integers(0, len(names)))
                box = [x, y, x + w - 1, y + h - 1]
                (pen.rectangle if kind == 0 else pen.ellipse)(box, fill=(220, 80 + 60 * kind, 30))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": i,
                        "category_id": kind + 1,
                        "iscrowd": 0,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "segmentation": [],
                    }
                )
            picture.save(folder / name)
            images.append({"id": i, "file_name": name, "width": SIDE, "height": SIDE})
        document = {
            "info": {"image_root": "."},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": k, "name": name} for k, name in enumerate(names, 1)],
        }
        (folder / f"{part}.json").write_text(json.dumps(document))
    return folder


def records(run: Path, times: bool = False) -> list[dict]:
    """metrics.jsonl, by default without the fields that the clock writes."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if times:
        return lines
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


def digest(run: Path, name: str = "last") -> dict[str, str]:
    """SHA-256 of a checkpoint's weights and of the optimiser's and other tensors in its state."""
    import hashlib

    from toolkit import checkpoint

    found = checkpoint.load(run / name)
    hashes = {}

    def walk(value, where):
        if hasattr(value, "numpy"):
            hashes[where] = hashlib.sha256(value.detach().contiguous().numpy().tobytes()).hexdigest()
        elif isinstance(value, dict):
            for key, item in value.items():
                if key not in ("seconds", "log_bytes"):  # the clock
                    walk(item, f"{where}.{key}")
        elif isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                walk(item, f"{where}[{number}]")
        else:
            hashes[where] = repr(value)

    walk(found.weights, "weights")
    walk(found.state or {}, "state")
    return hashes


def _child(words: list[str], output: str, fault: str, settings: dict, environ: dict) -> None:
    os.setpgid(0, 0)  # a group of its own, as a shell gives a command
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    import sys
    import warnings

    import torch

    warnings.simplefilter("default")
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # a child of a fork server would start another one
    os.environ.update(environ)
    if fault:
        from tests.toolkit import training_patches

        getattr(training_patches, fault)(**settings)
    from toolkit.__main__ import main

    code = main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


_CONTEXT = None


class Command:
    """`frcnn WORDS` in a process of its own, forked from one that has imported torch; `fault(**settings)` is one of
    tests/toolkit/training_patches.py."""

    def __init__(self, words: list, output: Path, fault: str = "", environ: dict | None = None, **settings) -> None:
        global _CONTEXT
        if _CONTEXT is None:
            _CONTEXT = multiprocessing.get_context("forkserver")
            _CONTEXT.set_forkserver_preload(["tests.toolkit.training_preload"])
        self.output = output
        words = [str(word) for word in words]
        self.process = _CONTEXT.Process(target=_child, args=(words, str(output), fault, settings, environ or {}))
        self.process.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait(self, timeout: float = 300) -> int:
        """-> exit code, -N when signal N ended it."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError(f"still running after {timeout} s:\n{self.text()}")
        return self.process.exitcode

    def text(self) -> str:
        return self.output.read_text() if self.output.exists() else ""

    def wait_for(self, sign, timeout: float = 60) -> None:
        """Until `sign()` is true, or its text appears in the output."""
        end = time.monotonic() + timeout
        while not (sign() if callable(sign) else sign in self.text()):
            if not self.process.is_alive() or time.monotonic() > end:
                raise AssertionError(f"waited in vain:\n{self.text()}")
            time.sleep(0.005)


def frcnn(words: list, output: Path, fault: str = "", **settings) -> tuple[int, str]:
    """Run `frcnn WORDS` to its end, at most `timeout` seconds -> (exit code, what it printed)."""
    timeout = settings.pop("timeout", 300)
    command = Command(words, output, fault, **settings)
    code = command.wait(timeout)
    return code, command.text()
