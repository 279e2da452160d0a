"""Starting from the weights of another DT-RAM, of other classes or steps as well."""

from accelerate.logging import get_logger

from ..models import checkpoint
from ..models.dtram import DTRAM

logger = get_logger(__name__)


def start_from(model: DTRAM, other: DTRAM, name: str) -> None:
    """Copy the weights of another DT-RAM. A part of another shape keeps its fresh weights, and is named.

    Args:
        model: the model to be trained.
        other: the model whose weights it takes.
        name: the value of `init_from`, for messages.

    Raises:
        ValueError: the encoders differ.
    """
    weights = other.state_dict()
    checkpoint.upgrade(model, weights)
    fresh = checkpoint.load_fitting(model, weights)
    if "encoder" in fresh:
        raise ValueError(
            f"init_from={name!r} has the encoder {other.backbone!r}, and the recipe {model.backbone!r} with "
            f"in_chans={model.in_chans}; accepted is the same encoder."
        )
    known = ", ".join(sorted(fresh)) or "none"
    logger.info(f"init_from={name!r}: all parts have its weights but these, which start fresh: {known}.")
