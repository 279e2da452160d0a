"""The curriculum (section 3.4): encoder alone -> RAM with 2, 3, .. T steps -> DT-RAM.

Each stage starts from the weights of the stage before. It trains only the parts of the model that it runs.
Between encoder and RAM a recipe may have the stages of the folds, see `judges`. Each of them starts where the
training starts, and no other stage starts from it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from timm.models._manipulate import group_parameters
from torch import nn

from ..checks import check_choice, check_integer, check_number
from ..models.dtram import DTRAM
from .losses import REWARDS

# The modules that a stage freezes, as functions of the model and of `Kind.parts`.
FREEZES: dict[str, Callable[[DTRAM, tuple[str, ...]], list[nn.Module]]] = {
    "nothing": lambda model, own: [],
    "encoder": lambda model, own: model.encoders,
    "context": lambda model, own: [model.context_encoder, *model.answer.first_parts()],
    "answers": lambda model, own: [part for name, part in model.named_children() if name not in own],
}


@dataclass(frozen=True)
class Kind:
    """A kind of stage.

    Attributes:
        name: the name of a stage, with a field for its number of steps, or for its fold.
        title: the title of a stage in tables, with the same fields.
        subject: what a stage teaches the model, in words.
        lengths: the numbers of steps of the stages as a function of T, in order.
        dynamic: whether the stop policy decides.
        parts: the parts of the model that train under `freeze: answers`.
        needs_context: whether the kind needs a model with a context view.
    """

    name: str
    title: str
    subject: str
    lengths: Callable[[int], list[int]]
    dynamic: bool = False
    parts: tuple[str, ...] = ("baseline",)
    needs_context: bool = False


KINDS = {
    "encoder": Kind("encoder", "encoder alone", "what to answer", lambda most: [1], needs_context=True),
    "folds": Kind(
        "fold_{fold}",
        "encoder, blind to fold {fold}",
        "what to answer",
        lambda most: [1],
        needs_context=True,
    ),
    "ram": Kind(
        "ram_{steps}",
        "RAM, {steps} steps",
        "where to look",
        lambda most: list(range(2, most + 1)),
        parts=("locator", "baseline"),
    ),
    "dtram": Kind(
        "dtram",
        "DT-RAM, at most {steps} steps",
        "when to stop",
        lambda most: [most],
        dynamic=True,
        parts=("stopper", "baseline"),
    ),
}


@dataclass
class StageConfig:
    """The recipe's section `stages.KIND`: settings of the stages of one kind.

    epochs: the epochs of each stage; 0 leaves the stages of this kind out.
    learning_rate: the largest learning rate of a stage.
    split: names of the splits to train on, joined by "+".
    freeze: the part of the model that does not train. "nothing" freezes no part. "encoder" freezes every
        encoder. "context" freezes what only a context view trains: its own encoder, and its evidence.
        "answers" freezes all but the location policy and the baseline in a RAM, and all but the stop policy
        and the baseline in the DT-RAM, as the authors do.
    freeze_layers: the number of the encoder's first layers that do not train, in timm's coarse groups: the
        stem, then each stage of the encoder. Edges learned on photographs serve most images.
    crop: the stage's own `data.crop`; None for that of the recipe.
    reward: the stage's own `loss.reward`, a key of REWARDS; None for that of the recipe.
    location_std: standard deviation of the location policy at the start of a stage, in (0, 2]. It changes
        linearly to the model's `location_std`, which None uses throughout.

    Raises:
        ValueError: a value is out of range.
    """

    epochs: int = 30
    learning_rate: float = 1e-3
    split: str = "train"
    freeze: str = "nothing"
    freeze_layers: int = 0
    crop: float | None = None
    reward: str | None = None
    location_std: float | None = None

    def __post_init__(self):
        check_integer("epochs", self.epochs, 0)
        check_number("learning_rate", self.learning_rate, 0, math.inf)
        check_choice("freeze", self.freeze, FREEZES)
        check_integer("freeze_layers", self.freeze_layers, 0)
        if self.crop is not None:
            check_number("crop", self.crop, 0, 1, open_low=True)
        if self.reward is not None:
            check_choice("reward", self.reward, REWARDS)
        if self.location_std is not None:
            check_number("location_std", self.location_std, 0, 2, open_low=True)


@dataclass
class FoldsConfig(StageConfig):
    """The recipe's section `stages.folds`: as `StageConfig`, for encoders that are blind to a part of train.

    epochs: of each of them; 0, the default, has none.
    count: K, the number of folds, 2 or more. One encoder is blind to each.

    Raises:
        ValueError: a value is out of range.
    """

    epochs: int = 0
    count: int = 3

    def __post_init__(self):
        super().__post_init__()
        check_integer("count", self.count, 2)


@dataclass
class Stages:
    """The recipe's section `stages`, with one section for every key of KINDS, in the order of training."""

    encoder: StageConfig = field(default_factory=StageConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    ram: StageConfig = field(default_factory=StageConfig)
    dtram: StageConfig = field(default_factory=StageConfig)


@dataclass(kw_only=True)
class Stage(StageConfig):
    """One stage of a training: a key of KINDS, the number of steps, and the settings of its kind.

    fold: the number of the fold, from 1, to which the stage is blind; 0 for none.
    """

    kind: str
    num_steps: int
    fold: int = 0

    @property
    def name(self) -> str:
        """The name in files and logs: encoder, fold_1, ram_2, dtram."""
        return KINDS[self.kind].name.format(steps=self.num_steps, fold=self.fold)

    @property
    def title(self) -> str:
        """The title of its model in tables."""
        return KINDS[self.kind].title.format(steps=self.num_steps, fold=self.fold)

    @property
    def dynamic(self) -> bool:
        """Whether the stop policy decides."""
        return KINDS[self.kind].dynamic

    @property
    def splits(self) -> list[str]:
        """The names of the splits to train on."""
        return self.split.split("+")


def plan_stages(
    num_steps: int, configs: Stages, *, curriculum: bool = True, context: bool = True
) -> list[Stage]:
    """Plan the stages of one training, in order.

    Args:
        num_steps: T.
        configs: the settings of each kind.
        curriculum: without a curriculum each kind has only its longest stage, with the epochs of all its
            stages together (Table 8).
        context: whether the first look is a context view; without one there is no encoder stage.
    """
    stages = []
    for kind, about in KINDS.items():
        config, lengths = getattr(configs, kind), about.lengths(num_steps)
        if not config.epochs or (about.needs_context and not context):
            continue
        if not curriculum and lengths:
            config, lengths = replace(config, epochs=config.epochs * len(lengths)), lengths[-1:]
        values = {key.name: getattr(config, key.name) for key in fields(StageConfig)}
        folds = range(1, config.count + 1) if isinstance(config, FoldsConfig) else [0]
        stages += [
            Stage(kind=kind, num_steps=steps, fold=fold, **values) for steps in lengths for fold in folds
        ]
    return stages


def stage_before(stages: list[Stage], number: int) -> Stage | None:
    """The stage whose weights stage `number` (from 0) starts from; None where the training starts."""
    if stages[number].fold:
        return None
    return next((stage for stage in reversed(stages[:number]) if not stage.fold), None)


def enter_stage(model: DTRAM, stage: Stage) -> None:
    """Prepare a model for the training of a stage: set its steps, freeze its parts, reset its stop policy."""
    set_steps(model, stage)
    freeze(model, stage)
    reset(model, stage)


def set_steps(model: DTRAM, stage: Stage) -> None:
    """Set the model's number of steps, and whether its stop policy decides."""
    model.num_steps, model.dynamic = stage.num_steps, stage.dynamic


def freeze(model: DTRAM, stage: Stage) -> None:
    """Freeze the parameters that `stage.freeze` names, and those that the stage does not run."""
    idle = FREEZES[stage.freeze](model, KINDS[stage.kind].parts)
    if not stage.dynamic:
        idle = [*idle, model.stopper]
    if stage.num_steps == 1 and model.context != "none":
        idle = [*idle, model.hidden_to_hidden, model.location_to_hidden, model.locator]
        idle += model.answer.later_parts()
        if model.context_encoder is not None:  # then the encoder sees glimpses alone
            idle += [model.encoder, model.input_to_hidden]
    model.requires_grad_(True)
    for part in idle:
        if part is not None:
            part.requires_grad_(False)
    for encoder in model.encoders:
        for parameter in first_layers(encoder, stage.freeze_layers):
            parameter.requires_grad_(False)


def first_layers(encoder: nn.Module, count: int) -> list[nn.Parameter]:
    """The parameters of the first `count` layers of an encoder, in timm's coarse groups.

    Raises:
        ValueError: the encoder has fewer layers; one without layer groups has none.
    """
    if not count:
        return []
    layers = {}
    if hasattr(encoder, "group_matcher"):
        layers = group_parameters(encoder, encoder.group_matcher(coarse=True))
    if count > len(layers):
        raise ValueError(f"freeze_layers={count}; the encoder has {len(layers)} layers.")
    return [encoder.get_parameter(name) for layer in range(count) for name in layers[layer]]


def reset(model: DTRAM, stage: Stage) -> None:
    """Set the stop policy of a DT-RAM stage to stop with probability 1 / T after every step.

    Training then tries every number of steps before it prefers one.
    """
    if stage.dynamic:
        model.stopper.reset(stage.num_steps)


def location_std(stage: Stage, final: float, epoch: float) -> float:
    """The standard deviation of the location policy at a fractional epoch; it changes linearly to `final`."""
    start = final if stage.location_std is None else stage.location_std
    return start + (final - start) * epoch / stage.epochs
