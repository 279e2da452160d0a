"""Answers: how the looks so far become class logits. Each answer is one class and one line of `ANSWERS`.

The logits are the output of a head on h. Some answers add a part of their own: the logits of the encoder's
classifier, or evidence that each cell of a feature map gives.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .glimpse import covers
from .records import Seen, State


class Widths(NamedTuple):
    """The model's shapes, from which an answer is built.

    num_classes: C.
    features: D of the encoder.
    cells: K of the encoder's feature map; 0 unless the answer needs the map.
    """

    num_classes: int
    features: int
    cells: int


class Answer(nn.Module):
    """The interface of all answers. The head on h belongs to the model, as in timm.

    Attributes:
        needs_context: whether the first look must be a context view.
        needs_map: whether the answer reads the encoder's feature map of the context view.
        asks_first, asks_later: whether it reads the encoder's classifier in the first look, and in later
            ones.
    """

    needs_context = False
    needs_map = False
    asks_first = False
    asks_later = False

    def __init__(self, widths: Widths):
        super().__init__()

    @classmethod
    def asks_encoder(cls) -> bool:
        """Whether the answer reads the encoder's classifier in any look."""
        return cls.asks_first or cls.asks_later

    @classmethod
    def has_own(cls) -> bool:
        """Whether a part of the answer does not come from h."""
        return cls.asks_encoder()

    def evidence(self, cells: Tensor) -> Tensor | None:
        """What each cell (N, L, K) of the context view speaks for, (N, L, C); None if it reads no cells."""
        return None

    def begin(self, seen: Seen) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """`State.own` and `State.kept` after the first look."""
        return seen.own_logits, ()

    def update(
        self, state: State, seen: Seen, locations: Tensor, looks: Tensor
    ) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """`State.own` and `State.kept` after a glimpse.

        Args:
            state: the state before the glimpse.
            seen: the glimpse.
            locations: (N, 2), its locations.
            looks: () or (N,) int64, the number of looks taken, this one included.
        """
        return state.own, state.kept

    def of_glimpses(self, state: State) -> Tensor | None:
        """The answer (N, C) of the glimpses alone, which training supervises too; None if there is none."""
        return None

    def logits(self, correction: Tensor, own: Tensor | None) -> Tensor:
        """Add the head's output (.., N, C) to the answer's own part (.., N, C), if there is one."""
        return correction if own is None else own + correction

    def new_head(self, hidden_size: int, num_classes: int) -> nn.Module:
        """A fresh head, (.., H) -> (.., C); the identity if `num_classes` is 0.

        Its output is zero where it corrects a part of the answer's own.
        """
        head = nn.Linear(hidden_size, num_classes) if num_classes else nn.Identity()
        if self.has_own():
            for parameter in head.parameters():
                nn.init.zeros_(parameter)
        return head

    def reset_classes(self, num_classes: int) -> None:
        """Give the answer's own layers fresh weights for `num_classes`."""

    def first_parts(self) -> list[nn.Module]:
        """The layers that only a context view trains."""
        return []

    def later_parts(self) -> list[nn.Module]:
        """The layers that no context view trains."""
        return []


class Last(Answer):
    """The head on h_t alone (section 3.2)."""


class Residual(Answer):
    """The encoder's logits of the context view plus the head's output, which starts at zero."""

    needs_context = True
    asks_first = True


class Average(Residual):
    """The log of the encoder's mean probabilities over all looks, plus the head's output.

    The authors average logits. With probabilities a single look that is wrong but certain cannot outvote the
    others.
    """

    asks_later = True

    def update(
        self, state: State, seen: Seen, locations: Tensor, looks: Tensor
    ) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        if state.own is None or seen.own_logits is None:
            return seen.own_logits, ()
        looks = looks.to(state.own.dtype)
        looks = looks[:, None] if looks.ndim else looks
        earlier = state.own.log_softmax(-1) + (1 - 1 / looks).log()
        return torch.logaddexp(earlier, seen.own_logits.log_softmax(-1) - looks.log()), ()


class Evidence(Answer):
    """Evidence of places: the log of the sum of exponentials over cells and glimpses (multiple instances).

    Every cell of the context view gives evidence for each class, and so does every glimpse as a whole. A
    glimpse sees more than the context view did, so the cells that it covers no longer count. A class with
    strong evidence in one place wins, however small the place is. Mean pooling would drown it.

    kept: the evidence of cells that count (N, L, C) and of glimpses (N, C), the cells' centres (N, L, 2), and
        the reach of a glimpse (N, 1, 2).
    """

    needs_context = True
    needs_map = True

    def __init__(self, widths: Widths):
        super().__init__(widths)
        self.widths = widths
        self.reset_classes(widths.num_classes)

    @classmethod
    def has_own(cls) -> bool:
        return True

    def evidence(self, cells: Tensor) -> Tensor | None:
        # Cells of large norm stand out, and that helps: with normalised cells hardly anything is learned.
        return self.of_cells(cells).float() if self.widths.num_classes else None

    def begin(self, seen: Seen) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        if seen.evidence is None:
            return None, ()
        counts = seen.valid[..., None]
        evidence = torch.where(counts, seen.evidence, NOTHING) - counts.sum(1, keepdim=True).log()
        glimpsed = torch.full_like(evidence[:, 0], NOTHING)
        return evidence.logsumexp(1), (evidence, glimpsed, seen.centres, seen.reach)

    def update(
        self, state: State, seen: Seen, locations: Tensor, looks: Tensor
    ) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        if not state.kept:
            return state.own, state.kept
        evidence, glimpsed, centres, reach = state.kept
        covered = covers(locations, centres, reach)
        evidence = torch.where(covered[..., None], NOTHING, evidence)
        glimpsed = torch.logaddexp(glimpsed, self.of_glimpse(seen.features).float())
        return torch.logaddexp(evidence.logsumexp(1), glimpsed), (evidence, glimpsed, centres, reach)

    def of_glimpses(self, state: State) -> Tensor | None:
        return state.kept[1] if state.kept else None

    def reset_classes(self, num_classes: int) -> None:
        self.widths = self.widths._replace(num_classes=num_classes)
        self.of_cells = _small_linear(self.widths.cells, num_classes)
        self.of_glimpse = _small_linear(self.widths.features, num_classes)

    def first_parts(self) -> list[nn.Module]:
        return [self.of_cells]

    def later_parts(self) -> list[nn.Module]:
        return [self.of_glimpse]


NOTHING = -1e4  # evidence of a place that does not count; minus infinity has no gradient
ANSWERS: dict[str, type[Answer]] = {
    "last": Last,
    "residual": Residual,
    "average": Average,
    "evidence": Evidence,
}


def _small_linear(width: int, num_classes: int) -> nn.Module:
    """A layer of small weights, so that no place stands out at first; the identity without classes."""
    if not num_classes:
        return nn.Identity()
    linear = nn.Linear(width, num_classes)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    return linear
