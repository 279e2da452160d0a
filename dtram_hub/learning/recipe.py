"""A recipe: everything that one training run depends on, read from YAML and `key=value` overrides.

Every section is a dataclass beside the code that it configures, with the type and default of each key, and
checks itself; `training/recipes/digits.yaml` explains each key where it stands.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException

from ..checks import check_choice, check_integer, check_number, nearest
from ..data import splits as data
from ..data.augment import DISTORTIONS
from ..data.splits import Data
from ..models.dtram import DTRAM
from .curriculum import Stages
from .losses import LossConfig
from .optimizer import OptimizerConfig

# Values of recipes as they were written once -> as they are read now; "*" stands for any key.
OLD_VALUES = {
    "loss.reward": {"likelihood": "log_likelihood"},
    "stages.*.reward": {"likelihood": "log_likelihood"},
    "loss.baseline": {"siblings": "leave_one_out"},
}


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

    def __post_init__(self):
        for name in ("validation_fraction", "test_fraction"):
            check_number(name, getattr(self, name), 0, 0.9, open_low=True)
        check_integer("shuffle_buffer", self.shuffle_buffer, 1)
        check_number("crop", self.crop, 0, 1, open_low=True)
        check_number("colour", self.colour, 0, 1)
        for name, most in self.distort.items():
            check_choice("distort", name, DISTORTIONS)
            check_number(f"distort.{name}", most, 0, math.inf)


@dataclass
class Recipe:
    """All keys of a recipe; ValueError where a value is out of range or keys contradict each other."""

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
    loss: LossConfig = field(default_factory=LossConfig)
    stages: Stages = field(default_factory=Stages)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: str = "no"
    threads: int | None = None
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])

    def __post_init__(self):
        check_choice("precision", self.precision, ("no", "bf16", "fp16"))
        for name in ("batch_size", "accumulation", "num_rollouts"):
            check_integer(name, getattr(self, name), 1)
        if self.loss.baseline == "leave_one_out" and self.num_rollouts < 2:
            raise ValueError(
                f"loss.baseline='leave_one_out' needs num_rollouts of 2 or more, not {self.num_rollouts}."
            )
        if self.mean_steps is not None:
            check_number("mean_steps", self.mean_steps, 1, self.model.get("num_steps", self.mean_steps))
        known = [*inspect.signature(DTRAM).parameters, "drop_rate", "drop_path_rate", "global_pool"]
        for key in self.model:
            if key not in known:
                raise ValueError(f"recipe key 'model.{key}' is unknown.{nearest(key, known)}")


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
    try:
        given = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(overrides or []))
        config = OmegaConf.merge(OmegaConf.structured(Recipe), in_words_of_now(given))
        values = OmegaConf.to_container(config, resolve=True)
    except ConfigKeyError as error:
        key = error.full_key or str(error.key)
        raise ValueError(f"recipe key {key!r} is unknown.{nearest(key, _known_keys())}") from None
    except OmegaConfBaseException as error:
        key, reason = error.full_key or "", str(error).splitlines()[0]
        raise ValueError(f"recipe key {key!r}: {reason}.") from None
    except Exception as error:
        raise ValueError(f"recipe {str(path)!r} is no valid YAML: {' '.join(str(error).split())}") from None
    return _build(Recipe, values)


def write_recipe(recipe: Recipe, path: str | Path, **facts: Any) -> None:
    """Write a recipe as it was run; `facts` (versions and the like) go into a comment at its head."""
    head = "".join(f"# {name}: {value}\n" for name, value in facts.items())
    Path(path).write_text(head + OmegaConf.to_yaml(OmegaConf.structured(recipe)))


def in_words_of_now(config: DictConfig) -> DictConfig:
    """A recipe with its old values replaced by OLD_VALUES."""
    for key, values in OLD_VALUES.items():
        head, _, last = key.rpartition(".")
        section, star, _ = head.partition(".*")
        found = OmegaConf.select(config, section)
        for part in found.values() if found and star else [found]:
            if isinstance(part, DictConfig) and part.get(last) in values:
                part[last] = values[part[last]]
    return config


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


def _build(kind: type, values: dict, key: str = "") -> Any:
    """A dataclass of plain values and dataclasses; the refusal of a section names the full key."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            values[name] = _build(hint, values[name], f"{key}{name}.")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{key}{str(error).removeprefix(key)}") from None


def _known_keys() -> list[str]:
    def walk(node: dict, prefix: str) -> list[str]:
        keys = []
        for key, value in node.items():
            keys.append(prefix + key)
            keys += walk(value, f"{prefix}{key}.") if isinstance(value, dict) else []
        return keys

    return walk(OmegaConf.to_container(OmegaConf.structured(Recipe)), "")
