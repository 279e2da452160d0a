"""Recipes: what is read, what is refused, and the order of the stages."""

from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from dtram_hub.learning.curriculum import KINDS, StageConfig, Stages, plan_stages
from dtram_hub.learning.recipe import Recipe, read_recipe
from dtram_hub.learning.run_folder import RunFolder

RECIPES = sorted((Path(__file__).parents[1] / "training" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_valid_and_headed_by_their_command(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.output == f"runs/{path.stem}"
    assert "accelerate launch training/train.py" in path.read_text().split("\n\n")[0]


def test_overrides_and_round_trip(tmp_path: Path) -> None:
    overrides = ["stages.ram.epochs=7", "model.num_steps=3", "optimizer.clip_norm=null", "trackers=[]"]
    recipe = read_recipe(RECIPES[0], overrides)
    assert (recipe.stages.ram.epochs, recipe.model["num_steps"], recipe.optimizer.clip_norm) == (7, 3, None)
    folder = RunFolder(tmp_path)
    folder.write_recipe(asdict(recipe), versions="torch 2.0: a, b", seed=3)
    assert read_recipe(folder.recipe_path) == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.ram.epoch=7", "recipe key 'stages.ram.epoch' is unknown. Did you mean 'stages.ram.epochs'?"),
        ("sed=1", "recipe key 'sed' is unknown. Did you mean 'seed'?"),
        ("model.levels=[0,4095]", "recipe key 'model.levels' is called data.levels"),
        ("model.num_step=3", "recipe key 'model.num_step' is unknown. Did you mean 'num_steps'?"),
        ("seed=soon", "recipe key 'seed': "),
        ("data.distort.shfit=2", "data.distort='shfit' is not one of 'shift', 'rotate', 'scale', 'bend'"),
        ("data.distort.shift=-2", r"data.distort.shift=-2.0 is not a number in \[0, inf\)"),
        ("stages.ram.location_std=0.0", r"stages.ram.location_std=0.0 is not a number in \(0, 2\]"),
        ("batch_size=0", "batch_size=0 is not an integer of at least 1"),
        ("loss.discount=1.2", r"loss.discount=1.2 is not a number in \(0, 1\]"),
        ("loss.supervision=some", "loss.supervision='some' is not one of"),
        ("stages.dtram.reward=wrong", "stages.dtram.reward='wrong' is not one of 'correct', 'probability', "),
        ("loss.baseline=mean", "loss.baseline='mean' is not one of 'learned', 'leave_one_out'"),
        ("optimizer.locations_rate=-1", r"optimizer.locations_rate=-1.0 is not a number in \[0, inf\)"),
        ("optimizer.name=lion", "optimizer.name='lion' is not one of 'sgd', 'adamw'"),
        ("precision=int8", "precision='int8'"),
        ("seed", "override 'seed' is not of the form key=value"),
    ],
)
def test_bad_overrides_are_named(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_recipe(RECIPES[0], [override])


def numbers(config: type, prefix: str = "") -> Iterator[str]:
    """The keys of a section that hold one number, those of its sections included."""
    kinds = get_type_hints(config)
    for key in fields(config):
        if is_dataclass(kinds[key.name]):
            yield from numbers(kinds[key.name], f"{prefix}{key.name}.")
        elif {int, float} & {kinds[key.name], *get_args(kinds[key.name])}:
            yield f"{prefix}{key.name}"


@pytest.mark.parametrize("key", list(numbers(Recipe)))
def test_every_number_is_finite(key: str) -> None:
    for value in ("nan", "inf", "-inf"):
        with pytest.raises(ValueError, match=key.rpartition(".")[2]):
            read_recipe(RECIPES[0], [f"{key}=.{value}".replace(".-", "-.")])


def test_leave_one_out_needs_rollouts() -> None:
    words = ["loss.baseline=leave_one_out", "num_rollouts=1"]
    with pytest.raises(ValueError, match=r"loss.baseline='leave_one_out' needs num_rollouts of 2 or more"):
        read_recipe(RECIPES[0], words)


def test_old_words_are_read_as_the_new_ones(tmp_path: Path) -> None:
    old = "loss: {reward: likelihood, baseline: siblings}\nnum_rollouts: 2\n"
    old += "stages: {ram: {reward: likelihood}}\noptimizer: {places_rate: 30}"
    (tmp_path / "old.yaml").write_text(old)
    recipe = read_recipe(tmp_path / "old.yaml", ["stages.dtram.reward=likelihood", "precision=no"])
    assert recipe.precision == "no"  # YAML reads a bare `no` as false
    assert recipe.optimizer.locations_rate == 30
    assert read_recipe(RECIPES[0], ["optimizer.places_rate=7"]).optimizer.locations_rate == 7
    assert (recipe.loss.reward, recipe.loss.baseline) == ("log_likelihood", "leave_one_out")
    rewards = [getattr(recipe.stages, kind).reward for kind in ("encoder", "ram", "dtram")]
    assert rewards == [None, "log_likelihood", "log_likelihood"]


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"recipe 'nowhere\.yaml' is not a file"):
        read_recipe("nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1, 2")
    with pytest.raises(ValueError, match=r"broken\.yaml' is no valid YAML"):
        read_recipe(tmp_path / "broken.yaml")


def settings(**epochs: int) -> Stages:
    kinds = KINDS.keys() - {"folds"}  # a recipe has none by default
    return Stages(**{kind: StageConfig(epochs=epochs.get(kind, 2), learning_rate=0.1) for kind in kinds})


def plan(*args, **kwargs) -> list[tuple]:
    return [(s.name, s.num_steps, s.dynamic, s.epochs) for s in plan_stages(*args, **kwargs)]


def test_curriculum_grows_step_by_step() -> None:
    assert plan(4, settings(ram=3)) == [
        ("encoder", 1, False, 2),
        ("ram_2", 2, False, 3),
        ("ram_3", 3, False, 3),
        ("ram_4", 4, False, 3),
        ("dtram", 4, True, 2),
    ]


def test_without_curriculum_the_epochs_are_the_same_in_all() -> None:
    assert plan(4, settings(ram=3), curriculum=False)[1:] == [("ram_4", 4, False, 9), ("dtram", 4, True, 2)]


def test_stages_can_be_left_out() -> None:
    assert [s[0] for s in plan(3, settings(encoder=0, dtram=0))] == ["ram_2", "ram_3"]
    assert [s[0] for s in plan(2, settings(), context=False)] == ["ram_2", "dtram"]
    assert Recipe().stages.ram.epochs == 30
