"""The encoder: any timm model, as a function from views (N, C, S, S) to pooled features (N, D).

The encoder stays a plain timm module, with timm's parameter names, pretrained weights and layer groups. The
rest of the package calls an encoder through these functions alone.
"""

import inspect
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..checks import nearest, short
from ..prompt import one_line
from .weights_file import check_finite, check_floats, read_header

# Keywords of timm that open files, or concern the weights and not the shape.
LOADING = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_model_args"}
LOADING |= {"pretrained_strict", "pretrained_filter_fn", "pruned", "checkpoint_path"}
LOADING |= {"cache_dir", "device", "dtype"}
MAP_STRIDE = 16  # the most pixels of the view in a cell of the map, along each side
MAP_SIDE = 4  # the fewest cells along each side
MOST_TRIED = 100e6  # parameters of the largest encoder that is tried out on the CPU


def create_encoder(
    backbone: str,
    num_classes: int,
    in_chans: int,
    view_sizes: set[int],
    loading: dict | None = None,
    **kwargs,
) -> nn.Module:
    """Build the timm model `backbone` for views of all `view_sizes`.

    Args:
        backbone: name of a timm architecture.
        num_classes: classes of the encoder's own classifier; 0 leaves the classifier out.
        in_chans: colour channels of the views.
        view_sizes: the sides of all views in pixels.
        loading: keywords of timm that load weights, such as `pretrained`; none by default.
        kwargs: further keywords of timm; none of LOADING.

    Raises:
        ValueError: the name is unknown, a keyword loads, or the model does not take views of these sizes.
        TypeError: the model does not know one of the keywords, as in timm.
    """
    check_backbone(backbone)
    check_no_loading(kwargs)
    extra, reason = size_keywords(backbone, view_sizes, in_chans, **kwargs)
    if extra is None:
        sizes = " and ".join(str(size) for size in sorted(view_sizes))
        raise ValueError(
            f"backbone={backbone!r} takes no views of {sizes} pixels and {in_chans} channels ({reason})."
            f"{_advice(backbone, in_chans)}"
        )
    loading = loading or {}
    encoder = timm.create_model(
        backbone, num_classes=num_classes, in_chans=in_chans, **extra, **kwargs, **loading
    )
    # timm loads the classifier too where the pretrained model has as many classes.
    pretrained = loading.get("pretrained") and encoder.pretrained_cfg["num_classes"] == num_classes
    if num_classes and not pretrained:
        _narrow_classifier(encoder)
    return encoder


def _narrow_classifier(encoder: nn.Module) -> None:
    """Draw fresh weights of a classifier anew, as torch does, where timm has drawn far wider ones.

    EfficientNets and MobileNets draw uniformly from ±C^-0.5 for C classes. Logits of few classes then have a
    standard deviation of several before they mean anything, and the quickest way to a lower loss is to turn
    the features off for good.
    """
    own = tuple(f"{name}." for name in module_names(encoder.pretrained_cfg.get("classifier")))
    for name, layer in encoder.named_modules():
        if f"{name}.".startswith(own) and isinstance(layer, nn.Linear | nn.Conv2d):
            of_torch = (3 * layer.weight[0].numel()) ** -0.5  # the standard deviation of its draws
            if not layer.weight.is_meta and layer.weight.std() > 2 * of_torch:
                layer.reset_parameters()


def check_no_loading(keywords: Iterable[str]) -> None:
    """ValueError if a keyword of the encoder opens files or loads weights."""
    if found := sorted(LOADING.intersection(keywords)):
        raise ValueError(
            f"{found[0]!r} is no keyword of an encoder, which loads nothing while it is built; its weights "
            "come through pretrained=True or load_encoder."
        )


