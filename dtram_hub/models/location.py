"""Location policies (section 3.3, Eq. 4). Each policy is one class and one line of `LOCATORS`.

A policy turns a `State` into a *plan*, a tuple of plain tensors. `greedy` reads the best location off the
plan by tensor operations alone, so that it exports and compiles. Training reads a `torch.distributions`
object.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from .glimpse import covers
from .records import Seen, State

KEY_WIDTH = 32
FARTHEST = 0.99  # of the reach of a glimpse; at the whole reach rounding decides what is covered
OUTSIDE = -1e4  # the score of a cell that cannot be chosen; minus infinity would make gradients NaN


class Surroundings(NamedTuple):
    """The model's shapes, from which a location policy is built.

    hidden_size: H.
    num_steps: T.
    has_context: whether the first look is a context view; otherwise the policy plans the first look too.
    map_channels: K of the encoder's feature map; 0 unless a part needs the map.
    """

    hidden_size: int
    num_steps: int
    has_context: bool
    map_channels: int = 0


class LocationPolicy(nn.Module):
    """The interface of all location policies; leading dimensions (..) broadcast.

    Attributes:
        needs_map: whether `look_at` reads the feature map of the context view, `Seen.cells`.
        noise_columns: the number of uniform numbers that `sample` takes for one location.
        scores_places: whether the policy has `score`.
    """

    needs_map = False
    noise_columns = 2
    scores_places = False

    def look_at(self, seen: Seen) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """`State.fixed` and the first `State.memory`, from the context view of each image."""
        return (), ()

    def plan(self, state: State) -> tuple[Tensor, ...]:
        """The tensors (.., N, *) that describe the next location; `greedy` and `distribution` read them."""
        raise NotImplementedError

    def greedy(self, plan: tuple[Tensor, ...]) -> Tensor:
        """The best location (.., N, 2), float32 in [-1, 1]."""
        raise NotImplementedError

    def sample(self, plan: tuple[Tensor, ...], noise: Tensor, std: float) -> Tensor:
        """Sample a location (.., N, 2) by `noise` (.., N, noise_columns); no gradient flows through it.

        A location may lie outside of the image. Only the glimpse clips it, because the loss needs the
        log-probability of the sample itself.
        """
        raise NotImplementedError

    def distribution(self, plan: tuple[Tensor, ...], std: float) -> Distribution:
        """The distribution of `sample` over locations (.., N, 2); the loss reads its `log_prob`."""
        raise NotImplementedError

    def score(self, plan: tuple[Tensor, ...], location: Tensor) -> Tensor:
        """The policy's score (.., N) of a look at `location` (.., N, 2)."""
        raise NotImplementedError

    def remember(self, state: State, location: Tensor) -> tuple[Tensor, ...]:
        """`State.memory` after a glimpse at `location` (N, 2)."""
        return state.memory

    def reset(self) -> None:
        """Set the parameters to fresh values, as before the first stage."""
        raise NotImplementedError

    def rates(self) -> dict[str, str]:
        """The recipe key of the learning rate, by the name of a parameter or of a submodule.

        Parameters that are not listed learn at the rate of the stage.
        """
        return {}

    def no_weight_decay(self) -> set[str]:
        """The names of the parameters that weight decay would harm."""
        return set()

    def fit(self, weights: dict[str, Tensor], num_steps: int | None = None) -> dict[str, Tensor]:
        """Make the weights of a policy with another number of steps fit `num_steps`.

        Args:
            weights: a state dict of this class.
            num_steps: T; the number of this policy by default.
        """
        return weights


class Shared(LocationPolicy):
    """A Gaussian around tanh of one linear layer of h, the same layer for all steps (the paper, Eq. 4)."""

    def __init__(self, around: Surroundings):
        super().__init__()
        self.linear = nn.Linear(around.hidden_size, 2)

    def plan(self, state: State) -> tuple[Tensor]:
        """The mean of the Gaussian, (.., N, 2) float32 in (-1, 1)."""
        return (self.linear(state.hidden).float().tanh(),)

    def greedy(self, plan: tuple[Tensor, ...]) -> Tensor:
        return plan[0]

    def sample(self, plan: tuple[Tensor, ...], noise: Tensor, std: float) -> Tensor:
        mean = plan[0].detach()
        return mean + std * torch.special.ndtri(noise).to(mean.dtype)

    def distribution(self, plan: tuple[Tensor, ...], std: float) -> Distribution:
        # Validation would make the CPU wait for the accelerator in every batch.
        return Independent(Normal(plan[0], std, validate_args=False), 1, validate_args=False)

    def reset(self) -> None:
        self.linear.reset_parameters()

    def rates(self) -> dict[str, str]:
        return {"linear": "locator_rate"}


