"""The names that timm knows our models by, once this package is imported.

`dtram` takes any timm model as `backbone`; `dtram_<name>` is the DT-RAM of that timm architecture. Every
folder of `weights/` is a checkpoint that ships with the package, named `<architecture>.<tag>`.
"""

import json
from pathlib import Path

import timm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

from . import small_encoders  # noqa: F401  (registered first: models here are named after them)
from .model import DTRAM


def _cfg(backbone: str, image_size: int = 512) -> dict:
    """The encoder's preprocessing and class count, around an image of our size."""
    encoder = timm.get_pretrained_cfg(backbone)
    return {
        "num_classes": encoder.num_classes,
        "input_size": (encoder.input_size[0], image_size, image_size),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": encoder.interpolation,
        "mean": encoder.mean,
        "std": encoder.std,
        "first_conv": f"encoder.{encoder.first_conv}",
        "classifier": ("head", f"encoder.{encoder.classifier}"),
    }


WEIGHTS = Path(__file__).parent / "weights"
SHIPPED = {path.parent.name: json.loads(path.read_text()) for path in sorted(WEIGHTS.glob("*/config.json"))}
# The model of section 4.2 for MNIST: every look is a glimpse, the first one too.
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


def _shipped_cfg(name: str, config: dict) -> dict:
    cfg = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config["pretrained_cfg"].items()
    }
    return cfg | {"file": str(WEIGHTS / name / "model.safetensors")}


default_cfgs = generate_default_cfgs(
    {name: _shipped_cfg(name, config) for name, config in SHIPPED.items()}
    | {f"dtram_{name}": _cfg(name) for name in ("resnet18", "resnet50", "mobilenetv2_100")}
    | {"dtram": _cfg("resnet50"), "dtram_glimpse_mlp": _cfg("glimpse_mlp", 28)}
)


def _create(variant: str, pretrained: bool, kwargs: dict, **defaults) -> DTRAM:
    """Build a model with the caller's keywords, else those of its shipped checkpoint, else `defaults`."""
    tag = kwargs.get("pretrained_cfg")
    if pretrained and tag is None and timm.is_model_pretrained(variant):
        tag = timm.get_pretrained_cfg(variant).tag
    trained = SHIPPED.get(f"{variant}.{tag}", {}).get("model_args", {})
    kwargs = defaults | trained | kwargs
    model = build_model_with_cfg(DTRAM, variant, pretrained, **kwargs)
    size, channels = model.image_size, model.in_chans
    model.pretrained_cfg["input_size"] = (channels, size, size)
    for key in ("mean", "std"):
        values = model.pretrained_cfg[key]
        if len(values) != channels:
            model.pretrained_cfg[key] = (sum(values) / len(values),) * channels
    # timm writes these into config.json and hands them back on load; without them, defaults would be guessed.
    model._model_args = model.arguments()
    return model


@register_model
def dtram(pretrained: bool = False, **kwargs) -> DTRAM:
    """A DT-RAM around `backbone`, any timm model; the preprocessing is that model's."""
    backbone = kwargs.get("backbone", "resnet50")
    if not kwargs.get("pretrained_cfg") and timm.get_pretrained_cfg(backbone) is not None:
        kwargs["pretrained_cfg"] = _cfg(backbone, kwargs.get("image_size", 512)) | {"architecture": "dtram"}
    return _create("dtram", pretrained, kwargs)


@register_model
def dtram_resnet18(pretrained: bool = False, **kwargs) -> DTRAM:
    """DT-RAM around ResNet-18, 448-pixel context and 224-pixel glimpses of 512-pixel images."""
    return _create("dtram_resnet18", pretrained, kwargs, backbone="resnet18")


@register_model
def dtram_resnet50(pretrained: bool = False, **kwargs) -> DTRAM:
    """DT-RAM around ResNet-50, as in the paper: 448-pixel context, 224-pixel glimpses, 512-pixel images."""
    return _create("dtram_resnet50", pretrained, kwargs, backbone="resnet50")


@register_model
def dtram_mobilenetv2_100(pretrained: bool = False, **kwargs) -> DTRAM:
    """DT-RAM around MobileNetV2, 448-pixel context and 224-pixel glimpses of 512-pixel images."""
    return _create("dtram_mobilenetv2_100", pretrained, kwargs, backbone="mobilenetv2_100")


@register_model
def dtram_glimpse_mlp(pretrained: bool = False, **kwargs) -> DTRAM:
    """DT-RAM of 8-pixel glimpses at 28-pixel digits, the paper's for MNIST; every tag has its own steps."""
    return _create("dtram_glimpse_mlp", pretrained, kwargs, **MNIST)
