"""The order in which a DT-RAM is learned (section 3.4): encoder -> RAM with 2, 3, .. T steps -> DT-RAM.

Each stage starts from the weights that the one before it ended with, and trains only the parts of the model
that take part in it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from torch import nn

from ..checks import check_choice, check_integer, check_number
from ..models.dtram import DTRAM
from .losses import REWARDS

# What stays as it is in a stage, by the model and the names of the parts that the stage is about.
FREEZES: dict[str, Callable[[DTRAM, tuple[str, ...]], list[nn.Module]]] = {
    "nothing": lambda model, own: [],
    "encoder": lambda model, own: [model.encoder],
    "answers": lambda model, own: [part for name, part in model.named_children() if name not in own],
}


@dataclass(frozen=True)
class Kind:
    """A kind of stage.

    name: of its stages, with their number of steps filled in.
    title: the same, for people.
    lengths: T -> the numbers of steps of its stages, in order.
    dynamic: whether the stop policy is in force.
    parts: of the model, those that still train where all that answers is frozen.
    needs_context: whether the kind has a stage only where the first step is a context view.
    """

    name: str
    title: str
    lengths: Callable[[int], list[int]]
    dynamic: bool = False
    parts: tuple[str, ...] = ("baseline",)
    needs_context: bool = False


KINDS = {
    "encoder": Kind("encoder", "encoder alone", lambda most: [1], needs_context=True),
    "ram": Kind(
        "ram_{steps}",
        "RAM, {steps} steps",
        lambda most: list(range(2, most + 1)),
        parts=("locator", "baseline"),
    ),
    "dtram": Kind(
        "dtram",
        "DT-RAM, at most {steps} steps",
        lambda most: [most],
        dynamic=True,
        parts=("stopper", "baseline"),
    ),
}


@dataclass
class StageConfig:
    """The recipe's section `stages.KIND`: how the stages of one kind are trained.

    epochs: of each stage, or 0 for none of this kind.
    learning_rate: at its highest.
    split: names of the data splits to train on, joined by "+".
    freeze: the weights that stay: of "nothing"; of the "encoder"; or of all that "answers", which leaves the
        `parts` of the kind (how the authors train their dynamic stage).
    crop: the smallest part of a training image, as a share of its area, that is enlarged to the whole;
        None for the recipe's `data.crop`.
    reward: a key of REWARDS; None for the recipe's `loss.reward`.
    location_std: spread of the location policy at the start of a stage; it falls evenly to the model's own.

    Raises:
        ValueError: a value is not one of these.
    """

    epochs: int = 30
    learning_rate: float = 1e-3
    split: str = "train"
    freeze: str = "nothing"
    crop: float | None = None
    reward: str | None = None
    location_std: float | None = None

    def __post_init__(self):
        check_integer("epochs", self.epochs, 0)
        check_number("learning_rate", self.learning_rate, 0, math.inf)
        check_choice("freeze", self.freeze, FREEZES)
        if self.crop is not None:
            check_number("crop", self.crop, 0, 1, open_low=True)
        if self.reward is not None:
            check_choice("reward", self.reward, REWARDS)
        if self.location_std is not None:
            check_number("location_std", self.location_std, 0, 2, open_low=True)


@dataclass
class Stages:
    """The recipe's section `stages`: one section for every key of KINDS, in the order of training."""

    encoder: StageConfig = field(default_factory=StageConfig)
    ram: StageConfig = field(default_factory=StageConfig)
    dtram: StageConfig = field(default_factory=StageConfig)


@dataclass(kw_only=True)
class Stage(StageConfig):
    """One stage of a training: its kind, its number of steps, and how it is trained."""

    kind: str
    num_steps: int

    @property
    def name(self) -> str:
        """Of the stage in files and logs: encoder, ram_2, dtram."""
        return KINDS[self.kind].name.format(steps=self.num_steps)

    @property
    def title(self) -> str:
        """Of its model in tables."""
        return KINDS[self.kind].title.format(steps=self.num_steps)

    @property
    def dynamic(self) -> bool:
        """Whether the stop policy is in force."""
        return KINDS[self.kind].dynamic

    @property
    def splits(self) -> list[str]:
        """Names of the data splits to train on."""
        return self.split.split("+")


def plan_stages(
    num_steps: int, configs: Stages, *, curriculum: bool = True, context: bool = True
) -> list[Stage]:
    """The stages of one training, in order.

    Args:
        num_steps: T.
        configs: how each kind is trained.
        curriculum: if not, a kind with several stages has only the longest, for as many epochs as all of them
            together (Table 8).
        context: whether the first step is a context view; if not, there is no encoder stage.
    """
    stages = []
    for kind, about in KINDS.items():
        config, lengths = getattr(configs, kind), about.lengths(num_steps)
        if not config.epochs or (about.needs_context and not context):
            continue
        if not curriculum and lengths:
            config, lengths = replace(config, epochs=config.epochs * len(lengths)), lengths[-1:]
        values = {key.name: getattr(config, key.name) for key in fields(StageConfig)}
        stages += [Stage(kind=kind, num_steps=steps, **values) for steps in lengths]
    return stages


def enter_stage(model: DTRAM, stage: Stage) -> None:
    """Make a model ready to be trained in a stage: set, freeze, reset."""
    set_steps(model, stage)
    freeze(model, stage)
    reset(model, stage)


def set_steps(model: DTRAM, stage: Stage) -> None:
    """Take the stage's number of steps, with or without the stop policy."""
    model.num_steps, model.dynamic = stage.num_steps, stage.dynamic


def freeze(model: DTRAM, stage: Stage) -> None:
    """Let only those parameters train that take part in the stage and are not frozen in it."""
    idle = FREEZES[stage.freeze](model, KINDS[stage.kind].parts)
    if not stage.dynamic:
        idle = [*idle, model.stopper]
    if stage.num_steps == 1 and model.context != "none":
        idle = [*idle, model.hidden_to_hidden, model.location_to_hidden, model.locator]
    model.requires_grad_(True)
    for part in idle:
        if part is not None:
            part.requires_grad_(False)


def reset(model: DTRAM, stage: Stage) -> None:
    """Let a stop policy that comes into force stop with probability 1 / T after any step.

    Every number of steps is then tried before any is preferred.
    """
    if stage.dynamic:
        model.stopper.reset(stage.num_steps)


def location_std(stage: Stage, final: float, epoch: float) -> float:
    """Spread of the location policy at a (fractional) epoch of a stage, on its even way to `final`."""
    start = final if stage.location_std is None else stage.location_std
    return start + (final - start) * epoch / stage.epochs
