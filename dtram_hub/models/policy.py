from ..inference.budget import threshold_for  # noqa
from .stopping import *  # noqa
from .stopping import confidence, first_stop, margin, stop_entropies, stop_log_probs  # noqa
