"""A policy of one's own is one class and one line of a table, here one that reads the feature map."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from dtram_hub import DTRAM
from dtram_hub.models.answer import ANSWERS, Last
from dtram_hub.models.location import LOCATORS, LocationPolicy, Surroundings
from dtram_hub.models.records import Noise, Seen, State
from dtram_hub.models.stopping import STOPPERS, StopPolicy
from graphs import check_looks, check_whole_graphs


class Heed(LocationPolicy):
    """Scores over the cells of the map, lower where it has looked; a Gaussian around the drawn cell."""

    needs_map = True
    noise_columns = 3

    def __init__(self, around: Surroundings):
        super().__init__()
        self.keys = nn.Linear(around.map_channels, 8, bias=False)
        self.query = nn.Linear(around.hidden_size, 8)
        self.again = nn.Parameter(torch.ones(()))

    def look_at(self, seen: Seen) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        return (self.keys(seen.cells), seen.centres, seen.valid), (torch.zeros_like(seen.centres[..., 0]),)

    def plan(self, state: State) -> tuple[Tensor, Tensor]:
        (keys, centres, valid), (visited,) = state.fixed, state.memory
        scores = (self.query(state.hidden)[..., None, :] * keys).sum(-1) - self.again * visited
        return torch.where(valid, scores.float(), -1e4), centres.float()

    def greedy(self, plan: tuple[Tensor, ...]) -> Tensor:
        scores, centres = plan
        best = scores.argmax(-1)[..., None, None].expand(*scores.shape[:-1], 1, 2)
        return centres.expand(*scores.shape, 2).gather(-2, best).squeeze(-2)

    def sample(self, plan: tuple[Tensor, ...], noise: Tensor, std: float) -> Tensor:
        scores, centres = plan
        cells = scores.detach().softmax(-1).cumsum(-1)
        cell = (cells < noise[..., :1] * cells[..., -1:]).sum(-1, keepdim=True)
        centre = centres.gather(-2, cell[..., None].expand(*cell.shape, 2)).squeeze(-2)
        return centre + std * torch.special.ndtri(noise[..., 1:])

    def distribution(self, plan: tuple[Tensor, ...], std: float) -> Distribution:
        scores, centres = plan
        around = Independent(Normal(centres.expand(*scores.shape, 2), std, validate_args=False), 1)
        cells = Categorical(logits=scores, validate_args=False)
        return MixtureSameFamily(cells, around, validate_args=False)

    def remember(self, state: State, location: Tensor) -> tuple[Tensor, ...]:
        distance = (state.fixed[1] - location[:, None].to(state.hidden.dtype)).square().sum(-1)
        return (state.memory[0] + torch.exp(-10 * distance),)

    def reset(self) -> None:
        self.query.reset_parameters()


class Patient(StopPolicy):
    """Reads the looks taken alone."""

    def __init__(self, hidden_size: int):
        super().__init__(nn.Linear(1, 1))

    def reads(self, hidden: Tensor, logits: Tensor, looks: Tensor) -> Tensor:
        return torch.ones_like(hidden[..., :1]) * looks[..., None]


class Doubled(Last):
    """Twice the head's logits."""

    def logits(self, correction: Tensor, own: Tensor | None) -> Tensor:
        return 2 * correction


MAPS = {"test_efficientnet": "residual", "test_vit": "average", "test_resnet": "last"}


@pytest.fixture(autouse=True)
def _tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOCATORS, "heed", Heed)
    monkeypatch.setitem(STOPPERS, "patient", Patient)
    monkeypatch.setitem(ANSWERS, "doubled", Doubled)


def build(backbone: str = "test_efficientnet", **changes) -> DTRAM:
    arguments = {
        "backbone": backbone,
        "num_classes": 4,
        "num_steps": 3,
        "image_size": 96,
        "context": "resize",
        "context_size": 64,
        "glimpse_crop": 32,
        "hidden_size": 16,
        "aggregate": MAPS[backbone],
        "locator": "heed",
    }
    model = DTRAM(**arguments | changes).eval()
    nn.init.normal_(model.stopper.net[-1].weight)
    nn.init.normal_(model.head.weight)
    return model


@pytest.mark.parametrize("backbone", MAPS)
@pytest.mark.parametrize("context", ["resize", "crop"])
def test_it_rolls_out_and_predicts(backbone: str, context: str) -> None:
    model, images = build(backbone, context=context), torch.randn(6, 3, 96, 96)
    with torch.no_grad():
        model.stopper.net[-1].bias -= model.rollout(images).stop_logits[:, 0].sort().values[2:4].mean()
        rollout = model.rollout(images)
        found = model.predict(images)
    stops = rollout.stop_logits.sigmoid() > 0.5
    stops[:, -1] = True
    steps = stops.float().argmax(1) + 1
    assert torch.equal(found.steps, steps)
    assert len(steps.unique()) > 1
    torch.testing.assert_close(found.logits, rollout.logits[torch.arange(6), steps - 1], rtol=1e-4, atol=1e-4)
    grid = model.see(images, None).centres[0]
    chosen = rollout.locations[:, 1:].flatten(0, 1)
    assert ((chosen[:, None] - grid).abs().sum(-1).amin(1) < 1e-6).all()  # a glimpse goes to a cell's centre
    limit = 1.0 if context == "resize" else 2 / 3
    assert len(grid) > 1
    assert grid.abs().max() < limit


