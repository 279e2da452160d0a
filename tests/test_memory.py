"""What training keeps and computes anew: the same weights for less memory, and for less time."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from accelerate import Accelerator

from conftest import first_of, make_undecided, tiny_model
from dtram_hub import DTRAM
from dtram_hub.data.augment import Augmentation
from dtram_hub.data.splits import Split
from dtram_hub.freed_memory import ASKED_BY
from dtram_hub.learning import first_looks
from dtram_hub.learning.curriculum import Stage, enter_stage
from dtram_hub.learning.evaluation import Evaluator
from dtram_hub.learning.first_looks import keep_first_looks
from dtram_hub.learning.losses import LossConfig
from dtram_hub.learning.task import Task
from dtram_hub.models.records import Noise

IMAGES = torch.randint(0, 256, (12, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(12) % 3


def build(**words) -> DTRAM:
    torch.manual_seed(1)
    model = DTRAM("test_efficientnet", 3, 3, 4, 96, "resize", 64, 32, hidden_size=16, **words)
    return make_undecided(model, IMAGES)


def learn(model: DTRAM, checkpointing: bool) -> dict[str, torch.Tensor]:
    """The weights after three steps with dropout and with batch norm that learns."""
    enter_stage(model, Stage(kind="dtram", num_steps=4))
    model.set_grad_checkpointing(checkpointing)
    task = Task(model, LossConfig(), freeze_batch_norm=False, num_rollouts=2).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    torch.manual_seed(2)
    for _ in range(3):
        task(IMAGES, LABELS).total.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.state_dict()


def test_looks_that_are_computed_anew_give_the_same_weights_to_the_last_bit() -> None:
    weights = [learn(build(drop_rate=0.3), checkpointing) for checkpointing in (False, True)]
    assert any(name.endswith("running_mean") for name in weights[0])
    for name, expected in weights[0].items():
        assert torch.equal(weights[1][name], expected), name


def test_activations_of_one_look_are_kept_whatever_the_number_of_steps() -> None:
    def kept(steps: int, checkpointing: bool) -> int:
        """The bytes of all tensors that wait for the backward pass, weights left out."""
        model = build()
        enter_stage(model, Stage(kind="ram", num_steps=steps))
        model.set_grad_checkpointing(checkpointing)
        task = Task(model, LossConfig()).train()
        own, sizes = {p.data_ptr() for p in model.parameters()}, {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.data_ptr() not in own:
                sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = task(IMAGES, LABELS).total
        del loss
        return sum(sizes.values())

    plain, saved = ([kept(steps, how) for steps in (2, 6)] for how in (False, True))
    assert plain[1] - plain[0] > 4 * 1e6
    assert saved[1] - saved[0] < 0.2 * (plain[1] - plain[0])


@pytest.mark.parametrize(
    "words", [{}, {"locator": "attend", "aggregate": "evidence", "context_encoder": "own"}]
)
def test_first_looks_that_are_kept_give_the_same_loss_and_gradients(words: dict) -> None:
    model = build(**words)
    enter_stage(model, Stage(kind="dtram", num_steps=4, freeze="encoder"))
    split, evaluator = Split(IMAGES, LABELS), Evaluator(model, Accelerator(cpu=True), batch_size=5)
    kept = keep_first_looks(evaluator, split, Augmentation())
    again = keep_first_looks(evaluator, split, Augmentation())
    assert all(torch.equal(a, b) for a, b in zip(kept.tensors, again.tensors, strict=True) if a is not None)
    task = Task(model, LossConfig(), num_rollouts=2).train()
    index = torch.tensor([7, 2, 11, 0, 5])
    noise = Noise.draw(5, 2, 4, model.locator.noise_columns, torch.Generator().manual_seed(0))
    counted, found = [], []
    hook = model.encoders[-1].register_forward_pre_hook(lambda *_: counted.append(1))
    for first in (None, kept.at(index, torch.device("cpu"))):
        model.zero_grad()
        loss = task(IMAGES[index], LABELS[index], noise, None, first)
        loss.total.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        found.append([loss.total.detach(), *gradients])
    hook.remove()
    assert len(found[0]) > 5
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_first_looks_that_change_or_do_not_fit_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = build(), Split(IMAGES, LABELS)
    evaluator = Evaluator(model, Accelerator(cpu=True), batch_size=5)
    enter_stage(model, Stage(kind="ram", num_steps=4))
    assert keep_first_looks(evaluator, split, Augmentation()) is None  # the encoder learns
    enter_stage(model, Stage(kind="ram", num_steps=4, freeze="encoder"))
    assert keep_first_looks(evaluator, split, Augmentation(flip=True)) is None
    monkeypatch.setattr(first_looks, "MOST_BYTES", 100)
    assert keep_first_looks(evaluator, split, Augmentation()) is None
    blind = tiny_model("none", "last")
    enter_stage(blind, Stage(kind="ram", num_steps=3, freeze="encoder"))
    grey = Split(torch.zeros(4, 1, 24, 24, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    assert keep_first_looks(Evaluator(blind, Accelerator(cpu=True), 4), grey, Augmentation()) is None


def test_frozen_parts_keep_nothing_for_a_backward_pass() -> None:
    model = build()
    enter_stage(model, Stage(kind="dtram", num_steps=4, freeze="answers"))
    rollout = model.rollout(IMAGES, sample=True)
    assert not rollout.logits.requires_grad
    assert not rollout.hidden.requires_grad
    assert rollout.stop_logits.requires_grad


# The fewest page faults of a tensor of 16,384 pages, before and after the setting.
TOUCH = """
import resource, torch
from dtram_hub.freed_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(min(faults() for _ in range(4)), keep_freed_memory(), min(faults() for _ in range(4)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
@pytest.mark.parametrize("asked", first_of([{}, {"MALLOC_TRIM_THRESHOLD_": "131072"}]))
def test_freed_memory_stays_with_the_process_unless_its_user_has_settings(asked: dict) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ASKED_BY} | asked
    done = subprocess.run(
        [sys.executable, "-c", TOUCH], env=environment, capture_output=True, text=True, check=True
    )
    before, keeps, after = done.stdout.split()
    assert int(before) > 1000
    assert (keeps, int(after) < 100) == (("False", False) if asked else ("True", True))
