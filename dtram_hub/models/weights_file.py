"""Files of weights: what the header says, before a tensor is read; and tensors that are no weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor


def read_header(path: str | Path) -> dict[str, Tensor]:
    """Tensors without memory, of the shapes in a safetensors file; float32 for any float, else int64.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return {name: _shape_of(found) for name, found in slices.items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or truncated ({error}).") from None


def _shape_of(found) -> Tensor:
    is_float = found.get_dtype().startswith(("F", "BF"))
    dtype = torch.float32 if is_float else torch.int64
    return torch.empty(found.get_shape(), dtype=dtype, device="meta")


def check_floats(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """ValueError if a tensor holds integers where the model has floats; torch converts them in silence."""
    for name, tensor in weights.items():
        if name in expected and expected[name].is_floating_point() and not tensor.is_floating_point():
            raise ValueError(f"{name!r} holds integers; accepted are floating-point weights.")


def check_finite(weights: Mapping[str, Tensor]) -> None:
    """ValueError if a tensor holds NaN or infinity."""
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name!r} holds NaN or infinity; accepted are finite weights.")
