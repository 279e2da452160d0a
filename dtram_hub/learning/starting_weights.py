"""Starting from the weights of another DT-RAM, of other classes or steps as well."""

from accelerate.logging import get_logger

from ..data.config import DataConfig
from ..models import checkpoint
from ..models.dtram import DTRAM
from ..models.weights_cfg import KEYS
from .normalisation import normalise_as_asked

logger = get_logger(__name__)


def start_from(model: DTRAM, other: DTRAM, name: str, config: DataConfig) -> None:
    """Copy the weights of another DT-RAM, and its mean and std. A part of another shape stays fresh.

    The log names the fresh parts.

    Args:
        model: the model to be trained.
        other: the model whose weights it takes; it loses its classes if they are not as many.
        name: the value of `init_from`, for messages.
        config: the recipe's section `data`, whose mean and std come first.

    Raises:
        ValueError: the encoders differ.
    """
    fresh_classes = other.num_classes != model.num_classes
    if fresh_classes:
        other.reset_classifier(model.num_classes)
    weights = other.state_dict()
    checkpoint.upgrade(model, weights)
    fresh = checkpoint.load_fitting(model, weights)
    if "encoder" in fresh:
        raise ValueError(
            f"init_from={name!r} has the encoder {other.backbone!r}, and the recipe {model.backbone!r} with "
            f"in_chans={model.in_chans}; accepted is the same encoder."
        )
    model.pretrained_cfg |= {key: other.pretrained_cfg[key] for key in KEYS}
    normalise_as_asked(model, config, None)
    named = ", ".join([*sorted(fresh), *(["what names the classes"] if fresh_classes else [])]) or "none"
    logger.info(f"init_from={name!r}: its weights in place of encoder_weights; fresh parts: {named}")
