"""A recipe: everything that one training run depends on, read from YAML and `key=value` overrides.

The dataclasses give every key its type; `training/recipes/digits.yaml` explains each where it stands.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from ..checks import check_choice, check_integer, check_number, nearest
from ..data import splits as data
from ..data.augment import DISTORTIONS
from ..data.splits import Data
from ..models.dtram import DTRAM
from .curriculum import FREEZES
from .losses import BASELINES, REWARDS, SUPERVISIONS


@dataclass
class DataRecipe:
    source: str = "digits"
    root: str | None = None
    skip_broken: bool = False
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    streaming: bool = False
    shuffle_buffer: int = 1000
    cache: str | None = None
    flip: bool = False
    crop: float = 1.0
    colour: float = 0.0
    distort: dict[str, float] = field(default_factory=dict)
    options: dict[str, int] = field(default_factory=dict)


@dataclass
class LossRecipe:
    discount: float = 0.95
    supervision: str = "taken"
    policy_weight: float = 1.0
    baseline_weight: float = 1.0
    entropy_weight: float = 0.01
    label_smoothing: float = 0.0
    reward: str = "correct"
    baseline: str = "learned"


@dataclass
class StageRecipe:
    epochs: int = 30
    learning_rate: float = 1e-3
    split: str = "train"
    freeze: str = "nothing"
    crop: float | None = None
    reward: str | None = None
    location_std: float | None = None


@dataclass
class StagesRecipe:
    encoder: StageRecipe = field(default_factory=StageRecipe)
    ram: StageRecipe = field(default_factory=StageRecipe)
    dtram: StageRecipe = field(default_factory=StageRecipe)


@dataclass
class OptimizerRecipe:
    name: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "step"
    warmup: float = 0.0
    step_epochs: int = 30
    step_factor: float = 0.1
    clip_norm: float | None = 5.0
    locator_rate: float = 1.0
    places_rate: float = 1.0
    layer_decay: float = 1.0


@dataclass
class Recipe:
    output: str = "runs/default"
    seed: int = 0
    architecture: str = "dtram"
    model: dict[str, Any] = field(default_factory=dict)
    encoder_weights: str | None = None
    data: DataRecipe = field(default_factory=DataRecipe)
    batch_size: int = 28
    accumulation: int = 1
    num_rollouts: int = 1
    freeze_batch_norm: bool = True
    channels_last: bool = False
    curriculum: bool = True
    stages_from: str | None = None
    stages_until: str | None = None
    mean_steps: float | None = None
    loss: LossRecipe = field(default_factory=LossRecipe)
    stages: StagesRecipe = field(default_factory=StagesRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    precision: str = "no"
    threads: int | None = None
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])


def read_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML recipe, change it by overrides such as `stages.ram.epochs=5`, and check it.

    Raises:
        ValueError: no such file, broken YAML, an unknown key (the nearest known one is named), a value of
            the wrong type or out of range.
    """
    if not Path(path).is_file():
        raise ValueError(f"recipe {str(path)!r} is not a file.")
    for override in overrides or []:
        if "=" not in override:
            raise ValueError(f"override {override!r} is not of the form key=value.")
    config = OmegaConf.structured(Recipe)
    try:
        config = OmegaConf.merge(config, OmegaConf.load(path), OmegaConf.from_dotlist(overrides or []))
        recipe = OmegaConf.to_object(config)
    except ConfigKeyError as error:
        key = error.full_key or str(error.key)
        raise ValueError(f"recipe key {key!r} is unknown.{nearest(key, _known_keys())}") from None
    except OmegaConfBaseException as error:
        key, reason = error.full_key or "", str(error).splitlines()[0]
        raise ValueError(f"recipe key {key!r}: {reason}.") from None
    except Exception as error:
        raise ValueError(f"recipe {str(path)!r} is no valid YAML: {' '.join(str(error).split())}") from None
    _check(recipe)
    _check_model_keys(recipe)
    return recipe


def write_recipe(recipe: Recipe, path: str | Path, **facts: Any) -> None:
    """Write a recipe as it was run; `facts` (versions and the like) go into a comment at its head."""
    head = "".join(f"# {name}: {value}\n" for name, value in facts.items())
    Path(path).write_text(head + OmegaConf.to_yaml(OmegaConf.structured(recipe)))


