"""How the looks so far become one answer: each way is one class and one line of `ANSWERS`.

The logits are a head on h, on top of the encoder's own part where the encoder's classifier takes part.
"""

import torch
from torch import Tensor, nn

from .records import Seen


class Answer(nn.Module):
    """What all answers say; they may have parameters of their own. The head belongs to the model, as in timm.

    needs_context: whether the first look must be a context view.
    needs_map: whether the encoder must give its feature map in the looks that `asks` names.
    """

    needs_context = False
    needs_map = False

    def asks(self, first: bool) -> bool:
        """Whether the encoder's own classifier takes part in this look, the first or a later one."""
        raise NotImplementedError

    @property
    def asks_encoder(self) -> bool:
        """Whether the encoder needs a classifier of its own."""
        return self.asks(True) or self.asks(False)

    def own(self, seen: Seen) -> Tensor | None:
        """The encoder's logits (N, C) of one look, where they take part."""
        return seen.own_logits

    def combine(self, before: Tensor | None, new: Tensor | None, looks: Tensor) -> Tensor | None:
        """The encoder's part after a look: `before` it (N, C), `new` from it (N, C), looks taken with it."""
        return new if before is None else before

    def logits(self, correction: Tensor, own: Tensor | None) -> Tensor:
        """Class logits (.., N, C) from the head's output (.., N, C) and the encoder's part (.., N, C)."""
        return correction if own is None else own + correction

    def new_head(self, hidden_size: int, num_classes: int) -> nn.Module:
        """A fresh head on h, (.., H) -> (.., C); the identity where there are no classes."""
        return nn.Linear(hidden_size, num_classes) if num_classes else nn.Identity()


class Last(Answer):
    """The head on h_t alone (the paper)."""

    def asks(self, first: bool) -> bool:
        return False


class Residual(Answer):
    """The encoder's classifier on the context view, corrected by the head. The correction starts at zero."""

    needs_context = True

    def asks(self, first: bool) -> bool:
        return first

    def new_head(self, hidden_size: int, num_classes: int) -> nn.Module:
        head = super().new_head(hidden_size, num_classes)
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
        return head


class Average(Residual):
    """The mean of the encoder's probabilities in all looks so far, which the head corrects.

    The authors average logits. With probabilities one look that is surely wrong cannot outvote the others.
    """

    def asks(self, first: bool) -> bool:
        return True

    def combine(self, before: Tensor | None, new: Tensor | None, looks: Tensor) -> Tensor | None:
        if before is None or new is None:
            return new
        looks = looks.to(before.dtype)
        looks = looks[:, None] if looks.ndim else looks
        earlier = before.log_softmax(-1) + (1 - 1 / looks).log()
        return torch.logaddexp(earlier, new.log_softmax(-1) - looks.log())


ANSWERS: dict[str, type[Answer]] = {"last": Last, "residual": Residual, "average": Average}