class Stepwise(Shared):
    """A Gaussian around tanh(own location of the step + linear layer of h).

    The linear layer starts at zero. The authors' code has a locator for each step as well.

    locations: (T, 2), before tanh. Row t holds the location of step t + 1.
    """

    def __init__(self, around: Surroundings):
        super().__init__(around)
        # With a context view the locations start near the centre, where photographs show their subject.
        # Without one they must cover the image.
        self.spread = 0.1 if around.has_context else 0.5
        self.locations = nn.Parameter(torch.empty(around.num_steps, 2))
        self.reset()

    def plan(self, state: State) -> tuple[Tensor]:
        """The mean of the Gaussian, (.., N, 2) float32 in (-1, 1). Steps after T use the location of T."""
        own = F.embedding(state.looks.clamp(max=len(self.locations) - 1), self.locations)
        return ((self.linear(state.hidden).float() + own).tanh(),)

    def reset(self) -> None:
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        nn.init.uniform_(self.locations, -self.spread, self.spread)

    def rates(self) -> dict[str, str]:
        return super().rates() | {"locations": "locations_rate"}

    def no_weight_decay(self) -> set[str]:
        return {"locations"}

    def fit(self, weights: dict[str, Tensor], num_steps: int | None = None) -> dict[str, Tensor]:
        """Cut the locations after `num_steps`, or repeat the last one up to `num_steps`."""
        locations = weights.get("locations")
        num_steps = len(self.locations) if num_steps is None else num_steps
        if locations is None or locations.ndim != 2 or len(locations) in (0, num_steps):
            return weights
        rows = torch.arange(num_steps).clamp(max=len(locations) - 1)
        return weights | {"locations": locations[rows]}


class Attend(LocationPolicy):
    """A choice among the cells of the encoder's feature map, and a Gaussian around the chosen cell.

    The score of a cell is a product of the cell and of h, which starts at zero, plus the cell's share in the
    answer so far, if the answer pools evidence. Cells that a glimpse has covered are not chosen again.

    fixed: keys of the cells (N, L, W), their centres (N, L, 2), whether a cell lies in the image (N, L) bool,
        the reach of a glimpse (N, 1, 2), and the cells' evidence (N, L, C), if there is any.
    memory: whether a glimpse has covered a cell, (N, L) bool.
    """

    needs_map = scores_places = True
    noise_columns = 3  # for the cell, and for y and x around its centre

    def __init__(self, around: Surroundings):
        super().__init__()
        self.key = nn.Linear(around.map_channels, KEY_WIDTH, bias=False)
        self.query = nn.Linear(around.hidden_size, KEY_WIDTH)
        self.reset()

    def read(self, cells: Tensor) -> tuple[Tensor, ...]:
        """What is kept of the normalised cells (N, L, K)."""
        return (self.key(cells),)

    def look_at(self, seen: Seen) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        evidence = () if seen.evidence is None else (seen.evidence,)
        fixed = (
            *self.read(F.layer_norm(seen.cells, seen.cells.shape[-1:])),
            seen.centres,
            seen.valid,
            seen.reach,
            *evidence,
        )
        return fixed, (torch.zeros_like(seen.valid),)

    def plan(self, state: State) -> tuple[Tensor, Tensor]:
        """Scores of the cells (.., N, L) float32, and their centres (.., N, L, 2)."""
        (keys, centres, valid, _, *evidence), (covered,) = state.fixed, state.memory
        scores = (self.query(state.hidden)[..., None, :] * keys).sum(-1).float() / KEY_WIDTH**0.5
        free = valid & ~covered
        if evidence:
            scores = scores + shares(evidence[0], free, state.own)
        return torch.where(free, scores, OUTSIDE), centres.float()

    def greedy(self, plan: tuple[Tensor, ...]) -> Tensor:
        return _centre_of(plan[0].argmax(-1, keepdim=True), *plan)

    def sample(self, plan: tuple[Tensor, ...], noise: Tensor, std: float) -> Tensor:
        cumulated = plan[0].detach().softmax(-1).cumsum(-1)
        cell = (cumulated < noise[..., :1] * cumulated[..., -1:]).sum(-1, keepdim=True)
        return _centre_of(cell, *plan) + std * torch.special.ndtri(noise[..., 1:]).float()

    def distribution(self, plan: tuple[Tensor, ...], std: float) -> Distribution:
        scores, centres = plan
        near = Independent(Normal(centres.expand(*scores.shape, 2), std, validate_args=False), 1)
        cells = Categorical(logits=scores, validate_args=False)
        return MixtureSameFamily(cells, near, validate_args=False)

    def score(self, plan: tuple[Tensor, ...], location: Tensor) -> Tensor:
        """The score of the nearest cell that can be chosen; 0 if there is none."""
        scores, centres = plan
        free = scores > OUTSIDE
        distances = (centres - location[..., None, :]).square().sum(-1)
        nearest = torch.where(free, distances, torch.inf).argmin(-1, keepdim=True)
        return torch.where(free, scores, 0).gather(-1, nearest).squeeze(-1)

    def remember(self, state: State, location: Tensor) -> tuple[Tensor, ...]:
        _, centres, _, reach, *_ = state.fixed
        return (state.memory[0] | covers(location, centres, reach),)

    def reset(self) -> None:
        self.key.reset_parameters()
        nn.init.zeros_(self.query.weight)
        nn.init.zeros_(self.query.bias)

    def rates(self) -> dict[str, str]:
        return {"query": "locator_rate", "key": "locator_rate"}


