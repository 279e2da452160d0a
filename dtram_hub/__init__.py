"""DT-RAM for timm and the Hugging Face Hub: networks that look again, and learn when to stop looking.

Importing this package registers its models with timm: `timm.create_model("dtram_resnet50")`.
"""

from .models import registry  # noqa: F401  (registers the models)
from .models.dtram import DTRAM, Rollout
from .models.early_exit import Prediction, calibrate
from .sharing.hub import pull, push

__version__ = "0.1.0"
__all__ = ["DTRAM", "Prediction", "Rollout", "calibrate", "pull", "push"]
