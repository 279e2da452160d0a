"""DT-RAM for timm and the Hugging Face Hub: networks that look again, and learn when to stop looking.

Importing this package registers its models with timm: `timm.create_model("dtram_resnet50")`.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING

from . import moved
from .images.pyramid import Pyramid
from .models import registry as _registry  # noqa: F401  (registers the models)
from .models.dtram import DTRAM
from .models.records import Prediction, Rollout

__version__ = "0.2.0"
__all__ = ["DTRAM", "Prediction", "Pyramid", "Rollout", "calibrate", "pull", "push", "stream"]

if TYPE_CHECKING:
    from .inference.budget import calibrate
    from .inference.stream import stream
    from .sharing.pull import pull
    from .sharing.push import push

# Imported at first use, because a model needs neither the Hub's client nor the model cards.
_LATER = {
    "calibrate": ".inference.budget",
    "pull": ".sharing.pull",
    "push": ".sharing.push",
    "stream": ".inference.stream",
}

moved.install(sys.modules[__name__])


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - moved.MOVED.keys())
