"""The order in which a DT-RAM is learned (section 3.4): encoder -> RAM with 2, 3, .. T steps -> DT-RAM.

Each stage starts from the weights that the one before it ended with, and trains only what takes part in it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..models.dtram import DTRAM
from .losses import Loss, dtram_loss

FREEZES = ("nothing", "encoder", "answers")


@dataclass
class Stage:
    """One stage: what it is called, how many steps it takes, and how it is trained.

    split: names of the data splits that it trains on, joined by "+".
    freeze: what stays as it is: "nothing", the "encoder", or all that "answers", which leaves the policy that
        the stage is about and the baseline: where to look in a RAM, when to stop in the DT-RAM (how the
        authors train their dynamic stage).
    crop: of the training images, the smallest part of each that is enlarged to the whole; None as elsewhere.
    reward: what is rewarded, see `delayed_rewards`; None as elsewhere.
    location_std: of the location policy at the start of the stage; it falls evenly to the model's own.
    """

    name: str
    num_steps: int
    dynamic: bool
    epochs: int
    learning_rate: float
    split: str = "train"
    freeze: str = "nothing"
    crop: float | None = None
    reward: str | None = None
    location_std: float | None = None


def plan_stages(
    num_steps: int, settings: dict[str, dict], *, curriculum: bool = True, context: bool = True
) -> list[Stage]:
    """The stages of one training, in order.

    Args:
        num_steps: T.
        settings: for each of "encoder", "ram" and "dtram" the `Stage` fields epochs, learning_rate, split and
            freeze. A kind with 0 epochs is left out.
        curriculum: if not, RAM starts with all T steps at once, for as many epochs as its stages would have
            had together (Table 8).
        context: whether the first look is a context view; if not, there is no encoder stage.
    """
    stages = [Stage("encoder", 1, False, **settings["encoder"])] if context else []
    lengths = range(2, num_steps + 1)
    if curriculum:
        stages += [Stage(f"ram_{t}", t, False, **settings["ram"]) for t in lengths]
    elif num_steps > 1:
        epochs = settings["ram"]["epochs"] * len(lengths)
        stages += [Stage(f"ram_{num_steps}", num_steps, False, **(settings["ram"] | {"epochs": epochs}))]
    stages += [Stage("dtram", num_steps, True, **settings["dtram"])]
    return [stage for stage in stages if stage.epochs]


def enter_stage(model: DTRAM, stage: Stage) -> None:
    """Set steps and stopping, and let only the parameters train that take part in this stage.

    When the stop policy comes into force it is made to stop with probability 1 / T after any step, so that
    every number of steps is tried before any is preferred.
    """
    model.num_steps, model.dynamic = stage.num_steps, stage.dynamic
    model.requires_grad_(True)
    if stage.freeze == "answers":
        model.requires_grad_(False)
        for module in (model.baseline, model.stop_head if stage.dynamic else model.locator):
            module.requires_grad_(True)
        if model.places is not None:
            model.places.requires_grad_(not stage.dynamic)
    idle = [] if stage.dynamic else [model.stop_head]
    if stage.num_steps == 1 and model.context != "none":
        idle += [model.hidden_to_hidden, model.locator, model.location_to_hidden]
    if stage.freeze == "encoder":
        idle.append(model.encoder)
    for module in idle:
        if module is not None:
            module.requires_grad_(False)
    if stage.dynamic:
        nn.init.zeros_(model.stop_head[-1].weight)
        nn.init.constant_(model.stop_head[-1].bias, -math.log(max(stage.num_steps - 1, 1)))


class Task(nn.Module):
    """Model and loss in one module, for accelerate to prepare: DDP only sees what happens in `forward`.

    Args:
        model: a DTRAM, already in its stage.
        mean, std: of the colour channels, in [0, 1], as timm's data configuration gives them.
        freeze_encoder: keep the encoder in evaluation mode.
        freeze_batch_norm: keep the encoder's batch norm at its running statistics.
        num_rollouts: M, Monte-Carlo rollouts per image.
        loss: keywords of `dtram_loss`.
    """

    def __init__(
        self,
        model: DTRAM,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        freeze_encoder: bool = False,
        freeze_batch_norm: bool = True,
        num_rollouts: int = 1,
        **loss,
    ):
        super().__init__()
        self.model = model
        self.freeze_encoder = freeze_encoder
        self.freeze_batch_norm = freeze_batch_norm
        self.num_rollouts = num_rollouts
        self.loss = loss
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> "Task":
        """As in torch, except for what is frozen."""
        super().train(mode)
        if self.freeze_encoder:
            self.model.encoder.eval()
        if self.freeze_batch_norm:
            for module in self.model.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def normalise(self, images: Tensor) -> Tensor:
        """(B, C, H, W) uint8 -> float32 as the encoder wants it."""
        return (images.float() / 255 - self.mean) / self.std

    def forward(self, images: Tensor, labels: Tensor) -> Loss:
        """images (B, C, H, W) uint8, labels (B,) int64 in 0..C-1 -> the loss of their sampled rollouts."""
        # With nothing to choose, every rollout of an image would be the same.
        repeats = self.num_rollouts if self.model.num_steps > 1 or self.model.context == "none" else 1
        rollout = self.model.rollout(self.normalise(images), sample=True, num_rollouts=repeats)
        labels = labels.repeat_interleave(repeats)
        return dtram_loss(rollout, labels, dynamic=self.model.dynamic, num_rollouts=repeats, **self.loss)
