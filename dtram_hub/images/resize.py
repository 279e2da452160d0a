"""Resizing with antialiasing, in the precision that torch has on the device."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize(images: Tensor, size: int) -> Tensor:
    """Resize (N, C, H, W) to (N, C, size, size), bilinear with antialiasing; without a copy if they fit.

    Floats keep their dtype. Integers become float32, and are not rounded.
    """
    if tuple(images.shape[2:]) == (size, size):
        return images
    whole = in_floats(images)
    resized = F.interpolate(whole, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized.to(images.dtype) if images.is_floating_point() else resized


def in_floats(images: Tensor) -> Tensor:
    """In single precision, if they are integers, or in half of it on a CPU, where torch lacks operations."""
    is_half = images.dtype in (torch.float16, torch.bfloat16) and images.device.type == "cpu"
    return images.float() if is_half or not images.is_floating_point() else images
