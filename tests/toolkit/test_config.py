"""Recipes: where a value comes from, what is refused, and that a file reads back what a run wrote."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from label_tools.text.command_line import Parser
from label_tools.text.errors import InputError
from toolkit import config
from toolkit.commands import flags


def parse(*words: str) -> dict:
    parser = Parser()
    flags.add_recipe(parser)
    return flags.flags_given(parser.parse_args(words))


def test_every_option_is_a_flag_with_its_type():
    given_ = parse("--lr", "0.1", "--epochs", "3", "--compile", "--weights", "none")
    assert given_ == {"lr": 0.1, "epochs": 3, "compile": True, "weights": "none"}
    assert parse("--no-compile") == {"compile": False}
    assert parse() == {}


def test_flag_beats_file_beats_model_recipe_beats_preset_beats_default():
    tiny = {"model": "fasterrcnn_tiny_fpn"}
    resolve = config.resolve
    assert resolve(5000, {}).optimizer.lr == config.Optimizer.lr  # default
    assert resolve(50, {}).schedule.epochs == config.PRESETS["few"]["epochs"]  # preset by number of images
    assert resolve(50, tiny).optimizer.lr == config.MODEL_RECIPES["fasterrcnn_tiny_fpn"]["lr"]  # model
    assert resolve(50, tiny, {"lr": 0.3}).optimizer.lr == 0.3  # file
    assert resolve(50, {**tiny, "lr": 0.4}, {"lr": 0.3}).optimizer.lr == 0.4  # flag
    # a preset that was asked for by name wins over the model's recipe
    assert resolve(50, tiny, {}, "many").schedule.epochs == config.PRESETS["many"]["epochs"]


@pytest.mark.parametrize("images, epochs, every", [(21, 46, 3), (40, 24, 2), (160, 6, 1), (1000, 6, 1)])
def test_a_pretrained_network_takes_epochs_by_the_number_of_images(images, epochs, every):
    # 960 images seen in all: 960 / 21 = 45.7, 960 / 40 = 24, 960 / 160 = 6; at least 6; about 12 evaluations
    lite = {"model": "fasterrcnn_efficientnet_lite0_fpn"}
    assert config.resolve(images, lite).schedule.epochs == epochs
    assert config.resolve(images, lite).schedule.eval_every == every
    assert config.resolve(images, {**lite, "epochs": 3}).schedule.epochs == 3
    assert config.resolve(images, lite, preset="many").schedule.epochs == config.PRESETS["many"]["epochs"]


@pytest.mark.parametrize(
    "images, epochs, views, every",
    # 1920 images seen: 1920 / 10 = 192, / 160 = 12, at least 6; views: 480 / 160 = 3, at least 2, at most 16
    [(1, 192, 16, 64), (10, 192, 16, 64), (20, 96, 16, 32), (21, 91, 16, 31), (160, 12, 3, 4), (1000, 6, 2, 2)],
)
def test_quick_keeps_the_maps_of_a_frozen_body(images, epochs, views, every):
    lite = {"model": "fasterrcnn_efficientnet_lite0_fpn"}
    found = config.resolve(images, lite, preset="quick")
    assert (found.schedule.epochs, found.data.cached_views, found.schedule.eval_every) == (epochs, views, every)
    assert found.model.trainable_layers == 0 and found.data.augment == "zoom" and found.optimizer.optimizer == "adamw"
    assert (config.resolve(images, lite) == found) == (images <= 20)  # of itself with few photographs
    assert config.resolve(images, {**lite, "augment": "none"}, preset="quick").data.augment == "none"
    for other in ({"trainable_layers": 3}, {"weights": "none"}, {"cached_views": 0}):  # asked for by nobody
        assert config.resolve(images, {**lite, **other}).data.cached_views == 0


@pytest.mark.parametrize("num, name", [(1, "few"), (100, "few"), (101, "some"), (1000, "some"), (1001, "many")])
def test_preset_by_number_of_images(num, name):
    assert config.preset_for(num) == name


def test_files_flat_or_in_sections(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("optimizer: {lr: 0.01}\nepochs: 7\n")
    assert config.read_file(path) == {"lr": 0.01, "epochs": 7}


@pytest.mark.parametrize(
    "text, parts",
    [
        ("epoch: 3", ["epoch", "did you mean 'epochs'"]),
        ("epochs: many", ["epochs", "'many'", "int"]),
        ("optimizer: lbfgs", ["optimizer", "lbfgs", "sgd"]),
        ("lr: [1]", ["lr", "float"]),
        ("batch_size: 2.5", ["batch_size", "int"]),
        ("group_aspect: 1", ["group_aspect", "bool"]),
        ("- a\n- b", ["list", "table"]),
        ("a: [", ["YAML"]),
        ("epochs: 2026-13-45", ["YAML", "month"]),
        ("epochs: " + "[" * 3000, ["YAML"]),
        ("1: 2", ["unknown option 1"]),
        ("optimizer: {2.5: 3}", ["unknown option 2.5"]),
        ("lr: 0.1\nepochs: 3\nlr: 0.2", ["line 3", "lr", "twice"]),
        ("optimizer: {lr: 0.1}\noptimizer: {momentum: 0.5}", ["line 2", "optimizer", "twice"]),
        ("optimizer:\n  lr: 0.1\n  lr: 0.2", ["line 3", "lr", "twice"]),
        ("lr: 0.1\noptimizer: {lr: 0.2}", ["lr", "twice"]),
        ("model: {lr: 0.1}", ["model", "'lr'", "belongs to optimizer"]),
        ("false", ["bool", "table"]),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, text, parts):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        config.read_file(path)
    for part in ["recipe.yaml", *parts]:
        assert part in str(error.value)


def test_a_section_whose_lines_are_all_comments_is_empty(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("data:\n  # batch_size: 8\nschedule:\nepochs: 7\n")
    with pytest.raises(InputError, match="schedule: found None"):  # an option of that name, too
        config.read_file(path)
    path.write_text("data:\n  # batch_size: 8\nepochs: 7\n")
    assert config.read_file(path) == {"epochs": 7}
    path.write_text("# nothing yet\n")
    assert config.read_file(path) == {}


def test_missing_or_of_another_format(tmp_path):
    with pytest.raises(InputError, match="not found"):
        config.read_file(tmp_path / "none.yaml")
    (tmp_path / "old.toml").write_text("epochs = 7")
    with pytest.raises(InputError, match=r"old.toml: recipes are YAML"):
        config.read_file(tmp_path / "old.toml")


@pytest.mark.parametrize(
    "flags",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"ema": 1.0},
        {"image_size": 8},
        {"image_size": 600, "max_size": 500},
        {"accumulate": 0},
        {"workers": -2},
        {"trainable_layers": 7},
        {"score_floor": 1.0},
        {"momentum": -0.1},
        {"skip_bad": 2.0},
        {"multi_scale": 1.0},
        {"cache_mb": -1},
        {"repeat_rare": 1.5},
        {"backbone_lr": -0.1},
        {"weight_decay": float("nan")},
        {"clip_norm": -1.0},
        {"head_epochs": -1},
        {"roi_batch": 0},
        {"warmup": -1},
        {"patience": -1},
        {"max_time": float("nan")},
        {"save_every": -1.0},
        {"seed": -1},
        {"seed": 2**63},
        {"image_size": 64, "multi_scale": 0.8},  # 12.8 px
        {"anchor_scale": 101.0},
        {"copy_paste": 1.1},
        {"label_smoothing": 1.0},
        {"image_size": 8200, "max_size": 9000},
    ],
)
def test_values_that_cannot_work_are_refused(flags):
    with pytest.raises(InputError, match=r"^(--|\w+ \(in a recipe file\))"):
        config.resolve(10, flags)


@pytest.mark.parametrize("name", [n for n, (_, f) in config.fields().items() if type(f.default) in (int, float)])
def test_every_number_has_a_limit_below(name):
    kind = type(config.fields()[name][1].default)
    with pytest.raises(InputError, match=rf"^{re.escape(config.shown(name))}: found -1000000"):
        config.resolve(10, {name: kind(-1e6)})


@given(
    st.fixed_dictionaries(
        {
            "lr": st.floats(1e-6, 10),
            "epochs": st.integers(1, 1000),
            "schedule": st.sampled_from(["cosine", "step"]),
            "group_aspect": st.booleans(),
            "weights": st.text(min_size=1, max_size=20),
        }
    )
)
def test_a_written_recipe_reads_back(flags):
    resolved = config.resolve(200, flags)
    text = config.to_yaml(resolved)
    flat = {k: v for section in yaml.safe_load(text).values() for k, v in section.items()}
    assert config.from_flat(flat) == resolved


def test_recipes_and_presets_name_only_options_that_exist():
    for recipe in [*config.PRESETS.values(), config.quick(10), *config.MODEL_RECIPES.values()]:
        for name, value in recipe.items():
            default = config.fields()[name][1].default
            assert type(value) is type(default), name
    assert all(dataclasses.is_dataclass(s.default) for s in dataclasses.fields(config.Config))
