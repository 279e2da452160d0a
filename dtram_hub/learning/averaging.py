"""An exponential moving average (EMA) of the weights, by timm. It is tested and saved, not the weights."""

from timm.utils import ModelEmaV3
from torch import nn


class Average:
    """The average of a model's weights over the optimizer's steps of a stage.

    Early steps weigh less, because the decay grows from 0 to its full value over the first steps.

    Args:
        model: the model in training.
        decay: in [0, 1); the largest share of the old average in the new one.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = model
        self._ema = ModelEmaV3(model, decay, use_warmup=True)

    @property
    def averaged(self) -> nn.Module:
        """A copy of the model, with the average as its weights."""
        return self._ema.module

    def update(self, step: int) -> None:
        """Take in the model's weights after the optimizer's `step`, which counts from 1."""
        self._ema.update(self.model, step)
