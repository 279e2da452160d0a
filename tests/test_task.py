"""One batch through model and loss: gradients by stage, replay of recorded actions, what is frozen."""

import itertools

import pytest
import torch

from conftest import make_undecided, tiny_model
from dtram_hub import DTRAM
from dtram_hub.images.views import Normalise
from dtram_hub.learning.curriculum import FREEZES, Stage, enter_stage
from dtram_hub.learning.losses import Counts, Loss, LossConfig, dtram_loss
from dtram_hub.learning.task import Task
from dtram_hub.models.location import LOCATORS
from dtram_hub.models.records import Noise, Rollout, State

STAGES = {"encoder": 1, "ram": 3, "dtram": 3}  # kind -> number of steps
GAUSSIAN = [name for name, policy in LOCATORS.items() if not policy.needs_map]


def build(
    locator: str = "shared", context: str = "resize", aggregate: str = "last", context_encoder: str = "shared"
) -> DTRAM:
    """A small DT-RAM of three looks, its heads moved off the zeros that some of them start from."""
    changes = {} if locator in GAUSSIAN and aggregate != "evidence" else {"backbone": "test_efficientnet"}
    changes["context_encoder"] = context_encoder
    model = tiny_model(context, aggregate, locator=locator, **changes)
    for parameter in model.locator.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return make_undecided(model, torch.rand(16, 1, 24, 24))


