"""Plain records that all rooms pass on: one look, the state between looks, noise, rollouts, predictions.

Shapes name B images, N rows (B images times M rollouts), T steps, hidden width H, C classes, D features, and
L cells of a feature map with K channels. A field that a model does not use is None or an empty tuple.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """The encoder's output for one view of each row.

    Attributes:
        features: (N, D), pooled features.
        own_logits: (N, C), logits of the encoder's own classifier, if the answer reads them.
        cells: (N, L, K), the feature map, if a location policy or an answer reads it.
        centres: (N, L, 2), the location of each cell of the context view, (y, x).
        valid: (N, L) bool, whether a part of the cell lies in the image.
        evidence: (N, L, C), what each cell of the context view speaks for, if the answer reads cells.
        reach: (N, 1, 2), half the sides of a glimpse, as a location; images of other sizes have another.
    """

    features: Tensor
    own_logits: Tensor | None = None
    cells: Tensor | None = None
    centres: Tensor | None = None
    valid: Tensor | None = None
    evidence: Tensor | None = None
    reach: Tensor | None = None


@dataclass(frozen=True)
class State:
    """The state of N rows between two looks.

    Attributes:
        hidden: (N, H), h_t of Eq. 3; zeros before the first look.
        looks: () or (N,) int64, the number of looks taken. A tensor broadcasts and exports.
        own: (N, C), the part of the answer so far that does not come from h.
        kept: tensors (N, ..) of the answer, changed by every look.
        fixed: tensors (N, ..) of the location policy, set by the context view.
        memory: tensors (N, ..) of the location policy, changed by every glimpse.
        rows: (N,) int64, the image of each row; None where row i reads image i. Images are never copied.
        begun: whether a look was taken. The state before the first look is zero and adds nothing to Eq. 3.
    """

    hidden: Tensor
    looks: Tensor
    own: Tensor | None = None
    fixed: tuple[Tensor, ...] = ()
    memory: tuple[Tensor, ...] = ()
    rows: Tensor | None = None
    begun: bool = True
    kept: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        return self.count

    @property
    def count(self) -> int:
        """N; unlike `len`, it does not become a constant in an exported graph."""
        return self.hidden.shape[0]

    def index(self, which: Tensor) -> "State":
        """Select rows by indices, int64 of any length, or by a mask (N,) bool."""
        rows = torch.arange(len(self), device=self.hidden.device) if self.rows is None else self.rows
        return State(
            self.hidden[which],
            self.looks[which] if self.looks.ndim else self.looks,
            None if self.own is None else self.own[which],
            tuple(tensor[which] for tensor in self.fixed),
            tuple(tensor[which] for tensor in self.memory),
            rows[which],
            self.begun,
            tuple(tensor[which] for tensor in self.kept),
        )

    def repeat(self, num_rollouts: int) -> "State":
        """Repeat every row `num_rollouts` times; the copies are neighbours.

        The rollouts of one image share the state after its context view.
        """
        if num_rollouts == 1:
            return self
        rows = torch.arange(len(self), device=self.hidden.device)
        return self.index(rows.repeat_interleave(num_rollouts))

    @staticmethod
    def cat(states: list["State"]) -> "State":
        """Join the rows of several states; each may have its own number of looks.

        `rows` must be set in every state.
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
            first.begun,
            joined("kept"),
        )

    @staticmethod
    def over_time(states: list["State"]) -> "State":
        """Stack the states of the same rows after T successive looks, with time as first dimension.

        hidden (T, N, H), looks (T, 1), own (T, N, C), fixed (1, N, ..), memory (T, N, ..). The heads then
        read all steps at once, in fewer and larger operations. No head reads `kept`.
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
    """All randomness of N rollouts, uniform in (0, 1). The same noise gives the same actions.

    Attributes:
        location: (N, T, A), A is `noise_columns` of the location policy.
        stop: (N, T), one number for each decision to stop.
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
        """Draw the noise of the whole batch and keep the share of this process.

        The noise of an image therefore does not depend on the number of processes.

        Args:
            images: number of images in the batch of all processes.
            num_rollouts: M, the rollouts of one image; they are neighbours.
            steps: T.
            columns: `noise_columns` of the location policy.
            generator: a generator on the CPU; torch's global one by default.
            share: the images of this process.
        """
        noise = torch.rand(images, num_rollouts, steps, columns + 1, generator=generator)[share]
        noise = noise.flatten(0, 1).clamp(min=2.0**-25)
        return Noise(noise[..., :-1], noise[..., -1])

    def to(self, device: torch.device | str) -> "Noise":
        """Move the noise to another device."""
        return Noise(self.location.to(device), self.stop.to(device))


@dataclass
class Rollout:
    """All T steps of N rollouts; column t - 1 belongs to step t.

    Attributes:
        logits: (N, T, C), the answer after each step.
        locations: (N, T, 2), the location of each step, (y, x) in [-1, 1]; NaN for the context view.
        location_log_probs: (N, T), the log-probability of each sampled location; 0 where none was sampled.
        stop_logits: (N, T), the logit of the probability to stop after each step; NaN for RAM.
        steps: (N,) int64, the step at which each rollout stopped, in 1..T.
        baselines: (N, T + 1), the expected return before the first step and after each step.
        hidden: (N, T, H), h_t.
        own_logits: (N, T, C), the encoder's own part of the answers, if it has one.
        samples: (N, T, 2), the locations before they were clipped to the image.
        glimpse_logits: (N, T, C), the answer of the glimpses alone, if the answer has one.
        location_scores: (N, T), the policy's score of the place that was looked at, if it scores places; 0
            where no location was sampled.
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
    glimpse_logits: Tensor | None = None
    location_scores: Tensor | None = None


@dataclass
class Prediction:
    """The answers of a DT-RAM to B images.

    Attributes:
        logits: (B, C), the answer at the step where each image stopped.
        steps: (B,) int64, the number of steps of each image, in 1..T.
        locations: (B, T, 2), the location of each step, (y, x) in [-1, 1]; NaN for the context view and for
            steps not taken.
        stop_probs: (B, T), the probability to stop after each step; NaN for steps not taken and for RAM.
        features: (B, F), the output of `forward_features`, at the same steps as `logits`.
    """

    logits: Tensor
    steps: Tensor
    locations: Tensor
    stop_probs: Tensor
    features: Tensor

    def to(self, device: torch.device | str) -> "Prediction":
        """Move all tensors to a device."""
        return Prediction(*(tensor.to(device) for tensor in vars(self).values()))

    def of(self, image: int) -> "Prediction":
        """The prediction of one image, as a batch of one."""
        return Prediction(*(tensor[image : image + 1] for tensor in vars(self).values()))
