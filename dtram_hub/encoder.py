"""The glimpse encoder: any timm model, read as (N, C, S, S) views -> (N, D) pooled features.

The encoder stays the plain timm module, so its parameter names, pretrained weights and layer groups are
timm's own. These functions are all that the rest of the package knows about it.
"""

from pathlib import Path

import timm
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from .checks import nearest


def create_encoder(
    backbone: str, num_classes: int, in_chans: int, view_sizes: set[int], **kwargs
) -> nn.Module:
    """Build the timm model named `backbone`, without weights.

    Args:
        backbone: a timm model name.
        num_classes: of the encoder's own classifier; 0 leaves it out.
        in_chans: colour channels of the views.
        view_sizes: the sides of all views that it will see, in pixels.
        kwargs: for timm.

    Raises:
        ValueError: the name is unknown, or the model takes one input size and `view_sizes` has two.
    """
    if not isinstance(backbone, str) or not timm.is_model(backbone):
        raise ValueError(
            f"backbone={backbone!r} is not a timm model.{nearest(str(backbone), timm.list_models())}"
        )
    config = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    if config is not None and config.fixed_input_size:
        if len(view_sizes) > 1:
            sizes = " and ".join(str(size) for size in sorted(view_sizes))
            raise ValueError(
                f"backbone={backbone!r} takes one input size, not context_size and glimpse_size of {sizes}; "
                "make them equal, with context='resize'."
            )
        kwargs = {"img_size": max(view_sizes)} | kwargs
    return timm.create_model(backbone, num_classes=num_classes, in_chans=in_chans, **kwargs)


def load_encoder_weights(encoder: nn.Module, backbone: str, in_chans: int, source: str) -> None:
    """Start an encoder from pretrained weights, through timm's own loader; its classifier may stay fresh.

    Args:
        encoder: from `create_encoder`.
        backbone: its timm name.
        in_chans: colour channels of its views.
        source: "timm" downloads timm's default weights; else a .safetensors file in timm's layout.

    Raises:
        ValueError: no such file, another file type, or weights of another model.
    """
    overlay = {}
    if source != "timm":
        if not source.endswith(".safetensors") or not Path(source).is_file():
            raise ValueError(
                f"encoder_weights={source!r} is neither 'timm' nor an existing .safetensors file."
            )
        overlay = {"pretrained_cfg_overlay": {"file": source}}
    try:
        trained = timm.create_model(
            backbone, pretrained=True, num_classes=encoder.num_classes, in_chans=in_chans, **overlay
        )
        if overlay:
            _check_complete(trained, source)
        encoder.load_state_dict(trained.state_dict())
    except (RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"encoder_weights={source!r} do not fit {backbone!r}: {reason}") from None


def _check_complete(model: nn.Module, path: str) -> None:
    """RuntimeError unless a weight file holds the model's tensors, classifier aside: timm would not mind."""
    classifiers = model.pretrained_cfg.get("classifier") or ()
    own = tuple(f"{name}." for name in ([classifiers] if isinstance(classifiers, str) else classifiers))
    with safe_open(path, framework="pt") as file:
        odd = sorted(name for name in set(file.keys()) ^ set(model.state_dict()) if not name.startswith(own))
    if odd:
        raise RuntimeError(f"{len(odd)} tensors are missing or foreign, {odd[0]!r} for one.")


def feature_size(encoder: nn.Module) -> int:
    """D, the width of the pooled features. timm's `num_features` can be another."""
    return encoder.head_hidden_size


def reads_locations(encoder: nn.Module) -> bool:
    """Whether the encoder itself can be told where a view was taken, as `glimpse_mlp` can."""
    return getattr(encoder, "reads_locations", False)


def encode(encoder: nn.Module, views: Tensor, locations: Tensor | None = None) -> Tensor:
    """(N, C, S, S), and (N, 2) for an encoder that reads locations -> (N, D) pooled features."""
    where = () if locations is None else (locations,)
    return encoder.forward_head(encoder.forward_features(views, *where), pre_logits=True)


def encode_and_classify(encoder: nn.Module, views: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, S, S) -> (N, D) pooled features and (N, num_classes) logits of the encoder's own classifier."""
    maps = encoder.forward_features(views)
    return encoder.forward_head(maps, pre_logits=True), encoder.forward_head(maps)
