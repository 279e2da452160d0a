"""The timm names of our models, registered when this package is imported.

`dtram_<name>` is the DT-RAM around the timm architecture `<name>`, with the same tags. Every architecture of
the installed timm has one. `dtram` takes the architecture as `backbone`. Every folder of `weights/` is a
checkpoint that ships with the package, named `<architecture>.<tag>`.
"""

from collections import deque

import timm
from timm.models import register_model
from timm.models._pretrained import DefaultCfg

# timm's public function copies every entry, which takes longer than the rest of this module.
from timm.models._registry import _model_pretrained_cfgs, _model_with_tags

from . import small_encoders  # noqa: F401  (registers the encoders of small glimpses)
from .building import create
from .dtram import DTRAM
from .preprocessing import around
from .shipped import SHIPPED, WEIGHTS, shipped_cfg

__all__ = ["SHIPPED", "WEIGHTS", "default_cfgs"]

# The MNIST model of section 4.2: every look is a glimpse.
MNIST = {
    "backbone": "glimpse_mlp",
    "num_classes": 10,
    "in_chans": 1,
    "num_steps": 7,
    "image_size": 28,
    "context": "none",
    "glimpse_crop": 8,
    "hidden_size": 256,
    "aggregate": "last",
    "location_std": 0.05,
    "location_input": True,
    "locator": "stepwise",
}


def _default_cfg(architecture: str, encoder: str) -> DefaultCfg:
    """All tags of a DT-RAM: the encoder's, of which the first is the default, then the shipped ones."""
    cfgs = {}
    for name in _model_with_tags[encoder]:
        tag = name.partition(".")[2]
        cfgs[tag] = around(_model_pretrained_cfgs[name])
    for name in SHIPPED:
        if name.startswith(f"{architecture}."):
            cfgs.pop("", None)  # an empty tag means no weights
            cfgs[name.partition(".")[2]] = shipped_cfg(name)
    return DefaultCfg(tags=deque(cfgs), cfgs=cfgs)


def dtram(pretrained: bool = False, **kwargs) -> DTRAM:
    """A DT-RAM around `backbone`: any timm model, with its tag, as `hf-hub:...` or as `local-dir:...`.

    The preprocessing, and with `pretrained` the encoder's weights, are those of the timm model.
    """
    return create("dtram", pretrained, kwargs, backbone="resnet50")


def dtram_glimpse_mlp(pretrained: bool = False, **kwargs) -> DTRAM:
    """The paper's DT-RAM for MNIST (section 4.2), with glimpses of 8 pixels; the steps depend on the tag."""
    return create("dtram_glimpse_mlp", pretrained, kwargs, **MNIST)


def _of_architecture(backbone: str):
    """Make the entry point `dtram_<backbone>`."""

    name = f"dtram_{backbone}"

    def entry(pretrained: bool = False, **kwargs) -> DTRAM:
        return create(name, pretrained, kwargs, backbone=backbone)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f"DT-RAM around timm's `{backbone}`."
    return entry


def _register() -> None:
    ours = timm.list_models(module="small_encoders")
    entries = {dtram: "resnet50", dtram_glimpse_mlp: "glimpse_mlp"}
    entries |= {_of_architecture(name): name for name in timm.list_models(exclude_filters=ours)}
    for entry, encoder in entries.items():
        globals()[entry.__name__] = entry
        default_cfgs[entry.__name__] = _default_cfg(entry.__name__, encoder)
        register_model(entry)


default_cfgs: dict[str, DefaultCfg] = {}
_register()
