"""The mean and the deviation by which a run normalises its images, and who chose them."""

from collections.abc import Sequence
from dataclasses import dataclass

import accelerate
from accelerate.logging import get_logger

from ..data.config import DataConfig
from ..models.dtram import DTRAM
from ..models.preprocessing import for_channels
from ..models.weights_cfg import KEYS, stated_by_file

logger = get_logger(__name__)


@dataclass(frozen=True)
class Normalisation:
    """How pixels in [0, 1] are normalised.

    mean, std: one number for each channel.
    origin: who chose them, in words.
    """

    mean: Sequence[float]
    std: Sequence[float]
    origin: str


def normalisation_of(model: DTRAM, config: DataConfig, encoder_weights: str | None) -> Normalisation:
    """What the recipe asks for; else what the file of the encoder's weights states; else the encoder's own.

    Args:
        model: that of the recipe, with or without weights.
        config: the recipe's section `data`.
        encoder_weights: the recipe's key. A file is read.

    Raises:
        ValueError: the file, or a file beside it, states something else than a mean and a deviation.
    """
    cfg = model.pretrained_cfg
    values, origin = cfg, ".".join(filter(None, ["of the encoder " + model.backbone, cfg.get("tag")]))
    if encoder_weights not in (None, "timm"):
        origin += f", because {encoder_weights!r} states neither; data.mean and data.std change them"
        values, origin = stated_by_file(encoder_weights, model.backbone) or (values, origin)
    asked = {key: getattr(config, key) for key in KEYS if getattr(config, key) is not None}
    if asked:
        own = " and ".join(f"data.{key}" for key in asked)
        origin = f"of {own}" if len(asked) == len(KEYS) else f"of {own}, the other {origin}"
    found = {key: for_channels(asked.get(key, values[key]), model.in_chans) for key in KEYS}
    return Normalisation(found["mean"], found["std"], origin)


def normalise_as_asked(model: DTRAM, config: DataConfig, encoder_weights: str | None) -> None:
    """Give a model the mean and the deviation of `normalisation_of`, and say in one line which they are."""
    accelerate.PartialState()  # accelerate's loggers need it to know the main process
    found = normalisation_of(model, config, encoder_weights)
    model.pretrained_cfg |= {key: getattr(found, key) for key in KEYS}
    mean, std = (" ".join(f"{value:.4g}" for value in getattr(found, key)) for key in KEYS)
    logger.info(f"images: normalised by mean {mean} and std {std}, {found.origin}")