def images_and_labels(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randint(0, 256, (count, 1, 24, 24), dtype=torch.uint8), torch.arange(count) % 3


@pytest.mark.parametrize(
    ("kind", "locator", "freeze", "aggregate"),
    [
        *((*case, "last") for case in itertools.product(STAGES, LOCATORS, FREEZES)),
        *((kind, "shared", "encoder", "average") for kind in STAGES),
        *((*case, "evidence") for case in itertools.product(STAGES, ["shared", "attend"], FREEZES)),
    ],
)
def test_what_trains_in_a_stage_gets_a_gradient_and_nothing_else_does(
    kind: str, locator: str, freeze: str, aggregate: str
) -> None:
    model = build(locator, aggregate=aggregate)
    enter_stage(model, Stage(kind=kind, num_steps=STAGES[kind], freeze=freeze))
    Task(model, LossConfig(), num_rollouts=2).train()(*images_and_labels()).total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    core = {"input_to_hidden", "hidden_to_hidden", "location_to_hidden", "head"}
    expected = {
        "encoder": {"baseline", "encoder", "input_to_hidden", "head"},
        "ram": {"baseline", "encoder", "locator"} | core,
        "dtram": {"baseline", "encoder", "locator", "stopper"} | core,
    }[kind]
    expected -= {"encoder"} if freeze == "encoder" else set()
    if aggregate == "evidence" and (freeze, kind) != ("context", "encoder"):
        expected |= {"answer"}
    own = {"encoder": set(), "ram": {"locator"}, "dtram": {"stopper"}}[kind]
    assert learning == ({"baseline"} | own if freeze == "answers" else expected)


@pytest.mark.parametrize(("kind", "freeze"), list(itertools.product(STAGES, FREEZES)))
def test_an_encoder_of_the_contexts_own_trains_in_its_stages(kind: str, freeze: str) -> None:
    model = build("attend", aggregate="evidence", context_encoder="own")
    enter_stage(model, Stage(kind=kind, num_steps=STAGES[kind], freeze=freeze))
    Task(model, LossConfig(), num_rollouts=2).train()(*images_and_labels()).total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    context = {"context_encoder"} if freeze == "nothing" else set()
    glimpses = {"encoder"} if kind != "encoder" and freeze in ("nothing", "context") else set()
    assert learning & {"encoder", "context_encoder"} == context | glimpses
    assert model.answer.of_cells.weight.requires_grad == (freeze in ("nothing", "encoder"))


def recorded_noise(model: DTRAM, record: Rollout, std: float) -> Noise:
    """The noise that makes a rollout of `model` act as in `record`: its samples, and its stops."""
    count, num_steps = record.steps.shape[0], model.num_steps
    first = int(model.context != "none")
    hidden = record.hidden.transpose(0, 1)
    before = torch.cat([torch.zeros_like(hidden[:1]), hidden[:-1]])[first:]
    (means,) = model.locator.plan(State(before, torch.arange(first, num_steps)[:, None]))
    location = torch.full((count, num_steps, 2), 0.5, dtype=torch.float64)
    deviations = (record.samples[:, first:].double() - means.transpose(0, 1).double()) / std
    location[:, first:] = torch.special.ndtr(deviations)
    stopped = torch.arange(1, num_steps + 1) == record.steps[:, None]
    return Noise(location, torch.where(stopped, 1e-9, 1 - 1e-9))


def gradients(model: DTRAM) -> dict[str, torch.Tensor]:
    """And none are left behind."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def joined(records: list[Rollout]) -> Rollout:
    columns = zip(*(vars(record).items() for record in records), strict=True)
    return Rollout(
        **{
            column[0][0]: torch.cat([value for _, value in column])
            for column in columns
            if column[0][1] is not None
        }
    )


@pytest.mark.parametrize("locator", GAUSSIAN)
@pytest.mark.parametrize("context", ["resize", "none"])
@pytest.mark.parametrize("kind", ["ram", "dtram"])
def test_recorded_actions_replayed_through_one_batch(kind: str, context: str, locator: str) -> None:
    """Acted in batches of 2 images, learned from all 8 at once: the same loss, every gradient to 1e-6."""
    model = build(locator, context)
    model.dynamic = kind == "dtram"
    images, labels = torch.rand(8, 1, 24, 24), (torch.arange(8) % 3).repeat_interleave(2)
    config, std = LossConfig(baseline="leave_one_out", entropy_weight=0.1), 0.3

    def loss_of(rollout: Rollout, labels: torch.Tensor, counts: Counts | None = None) -> Loss:
        return dtram_loss(rollout, labels, config, dynamic=model.dynamic, num_rollouts=2, counts=counts)

    records = [model.rollout(images[i : i + 2], sample=True, num_rollouts=2, std=std) for i in range(0, 8, 2)]
    record = joined(records)
    counts = Counts.of(record.steps)
    losses = [loss_of(part, labels[4 * i : 4 * i + 4], counts) for i, part in enumerate(records)]
    sum(loss.total for loss in losses).backward()
    expected = gradients(model)

    noise = recorded_noise(model, record, std)
    replayed = model.rollout(images, sample=True, num_rollouts=2, noise=noise, std=std)
    loss = loss_of(replayed, labels)
    loss.total.backward()
    found = gradients(model)

    assert torch.equal(replayed.steps, record.steps)
    assert not model.dynamic or len(set(record.steps.tolist())) > 1, "the test needs different stops"
    torch.testing.assert_close(replayed.samples, record.samples, equal_nan=True, atol=1e-6, rtol=0)
    for part, value in vars(loss).items():
        torch.testing.assert_close(sum(getattr(each, part) for each in losses), value, atol=1e-6, rtol=1e-6)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(1.0, gradient.abs().max().item())
        assert (found[name] - gradient).abs().max() <= 1e-6 * scale, name


def test_the_same_noise_gives_the_same_loss_and_other_noise_another() -> None:
    task = Task(build(), LossConfig(), num_rollouts=2).train()
    batch = images_and_labels()
    losses = [
        task(*batch, task.draw_noise(8, torch.Generator().manual_seed(seed))).total for seed in (1, 1, 2)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_a_process_draws_its_share_of_the_noise_of_the_whole_batch() -> None:
    task = Task(build(), LossConfig(), num_rollouts=2)

    def draw(share: slice) -> Noise:
        return task.draw_noise(8, torch.Generator().manual_seed(5), share)

    whole = draw(slice(None))
    for rank in range(2):
        share = draw(slice(rank, None, 2))
        for name in ("location", "stop"):
            images = getattr(whole, name).unflatten(0, (8, 2))[rank::2]
            assert torch.equal(getattr(share, name), images.flatten(0, 1))


def test_the_spread_of_the_location_policy_is_an_argument() -> None:
    """Samples lie that far from the means, and the model keeps its own spread."""
    model = build()
    task = Task(model, LossConfig()).eval()
    images, labels = images_and_labels()
    noise = task.draw_noise(8, torch.Generator().manual_seed(0))
    before = model.location_std
    with torch.no_grad():
        samples = {
            std: model.rollout(images, sample=True, noise=noise, std=std).samples[:, 1] for std in (0.1, 0.2)
        }
        mean = model.rollout(images).locations[:, 1]
        own = task(images, labels, noise).total
        assert task(images, labels, noise, before).total == own != task(images, labels, noise, 0.5).total
    torch.testing.assert_close(samples[0.2] - mean, 2 * (samples[0.1] - mean), atol=1e-5, rtol=1e-4)
    assert model.location_std == before


def test_frozen_batch_norm_keeps_its_statistics_and_follows_the_flag() -> None:
    model = DTRAM("resnet18", 3, 3, 2, 64, "resize", 32, 32, hidden_size=16)
    images = torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8)
    for frozen in (True, False):
        task = Task(model, LossConfig(), freeze_batch_norm=frozen).train()
        before = model.encoder.bn1.running_mean.clone()
        task(images, torch.zeros(4, dtype=torch.int64))
        assert torch.equal(model.encoder.bn1.running_mean, before) == frozen


def test_normalise_by_hand() -> None:
    normalise = Normalise({"mean": (0.5, 0.0), "std": (0.25, 1.0)})
    images = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1)
    assert normalise(images).flatten().tolist() == [-2.0, 1.0]
    assert normalise(images).dtype == torch.float32
    assert not normalise.state_dict()
