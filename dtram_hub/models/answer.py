"""Answers: how the looks so far become class logits. Each answer is one class and one line of `ANSWERS`.

The logits are the output of a head on h. Some answers add the logits of the encoder's own classifier.
"""

import torch
from torch import Tensor, nn

from .records import Seen


class Answer(nn.Module):
    """The interface of all answers. The head belongs to the model, as in timm.

    needs_context: whether the first look must be a context view.
    needs_map: whether the answer reads the encoder's feature map in every look.
    """

    needs_context = False
    needs_map = False

    def asks(self, first: bool) -> bool:
        """Whether the answer reads the encoder's classifier in the first look, or in a later one."""
        raise NotImplementedError

    @property
    def asks_encoder(self) -> bool:
        """Whether the answer reads the encoder's classifier in any look."""
        return self.asks(True) or self.asks(False)

    def own(self, seen: Seen) -> Tensor | None:
        """The encoder's part of the answer (N, C) in one look, or None."""
        return seen.own_logits

    def combine(self, before: Tensor | None, new: Tensor | None, looks: Tensor) -> Tensor | None:
        """Update the encoder's part of the answer after a look.

        Args:
            before: (N, C), the part before the look.
            new: (N, C), from `own` of the look.
            looks: () or (N,) int64, the number of looks taken, the new one included.
        """
        return new if before is None else before

    def logits(self, correction: Tensor, own: Tensor | None) -> Tensor:
        """Add the head's output (.., N, C) to the encoder's part (.., N, C), if there is one."""
        return correction if own is None else own + correction

    def new_head(self, hidden_size: int, num_classes: int) -> nn.Module:
        """A fresh head, (.., H) -> (.., C); the identity if `num_classes` is 0."""
        return nn.Linear(hidden_size, num_classes) if num_classes else nn.Identity()


class Last(Answer):
    """The head on h_t alone (section 3.2)."""

    def asks(self, first: bool) -> bool:
        return False


class Residual(Answer):
    """The encoder's logits of the context view plus the head's output, which starts at zero."""

    needs_context = True

    def asks(self, first: bool) -> bool:
        return first

    def new_head(self, hidden_size: int, num_classes: int) -> nn.Module:
        head = super().new_head(hidden_size, num_classes)
        for parameter in head.parameters():
            nn.init.zeros_(parameter)
        return head


class Average(Residual):
    """The log of the encoder's mean probabilities over all looks, plus the head's output.

    The authors average logits. With probabilities a single look that is wrong but certain cannot outvote the
    others.
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
