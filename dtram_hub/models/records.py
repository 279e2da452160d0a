"""Plain records that the rooms pass on: what a look gave, what the next look needs, what comes out.

B images, N rows (images times rollouts), T looks, H hidden width, C classes, D features, L cells of a feature
map of width K. A field is None, or an empty tuple, where a model has no such thing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """What the encoder made of one view of each row.

    features (N, D): pooled.
    own_logits (N, C): of the encoder's own classifier, if the answer asked for them.
    cells (N, L, K): the feature map, if a part asked for it; of the context view alone.
    centres (N, L, 2): centre of each cell, (y, x) in the [-1, 1] of the whole image.
    valid (N, L) bool: whether the cell lies in the image.
    """

    features: Tensor
    own_logits: Tensor | None = None
    cells: Tensor | None = None
    centres: Tensor | None = None
    valid: Tensor | None = None


@dataclass(frozen=True)
class State:
    """All that the next look needs.

    hidden (N, H): h_t of Eq. 3; zeros before the first look.
    looks () or (N,) int64: how many were taken; a tensor, so that it broadcasts and exports.
    own (N, C): the encoder's own part in the answer so far.
    fixed: tensors (N, ..) of the location policy, set by the context view.
    memory: tensors (N, ..) of the location policy, changed by every glimpse.
    rows (N,) int64: the image of each row; None where row i reads image i. Images are never copied.
    """

    hidden: Tensor
    looks: Tensor
    own: Tensor | None = None
    fixed: tuple[Tensor, ...] = ()
    memory: tuple[Tensor, ...] = ()
    rows: Tensor | None = None

    def __len__(self) -> int:
        return self.hidden.shape[0]

    def index(self, which: Tensor) -> "State":
        """The rows at `which`, indices (M,) int64 or a mask (N,) bool."""
        rows = torch.arange(len(self), device=self.hidden.device) if self.rows is None else self.rows
        return State(
            self.hidden[which],
            self.looks[which] if self.looks.ndim else self.looks,
            None if self.own is None else self.own[which],
            tuple(tensor[which] for tensor in self.fixed),
            tuple(tensor[which] for tensor in self.memory),
            rows[which],
        )

    def repeat(self, num_rollouts: int) -> "State":
        """Every row `num_rollouts` times, as neighbours: the rollouts of one image share its first look."""
        if num_rollouts == 1:
            return self
        rows = torch.arange(len(self), device=self.hidden.device)
        return self.index(rows.repeat_interleave(num_rollouts))

    @staticmethod
    def cat(states: list["State"]) -> "State":
        """The rows of several states, which may have taken different numbers of looks.

        The rows of every state must say which image they read.
        """
        first = states[0]

        def joined(name: str) -> tuple[Tensor, ...]:
            return tuple(
                torch.cat(column) for column in zip(*(getattr(s, name) for s in states), strict=True)
            )

        return State(
            torch.cat([state.hidden for state in states]),
            torch.cat([state.looks.expand(len(state)) for state in states]),
            None if first.own is None else torch.cat([state.own for state in states]),
            joined("fixed"),
            joined("memory"),
            None if first.rows is None else torch.cat([state.rows for state in states]),
        )

    @staticmethod
    def over_time(states: list["State"]) -> "State":
        """States of the same rows after successive looks as one, with the looks in front.

        hidden (T, N, H), looks (T, 1), own (T, N, C), fixed (1, N, ..), memory (T, N, ..). The heads then
        read all steps at once, in fewer and larger operations.
        """
        last = states[-1]
        owns = [state.own for state in states]
        return State(
            torch.stack([state.hidden.to(last.hidden.dtype) for state in states]),
            torch.stack([state.looks for state in states])[:, None],
            None if any(own is None for own in owns) else torch.stack(owns),
            tuple(tensor[None] for tensor in last.fixed),
            tuple(torch.stack(column) for column in zip(*(s.memory for s in states), strict=True)),
            last.rows,
        )


@dataclass(frozen=True)
class Noise:
    """All randomness of N rollouts, uniform in the open interval (0, 1): the same noise, the same actions.

    location (N, T, A'): as many columns as the location policy takes.
    stop (N, T).
    """

    location: Tensor
    stop: Tensor

    @staticmethod
    def draw(
        images: int,
        num_rollouts: int,
        steps: int,
        columns: int,
        generator: torch.Generator | None = None,
        share: slice = slice(None),
    ) -> "Noise":
        """Noise for a batch, drawn for all of it, so that it is the same for any number of processes.

        Args:
            images: in the batch of all processes.
            num_rollouts: M of each image; they are neighbours.
            steps: T.
            columns: `noise_columns` of the location policy.
            generator: on the CPU; torch's own unless given.
            share: the images of this process.
        """
        noise = torch.rand(images, num_rollouts, steps, columns + 1, generator=generator)[share]
        noise = noise.flatten(0, 1).clamp(min=2.0**-25)
        return Noise(noise[..., :-1], noise[..., -1])

    def to(self, device: torch.device | str) -> "Noise":
        """The same numbers on another device."""
        return Noise(self.location.to(device), self.stop.to(device))


@dataclass
class Rollout:
    """All T steps of N rollouts; column t - 1 belongs to step t.

    logits (N, T, C): the answer after each step.
    locations (N, T, 2): where each step looked, (y, x) in [-1, 1]; NaN for the context view.
    location_log_probs (N, T): of that location under its policy; 0 where none was sampled.
    stop_logits (N, T): sigmoid is the probability to stop after that step; NaN for RAM, which never decides.
    steps (N,) int64: the step at which the rollout stopped, in 1..T.
    baselines (N, T + 1): the return expected before the first look and after each.
    hidden (N, T, H): the state after each step.
    own_logits (N, T, C): the encoder's own part in the answers; None if it has none.
    samples (N, T, 2): the locations as they were sampled, before they were clipped to the image.
    """

    logits: Tensor
    locations: Tensor
    location_log_probs: Tensor
    stop_logits: Tensor
    steps: Tensor
    baselines: Tensor
    hidden: Tensor | None = None
    own_logits: Tensor | None = None
    samples: Tensor | None = None


@dataclass
class Prediction:
    """What a DT-RAM says of B images.

    logits (B, C): the answer at the step where each image stopped.
    steps (B,) int64: how many looks it took, in 1..T.
    locations (B, T, 2): where it looked, (y, x) in [-1, 1]; NaN for the context view and for steps not taken.
    stop_probs (B, T): probability to stop after each step; NaN for steps not taken, and all through for RAM.
    features (B, F): what the answer was read from, as `forward_features` gives it.
    """

    logits: Tensor
    steps: Tensor
    locations: Tensor
    stop_probs: Tensor
    features: Tensor
