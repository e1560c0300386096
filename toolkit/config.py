"""Every hyper-parameter, once: frozen dataclasses, presets, and how file and flags fill them.

A value comes from the first of these that names it: flag, file (`--config recipe.toml|yaml`),
the model's own recipe, the preset for the number of images, the default below.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import difflib
import math
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from label_tools.text.errors import InputError

SMALLEST_SIDE = 16  # pixels of the shorter side that multi-scale may go down to


def _field(default: Any, text: str, choices: tuple | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class Model:
    """What network, from which weights, and which part of it learns."""

    model: str = _field("fasterrcnn_resnet50_fpn", "detector, see `frcnn train --list-models`")
    weights: str = _field("auto", "coco | imagenet | starter | none | FILE; auto: coco, for the compact model starter")
    trainable_layers: int = _field(3, "backbone stages that learn, counted from the top, 0..5 (6 for mobilenet)")
    norm: str = _field(
        "auto",
        "normalisation of the backbone; auto: frozen with weights, group for small batches from nothing",
        ("auto", "frozen", "batch", "group"),
    )
    freeze_bn: bool = _field(False, "keep the running statistics of every BatchNorm as they are")
    image_size: int = _field(800, "shorter side that the network sees, pixels")
    max_size: int = _field(1333, "longer side at most, pixels")
    anchor_scale: float = _field(1.0, "all anchor sizes times this; `frcnn advise` proposes a value")
    multi_scale: float = _field(0.0, "training sizes spread over image_size * (1 +- this)")
    score_floor: float = _field(0.01, "detections under this score are not kept")
    max_detections: int = _field(100, "detections kept per image")
    roi_batch: int = _field(256, "sampled RoIs per image in training (torchvision: 512)")


@dataclass(frozen=True)
class Data:
    """How images reach the network."""

    batch_size: int = _field(4, "images per step and device")
    workers: int = _field(-1, "loader processes; -1: half the cores, at most 8")
    cache_mb: int = _field(512, "memory for decoded images over all workers, MB; 0: none")
    augment: str = _field("light", "none | light | medium | strong | FILE (albumentations as JSON or YAML)")
    copy_paste: float = _field(
        0.0, "share of images that get objects of others, cut out by their boxes; try 0.5 with few images"
    )
    group_aspect: bool = _field(True, "batches hold images of alike aspect ratio: less padding")
    repeat_rare: float = _field(0.0, "repeat images of classes seen in fewer than this share of images (LVIS)")
    skip_bad: float = _field(0.0, "share of unreadable images that training may skip; 0: stop at the first")


@dataclass(frozen=True)
class Optimizer:
    """How weights move."""

    optimizer: str = _field("sgd", "optimiser", ("sgd", "adamw"))
    lr: float = _field(0.005, "learning rate at its highest, for batch_size * accumulate images")
    backbone_lr: float = _field(1.0, "the backbone's learning rate as a share of lr")
    momentum: float = _field(0.9, "of SGD; AdamW's first beta")
    weight_decay: float = _field(1e-4, "not applied to norms and biases")
    clip_norm: float = _field(10.0, "gradient norm at most; 0: no clipping")
    accumulate: int = _field(1, "batches per optimiser step")
    ema: float = _field(0.0, "decay of the averaged weights that are evaluated and saved; 0: none")
    label_smoothing: float = _field(0.0, "of the box classifier")
    class_weights: str = _field("none", "of the box classifier; balanced: 1/sqrt(count)", ("none", "balanced"))
    head_epochs: int = _field(0, "first epochs in which only the heads learn")


@dataclass(frozen=True)
class Schedule:
    """How long, and the learning rate on the way."""

    epochs: int = _field(30, "passes over the training images")
    schedule: str = _field("cosine", "course of the learning rate", ("cosine", "step", "onecycle", "constant"))
    warmup: int = _field(500, "steps of linear warm-up, at most a tenth of all steps")
    patience: int = _field(0, "stop after so many evaluations without a better AP; 0: never")
    max_time: float = _field(0.0, "stop after so many minutes, with checkpoints; 0: never")
    eval_every: int = _field(1, "epochs between evaluations")
    save_every: float = _field(10.0, "minutes between checkpoints inside an epoch; one after every epoch")


@dataclass(frozen=True)
class Run:
    """Where and how it runs."""

    seed: int = _field(0, "of everything drawn at random")
    device: str = _field("auto", "auto | cpu | cuda | cuda:N | mps; auto never picks mps")
    precision: str = _field("auto", "auto: bf16 where the device is fast at it", ("auto", "fp32", "bf16"))
    channels_last: bool = _field(False, "memory format of the network; for GPUs: slower on a CPU")
    compile: bool = _field(False, "compile the backbone, minutes before the first step; for GPUs: no gain on a CPU")
    deterministic: bool = _field(False, "only deterministic operators; slower on a GPU")
    on_nan: str = _field("stop", "on a loss that is not finite: stop, or skip at most 3 batches", ("stop", "skip"))
    tensorboard: bool = _field(False, "also write TensorBoard events (extra: tensorboard)")


@dataclass(frozen=True)
class Config:
    """One resolved recipe. Written to `config.yaml` of every run."""

    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    run: Run = Run()


# Named presets by number of labelled training images. Few images: fewer layers learn, more passes, stronger
# augmentation; many: fewer passes.
PRESETS: dict[str, dict[str, Any]] = {
    "few": {"epochs": 60, "augment": "medium", "trainable_layers": 2, "patience": 20},
    "some": {"epochs": 30, "augment": "medium", "patience": 10},
    "many": {"epochs": 16, "augment": "light", "patience": 5, "trainable_layers": 4},
}

# What a network needs beside the defaults, found by measurement (LOG.md).
_COMPACT = {
    "optimizer": "adamw",
    "lr": 2e-3,
    "schedule": "onecycle",
    "weight_decay": 1e-2,
    "augment": "light",
    "trainable_layers": 5,
    "norm": "batch",
    "roi_batch": 64,
    "epochs": 24,
    "patience": 0,
}
MODEL_RECIPES: dict[str, dict[str, Any]] = {
    "fasterrcnn_tiny_fpn": {**_COMPACT, "image_size": 224, "max_size": 320},
    "anchors_tiny": {**_COMPACT, "image_size": 160, "max_size": 256, "lr": 1e-3},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"image_size": 320, "max_size": 640},
}


def preset_for(num_images: int) -> str:
    """`few` to 100 training images, `some` to 1,000, then `many`."""
    return "few" if num_images <= 100 else "some" if num_images <= 1000 else "many"


def fields() -> dict[str, tuple[str, dataclasses.Field]]:
    """{option name: (section, field)} over all sections; names are unique."""
    found: dict[str, tuple[str, dataclasses.Field]] = {}
    for section in dataclasses.fields(Config):
        for option in dataclasses.fields(section.default):
            assert option.name not in found, option.name
            found[option.name] = (section.name, option)
    return found


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One `--flag` for each option; a flag that is not given stays None, so that files and presets count."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="recipe as TOML or YAML; flags win over it")
    parser.add_argument(
        "--preset", choices=("auto", *PRESETS), default="auto", help="recipe by number of images (default: auto)"
    )
    groups = {s.name: parser.add_argument_group(s.name, s.default.__doc__) for s in dataclasses.fields(Config)}
    for name, (section, option) in fields().items():
        flag = "--" + name.replace("_", "-")
        text = f"{option.metadata['help']} (default: {option.default})".replace("%", "%%")
        if isinstance(option.default, bool):
            groups[section].add_argument(flag, action=argparse.BooleanOptionalAction, default=None, help=text)
        else:
            groups[section].add_argument(
                flag, type=type(option.default), choices=option.metadata["choices"], default=None, help=text
            )


def flags_given(args: argparse.Namespace) -> dict[str, Any]:
    """The options that the command line named."""
    return {name: getattr(args, name) for name in fields() if getattr(args, name, None) is not None}


def read_file(path: Path) -> dict[str, Any]:
    """Options of a TOML or YAML recipe, flat (`lr: 0.01`) or in sections (`optimizer: {lr: 0.01}`)."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".toml":
            import tomllib

            content = tomllib.loads(text)
        else:
            content = _read_yaml(text)
    except FileNotFoundError:
        raise InputError(f"{path}: not found, needed as a recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except InputError as error:
        raise InputError(f"{path}{error}") from None
    except ValueError as error:  # tomllib's errors are ValueErrors
        raise InputError(f"{path}: is not valid TOML: {error}") from None
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise InputError(f"{path}: is not valid YAML: {error}") from None
        raise
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, needs a table of options")
    flat: dict[str, Any] = {}
    sections = {s.name for s in dataclasses.fields(Config)}
    for key, value in content.items():
        inside = key in sections and (isinstance(value, dict) or (value is None and key not in fields()))
        for name, item in (value or {}).items() if inside else [(key, value)]:
            if name in flat:
                raise InputError(f"{path}, {name}: is given twice")
            flat[name] = _checked(name, item, str(path))
            home = fields()[name][0]
            if inside and home != key:
                raise InputError(f"{path}, {key}: found {name!r}, which belongs to {home}")
    return flat


def _read_yaml(text: str) -> Any:
    """As `yaml.safe_load`, but a key that comes twice in a table is refused: YAML forbids it, PyYAML takes the last."""
    import yaml

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in seen:
                    raise InputError(f", line {key.start_mark.line + 1}, {key.value}: is given twice")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    loader = Strict(text)
    try:
        content = loader.get_single_data()
    finally:
        loader.dispose()
    return {} if content is None else content


def _checked(name: str, value: Any, where: str) -> Any:
    known = fields()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        raise InputError(f"{where}: unknown option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    option = known[name][1]
    want = type(option.default)
    if want is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if want is float and isinstance(value, str):  # YAML reads 1e-4 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if type(value) is not want:
        raise InputError(f"{where}, {name}: found {value!r}, needs {want.__name__}")
    choices = option.metadata["choices"]
    if choices and value not in choices:
        raise InputError(f"{where}, {name}: found {value!r}, needs one of {', '.join(choices)}")
    return value


def resolve(num_images: int, flags: dict[str, Any], file: dict[str, Any] | None = None, preset: str = "auto") -> Config:
    """The recipe for `num_images` training images from flags, file, model recipe, preset and defaults."""
    file = file or {}
    name = flags.get("model", file.get("model", Model.model))
    values = {
        **PRESETS[preset_for(num_images) if preset == "auto" else preset],
        **MODEL_RECIPES.get(name, {}),
        **(PRESETS[preset] if preset != "auto" else {}),  # asked for by name: it wins over the model's recipe
        **file,
        **flags,
    }
    config = from_flat(values)
    check(config)
    return config


def from_flat(values: dict[str, Any]) -> Config:
    """A Config from {option: value}; what is not named keeps its default."""
    sections = typing.get_type_hints(Config)
    split: dict[str, dict[str, Any]] = {name: {} for name in sections}
    known = fields()
    for name, value in values.items():
        split[known[name][0]][name] = value
    return Config(**{name: cls(**split[name]) for name, cls in sections.items()})


def flat(config: Config) -> dict[str, Any]:
    """{option: value} over all sections."""
    return {name: getattr(getattr(config, section), name) for name, (section, _) in fields().items()}


def check(config: Config) -> None:
    """Refuse values that cannot work, by name."""
    model, data, optimizer, schedule = config.model, config.data, config.optimizer, config.schedule
    rules = [
        ("epochs", schedule.epochs >= 1, "1 or more"),
        ("batch_size", data.batch_size >= 1, "1 or more"),
        ("accumulate", optimizer.accumulate >= 1, "1 or more"),
        ("workers", data.workers >= -1, "-1 or more"),
        ("cache_mb", data.cache_mb >= 0, "0 or more"),
        ("repeat_rare", 0 <= data.repeat_rare <= 1, "0 to 1"),
        ("lr", 0 < optimizer.lr < 100, "a number over 0"),
        ("backbone_lr", 0 <= optimizer.backbone_lr < math.inf, "0 or more"),
        ("weight_decay", 0 <= optimizer.weight_decay < math.inf, "0 or more"),
        ("clip_norm", 0 <= optimizer.clip_norm <= math.inf, "0 or more"),
        ("ema", 0 <= optimizer.ema < 1, "0 or more and under 1"),
        ("momentum", 0 <= optimizer.momentum < 1, "0 or more and under 1"),
        ("label_smoothing", 0 <= optimizer.label_smoothing < 1, "0 or more and under 1"),
        ("head_epochs", optimizer.head_epochs >= 0, "0 or more"),
        ("trainable_layers", 0 <= model.trainable_layers <= 6, "0 to 6"),
        ("image_size", 32 <= model.image_size <= 8192, "32 to 8192"),
        ("max_size", model.max_size >= model.image_size, "at least image_size"),
        ("anchor_scale", 0.01 <= model.anchor_scale <= 100, "0.01 to 100"),
        ("multi_scale", 0 <= model.multi_scale < 1, "0 or more and under 1"),
        (
            "multi_scale",
            model.image_size * (1 - model.multi_scale) >= SMALLEST_SIDE,
            f"so little that image_size * (1 - it) is {SMALLEST_SIDE} px or more",
        ),
        ("score_floor", 0 <= model.score_floor < 1, "0 or more and under 1"),
        ("max_detections", model.max_detections >= 1, "1 or more"),
        ("roi_batch", model.roi_batch >= 1, "1 or more"),
        ("warmup", schedule.warmup >= 0, "0 or more"),
        ("patience", schedule.patience >= 0, "0 or more"),
        ("max_time", 0 <= schedule.max_time < math.inf, "0 or more"),
        ("eval_every", schedule.eval_every >= 1, "1 or more"),
        ("save_every", schedule.save_every >= 0, "0 or more"),
        ("copy_paste", 0 <= data.copy_paste <= 1, "0 to 1"),
        ("skip_bad", 0 <= data.skip_bad <= 1, "0 to 1"),
        ("seed", 0 <= config.run.seed < 2**63, "0 to 2^63 - 1"),
    ]
    values = flat(config)
    for name, fine, need in rules:
        if not fine:
            raise InputError(f"--{name.replace('_', '-')}: found {values[name]}, needs {need}")


def to_yaml(config: Config) -> str:
    """The resolved recipe as YAML in sections; `read_file` reads it back."""
    import yaml

    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
