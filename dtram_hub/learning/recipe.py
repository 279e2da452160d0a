"""A recipe: all settings of one training run, read from YAML and `key=value` overrides.

Every section is a dataclass beside the code that it configures. The dataclass holds types and defaults, and
checks values. `training/recipes/digits.yaml` explains every key.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

import timm
import torch
from accelerate.utils import set_seed
from huggingface_hub import constants
from huggingface_hub.utils import logging as hub_logging
from omegaconf import OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException
from timm.models import split_model_name_tag

from ..checks import check_choice, check_integer, check_number, check_workers, nearest
from ..data.config import DataConfig
from ..data.sources import load
from ..data.splits import Data
from ..data.squares import SQUARES, transform_of
from ..data.streaming import Stream
from ..models.arguments import IMAGE_SIZE, NATIVE
from ..models.dtram import DTRAM
from ..prompt import one_line
from .curriculum import Stages
from .losses import LossConfig
from .mixing import MixConfig
from .normalisation import normalisation_of, normalise_as_asked
from .optimizer import OptimizerConfig

# Other words for keys and values of recipes, from older recipes for the most part.
OLD_KEYS = {"places_rate": "locations_rate"}
OLD_VALUES = {
    ("reward", "likelihood"): "log_likelihood",
    ("baseline", "siblings"): "leave_one_out",
    ("precision", "False"): "no",  # YAML reads a bare `no` as false
}


@dataclass
class Recipe:
    """All keys of a recipe.

    Raises:
        ValueError: a value is out of range, or two values exclude each other.
    """

    output: str = "runs/default"
    seed: int = 0
    architecture: str = "dtram"
    model: dict[str, Any] = field(default_factory=dict)
    encoder_weights: str | None = None
    init_from: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    batch_size: int = 28
    accumulation: int = 1
    num_rollouts: int = 1
    freeze_batch_norm: bool = True
    channels_last: bool = False
    checkpointing: bool = False
    ema: float = 0.0
    patience: int | None = None
    curriculum: bool = True
    stages_from: str | None = None
    stages_until: str | None = None
    mean_steps: float | None = None
    mix: MixConfig = field(default_factory=MixConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    stages: Stages = field(default_factory=Stages)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    precision: str = "no"
    threads: int | None = None
    trackers: list[str] = field(default_factory=lambda: ["tensorboard"])

    def __post_init__(self):
        if self.model.get("image_size", NATIVE) is None:
            self.model["image_size"] = NATIVE
        check_choice("precision", self.precision, ("no", "bf16", "fp16"))
        check_integer("seed", self.seed, 0, 2**32 - 1)
        for name in ("batch_size", "accumulation", "num_rollouts"):
            check_integer(name, getattr(self, name), 1)
        if self.threads is not None:
            check_workers("threads", self.threads)
        if self.patience is not None:
            check_integer("patience", self.patience, 1)
        check_number("ema", self.ema, 0, 0.99999)
        if self.loss.baseline == "leave_one_out" and self.num_rollouts < 2:
            raise ValueError(
                f"loss.baseline='leave_one_out' needs num_rollouts of 2 or more, not {self.num_rollouts}."
            )
        if self.mean_steps is not None:
            check_number("mean_steps", self.mean_steps, 1, self.model.get("num_steps", math.inf))
        if self.init_from and self.stages_from:
            raise ValueError(
                f"init_from={self.init_from!r} and stages_from={self.stages_from!r} both give the weights to "
                "start with; accepted is one of them."
            )
        channels = self.model.get("in_chans", 3)
        for name in ("mean", "std"):
            values = getattr(self.data, name)
            if values is not None and len(values) not in (1, channels):
                accepted = "one number" if channels == 1 else f"one number, or {channels}"
                raise ValueError(f"data.{name}={values} has {len(values)} numbers; accepted is {accepted}.")
        known = [*inspect.signature(DTRAM).parameters, "drop_rate", "drop_path_rate", "global_pool"]
        if "levels" in self.model:
            raise ValueError("recipe key 'model.levels' is called data.levels, because files have them too.")
        for key in self.model:
            if key not in known:
                raise ValueError(f"recipe key 'model.{key}' is unknown.{nearest(key, known)}")


def read_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a YAML recipe, apply overrides such as `stages.ram.epochs=5`, and check all values.

    Raises:
        ValueError: no such file, broken YAML, an unknown key, or a value of the wrong type or out of range.
    """
    if not Path(path).is_file():
        raise ValueError(f"recipe {str(path)!r} is not a file.")
    for override in overrides or []:
        if "=" not in override:
            raise ValueError(f"override {override!r} is not of the form key=value.")
    try:
        given = OmegaConf.merge(OmegaConf.load(path), OmegaConf.from_dotlist(overrides or []))
        words: Any = OmegaConf.to_container(given)
        given = replace_old_words(words)
        config = OmegaConf.merge(OmegaConf.structured(Recipe), given)
        values: Any = OmegaConf.to_container(config, resolve=True)
    except ConfigKeyError as error:
        key = error.full_key or str(error.key)
        raise ValueError(f"recipe key {key!r} is unknown.{nearest(key, _known_keys())}") from None
    except OmegaConfBaseException as error:
        key, reason = error.full_key or "", str(error).splitlines()[0]
        raise ValueError(f"recipe key {key!r}: {reason}.") from None
    except Exception as error:
        raise ValueError(f"recipe {str(path)!r} is no valid YAML: {one_line(error)}") from None
    return _build(Recipe, values)


