"""Where to look next: location policies (section 3.3, Eq. 4), each one class and one line of `LOCATORS`.

A policy turns a `State` into a *plan*, a tuple of plain tensors. The best location is read off the plan
without any distribution, so that it exports and compiles. Training gets a `torch.distributions` object.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from .records import Seen, State


class Surroundings(NamedTuple):
    """The shapes of the model that a location policy belongs to.

    hidden_size: H.
    num_steps: T.
    has_context: whether the first look is a context view; else the policy also plans the first look.
    map_channels: K of the encoder's feature map; 0 unless the policy needs the map.
    """

    hidden_size: int
    num_steps: int
    has_context: bool
    map_channels: int = 0


class LocationPolicy(nn.Module):
    """What all location policies answer; leading dimensions (..) broadcast.

    needs_map: whether the context view must come with its feature map; `look_at` then reads `Seen.cells`.
    noise_columns: how many uniform numbers `sample` takes for one location.
    """

    needs_map = False
    noise_columns = 2

    def look_at(self, seen: Seen) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """`State.fixed` and the first `State.memory`, once per image, from its context view."""
        return (), ()

    def plan(self, state: State) -> tuple[Tensor, ...]:
        """What the policy makes of h (.., N, H) and of the number of looks so far."""
        raise NotImplementedError

    def greedy(self, plan: tuple[Tensor, ...]) -> Tensor:
        """The best single location (.., N, 2), float32 in [-1, 1]."""
        raise NotImplementedError

    def sample(self, plan: tuple[Tensor, ...], noise: Tensor, std: float) -> Tensor:
        """A location (.., N, 2) for each row of `noise` (.., N, noise_columns), a constant to autograd.

        It may lie outside of the image. It is clipped only to take the glimpse, so that the policy stays the
        distribution whose log-probabilities carry the gradient.
        """
        raise NotImplementedError

    def distribution(self, plan: tuple[Tensor, ...], std: float) -> Distribution:
        """Over locations (.., N, 2); `sample` draws from it, and the loss uses its `log_prob`."""
        raise NotImplementedError

    def remember(self, state: State, location: Tensor) -> tuple[Tensor, ...]:
        """`State.memory` after a glimpse at `location` (N, 2)."""
        return state.memory

    def reset(self) -> None:
        """Forget what was learned, as before the first stage."""
        raise NotImplementedError

    def rates(self) -> dict[str, str]:
        """The recipe's key of a learning rate, for own parameters that have one, by name or first name."""
        return {}

    def no_weight_decay(self) -> set[str]:
        """Names of own parameters that weight decay would harm."""
        return set()

    def fit(self, weights: dict[str, Tensor], num_steps: int | None = None) -> dict[str, Tensor]:
        """Own weights of a policy with other steps, made to fit `num_steps`; this policy's unless given."""
        return weights


class Shared(LocationPolicy):
    """A Gaussian around tanh of one linear layer of h, the same layer for all steps (the paper, Eq. 4)."""

    def __init__(self, around: Surroundings):
        super().__init__()
        self.linear = nn.Linear(around.hidden_size, 2)

    def plan(self, state: State) -> tuple[Tensor]:
        """The mean of the Gaussian, (.., N, 2) float32 in (-1, 1)."""
        return (self.linear(state.hidden).float().tanh(),)

    def greedy(self, plan: tuple[Tensor]) -> Tensor:
        return plan[0]

    def sample(self, plan: tuple[Tensor], noise: Tensor, std: float) -> Tensor:
        mean = plan[0].detach()
        return mean + std * torch.special.ndtri(noise).to(mean.dtype)

    def distribution(self, plan: tuple[Tensor], std: float) -> Distribution:
        # Checking the values of every batch would wait for the accelerator.
        return Independent(Normal(plan[0], std, validate_args=False), 1, validate_args=False)

    def reset(self) -> None:
        self.linear.reset_parameters()

    def rates(self) -> dict[str, str]:
        return {"linear": "locator_rate"}


class Stepwise(Shared):
    """A Gaussian around tanh of a location of each step's own, which h corrects.

    It starts from the locations alone. The authors share no locator among the steps either.

    locations: (T, 2), before tanh. Row t is where the look goes that follows t others.
    """

    def __init__(self, around: Surroundings):
        super().__init__(around)
        # Without a context view the first locations must cover the image; with one they start at the centre,
        # where photographs have what they show.
        self.spread = 0.1 if around.has_context else 0.5
        self.locations = nn.Parameter(torch.empty(around.num_steps, 2))
        self.reset()

    def plan(self, state: State) -> tuple[Tensor]:
        """The mean of the Gaussian, (.., N, 2) float32 in (-1, 1); beyond T looks the last one stands."""
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
        """With more steps the last location stands for all later ones, with fewer the first ones stay."""
        locations = weights.get("locations")
        num_steps = len(self.locations) if num_steps is None else num_steps
        if locations is None or len(locations) == num_steps:
            return weights
        rows = torch.arange(num_steps).clamp(max=len(locations) - 1)
        return weights | {"locations": locations[rows]}


LOCATORS: dict[str, type[LocationPolicy]] = {"shared": Shared, "stepwise": Stepwise}
