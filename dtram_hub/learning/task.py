"""The task of a stage: a module that turns one batch of images and labels into its loss."""

from dataclasses import replace

import torch
from torch import Tensor, distributed, nn

from ..checks import check_labels
from ..images.uniform import CROP_MODES
from ..models.dtram import DTRAM
from ..models.records import Noise, Seen
from .curriculum import Stage
from .judges import Judge
from .losses import Counts, Loss, LossConfig, Targets, dtram_loss
from .policy_losses import WAYS
from .recipe import Recipe


class Task(nn.Module):
    """Model and loss in one module, because DDP synchronises the gradients of a `forward` alone.

    Args:
        model: a DTRAM that has entered its stage.
        loss: the terms of the loss and their weights.
        freeze_batch_norm: whether the encoder's batch norm uses its running statistics and does not change
            them.
        num_rollouts: M, the Monte-Carlo rollouts of one image (Eq. 2).
        class_weights: (C,), how much an image of each class counts; None for 1.
    """

    def __init__(
        self,
        model: DTRAM,
        loss: LossConfig,
        *,
        freeze_batch_norm: bool = True,
        num_rollouts: int = 1,
        class_weights: Tensor | None = None,
    ):
        super().__init__()
        self.model = model
        self.loss = loss
        self.freeze_batch_norm = freeze_batch_norm
        self.num_rollouts = num_rollouts
        self.register_buffer("class_weights", class_weights, persistent=False)

    def train(self, mode: bool = True) -> "Task":
        """Set training mode as in torch, except for frozen encoders and for frozen batch norm."""
        super().train(mode)
        for encoder in self.model.encoders:
            if not any(parameter.requires_grad for parameter in encoder.parameters()):
                encoder.eval()
            if self.freeze_batch_norm:
                for module in encoder.modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm):
                        module.eval()
        return self

    @property
    def repeats(self) -> int:
        """The rollouts of one image: 1 if the only look is the context view, else `num_rollouts`."""
        return self.num_rollouts if self.model.num_steps > 1 or self.model.context == "none" else 1

    def draw_noise(self, images: int, generator: torch.Generator, share: slice = slice(None)) -> Noise:
        """Draw the noise of one batch; arguments as in `Noise.draw`."""
        columns = self.model.locator.noise_columns
        return Noise.draw(images, self.repeats, self.model.num_steps, columns, generator, share)

    def forward(
        self,
        images: Tensor,
        labels: Tensor,
        noise: Noise | None = None,
        std: float | None = None,
        first: Seen | None = None,
        shares: Tensor | None = None,
        judge: Judge | None = None,
    ) -> Loss:
        """The loss of sampled rollouts. The mean over processes is the loss of the whole batch.

        Args:
            images: stored pixels, (B, C, H, W) uint8 or of different sizes.
            labels: (B,) int64, each a class index.
            noise: from `draw_noise`; drawn anew by default.
            std: standard deviation of the location policy; the model's own by default.
            first: the encoder's output for the context views, if it is known.
            shares: (B, C), the share of each class in images that are mixed; None for those of one class.
            judge: whose answers earn the rewards; the model's own do by default.

        Raises:
            ValueError: a label is out of range, or images as in `DTRAM.rollout`.
        """
        rollout = self.model.rollout(
            images,
            sample=True,
            num_rollouts=self.repeats,
            noise=noise,
            std=std,
            through_views=WAYS[self.loss.where].through_views,
            first=first,
        )
        return dtram_loss(
            rollout,
            self._targets(labels, shares),
            self.loss,
            dynamic=self.model.dynamic,
            num_rollouts=self.repeats,
            counts=counts_per_process(rollout.steps),
            judged=None if judge is None else judge.logits(images, rollout.locations),
        )

    def _targets(self, labels: Tensor, shares: Tensor | None) -> Targets:
        """The targets of all rollouts; an image that is mixed counts as its classes do, by their shares."""
        check_labels(labels, self.model.num_classes)
        weights = self.class_weights
        if weights is not None:
            weights = weights[labels] if shares is None else shares @ weights
        each = (labels, weights, shares)
        return Targets(*(t if t is None else t.repeat_interleave(self.repeats, dim=0) for t in each))


def counts_per_process(steps: Tensor) -> Counts:
    """The `Counts` of the whole batch divided by the number of processes; `steps` (N,) is this process's."""
    counts = Counts.of(steps)
    if not distributed.is_available() or not distributed.is_initialized():
        return counts
    sums = torch.stack([counts.rollouts, counts.steps])
    distributed.all_reduce(sums)
    return Counts(*(sums / distributed.get_world_size()))


def make_task(model: DTRAM, recipe: Recipe, stage: Stage, class_weights: Tensor | None = None) -> Task:
    """The task of a stage that the model has entered; `class_weights` as in `Task`."""
    model.set_grad_checkpointing(recipe.checkpointing)
    return Task(
        model,
        recipe.loss if stage.reward is None else replace(recipe.loss, reward=stage.reward),
        freeze_batch_norm=recipe.freeze_batch_norm,
        num_rollouts=recipe.num_rollouts,
        class_weights=class_weights,
    )


def check_way(model: DTRAM, loss: LossConfig) -> None:
    """ValueError if the model's location policy cannot learn in the way that `loss.where` names."""
    way = WAYS[loss.where]
    if way.needs_scores and not model.locator.scores_places:
        raise ValueError(
            f"loss.where={loss.where!r} needs a policy that scores places, such as locator='attend'."
        )
    if way.through_views and CROP_MODES[model.crop_mode].whole_pixels:
        raise ValueError(f"loss.where={loss.where!r} needs crop_mode='bilinear', not {model.crop_mode!r}.")
