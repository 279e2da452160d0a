"""Normalisation of stored pixels for the encoder."""

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """Subtract the mean of every colour channel and divide by its standard deviation.

    Args:
        pretrained_cfg: timm's configuration of the model. "mean" and "std" hold one number per channel, for
            pixels in [0, 1]. No other key is read.
    """

    def __init__(self, pretrained_cfg: dict):
        super().__init__()
        for name in ("mean", "std"):
            values = torch.tensor(pretrained_cfg[name], dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (B, C, H, W) uint8 pixels in 0..255 to float32 of the same shape."""
        return (images.float() / 255 - self.mean) / self.std
