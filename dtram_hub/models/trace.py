"""A trace: what a prediction keeps of every image while its looks go on."""

import torch
from torch import Tensor, nn

from .records import Prediction, State


class Trace:
    """The locations, stop probabilities and answers of P images.

    Args:
        model: a DTRAM.
        like: a tensor of the dtype and on the device of h.
        places: P.
        max_steps: T, the largest number of steps of an image.
    """

    def __init__(self, model: nn.Module, like: Tensor, places: int, max_steps: int):
        self.model = model
        self.locations = like.new_full((places, max_steps, 2), torch.nan)
        self.stop_probs = like.new_full((places, max_steps), torch.nan)
        self.steps = torch.full((places,), max_steps, device=like.device)
        self.features: Tensor | None = None

    def clear(self, rows: Tensor) -> None:
        """Forget the images at `rows` (N,), whose places others take."""
        self.locations[rows] = torch.nan
        self.stop_probs[rows] = torch.nan

    def look(self, images: object, state: State) -> tuple[State, Tensor | None]:
        """Take the next best look of every row of a state, and note where it was.

        Returns:
            The state after the look, and the probabilities (N,) to stop there; None for a RAM.
        """
        model, looks = self.model, state.looks.expand(state.count)
        rows = torch.arange(state.count, device=looks.device) if state.rows is None else state.rows
        location = model.best_location(state) if state.begun else model.first_location(state)
        if location is not None:
            self.locations[rows, looks] = location.to(self.locations.dtype)
        state = model.advance(images, state, location)
        if not model.dynamic:
            return state, None
        probs = model.stop_logit(state, model.logits(state)).sigmoid()
        self.stop_probs[rows, looks] = probs.to(self.stop_probs.dtype)
        return state, probs

    def finish(self, state: State) -> None:
        """Note the answers of all rows of a state, which take no further look."""
        features = self.model.join_features(state)
        if state.rows is None:
            self.features = features
            self.steps[:] = state.looks
            return
        if self.features is None:
            self.features = features.new_zeros(len(self.steps), features.shape[1])
        self.features[state.rows] = features
        self.steps[state.rows] = state.looks

    def prediction(self, rows: Tensor | slice = slice(None)) -> Prediction:
        """The prediction of the images at `rows`, all of them finished."""
        features = self.features[rows]
        logits = self.model.forward_head(features)
        return Prediction(logits, self.steps[rows], self.locations[rows], self.stop_probs[rows], features)
