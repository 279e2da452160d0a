"""The keywords of a DTRAM and their bounds.

The bounds are generous for a user. They keep a stranger's configuration from filling the memory.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..checks import check_choice, check_flag, check_integer, check_number, check_range
from ..images.uniform import CROP_MODES
from .answer import ANSWERS
from .encoder import check_backbone
from .glimpse import CONTEXTS
from .location import LOCATORS
from .stopping import STOPPERS

IMAGE_SIZE = 512  # section 4.2, with context views of 448 and glimpses of 224 pixels
NATIVE = "native"  # the image size of a model whose images are as large as they come; timm drops None
LARGEST_VIEW = 4096  # pixels of one side, as the encoder sees it
LARGEST_TENSOR = 2**30  # numbers in an image, a view or a head; 4 GiB in single precision

_view = partial(check_integer, least=1, most=LARGEST_VIEW)


def _check_image_size(name: str, value: object) -> None:
    if value != NATIVE:
        check_integer(name, value, 1, 16384)


CHECKS: dict[str, Callable[[str, Any], None]] = {
    "backbone": lambda name, value: check_backbone(value),
    "num_classes": partial(check_integer, least=0, most=1_000_000),
    "in_chans": partial(check_integer, least=1, most=1024),
    "num_steps": partial(check_integer, least=1, most=1000),
    "image_size": _check_image_size,
    "context": partial(check_choice, choices=CONTEXTS),
    "context_size": _view,
    "glimpse_crop": _view,
    "glimpse_size": _view,
    "glimpse_scales": partial(check_integer, least=1, most=8),
    "hidden_size": partial(check_integer, least=1, most=16384),
    "aggregate": partial(check_choice, choices=ANSWERS),
    "location_std": partial(check_number, low=0, high=2, open_low=True),
    "locator": partial(check_choice, choices=LOCATORS),
    "location_input": check_flag,
    "dynamic": check_flag,
    "stopper": partial(check_choice, choices=STOPPERS),
    "stop_threshold": partial(check_number, low=0, high=1),
    "crop_mode": partial(check_choice, choices=CROP_MODES),
    "context_encoder": partial(check_choice, choices=("shared", "own")),
    "levels": check_range,
}
# A glimpse without a size has that of its crop, and levels without a range have that of their dtype.
OPTIONAL = {"glimpse_size", "levels"}


def check_each(arguments: Mapping[str, Any]) -> None:
    """ValueError unless every keyword of CHECKS among `arguments` has an accepted value."""
    for name, check in CHECKS.items():
        if name in arguments and not (name in OPTIONAL and arguments[name] is None):
            check(name, arguments[name])


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """ValueError unless the values of all keywords of CHECKS are accepted, alone and together."""
    check_each(arguments)
    context, aggregate, scales = (arguments[name] for name in ("context", "aggregate", "glimpse_scales"))
    if context == "none" and ANSWERS[aggregate].needs_context:
        raise ValueError(
            f"aggregate={aggregate!r} needs a context view; context='none' takes aggregate='last'."
        )
    if arguments["context_encoder"] == "own" and (context == "none" or ANSWERS[aggregate].asks_first):
        raise ValueError(
            f"context_encoder='own' gives a map and no classifier; context={context!r} with "
            f"aggregate={aggregate!r} does not read it. Accepted is aggregate='evidence' or 'last'."
        )
    if scales > 1 and context != "none":
        raise ValueError(
            f"glimpse_scales={scales} stacks channels that a context view does not have; "
            "it takes context='none'."
        )
    least = largest_view(context, arguments["context_size"], arguments["glimpse_crop"])
    if arguments["image_size"] != NATIVE and arguments["image_size"] < least:
        raise ValueError(
            f"image_size={arguments['image_size']} is smaller than the largest view, {least} pixels."
        )
    _check_tensors(arguments)


def usual_side(arguments: Mapping[str, Any]) -> int:
    """The side of the square images that timm prepares for a model: its `image_size`, or its largest view."""
    side = arguments.get("image_size", IMAGE_SIZE)
    if side != NATIVE:
        return side
    context = 0 if arguments.get("context") == "none" else arguments.get("context_size", 0)
    return max(context, arguments.get("glimpse_crop", 0)) or IMAGE_SIZE


def largest_view(context: str, context_size: int, glimpse_crop: int) -> int:
    """The side in image pixels of the largest view that is not resized."""
    return max(glimpse_crop, context_size if context == "crop" else 0)


def _check_tensors(arguments: Mapping[str, Any]) -> None:
    """ValueError if an image, a view or a head has more than LARGEST_TENSOR numbers."""
    widest = arguments["glimpse_crop"] * 2 ** (arguments["glimpse_scales"] - 1)
    sides = {"image_size": usual_side(arguments), "glimpse_crop": widest}
    sides |= {name: arguments[name] for name in ("glimpse_size", "context_size")}
    for name, side in sides.items():
        if arguments["in_chans"] * side**2 > LARGEST_TENSOR:
            raise ValueError(
                f"{name}={arguments[name]} with in_chans={arguments['in_chans']} and "
                f"glimpse_scales={arguments['glimpse_scales']} makes tensors of {side} x {side} pixels; "
                f"accepted are {LARGEST_TENSOR:,} numbers."
            )
    if arguments["num_classes"] * arguments["hidden_size"] > LARGEST_TENSOR:
        raise ValueError(
            f"num_classes={arguments['num_classes']} with hidden_size={arguments['hidden_size']} makes a "
            f"head of more than {LARGEST_TENSOR:,} numbers."
        )
