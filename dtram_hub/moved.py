"""Old import paths: `from dtram_hub.export import export_looks` still works, with a warning.

Every old path holds a stand-in module, which imports the new module when a name is read.
"""

import sys
import warnings
from importlib import import_module
from types import ModuleType

MOVED = {  # old path -> new paths, searched in this order; all within dtram_hub
    "augment": ("data.augment",),
    "canvas": ("data.canvas", "data.cache"),
    "cards": ("sharing.cards",),
    "checkpoint": ("models.checkpoint",),
    "cluttered_digits": ("data.digits",),
    "compute": ("models.flops",),
    "curriculum": ("learning.curriculum", "learning.task"),
    "early_exit": ("models.early_exit", "models.records", "inference.budget"),
    "encoder": ("models.encoder",),
    "evaluation": ("learning.evaluation",),
    "export": ("models.export",),
    "glimpse": ("models.glimpse",),
    "hub": ("sharing.push", "sharing.pull"),
    "losses": ("learning.losses",),
    "metrics": ("learning.metrics", "learning.step_accuracy"),
    "mnist": ("data.mnist",),
    "model": ("models.dtram", "models.records"),
    "policy": ("models.location", "models.stopping", "inference.budget"),
    "recipe": ("learning.recipe",),
    "registry": ("models.registry",),
    "report": ("learning.report",),
    "resume": ("learning.resume", "learning.shared_stages"),
    "small_encoders": ("models.small_encoders",),
    "sources": ("data.layouts", "data.sources"),
}


class Moved(ModuleType):
    """The stand-in at a module's old path."""

    def __init__(self, old: str, new: tuple[str, ...]) -> None:
        super().__init__(old, f"Moved to {' and '.join(new)}.")
        self._new = new

    def __reduce__(self) -> tuple:
        """Pickle by name, as modules are by libraries that send functions to other processes."""
        return import_module, (self.__name__,)

    def __getattr__(self, name: str) -> object:
        """Read a name from the module's new path, with a FutureWarning.

        Raises:
            AttributeError: the new modules have no such name either.
        """
        # Tools read names such as __path__ from every module, which must neither warn nor import.
        for new in () if name.startswith("_") else self._new:
            module = import_module(new)
            if hasattr(module, name):
                sentence = f"{self.__name__} has moved; import {name} from {new}."
                warnings.warn(sentence, FutureWarning, stacklevel=2)
                return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}. {self.__doc__}")


def install(package: ModuleType) -> None:
    """Install a stand-in at every old path of `package`."""
    for old, new in MOVED.items():
        stand_in = Moved(f"{package.__name__}.{old}", tuple(f"{package.__name__}.{path}" for path in new))
        sys.modules[stand_in.__name__] = stand_in
        setattr(package, old, stand_in)