def load_data(recipe: Recipe, say: Callable[[str], None] = print) -> Data:
    """All splits of the recipe's data source, as large and as coloured as its model wants them.

    `say` is told what takes time or room.
    """
    options = {
        name: value
        for name, value in asdict(recipe.data).items()
        if name not in ("flip", "crop", "colour", "distort", "options")
    }
    size, channels = recipe.model.get("image_size", 512), recipe.model.get("in_chans", 3)
    options |= {"seed": recipe.seed, "image_size": size, "in_chans": channels, "say": say}
    return data.load(**options, **recipe.data.options)


def _check_model_keys(recipe: Recipe) -> None:
    """ValueError when `model` has a key that neither DTRAM nor every timm model takes."""
    known = [*inspect.signature(DTRAM).parameters, "drop_rate", "drop_path_rate", "global_pool"]
    for key in recipe.model:
        if key not in known:
            raise ValueError(f"recipe key 'model.{key}' is unknown.{nearest(key, known)}")


def _known_keys() -> list[str]:
    def walk(node: dict, prefix: str) -> list[str]:
        keys = []
        for key, value in node.items():
            keys.append(prefix + key)
            keys += walk(value, f"{prefix}{key}.") if isinstance(value, dict) else []
        return keys

    return walk(OmegaConf.to_container(OmegaConf.structured(Recipe)), "")


def _check(recipe: Recipe) -> None:
    check_choice("optimizer.name", recipe.optimizer.name, ("sgd", "adamw"))
    check_choice("optimizer.schedule", recipe.optimizer.schedule, ("cosine", "step", "constant"))
    check_choice("precision", recipe.precision, ("no", "bf16", "fp16"))
    check_choice("loss.supervision", recipe.loss.supervision, SUPERVISIONS)
    check_choice("loss.reward", recipe.loss.reward, REWARDS)
    check_choice("loss.baseline", recipe.loss.baseline, BASELINES)
    if recipe.loss.baseline == "siblings" and recipe.num_rollouts < 2:
        raise ValueError(
            f"loss.baseline='siblings' needs num_rollouts of 2 or more, not {recipe.num_rollouts}."
        )
    check_number("loss.discount", recipe.loss.discount, 0, 1, open_low=True)
    check_number("optimizer.warmup", recipe.optimizer.warmup, 0, 1)
    if recipe.mean_steps is not None:
        check_number("mean_steps", recipe.mean_steps, 1, recipe.model.get("num_steps", recipe.mean_steps))
    for name in ("validation_fraction", "test_fraction"):
        check_number(f"data.{name}", getattr(recipe.data, name), 0, 0.9, open_low=True)
    check_integer("data.shuffle_buffer", recipe.data.shuffle_buffer, 1)
    for name in ("batch_size", "accumulation", "num_rollouts"):
        check_integer(name, getattr(recipe, name), 1)
    check_number("data.crop", recipe.data.crop, 0, 1, open_low=True)
    check_number("data.colour", recipe.data.colour, 0, 1)
    check_number("loss.label_smoothing", recipe.loss.label_smoothing, 0, 1)
    check_number("optimizer.layer_decay", recipe.optimizer.layer_decay, 0, 1, open_low=True)
    for name in ("locator_rate", "places_rate"):
        check_number(f"optimizer.{name}", getattr(recipe.optimizer, name), 0, math.inf)
    for name, most in recipe.data.distort.items():
        check_choice("data.distort", name, DISTORTIONS)
        check_number(f"data.distort.{name}", most, 0, math.inf)
    for kind in ("encoder", "ram", "dtram"):
        stage = getattr(recipe.stages, kind)
        check_integer(f"stages.{kind}.epochs", stage.epochs, 0)
        check_number(f"stages.{kind}.learning_rate", stage.learning_rate, 0, math.inf)
        check_choice(f"stages.{kind}.freeze", stage.freeze, FREEZES)
        if stage.reward is not None:
            check_choice(f"stages.{kind}.reward", stage.reward, REWARDS)
        if stage.crop is not None:
            check_number(f"stages.{kind}.crop", stage.crop, 0, 1, open_low=True)
        if stage.location_std is not None:
            check_number(f"stages.{kind}.location_std", stage.location_std, 0, 2, open_low=True)
