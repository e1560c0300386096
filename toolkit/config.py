"""Every hyper-parameter, once: frozen dataclasses, presets, recipe files.

A value comes from the first of these that names it: a flag, a recipe file (`--config recipe.yaml`), the model's own
recipe, the preset for the number of images, the default below. A preset asked for by name wins over the model's recipe.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import typing
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from label_tools.text.errors import InputError
from label_tools.text.messages import unknown

SMALLEST_SIDE = 16  # pixels of the shorter side that multi-scale may go down to
STANDARD = "fasterrcnn_resnet50_fpn"
FIRST, MORE, RECIPE = "first", "more", "recipe"  # in --help; in --help-all; only in a recipe file


def _field(default: Any, text: str, *choices: str, where: str = MORE, unit: str = "") -> Any:
    """An option: its default, what help says of it, its choices or the unit that help shows for its value."""
    return field(default=default, metadata={"help": text, "choices": choices or None, "where": where, "unit": unit})


@dataclass(frozen=True)
class Model:
    """Which network, from which weights, and which part of it learns."""

    model: str = _field(
        "auto",
        "detector, of `frcnn train --list-models`; auto: the standard on a GPU, a compact one on a CPU",
        where=FIRST,
        unit="NAME",
    )
    weights: str = _field(
        "auto",
        "first weights: coco, imagenet, starter, none, a file or a run; auto: the model's own",
        where=FIRST,
        unit="WHICH",
    )
    trainable_layers: int = _field(3, "backbone stages that learn, counted from the top", unit="N")
    norm: str = _field(
        "auto",
        "normalisation of the backbone; auto: frozen with weights, group for small batches without",
        "auto",
        "frozen",
        "batch",
        "group",
    )
    freeze_bn: bool = _field(False, "keep the running statistics of every BatchNorm as they are", where=RECIPE)
    image_size: int = _field(800, "shorter side of the images that the network sees", where=FIRST, unit="PX")
    max_size: int = _field(1333, "longer side at most", unit="PX")
    anchor_scale: float = _field(1.0, "multiply all anchor sizes; `frcnn advise` proposes a value", unit="X")
    multi_scale: float = _field(0.0, "vary the training size by this share of image_size", unit="SHARE")
    score_floor: float = _field(0.01, "detections under this score are not kept", where=RECIPE)
    max_detections: int = _field(100, "detections kept per image", unit="N")
    roi_batch: int = _field(256, "sampled RoIs per training image (torchvision: 512)", unit="N")


@dataclass(frozen=True)
class Data:
    """How images reach the network."""

    batch_size: int = _field(4, "images per step and device", where=FIRST, unit="N")
    workers: int = _field(-1, "loader processes; -1: half the cores, at most 8", unit="N")
    cache_mb: int = _field(512, "memory for decoded images over all workers; 0: none", unit="MB")
    augment: str = _field(
        "medium",
        "none, light, zoom, medium, strong, or an albumentations FILE (JSON or YAML)",
        where=FIRST,
        unit="LEVEL",
    )
    tiles: str = _field(
        "none", "cut large pictures into overlapping tiles, in detection too: none, auto or PX", unit="PX"
    )
    copy_paste: float = _field(
        0.0, "share of images that get objects of other images pasted in; try 0.5 with few images", unit="SHARE"
    )
    cached_views: int = _field(
        0, "frozen body: compute its maps of N augmented views an image once, and keep them; 0: every time", unit="N"
    )
    boxes_as_masks: bool = _field(
        False, "networks with masks: the whole box stands for an outline that an object lacks"
    )
    group_aspect: bool = _field(True, "batches hold images of alike aspect ratio: less padding", where=RECIPE)
    repeat_rare: float = _field(
        0.0, "repeat images of classes seen in fewer than this share of images (LVIS)", where=RECIPE
    )
    skip_bad: float = _field(0.0, "share of unreadable images to skip; 0: stop at the first", unit="SHARE")


@dataclass(frozen=True)
class Optimizer:
    """How weights change."""

    optimizer: str = _field("sgd", "optimiser", "sgd", "adamw")
    lr: float = _field(0.005, "peak learning rate, for batch_size * accumulate images", where=FIRST, unit="RATE")
    backbone_lr: float = _field(1.0, "the backbone's learning rate as a share of lr", where=RECIPE)
    momentum: float = _field(0.9, "of SGD; AdamW's first beta", where=RECIPE)
    weight_decay: float = _field(1e-4, "weight decay; not applied to norms and biases", unit="X")
    clip_norm: float = _field(10.0, "gradient norm at most; 0: no clipping", where=RECIPE)
    accumulate: int = _field(1, "batches per optimiser step", unit="N")
    ema: float = _field(0.0, "evaluate and save averaged weights with this decay; 0: off", unit="DECAY")
    label_smoothing: float = _field(0.0, "label smoothing of the box classifier", unit="SHARE")
    class_weights: str = _field(
        "none", "of the box classifier; balanced: 1/sqrt(count)", "none", "balanced", where=RECIPE
    )
    head_epochs: int = _field(0, "first epochs in which only the heads learn", where=RECIPE)


@dataclass(frozen=True)
class Schedule:
    """How long, and the learning rate on the way."""

    epochs: int = _field(30, "passes over the training images", where=FIRST, unit="N")
    schedule: str = _field("cosine", "course of the learning rate", "cosine", "step", "onecycle", "constant")
    warmup: int = _field(500, "steps of linear warm-up, at most a tenth of all steps", where=RECIPE)
    patience: int = _field(10, "stop after N evaluations without a better AP; 0: never", where=FIRST, unit="N")
    max_time: float = _field(0.0, "stop after so many minutes, with checkpoints; 0: never", where=FIRST, unit="MIN")
    eval_every: int = _field(1, "epochs between evaluations", unit="N")
    save_every: float = _field(
        10.0, "minutes between checkpoints inside an epoch; one after each evaluation", where=RECIPE
    )


@dataclass(frozen=True)
class Run:
    """Where and how it runs."""

    seed: int = _field(0, "seed of all random numbers", where=FIRST, unit="N")
    device: str = _field("auto", "auto, cpu, cuda, cuda:N or mps; auto never picks mps", where=FIRST, unit="DEVICE")
    precision: str = _field("auto", "auto: bf16 where the device is fast at it", "auto", "fp32", "bf16")
    channels_last: bool = _field(
        False, "memory format of the network; on a CPU each has the faster one anyway", where=RECIPE
    )
    compile: bool = _field(False, "compile the backbone: minutes before the first step, no gain on a CPU")
    deterministic: bool = _field(False, "only deterministic operators; slower on a GPU")
    on_nan: str = _field(
        "stop", "on a loss that is not finite: stop, or skip at most 3 batches", "stop", "skip", where=RECIPE
    )
    tensorboard: bool = _field(False, "also write TensorBoard events (extra: tensorboard)")
    mlflow: bool = _field(False, "also log to MLflow, at MLFLOW_TRACKING_URI, else ./mlflow.db (extra: mlflow)")


@dataclass(frozen=True)
class Config:
    """One resolved recipe. Written to `config.yaml` of every run."""

    model: Model = Model()
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    run: Run = Run()


# By number of labelled training images; the defaults above are those of `some`. Few images: fewer layers learn, more
# passes; many: fewer passes, lighter augmentation.
PRESETS: dict[str, dict[str, Any]] = {
    "few": {"epochs": 60, "trainable_layers": 2, "patience": 20},
    "some": {},
    "many": {"epochs": 16, "augment": "light", "patience": 5, "trainable_layers": 4},
}
UP_TO = {"few": 100, "some": 1000}  # training images

# What a network needs beside the defaults, found by measurement (docs/measurements).
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
ON_BACKBONE = "fasterrcnn/"  # how a --model begins that --backbone NAME stands for
_TINY = {**_COMPACT, "image_size": 224, "max_size": 320, "multi_scale": 0.2}
_LITE0 = {**_TINY, "multi_scale": 0.0, "lr": 1e-3, "norm": "auto", "trainable_layers": 3, "backbone_lr": 0.1}
MODEL_RECIPES: dict[str, dict[str, Any]] = {
    "fasterrcnn_efficientnet_lite0_fpn": _LITE0,
    "maskrcnn_efficientnet_lite0_fpn": _LITE0,
    "fasterrcnn_tiny_fpn": _TINY,
    "maskrcnn_tiny_fpn": {**_TINY, "eval_every": 4},
    "anchors_tiny": {**_COMPACT, "image_size": 160, "max_size": 256, "lr": 1e-3},
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"image_size": 320, "max_size": 640},
}

# Where few epochs of many images are enough: epochs for about so many images seen in all, between two limits.
IMAGES_SEEN: dict[str, int] = {"fasterrcnn_efficientnet_lite0_fpn": 960, "maskrcnn_efficientnet_lite0_fpn": 1090}
FEWEST_EPOCHS, MOST_EPOCHS = 6, 60
EVALUATIONS = {"maskrcnn_efficientnet_lite0_fpn": 2}  # about so many, else MOST_EVALUATIONS: masks take longer
MOST_EVALUATIONS = 12  # after each of 60 epochs of ten images they take longer than the training

QUICK = "quick"  # a preset by name alone: the body frozen and its maps kept, a minute on a CPU with a compact network
QUICK_SEEN, QUICK_MOST_EPOCHS, QUICK_EVALUATIONS = 1920, 192, 3
QUICK_VIEWS = 480  # over all images, for a view costs a pass through the body; 2 to 16 an image
QUICK_FROM_ITSELF = 20  # images to which a network of IMAGES_SEEN takes it unasked


def quick(num_images: int) -> dict[str, Any]:
    """The preset for so many training images."""
    images = max(num_images, 1)
    epochs = min(max(round(QUICK_SEEN / images), FEWEST_EPOCHS), QUICK_MOST_EPOCHS)
    return {
        "trainable_layers": 0,
        "cached_views": min(max(QUICK_VIEWS // images, 2), 16),
        "augment": "zoom",
        "epochs": epochs,
        "eval_every": -(-epochs // QUICK_EVALUATIONS),
        "patience": 0,
    }


def options_of(preset: str, num_images: int) -> dict[str, Any]:
    """The options of a preset by its name, for so many training images."""
    return quick(num_images) if preset == QUICK else PRESETS[preset]


def model_recipe(name: str, num_images: int, asked: Collection[str] = ()) -> dict[str, Any]:
    """What a network needs beside the defaults, for so many training images. asked: options that have values."""
    recipe = dict(MODEL_RECIPES.get(name, {}))
    if name in IMAGES_SEEN:
        recipe["epochs"] = min(max(round(IMAGES_SEEN[name] / max(num_images, 1)), FEWEST_EPOCHS), MOST_EPOCHS)
        recipe["eval_every"] = max(1, recipe["epochs"] // EVALUATIONS.get(name, MOST_EVALUATIONS))
        if 0 < num_images <= QUICK_FROM_ITSELF and not {"trainable_layers", "cached_views", "norm"} & set(asked):
            recipe |= quick(num_images)
    return recipe


def preset_for(num_images: int) -> str:
    """`few` to 100 training images, `some` to 1,000, then `many`."""
    return next((name for name, most in UP_TO.items() if num_images <= most), "many")


def fields() -> dict[str, tuple[str, dataclasses.Field]]:
    """{option name: (section, field)} over all sections; names are unique."""
    found: dict[str, tuple[str, dataclasses.Field]] = {}
    whole = Config()
    for section in dataclasses.fields(whole):
        for option in dataclasses.fields(getattr(whole, section.name)):
            assert option.name not in found, option.name
            found[option.name] = (section.name, option)
    return found


def shown(name: str) -> str:
    """An option as messages name it: `--lr`; `momentum (in a recipe file)`, which has no flag."""
    flag = fields()[name][1].metadata["where"] != RECIPE
    return f"--{name.replace('_', '-')}" if flag else f"{name} (in a recipe file)"


def value_text(value: Any) -> str:
    """A value as help and the dry run print it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def read_file(path: Path) -> dict[str, Any]:
    """Options of a YAML recipe, flat (`lr: 0.01`) or in sections (`optimizer: {lr: 0.01}`)."""
    import yaml

    if path.suffix.lower() == ".toml":
        raise InputError(f"{path}: recipes are YAML files (`lr: 0.01`, one option a line); needs *.yaml")
    try:
        content = _read_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found, needed as a recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except InputError as error:
        raise InputError(f"{path}{error}") from None
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:  # a date such as 2026-13-45, or none
        why = "a !!timestamp that is no date" if isinstance(error, AttributeError) else error
        raise InputError(f"{path}: is not valid YAML: {why}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: found a {type(content).__name__}, needs a table of options")
    flat: dict[str, Any] = {}
    sections = {s.name for s in dataclasses.fields(Config)}
    for key, value in content.items():
        inside = key in sections and (isinstance(value, dict) or (value is None and key not in fields()))
        for name, item in (value or {}).items() if inside else [(key, value)]:
            if name in flat:
                raise InputError(f"{path}, {name}: is given twice")
            flat[name] = checked(name, item, str(path))
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