def split_words(words: list[str]) -> tuple[str | None, list[str]]:
    """The recipe that words of a command line name, None if they name none; and the overrides among them.

    Raises:
        ValueError: more than one recipe.
    """
    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise ValueError(f"{len(names)} recipes were given ({', '.join(names)}); accepted is one.")
    return (names[0] if names else None), [word for word in words if "=" in word]


def by_full_keys(recipe: Recipe) -> dict[str, Any]:
    """All values of a recipe by their full keys, such as "stages.ram.epochs"."""

    def flat(values: dict, prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            name = prefix + key
            found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
        return found

    return flat(asdict(recipe))


def replace_old_words(values: dict) -> dict:
    """Replace OLD_KEYS and OLD_VALUES in all sections of a recipe."""
    return {
        OLD_KEYS.get(key, key): replace_old_words(value)
        if isinstance(value, dict)
        else OLD_VALUES.get((key, str(value)), value)
        for key, value in values.items()
    }


def load_data(recipe: Recipe, mean: Sequence[float] | None = None) -> Data:
    """Load all splits of the recipe's data source, with the image size and channels of its model.

    Args:
        recipe: the recipe.
        mean: of the model that will see the images, the colour of margins; that of the recipe's by default.

    Raises:
        ValueError, ConnectionError: as in `data.sources.load`.
    """
    size, channels = recipe.model.get("image_size", IMAGE_SIZE), recipe.model.get("in_chans", 3)
    keeps_aspect = recipe.model.get("context") == "fit"
    colour = ()
    if SQUARES[recipe.data.crop_mode].fills:
        colour = tuple(round(255 * value) for value in mean or _mean_of(recipe))  # as in timm
    return load(
        recipe.data,
        seed=recipe.seed,
        image_size=None if size == NATIVE else size,
        in_chans=channels,
        keeps_aspect=keeps_aspect,
        colour=colour,
    )


def _mean_of(recipe: Recipe) -> Sequence[float]:
    """The mean of the recipe's model, before there is one."""
    with torch.random.fork_rng(devices=[]):
        empty = _create(recipe, num_classes=1, device="meta")
    return normalisation_of(empty, recipe.data, recipe.encoder_weights).mean


def load_split(recipe: Recipe, split: str, mean: Sequence[float]) -> Data:
    """`load_data` for one use of one split: photographs are decoded when they are read.

    Args:
        recipe: the recipe.
        split: the split, of which no stream is accepted.
        mean: of the model, as in `load_data`.

    Raises:
        ValueError: no such split, or as in `load_data`.
    """
    once = replace(recipe, data=replace(recipe.data, keep_decoded=False))
    data = load_data(once, mean)
    check_choice("--split", split, data.splits)
    if isinstance(data.splits[split], Stream):
        raise ValueError(f"--split={split!r} is read as a stream; accepted is data.streaming=false.")
    # Which images a held-out split gets depends on which images are readable.
    return load_data(recipe, mean) if split in data.held_out and recipe.data.skip_broken else data


def build_model(recipe: Recipe, num_classes: int) -> DTRAM:
    """Build the recipe's model and load the weights from which training starts.

    Raises:
        ValueError: another number of classes, an unknown architecture, or weights that do not fit.
        ConnectionError: the Hub does not give the encoder's weights.
    """
    set_seed(recipe.seed)
    asked = recipe.model.get("num_classes", num_classes)
    if asked != num_classes:
        raise ValueError(f"model.num_classes={asked}, but data.source has {num_classes} classes.")
    model = _create(recipe, num_classes)
    model.pretrained_cfg |= transform_of(recipe.data.crop_mode)
    if not recipe.init_from:  # whose weights and normalisation come later, from another model
        if recipe.encoder_weights == "timm":
            _fetch_encoder(model)
        elif recipe.encoder_weights:
            model.load_encoder(recipe.encoder_weights)
        normalise_as_asked(model, recipe.data, recipe.encoder_weights)
    # channels_last makes convolutions several times as fast, on CPUs and GPUs.
    return model.to(memory_format=torch.channels_last) if recipe.channels_last else model


def _create(recipe: Recipe, num_classes: int, **where) -> DTRAM:
    """The recipe's model with fresh weights; ValueError for an unknown architecture."""
    known, (name, tag) = timm.list_models("dtram*"), split_model_name_tag(recipe.architecture)
    if name not in known:
        raise ValueError(f"architecture={recipe.architecture!r} is not a DT-RAM.{nearest(name, known)}")
    tags = [found.partition(".")[2] for found in timm.list_models(f"{name}.*", pretrained=True)]
    if tag and tag not in tags:
        raise ValueError(f"architecture={recipe.architecture!r} has no such tag.{nearest(tag, tags)}")
    arguments = recipe.model | {"num_classes": num_classes, "levels": recipe.data.levels}
    return timm.create_model(recipe.architecture, **arguments, **where)


def _fetch_encoder(model: DTRAM) -> None:
    """Load timm's weights into the encoder; ConnectionError if neither the Hub nor the cache has them."""
    level = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # the client would print a line for each of its attempts
    try:
        model.load_encoder()
    except OSError as error:
        raise ConnectionError(
            f"encoder_weights='timm': the weights of {model.backbone!r} could not be fetched from "
            f"{constants.ENDPOINT} ({type(error).__name__}), and the cache does not have them; accepted is "
            "also the path of a .safetensors file."
        ) from None
    finally:
        hub_logging.set_verbosity(level)


def _build(kind: Any, values: dict, key: str = "") -> Any:
    """Build a dataclass and the dataclasses in it; a ValueError names the full key."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            values[name] = _build(hint, values[name], f"{key}{name}.")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{key}{str(error).removeprefix(key)}") from None


def _known_keys() -> list[str]:
    def walk(node: Any, prefix: str) -> list[str]:
        keys = []
        for key, value in node.items():
            keys.append(prefix + key)
            keys += walk(value, f"{prefix}{key}.") if isinstance(value, dict) else []
        return keys

    return walk(OmegaConf.to_container(OmegaConf.structured(Recipe)), "")
