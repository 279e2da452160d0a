"""timm's configuration of a DT-RAM, made from its encoder's: mean, std, sizes, and names of modules."""

from collections.abc import Sequence
from dataclasses import replace

import timm
from timm.models._pretrained import PretrainedCfg, filter_pretrained_cfg
from torch import nn

from .arguments import IMAGE_SIZE
from .encoder import module_names

PAPER = "arXiv:1703.10332"  # among the `paper_ids` of a configuration that tells the origin of a DT-RAM
ORIGIN = ("license", "paper_ids", "paper_name", "origin_url", "notes")  # of weights, in timm's configuration


def tells_own_origin(cfg: dict) -> bool:
    """Whether a configuration tells where a DT-RAM's weights come from, and not only its encoder's."""
    return cfg.get("paper_ids") == PAPER


def around(encoder: PretrainedCfg) -> PretrainedCfg:
    """Turn an encoder's configuration into its DT-RAM's, with "encoder." before the names of modules."""
    return replace(
        encoder,
        architecture=None,
        input_size=(encoder.input_size[0], IMAGE_SIZE, IMAGE_SIZE),
        test_input_size=None,
        min_input_size=None,
        fixed_input_size=False,
        pool_size=None,
        test_pool_size=None,
        # timm reads tuples of names as well.
        first_conv=tuple(f"encoder.{name}" for name in module_names(encoder.first_conv)),  # type: ignore[arg-type]
        classifier=("head", *(f"encoder.{name}" for name in module_names(encoder.classifier))),  # type: ignore[arg-type]
    )


def adapt(cfg: dict, channels: int, side: int, aggregate: str, num_classes: int) -> None:
    """Correct a configuration by the channels, the image size, the answer and the classes of a model."""
    cfg["input_size"] = (channels, side, side)
    if aggregate == "last":
        cfg["classifier"] = "head"
    for key in ("mean", "std"):
        cfg[key] = for_channels(cfg[key], channels)
    if len(cfg.get("label_names") or ()) != num_classes:
        forget_names(cfg)


def for_channels(values: Sequence[float], channels: int) -> Sequence[float]:
    """One value for each channel: the given ones, or their average where there are more or fewer."""
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def forget_names(cfg: dict) -> None:
    """Remove the names of the classes, which belong to another classifier."""
    for key in ("label_names", "label_descriptions"):
        cfg.pop(key, None)


def saved_cfg(model: nn.Module) -> dict:
    """The part of a model's configuration that a checkpoint keeps: no source of weights, no names of classes.

    The licence and the papers of an encoder's weights are left out: they do not hold for what it has become.

    The tag names the weights that the model was created with, not the present ones.
    """
    cfg = filter_pretrained_cfg(model.pretrained_cfg, remove_source=True) | {"tag": None}
    for key in ("state_dict", "architecture", "label_names", "label_descriptions", "label_offset"):
        cfg.pop(key, None)
    for key in () if tells_own_origin(cfg) else ORIGIN:
        cfg.pop(key, None)
    return cfg | {"num_classes": model.num_classes}


def own_cfg(model: nn.Module) -> dict:
    """The configuration of a DTRAM that timm has not built: its encoder's mean, std and interpolation."""
    encoder = timm.get_pretrained_cfg(model.backbone, allow_unregistered=True) or PretrainedCfg()
    cfg = around(encoder).to_dict(remove_source=True) | {"architecture": "dtram"}
    cfg.pop("tag", None)
    adapt(cfg, model.in_chans, model.usual_side, model.aggregate, model.num_classes)
    forget_names(cfg)
    return cfg