@cache
def keywords_of(backbone: str) -> frozenset[str]:
    """The keywords that the class of the timm architecture names, except those of LOADING."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        kind = type(timm.create_model(backbone))
    bases: list[Any] = [base for base in kind.__mro__ if base is not nn.Module]
    named = (inspect.signature(base.__init__).parameters for base in bases)
    return frozenset(name for names in named for name in names) - LOADING - {"self", "args", "kwargs"}


def check_backbone(backbone: object) -> None:
    """ValueError unless `backbone` is the name of a timm architecture."""
    if isinstance(backbone, nn.Module):
        raise ValueError(
            f"backbone is a {type(backbone).__name__}; accepted is a name, which a checkpoint can keep."
        )
    if not isinstance(backbone, str) or not timm.is_model(backbone):
        raise ValueError(
            f"backbone={short(backbone)} is not a timm model.{nearest(str(backbone), timm.list_models())}"
        )
    if backbone.startswith("dtram"):
        raise ValueError(f"backbone={backbone!r} is a DT-RAM itself; accepted is a model that looks once.")


def size_keywords(
    backbone: str, view_sizes: set[int], in_chans: int = 3, **kwargs
) -> tuple[dict | None, str]:
    """The keywords with which timm builds a `backbone` that takes views of all these sizes.

    Some models take any size. Some need `dynamic_img_size`, some need `img_size`, and some take one size
    only. timm does not list which, so this function tries models out, once for each combination.

    Returns:
        The keywords and "", or None and the reason why the model without keywords failed.
    """
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in kwargs.items()}
    return _size_keywords(backbone, tuple(sorted(view_sizes)), in_chans, **frozen)


@cache
def _size_keywords(backbone: str, sizes: tuple[int, ...], in_chans: int, **kwargs) -> tuple[dict | None, str]:
    plain: dict[str, Any] = {}
    dynamic: dict[str, Any] = {"dynamic_img_size": True}
    built = [{"img_size": size} for size in dict.fromkeys((sizes[-1], sizes[0]))]
    candidates = [plain, dynamic, dynamic | {"dynamic_img_pad": True}, *built]
    config = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    # Models of one fixed size may index a table past its end; only a run on the CPU shows this.
    tables = config is not None and config.fixed_input_size and sizes != (own_size(backbone),)
    failure, parameters = _try_out("meta", backbone, sizes, in_chans, plain, kwargs)
    small = parameters <= MOST_TRIED
    if tables and not small:
        candidates = [*candidates[1:], plain]  # too large for the CPU, so keywords made for sizes go first
    for extra in candidates:
        if extra.keys() & kwargs.keys():
            continue
        found = failure if extra == plain else _try_out("meta", backbone, sizes, in_chans, extra, kwargs)[0]
        if found is None and tables and small and extra in (plain, *built):
            found = _try_out("cpu", backbone, sizes, in_chans, extra, kwargs)[0]
        if found is None:
            return extra, ""
        failure = failure or found
    return None, failure


@torch.no_grad()
def _try_out(
    device: str, backbone: str, sizes: tuple[int, ...], in_chans: int, extra: dict, kwargs: dict
) -> tuple[str | None, int]:
    """Encode one black view of every size.

    Returns:
        The reason of a failure, or None; and the number of the encoder's parameters.
    """
    parameters = 0
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            encoder = timm.create_model(backbone, num_classes=0, in_chans=in_chans, **extra, **kwargs).eval()
            parameters = sum(p.numel() for p in encoder.parameters())
            for size in sizes:
                shape = tuple(encode(encoder, torch.zeros(1, in_chans, size, size)).shape)
                if shape != (1, feature_size(encoder)):
                    return f"it gives features of shape {shape}", parameters
    except Exception as error:  # any error means that the model does not take these views
        if isinstance(error, TypeError) and not extra:
            raise  # a keyword of the caller is wrong
        reason = one_line(error, 160).rstrip(".")
        return reason or type(error).__name__, parameters
    return None, parameters


@cache
def has_classifier(backbone: str) -> bool:
    """Whether the timm architecture has a classifier; towers that return tokens have none."""
    config = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    if config is None or (config.classifier and config.num_classes):
        return True
    if not config.classifier:
        return False
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
            encoder = timm.create_model(backbone, num_classes=2).eval()
            logits = encode_and_classify(encoder, torch.zeros(1, *config.input_size))[1]
        return tuple(logits.shape) == (1, 2)
    except Exception:  # any error means that the model does not classify
        return False


def own_size(backbone: str) -> int:
    """The side of the architecture's default images in timm, in pixels; 224 if timm names none."""
    config = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    return 224 if config is None else max(config.input_size[1:])


def _advice(backbone: str, in_chans: int) -> str:
    """A sentence that names a view size which the model takes; "" if there is none."""
    size = own_size(backbone)
    if size_keywords(backbone, {size}, in_chans)[0] is None:
        return ""
    return f" It takes {size} for both: context='resize', context_size={size}, glimpse_size={size}."


def load_encoder(encoder: nn.Module, source: str | None, loading: dict | None = None, **kwargs) -> None:
    """Load pretrained weights into an encoder through timm's loader.

    The classifier is fresh if the pretrained model has another number of classes.

    Args:
        encoder: from `create_encoder`.
        source: a .safetensors file in timm's layout; None for the weights that timm downloads.
        loading: timm's `pretrained_cfg`, `pretrained_cfg_overlay`, `cache_dir`; none by default.
        kwargs: the keywords of `create_encoder`.

    Raises:
        ValueError: no such file, another file type, weights of another model, or weights that are no numbers.
    """
    if source is not None:
        if not source.endswith(".safetensors") or not Path(source).is_file():
            raise ValueError(
                f"encoder_weights={source!r} is neither 'timm' nor an existing .safetensors file."
            )
        loading = (loading or {}) | {
            "pretrained_cfg_overlay": {"file": source, "source": None, "custom_load": False}
        }
    try:
        trained = create_encoder(loading={"pretrained": True} | (loading or {}), **kwargs)
        if source is not None:
            _check_complete(trained, source)
        check_finite(trained.state_dict())
        encoder.load_state_dict(trained.state_dict())
    except (RuntimeError, ValueError, SafetensorError) as error:
        reason = one_line(error, 300)
        name = "timm's own" if source is None else repr(source)
        raise ValueError(f"encoder_weights={name} do not fit {kwargs['backbone']!r}: {reason}") from None


