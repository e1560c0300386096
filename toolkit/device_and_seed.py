"""Device, precision and seed of a run: the only place that chooses them, and that saves the state of the generators."""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from label_tools.text.errors import InputError


def choose_device(wanted: str, local_rank: int = 0) -> torch.device:
    """`auto` is CUDA, else CPU. MPS only when named: torchvision's detectors hang on it (vision#9345)."""
    if wanted == "auto":
        return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise InputError(f"--device {wanted}: unknown, needs auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise InputError(f"--device {wanted}: this torch sees no CUDA GPU; use --device cpu, or run frcnn doctor")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise InputError(f"--device {wanted}: found {torch.cuda.device_count()} GPU(s), counted from cuda:0")
        if device.index is None:
            device = torch.device("cuda", local_rank)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps: not available in this torch")
    if device.type not in ("cpu", "cuda", "mps"):
        raise InputError(f"--device {wanted}: needs auto, cpu, cuda, cuda:N or mps")
    return device


def cpu_has_bf16() -> bool:
    """True where the CPU multiplies bfloat16 by itself (avx512_bf16 or AMX)."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_precision(wanted: str, device: torch.device, compact: bool) -> torch.dtype:
    """dtype of autocast. `auto`: bf16 where the device is fast at it; compact networks stay in fp32, since casting
    costs them more than it saves, on CPUs and GPUs (docs/measurements/training.md)."""
    if wanted == "fp32" or (wanted == "auto" and compact):
        return torch.float32
    if wanted == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bf16() else torch.float32


def precision_note(wanted: str, device: torch.device) -> str:
    """A warning when bf16 was asked for on a CPU that only emulates it; else ""."""
    if wanted != "bf16" or device.type != "cpu" or cpu_has_bf16():
        return ""
    return "warning: --precision bf16: this CPU has no bf16 instructions and is many times slower with it than in fp32"


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed python, numpy and torch. `deterministic` promises: same machine, versions and threads, same result."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False


def rng_state() -> dict:
    """State of every global generator, as tensors and plain containers (loads with weights_only=True)."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    words = torch.from_numpy(np.asarray(keys).astype(np.int64))
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, words, int(position), int(has_gauss), float(cached)],
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_rng_state(state: dict) -> None:
    """Inverse of `rng_state`."""
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    if "cuda" in state and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