class Aim(Attend):
    """As `Attend`, with a Gaussian around a point near the centre of the chosen cell.

    The point lies within the reach of a glimpse, so a glimpse there covers the centre. It is the centre plus
    the reach times tanh of a linear layer of the cell and of h, which starts at zero. A first look of few
    pixels has cells as large as a glimpse or larger. The centres alone are then too few places.

    fixed: the layer's part of each cell (N, L, 2), then those of `Attend`.
    """

    def __init__(self, around: Surroundings):
        super().__init__(around)
        self.of_cell = nn.Linear(around.map_channels, 2, bias=False)
        self.of_hidden = nn.Linear(around.hidden_size, 2)
        self.reset()

    def read(self, cells: Tensor) -> tuple[Tensor, ...]:
        return (self.of_cell(cells), *super().read(cells))

    def plan(self, state: State) -> tuple[Tensor, Tensor]:
        """Scores of the cells (.., N, L), and the point of each cell (.., N, L, 2), both float32."""
        of_cell, _, _, _, reach, *_ = state.fixed
        scores, centres = super().plan(replace(state, fixed=state.fixed[1:]))
        aside = (of_cell + self.of_hidden(state.hidden)[..., None, :]).float().tanh()
        return scores, centres + FARTHEST * reach * aside

    def greedy(self, plan: tuple[Tensor, ...]) -> Tensor:
        return super().greedy(plan).clamp(-1, 1)

    def remember(self, state: State, location: Tensor) -> tuple[Tensor, ...]:
        return super().remember(replace(state, fixed=state.fixed[1:]), location)

    def reset(self) -> None:
        super().reset()
        for name, parameter in self.named_parameters():
            if name.startswith("of_"):
                nn.init.zeros_(parameter)

    def rates(self) -> dict[str, str]:
        return super().rates() | {"of_cell": "locator_rate", "of_hidden": "locator_rate"}


LOCATORS: dict[str, type[LocationPolicy]] = {
    "shared": Shared,
    "stepwise": Stepwise,
    "attend": Attend,
    "aim": Aim,
}


def shares(evidence: Tensor, free: Tensor, own: Tensor) -> Tensor:
    """The log of each cell's share in the answer: sum over classes of P(class) * P(cell | class).

    Args:
        evidence: (.., N, L, C), of each cell for each class.
        free: (.., N, L) bool, the cells that can be chosen.
        own: (.., N, C), the logits of the answer so far.

    Returns:
        (.., N, L) float32; the exponentials of free cells sum to 1.
    """
    within = torch.where(free[..., None], evidence.float(), OUTSIDE).log_softmax(-2)
    return (within + own.float().log_softmax(-1)[..., None, :]).logsumexp(-1)


def _centre_of(cell: Tensor, scores: Tensor, centres: Tensor) -> Tensor:
    """The centre (.., N, 2) of one cell (.., N, 1) int64 in each row."""
    centres = centres.expand(*scores.shape, 2)
    return centres.gather(-2, cell[..., None].expand(*cell.shape, 2)).squeeze(-2)
