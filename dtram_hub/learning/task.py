"""Model and loss in one module: one batch of images and labels in, its loss out."""

from dataclasses import replace

import torch
from torch import Tensor, distributed, nn

from ..models.dtram import DTRAM
from ..models.normalise import Normalise
from ..models.records import Noise
from .curriculum import Stage
from .losses import Counts, Loss, LossConfig, dtram_loss
from .recipe import Recipe


class Task(nn.Module):
    """All that a training step computes, for accelerate to prepare: DDP only sees `forward`.

    Args:
        model: a DTRAM, already in its stage.
        normalise: uint8 images -> images for the model.
        loss: how the terms of the loss are taken and weighted.
        freeze_encoder: keep the encoder in evaluation mode.
        freeze_batch_norm: keep the encoder's batch norm at its running statistics.
        num_rollouts: M, Monte-Carlo rollouts per image.
    """

    def __init__(
        self,
        model: DTRAM,
        normalise: Normalise,
        loss: LossConfig,
        *,
        freeze_encoder: bool = False,
        freeze_batch_norm: bool = True,
        num_rollouts: int = 1,
    ):
        super().__init__()
        self.model = model
        self.normalise = normalise
        self.loss = loss
        self.freeze_encoder = freeze_encoder
        self.freeze_batch_norm = freeze_batch_norm
        self.num_rollouts = num_rollouts

    def train(self, mode: bool = True) -> "Task":
        """As in torch, except for the frozen modules."""
        super().train(mode)
        if self.freeze_encoder:
            self.model.encoder.eval()
        if self.freeze_batch_norm:
            for module in self.model.encoder.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    @property
    def repeats(self) -> int:
        """Rollouts of each image now: where there is nothing to choose, they would all be the same."""
        return self.num_rollouts if self.model.num_steps > 1 or self.model.context == "none" else 1

    def draw_noise(self, images: int, generator: torch.Generator, share: slice = slice(None)) -> Noise:
        """The noise of one batch: `images` and `share` as in `Noise.draw`."""
        columns = self.model.locator.noise_columns
        return Noise.draw(images, self.repeats, self.model.num_steps, columns, generator, share)

    def forward(
        self, images: Tensor, labels: Tensor, noise: Noise | None = None, std: float | None = None
    ) -> Loss:
        """The loss of sampled rollouts; with several processes each gets its share of the whole batch's.

        Args:
            images: (B, C, H, W) uint8.
            labels: (B,) int64 in 0..C-1.
            noise: of `draw_noise`; new noise unless given.
            std: of the location policy; the model's own unless given.
        """
        rollout = self.model.rollout(
            self.normalise(images), sample=True, num_rollouts=self.repeats, noise=noise, std=std
        )
        return dtram_loss(
            rollout,
            labels.repeat_interleave(self.repeats),
            self.loss,
            dynamic=self.model.dynamic,
            num_rollouts=self.repeats,
            counts=counts_per_process(rollout.steps),
        )


def counts_per_process(steps: Tensor) -> Counts:
    """`Counts` of a batch that all processes share, averaged over them; `steps` (N,) are this process's."""
    counts = Counts.of(steps)
    if not distributed.is_available() or not distributed.is_initialized():
        return counts
    sums = torch.stack([counts.rollouts, counts.steps])
    distributed.all_reduce(sums)
    return Counts(*(sums / distributed.get_world_size()))


def make_task(model: DTRAM, normalise: Normalise, recipe: Recipe, stage: Stage) -> Task:
    """Model and loss of a stage that the model has entered."""
    return Task(
        model,
        normalise,
        recipe.loss if stage.reward is None else replace(recipe.loss, reward=stage.reward),
        freeze_encoder=not any(parameter.requires_grad for parameter in model.encoder.parameters()),
        freeze_batch_norm=recipe.freeze_batch_norm,
        num_rollouts=recipe.num_rollouts,
    )
