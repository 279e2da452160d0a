"""Operations per look, counted by torch while the model runs, and accuracy by mean steps."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class Compute:
    """GFLOPs for one image; a multiplication and its addition count as two.

    first_look: GFLOPs of the first look.
    later_look: GFLOPs of every later look.
    """

    first_look: float
    later_look: float

    def at(self, steps: float) -> float:
        """GFLOPs of `steps`, which may be a mean."""
        return self.first_look + (steps - 1) * self.later_look


def count_compute(model: nn.Module) -> Compute:
    """Count the operations of `predict` of a DTRAM on one image of its `usual_side`."""
    reference = next(model.parameters())
    image = reference.new_zeros(1, model.in_chans, model.usual_side, model.usual_side)
    training = model.training
    model.eval()
    counts = []
    for steps in (1, 2):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.predict(image, stop_threshold=1.0, max_steps=steps)
        counts.append(counter.get_total_flops() / 1e9)
    model.train(training)
    return Compute(counts[0], counts[1] - counts[0])


def accuracy_at_mean_steps(curve: list[dict], mean_steps: float) -> float:
    """Accuracy of a `threshold_curve` at `mean_steps`, interpolated between its points."""
    steps, accuracies = zip(*sorted((point["mean_steps"], point["accuracy"]) for point in curve), strict=True)
    return float(np.interp(mean_steps, steps, accuracies))
