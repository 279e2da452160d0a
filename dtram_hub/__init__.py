"""DT-RAM for timm and the Hugging Face Hub: networks that look again, and learn when to stop looking.

Importing this package registers its models with timm: `timm.create_model("dtram_resnet50")`.
"""

from . import registry  # noqa: F401  (registers the models)
from .early_exit import Prediction, calibrate
from .hub import pull, push
from .model import DTRAM, Rollout

__version__ = "0.1.0"
__all__ = ["DTRAM", "Prediction", "Rollout", "calibrate", "pull", "push"]
