"""What `frcnn train --help` says is what a run gets."""

from __future__ import annotations

import re

import pytest

from toolkit import config
from toolkit.__main__ import main
from toolkit.commands.flags import default_text
from toolkit.networks import registry
from toolkit.training import dry_run


def help_of(capsys, *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 0
    return capsys.readouterr().out


def resolved(lines: list[str]) -> dict[str, str]:
    """{option: value} of the dry run's recipe lines."""
    found = {}
    for line in lines:
        section, values = re.fullmatch(r"recipe     (\w+): (.*)", line).groups()
        assert section in {"model", "data", "optimizer", "schedule", "run"}
        found |= dict(part.split(" ", 1) for part in values.split(", "))
    return found


@pytest.mark.parametrize("k, preset", list(enumerate(config.PRESETS)))
def test_every_default_of_help_is_what_the_dry_run_resolves(k, preset, capsys):
    said = help_of(capsys, "train", "--help-all")
    values = resolved(dry_run.recipe_lines(config.resolve(0, {}, preset=preset)))
    assert len(values) > 25
    for name, value in values.items():
        # a line that begins with the flag, then the first default after it
        text = re.search(
            rf"^  --{name.replace('_', '-')}\b.*?\(default:\s(.*?)\)", said, re.DOTALL | re.MULTILINE
        ).group(1)
        text = " ".join(text.split())
        by_preset = text.removesuffix(" by preset").split(" / ")
        wanted = "auto" if name == "model" else value  # by the machine; the other defaults are the standard one's
        assert by_preset[k if len(by_preset) > 1 else 0] == wanted, (name, text)


@pytest.mark.parametrize("preset", config.PRESETS)
@pytest.mark.parametrize("model", registry.REGISTRY)
def test_the_dry_run_shows_the_recipe_of_every_model(model, preset):
    recipe = config.resolve(0, {"model": model}, preset=preset)
    values = resolved(dry_run.recipe_lines(recipe))
    for name, value in config.flat(recipe).items():
        if config.fields()[name][1].metadata["where"] != config.RECIPE:
            assert values.pop(name) == config.value_text(value)
    assert not values


def test_the_dry_run_prints_the_recipe(tmp_path, capsys):
    from tests.toolkit.training_fixtures import draw_data

    draw_data(tmp_path)
    small = ["--model", "fasterrcnn_tiny_fpn", "--image-size", "64", "--max-size", "64", "--weights", "none"]
    assert main(["train", str(tmp_path), *small, "--dry-run"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("recipe")]
    assert resolved(lines)["image_size"] == "64" and resolved(lines)["lr"] == "0.002"


def test_help_is_short_and_help_all_has_the_rest(capsys):
    short, whole = help_of(capsys, "train", "--help"), help_of(capsys, "train", "--help-all")
    assert "--epochs" in short and "--roi-batch" not in short and "--roi-batch" in whole
    assert "How images reach the network" not in short and "How images reach the network" in whole
    for text in (short, whole):
        assert "momentum" in text and "--momentum" not in text  # named as an option of recipe files
    assert default_text("epochs") == "60 / 30 / 16 by preset" and default_text("lr") == "0.005"


def test_an_option_of_recipe_files_alone_says_so(capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main(["train", "x", "--momentum", "0.8"])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and "recipe" in error and "momentum: " in error and error.count("\n") == 1
    (tmp_path / "recipe.yaml").write_text("momentum: 2.0\n")
    from toolkit.config import read_file, resolve

    with pytest.raises(Exception, match=r"^momentum \(in a recipe file\): found 2.0, needs 0 or more and under 1"):
        resolve(10, {}, read_file(tmp_path / "recipe.yaml"))
