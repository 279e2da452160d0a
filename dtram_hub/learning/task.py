"""Model and loss in one module: one batch of images and labels in, its loss out."""

from torch import Tensor, nn

from ..models.dtram import DTRAM
from ..models.normalise import Normalise
from .losses import Loss, LossConfig, dtram_loss


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

    def forward(self, images: Tensor, labels: Tensor) -> Loss:
        """images (B, C, H, W) uint8, labels (B,) int64 in 0..C-1 -> the loss of their sampled rollouts."""
        # With nothing to choose, every rollout of an image would be the same.
        repeats = self.num_rollouts if self.model.num_steps > 1 or self.model.context == "none" else 1
        rollout = self.model.rollout(self.normalise(images), sample=True, num_rollouts=repeats)
        labels = labels.repeat_interleave(repeats)
        return dtram_loss(rollout, labels, self.loss, dynamic=self.model.dynamic, num_rollouts=repeats)
