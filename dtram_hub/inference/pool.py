"""Continuous batching: images that stop make room for others, so that the encoder's batches stay full."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..images.pyramid import UnreadableImage
from ..models.glimpse import Images
from ..models.records import Prediction, State
from ..models.trace import Trace
from .pace import Pace
from .places import Image, Places

FAULTS = (UnreadableImage, MemoryError, RuntimeError)  # torch has no other kind for a full memory of the CPU
PATIENCE = 8  # batches of images that may overtake one that waits for its next look


@dataclass(frozen=True)
class Finished:
    """Images that take no further look.

    keys: what the caller called them.
    found: their prediction, on the CPU; None if there is none.
    error: why there is none, or "".
    """

    keys: list[int]
    found: Prediction | None
    error: str = ""


class Pool:
    """Images that are being looked at. First looks and later ones are encoded in full batches of their own.

    Args:
        model: a DTRAM in evaluation mode.
        batch_size: images per look.
        max_steps: the largest number of steps of an image.
        pace: decides which images go on.
    """

    def __init__(self, model: nn.Module, batch_size: int, max_steps: int, pace: Pace):
        self.model, self.batch_size, self.max_steps, self.pace = model, batch_size, max_steps, pace
        count = 2 * batch_size  # fewer than a batch wait when a new one comes
        self.places, self.free = Places(model, count), list(range(count))
        self.keys: dict[int, int] = {}  # by place
        self.born: dict[int, int] = {}  # the number of images before it, by place
        self.admitted = 0
        self.waiting: State | None = None  # the rows that take another look, the longest waiting first
        like = next(model.parameters())
        self.trace = Trace(model, like.new_zeros(0), count, max_steps)

    @torch.no_grad()
    def admit(self, keys: list[int], images: Images | list[Image]) -> list[Finished]:
        """Look at new images for the first time, at most `batch_size` of them."""
        places = [self.free.pop() for _ in keys]
        self.places.put(places, images)
        for place, key in zip(places, keys, strict=True):
            self.keys[place], self.born[place] = key, self.admitted
            self.admitted += 1
        rows = torch.tensor(places, device=self.trace.steps.device)
        self.trace.clear(rows)
        batch = self.places.batch()
        return self._look(batch, self.model.begin(batch).index(rows))

    @torch.no_grad()
    def glimpse(self, count: int) -> list[Finished]:
        """Look again at the `count` images that have waited longest."""
        state, self.waiting = self.waiting, None
        if count < len(state):
            order = torch.arange(len(state), device=state.hidden.device)
            state, self.waiting = state.index(order[:count]), state.index(order[count:])
        return self._look(self.places.batch(), state)

    def full_glimpses(self) -> Iterator[Finished]:
        """Take later looks as long as full batches of them wait, or an image has waited for long."""
        while self.waiting is not None and (len(self.waiting) >= self.batch_size or self._is_overdue()):
            yield from self.glimpse(self.batch_size)

    def drain(self) -> Iterator[Finished]:
        """Take all looks that are left, because no more images come."""
        while self.waiting is not None:
            yield from self.glimpse(self.batch_size)

    def _is_overdue(self) -> bool:
        oldest = min(self.born[place] for place in self.waiting.rows.tolist())
        return self.admitted - oldest > PATIENCE * self.batch_size

    def _look(self, images: Images, state: State) -> list[Finished]:
        """Take one look of all rows of a state; returns the images that it was the last for."""
        try:
            state, probs = self.trace.look(images, state)
        except FAULTS as error:
            if len(state) == 1:
                return [self._fail(int(state.rows), error)]
            half = torch.arange(len(state), device=state.hidden.device).tensor_split(2)
            return [found for part in half for found in self._look(images, state.index(part))]
        looks = state.looks.expand(len(state)).cpu()
        goes_on = self.pace.goes_on(looks, None if probs is None else probs.float().cpu())
        goes_on &= looks < self.max_steps
        stops = (~goes_on).nonzero().squeeze(1).to(state.hidden.device)
        goes_on = goes_on.nonzero().squeeze(1).to(state.hidden.device)
        if len(goes_on):
            more = state.index(goes_on)
            self.waiting = more if self.waiting is None else State.cat([self.waiting, more])
        return [self._finish(state.index(stops))] if len(stops) else []

    def _finish(self, state: State) -> Finished:
        self.trace.finish(state)
        return Finished(self._leave(state.rows), self.trace.prediction(state.rows).to("cpu"))

    def _fail(self, place: int, error: Exception) -> Finished:
        """The end of an image that could not be looked at."""
        if isinstance(error, UnreadableImage):
            cause = error.__cause__  # without its place in the batch
            reason = f"is no readable image ({cause if isinstance(cause, UnreadableImage) else error})"
        else:
            text = str(error).partition("\n")[0] or "no memory is left"
            reason = f"could not be answered ({type(error).__name__}: {text})"
        return Finished(self._leave(torch.tensor([place])), None, reason)

    def _leave(self, rows: Tensor) -> list[int]:
        """Free places; returns the keys of their images."""
        places = rows.tolist()
        self.free += places
        return [self.keys.pop(place) for place in places]
