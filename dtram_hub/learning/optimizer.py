"""The optimizer of a stage: its parameter groups, and its learning rate as a function of the epoch."""

import math
from dataclasses import dataclass

from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ..checks import check_choice, check_integer, check_number
from ..models.dtram import DTRAM


@dataclass
class OptimizerConfig:
    """The recipe's section `optimizer`.

    name: a key of OPTIMIZERS.
    momentum: momentum of SGD, in [0, 1].
    weight_decay: weight decay, >= 0; biases, norms and the model's `no_weight_decay()` are not decayed.
    schedule: a key of SCHEDULES.
    warmup: the share of a stage in which the learning rate rises from zero, in [0, 1].
    step_epochs, step_factor: settings of the schedule "step", >= 1 and in [0, 1].
    clip_norm: the largest norm of the gradient; None or 0 for no limit.
    locator_rate: factor of the learning rate for the location policy's linear layer, >= 0.
    locations_rate: factor of the learning rate for the locations of the steps, >= 0.
    layer_decay: factor of the learning rate from each layer of the encoder to the one below, in (0, 1].

    Raises:
        ValueError: a value is out of range.
    """

    name: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "step"
    warmup: float = 0.0
    step_epochs: int = 30
    step_factor: float = 0.1
    clip_norm: float | None = 5.0
    locator_rate: float = 1.0
    locations_rate: float = 1.0
    layer_decay: float = 1.0

    def __post_init__(self):
        check_choice("name", self.name, OPTIMIZERS)
        check_choice("schedule", self.schedule, SCHEDULES)
        for name in ("momentum", "warmup", "step_factor"):
            check_number(name, getattr(self, name), 0, 1)
        check_integer("step_epochs", self.step_epochs, 1)
        if self.clip_norm is not None:
            check_number("clip_norm", self.clip_norm, 0, math.inf)
        check_number("layer_decay", self.layer_decay, 0, 1, open_low=True)
        for name in ("weight_decay", "locator_rate", "locations_rate"):
            check_number(name, getattr(self, name), 0, math.inf)


# Functions from parameter groups and the configuration to the optimizer.
OPTIMIZERS = {
    "sgd": lambda groups, config: SGD(groups, momentum=config.momentum),
    "adamw": lambda groups, config: AdamW(groups, fused=True),
}


def cosine(config: OptimizerConfig, epoch: float, done: float) -> float:
    """Half a cosine, from 1 after the warm-up to 0 at the end of the stage."""
    return 0.5 * (1 + math.cos(math.pi * (done - config.warmup) / (1 - config.warmup)))


def step(config: OptimizerConfig, epoch: float, done: float) -> float:
    """A product with one `step_factor` for every `step_epochs` epochs."""
    return config.step_factor ** (int(epoch) // config.step_epochs)


def constant(config: OptimizerConfig, epoch: float, done: float) -> float:
    """Always 1."""
    return 1.0


# Functions from the fractional epoch and the finished share of the stage to a factor of the learning rate.
SCHEDULES = {"cosine": cosine, "step": step, "constant": constant}


def rate_factor(config: OptimizerConfig, epoch: float, epochs: int) -> float:
    """The factor in [0, 1] of the learning rate at a fractional `epoch` of a stage with `epochs` epochs."""
    done = epoch / epochs
    if done < config.warmup:
        return done / config.warmup
    return SCHEDULES[config.schedule](config, epoch, done)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group, times the group's "lr_scale"."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["lr_scale"]


def make_optimizer(model: DTRAM, config: OptimizerConfig, learning_rate: float) -> Optimizer:
    """Make the optimizer of all trainable parameters, in the groups of `parameter_groups`."""
    optimizer = OPTIMIZERS[config.name](parameter_groups(model, config), config)
    set_learning_rate(optimizer, learning_rate)
    return optimizer


def parameter_groups(model: DTRAM, config: OptimizerConfig) -> list[dict]:
    """The trainable parameters, in groups of equal "lr_scale" and "weight_decay".

    timm divides the parameters by layers of the encoder and by weight decay. The rates that the policies
    declare in `rates()` multiply timm's "lr_scale".
    """
    layers = param_groups_layer_decay(
        model,
        config.weight_decay,
        no_weight_decay_list=model.no_weight_decay(),
        layer_decay=config.layer_decay,
    )
    own = own_rates(model, config)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for layer in layers:
        for parameter in layer["params"]:
            key = layer["lr_scale"] * own.get(parameter, 1.0), layer["weight_decay"]
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr_scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]


def own_rates(model: DTRAM, config: OptimizerConfig) -> dict[nn.Parameter, float]:
    """The recipe's factor of every parameter for which its policy declares a rate."""
    return {
        parameter: getattr(config, key)
        for part in (model.locator, model.stopper)
        for prefix, key in part.rates().items()
        for name, parameter in part.named_parameters()
        if f"{name}.".startswith(f"{prefix}.")
    }