def _check_complete(model: nn.Module, path: str) -> None:
    """RuntimeError if the names in a weight file differ from the model's, the classifier's excepted.

    timm loads such a file without a word.
    """
    own = tuple(f"{name}." for name in module_names(model.pretrained_cfg.get("classifier")))
    found, expected = read_header(path), model.state_dict()
    check_floats(found, expected)
    odd = sorted(name for name in found.keys() ^ expected.keys() if not name.startswith(own))
    if odd:
        raise RuntimeError(f"{len(odd)} tensors are missing or foreign, {odd[0]!r} for one.")


def module_names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """Turn the `classifier` or `first_conv` of a timm configuration into a tuple of names."""
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def feature_size(encoder: nn.Module) -> int:
    """D, the width of the pooled features; timm's `num_features` may differ."""
    return encoder.head_hidden_size


def reads_locations(encoder: nn.Module) -> bool:
    """Whether the encoder reads the location of each view, as `glimpse_mlp` does."""
    return getattr(encoder, "reads_locations", False)


def encode(encoder: nn.Module, views: Tensor, locations: Tensor | None = None) -> Tensor:
    """Encode views (N, C, S, S) into pooled features (N, D).

    `locations` (N, 2) in [-1, 1] are for an encoder that reads locations.
    """
    if not encoder.num_classes and locations is None:
        return _pooled(encoder(views))  # a tower has no `forward_head`
    read = () if locations is None else (locations,)
    return _pooled(encoder.forward_head(encoder.forward_features(views, *read), pre_logits=True))


def _pooled(features: Tensor) -> Tensor:
    """Average tokens (N, L, D) or a map (N, D, h, w) to (N, D); (N, D) stays as it is."""
    if features.ndim == 3:
        return features.mean(1)
    return features.mean((2, 3)) if features.ndim == 4 else features


def encode_and_classify(
    encoder: nn.Module, views: Tensor, locations: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `encode`; returns features (N, D) and the logits (N, num_classes) of the encoder's classifier."""
    read = () if locations is None else (locations,)
    maps = encoder.forward_features(views, *read)
    return _pooled(encoder.forward_head(maps, pre_logits=True)), encoder.forward_head(maps)


def encode_with_map(
    encoder: nn.Module, views: Tensor, index: int, classify: bool = False
) -> tuple[Tensor, Tensor | None, Tensor]:
    """As `encode`; also the logits (N, C) if `classify`, and the map (N, K, h, w) at `index`."""
    # Some encoders end at the last map that they are asked for.
    ends = len(encoder.feature_info) - 1
    last, (cells, *_) = encoder.forward_intermediates(views, indices=sorted({index, ends}))
    logits = encoder.forward_head(last) if classify else None
    return _pooled(encoder.forward_head(last, pre_logits=True)), logits, cells


def cut_after_map(encoder: nn.Module, index: int) -> nn.Module:
    """Remove the layers of an encoder that its map at `index` does not need; the others keep their names."""
    if hasattr(encoder, "prune_intermediate_layers"):
        encoder.prune_intermediate_layers([index])
    return encoder


def encode_map(encoder: nn.Module, views: Tensor, index: int) -> Tensor:
    """The map (N, K, h, w) at `index` of views (N, C, S, S) alone."""
    return encoder.forward_intermediates(views, indices=[index], intermediates_only=True)[0]


def map_index(encoder: nn.Module, size: int) -> int | None:
    """The index of the map that policies and answers read; None for an encoder without maps.

    It is the deepest map with fine enough cells: of at most MAP_STRIDE pixels, and MAP_SIDE or more along the
    side of a view of `size` pixels. If all are coarser, it is the finest.
    """
    if not hasattr(encoder, "forward_intermediates") or not getattr(encoder, "feature_info", None):
        return None
    most = min(MAP_STRIDE, size / MAP_SIDE)
    fine = [index for index, found in enumerate(encoder.feature_info) if found["reduction"] <= most]
    return fine[-1] if fine else 0


def map_channels(encoder: nn.Module, index: int) -> int:
    """K, the channels of the map at `index`."""
    return encoder.feature_info[index]["num_chs"]
