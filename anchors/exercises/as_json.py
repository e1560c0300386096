"""Arguments and answers as JSON, between the checker and the learner's process. No float32 or int64 is changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anchors.exercises.compare import Foreign, type_name

MOST = 200_000  # numbers in an answer; no exercise needs a thousand


def encode(value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.numel() > MOST or value.layout != torch.strided or value.dtype.is_complex:
            return {"foreign": f"a {value.dtype} tensor of {value.numel()} numbers".replace("torch.", "")}
        dtype = str(value.dtype).removeprefix("torch.")
        if dtype not in ("float64", "bool") and value.dtype.is_floating_point:
            value = value.double()
        return {"tensor": value.detach().cpu().flatten().tolist(), "shape": list(value.shape), "dtype": dtype}
    if isinstance(value, bool | int | float) or value is None:
        return value if type(value) in (bool, int, float) or value is None else {"foreign": type_name(value)}
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value[:10]]}
    if type(value) is list:
        return [encode(item) for item in value[:MOST]]
    return {"foreign": type_name(value)}


def decode(message: Any) -> Any:
    if isinstance(message, list):
        return [decode(item) for item in message]
    if not isinstance(message, dict):
        return Foreign("None") if message is None else message
    if "tensor" in message:
        dtype = getattr(torch, message["dtype"])
        return torch.tensor(message["tensor"], dtype=dtype).reshape(message["shape"])
    if "tuple" in message:
        return tuple(decode(item) for item in message["tuple"])
    return Foreign(str(message["foreign"])[:80])