def checked(name: str, value: Any, where: str) -> Any:
    """The value of an option, whole numbers as float where it is one; InputError for another name, type or choice."""
    known = fields()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        raise InputError(f"{where}: unknown option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    option = known[name][1]
    want = type(option.default)
    if want is float and isinstance(value, int | str) and not isinstance(value, bool):  # YAML reads 1e-4 as text
        with contextlib.suppress(ValueError):
            value = float(value)
    if want is str and option.metadata["unit"] == "PX" and type(value) is int:  # a size, where words are options, too
        value = str(value)
    if type(value) is not want:
        raise InputError(f"{where}, {name}: found {value!r}, needs {want.__name__}")
    choices = option.metadata["choices"]
    if choices and value not in choices:
        raise InputError(f"{where}, {name}: found {value!r}, needs one of {', '.join(choices)}")
    return value


def resolve(num_images: int, flags: dict[str, Any], file: dict[str, Any] | None = None, preset: str = "auto") -> Config:
    """The recipe for `num_images` training images from flags, file, model recipe, preset and defaults.

    Without a `model`: torchvision's standard one. `fine_tune.with_model` chooses by the machine.
    """
    if preset not in ("auto", *PRESETS, QUICK):
        raise InputError(unknown("preset", preset, ("auto", *PRESETS, QUICK)))
    file = file or {}
    name = flags.get("model", file.get("model", STANDARD))
    asked = {**file, **flags}
    if asked.get("weights") == "none":  # nothing that could be frozen
        asked["trainable_layers"] = 0
    by_preset = options_of(preset_for(num_images) if preset == "auto" else preset, num_images)
    values = {
        "model": name,
        **by_preset,
        **model_recipe(name, num_images, asked),
        **({} if preset == "auto" else by_preset),  # by name: it wins over the model's recipe
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
    values = flat(config)
    for need, fine, names in _LIMITS:
        for name in names.split():
            if not fine(values[name]):
                raise InputError(f"{shown(name)}: found {values[name]}, needs {need}")
    model = config.model
    if model.max_size < model.image_size:
        raise InputError(f"{shown('max_size')}: found {model.max_size}, needs at least image_size")
    if model.image_size * (1 - model.multi_scale) < SMALLEST_SIDE:
        raise InputError(
            f"{shown('multi_scale')}: found {model.multi_scale}, needs so little that image_size * (1 - it) is "
            f"{SMALLEST_SIDE} px or more"
        )


_LIMITS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (  # what options need
    ("1 or more", lambda v: v >= 1, "epochs batch_size accumulate roi_batch max_detections eval_every"),
    ("-1 or more", lambda v: v >= -1, "workers"),
    ("0 or more", lambda v: v >= 0, "cache_mb cached_views head_epochs warmup patience clip_norm save_every"),
    ("0 or more", lambda v: 0 <= v < math.inf, "backbone_lr weight_decay max_time"),
    ("0 or more and under 1", lambda v: 0 <= v < 1, "ema momentum label_smoothing multi_scale score_floor"),
    ("0 to 1", lambda v: 0 <= v <= 1, "repeat_rare copy_paste skip_bad"),
    ("a number over 0", lambda v: 0 < v < 100, "lr"),
    ("0 to 6", lambda v: 0 <= v <= 6, "trainable_layers"),
    ("32 to 8192", lambda v: 32 <= v <= 8192, "image_size"),
    ("0.01 to 100", lambda v: 0.01 <= v <= 100, "anchor_scale"),
    ("0 to 2^63 - 1", lambda v: 0 <= v < 2**63, "seed"),
)


def to_yaml(config: Config) -> str:
    """The resolved recipe as YAML in sections; `read_file` reads it back."""
    import yaml

    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
