"""Sources: each value of `data.source`, and the function that loads it.

A new source is a function of (config, seed, form) that returns `Data`, and one line of SOURCES. The
function's keyword-only arguments are the keys of `data.options`.
"""

import inspect
from collections.abc import Callable
from functools import partial

import accelerate

from ..checks import check_choice, nearest
from . import layouts
from .canvas import Form
from .config import HUB, DataConfig
from .deeppcb import load_deeppcb
from .digits import load_digits
from .mnist import load_mnist
from .photographs import load_folder, load_hub
from .splits import Data

SOURCES: dict[str, Callable[..., Data]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "imagefolder": partial(load_folder, layouts.open_imagefolder),
    "parquet": partial(load_folder, layouts.open_parquet),
    "cub": partial(load_folder, layouts.open_cub),
    "cars": partial(load_folder, layouts.open_cars),
    "deeppcb": load_deeppcb,
    HUB: load_hub,
}


def load(
    config: DataConfig,
    *,
    seed: int,
    image_size: int | None,
    in_chans: int,
    keeps_aspect: bool = False,
    colour: tuple[int, ...] = (),
) -> Data:
    """Load every split of a data source.

    Args:
        config: the recipe's section `data`.
        seed: another seed generates or holds out other images.
        image_size: side of the square images in pixels, or the longer side of those that keep their aspect;
            None for images as large as they come.
        in_chans: 1 for grey, 3 for RGB.
        keeps_aspect: whether images keep their aspect.
        colour: as in `Form`.

    Raises:
        ValueError: an unknown source or option, no images, unreadable images, or a class with too few.
        ConnectionError: the Hub does not answer.
    """
    accelerate.PartialState()  # accelerate's loggers need it to know the main process
    name = HUB if config.on_hub else config.source
    check_choice("data.source", name, SOURCES)
    parameters = inspect.signature(SOURCES[name]).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in config.options:
        if option not in known:
            raise ValueError(
                f"data.options.{option} is unknown to data.source={config.source!r}.{nearest(option, known)}"
            )
    form = Form(in_chans, image_size, keeps_aspect, config.levels, config.crop_mode, colour)
    if not form.is_square and form.crop_mode != Form.crop_mode:
        raise ValueError(
            f"data.crop_mode={form.crop_mode!r} makes squares; with context='fit' or image_size=null images "
            "keep their shape."
        )
    return SOURCES[name](config, seed, form, **config.options)