def test_locations_fit_their_log_probs_and_teach_the_policy() -> None:
    model, images = build(), torch.randn(2, 3, 96, 96)
    model.requires_grad_(False)
    model.locator.requires_grad_(True)
    state = model.advance(images, model.begin(images), None)
    plan, std = model.locator.plan(state), 0.2
    policy = model.locator.distribution(plan, std)
    noise = torch.rand(40_000, 1, 3)
    drawn = model.locator.sample(
        tuple(part[:1].expand(40_000, *part.shape[1:]) for part in plan), noise[:, 0], std
    )
    counted = torch.histogramdd(drawn, bins=[8, 8], range=[-1.5, 1.5, -1.5, 1.5]).hist / len(drawn)
    fine = (torch.arange(240) + 0.5) / 80 - 1.5
    points = torch.cartesian_prod(fine, fine)
    density = policy.log_prob(points[:, None].expand(-1, 2, -1))[:, 0].exp().view(8, 30, 8, 30)
    torch.testing.assert_close(counted, density.mean((1, 3)) * (3 / 8) ** 2, rtol=0, atol=5e-3)
    rollout = model.rollout(images, sample=True, num_rollouts=2)
    rollout.location_log_probs.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.locator.parameters())


@pytest.mark.long
@pytest.mark.parametrize("backbone", MAPS)
def test_it_compiles_in_one_graph_and_exports(backbone: str) -> None:
    check_whole_graphs(build(backbone, dynamic=False), torch.randn(5, 3, 96, 96))


@pytest.mark.long
def test_its_looks_export_with_their_memory() -> None:
    check_looks(build(), torch.randn(5, 3, 96, 96))


def test_a_model_without_a_map_for_it_is_refused() -> None:
    with pytest.raises(ValueError, match="locator='heed' reads a feature map of the context; context='none'"):
        build("test_resnet", context="none")
    with pytest.raises(ValueError, match="backbone='glimpse_mlp' gives none"):
        DTRAM("glimpse_mlp", 4, 1, 2, 28, "resize", 8, 8, aggregate="last", locator="heed")


def test_a_stop_policy_and_an_answer_of_ones_own() -> None:
    model, images = build(stopper="patient", aggregate="doubled"), torch.randn(3, 3, 96, 96)
    rollout = model.rollout(images)
    torch.testing.assert_close(rollout.logits, 2 * model.head(rollout.hidden))
    assert torch.equal(rollout.stop_logits[0], rollout.stop_logits[1])
    assert len(rollout.stop_logits[0].unique()) == 3
    with pytest.raises(ValueError, match=r"stopper='impatient' is not one of 'linear', .*'patient'"):
        build(stopper="impatient")


def test_the_same_noise_gives_the_same_rollout_and_a_record_replays_it() -> None:
    model, images = build(), torch.randn(4, 3, 96, 96)
    noise = Noise.draw(4, 2, 3, model.locator.noise_columns, torch.Generator().manual_seed(5))
    first = model.rollout(images, sample=True, num_rollouts=2, noise=noise)
    again = model.rollout(images, sample=True, num_rollouts=2, noise=noise)
    assert torch.equal(first.logits, again.logits)
    assert torch.equal(first.steps, again.steps)
    replayed = model.rollout(images, num_rollouts=2, locations=first.locations)
    assert torch.equal(replayed.logits, first.logits)
    assert torch.equal(replayed.stop_logits, first.stop_logits)


WORKER = """
import os, sys, torch
sys.path.insert(0, {tests!r})
import test_parts
from dtram_hub.models.location import LOCATORS
from torch.nn.parallel import DistributedDataParallel
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
LOCATORS["heed"] = test_parts.Heed
torch.manual_seed(0)
model = DistributedDataParallel(test_parts.build().train())
for turn in range(2):  # the second backward pass fails if a parameter had no part in the first
    torch.manual_seed(torch.distributed.get_rank())
    model(torch.randn(4, 3, 96, 96)).square().mean().backward()
grads = [p.grad for p in model.parameters() if p.requires_grad]
assert all(g is not None for g in grads)
total = torch.stack([g.double().sum() for g in grads])
other = total.clone()
torch.distributed.all_reduce(other)
assert torch.equal(other, 2 * total)
print("trained", flush=True)
torch.distributed.barrier()
os._exit(0)  # a thread of gloo that still runs at a normal exit may abort the process
"""


@pytest.mark.long
def test_it_trains_under_ddp(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(tests=str(Path(__file__).parent)))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run([*launch, str(script)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained") == 2
