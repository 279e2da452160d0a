"""Weights with the names of version 0.1.0 load on every path, and give what they gave."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import asked_recipe
import dtram_hub
import train as train_script
from conftest import make_undecided
from dtram_hub import DTRAM
from dtram_hub.learning.losses import LossConfig
from dtram_hub.learning.recipe import read_recipe
from dtram_hub.learning.task import Task
from dtram_hub.models import checkpoint
from hub_faults import TOKEN
from loopback_hub import LoopbackHub
from small_runs import SMALL, train

REPO = "me/birds"


def old_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as version 0.1.0 called them."""
    changes = {"locator.locations": "places", "locator.linear.": "locator.", "stopper.net.": "stop_head."}
    found = {}
    for name, tensor in weights.items():
        for today, old in changes.items():
            name = name.replace(today, old)
        found[name] = tensor
    return found


def age(path: Path) -> None:
    """Give a file of weights its old names."""
    weights = old_names(load_file(path))
    assert any("stop_head" in name for name in weights)
    save_file(weights, path, {"format": "pt"})


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 64, 64)


@pytest.fixture
def model(images: Tensor) -> DTRAM:
    model = timm.create_model(
        "dtram_test_efficientnet",
        num_classes=3,
        num_steps=3,
        image_size=64,
        context_size=64,
        glimpse_crop=32,
        hidden_size=16,
        locator="stepwise",
    ).eval()
    return make_undecided(model, images)


@pytest.fixture
def saved(model: DTRAM, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "old", ["ant", "bee", "cow"])
    age(tmp_path / "old" / "model.safetensors")
    return tmp_path / "old"


def test_a_state_dict(model: DTRAM, images: Tensor) -> None:
    fresh = DTRAM(**model.arguments()).eval()
    fresh.load_state_dict(old_names(model.state_dict()))
    assert torch.equal(fresh(images), model(images))
    inside = nn.ModuleDict({"model": fresh})
    inside.load_state_dict({f"model.{name}": 0 * w for name, w in old_names(model.state_dict()).items()})
    assert fresh.locator.locations.eq(0).all()


def test_a_folder_by_timm_and_by_us(saved: Path, model: DTRAM, images: Tensor) -> None:
    by_timm = timm.create_model(f"local-dir:{saved}", pretrained=True).eval()
    assert torch.equal(by_timm(images), model(images))
    assert torch.equal(checkpoint.load(saved)(images), model(images))
    five = timm.create_model(f"local-dir:{saved}", pretrained=True, num_classes=5)
    assert torch.equal(five.locator.locations, model.locator.locations)
    longer = timm.create_model(f"local-dir:{saved}", pretrained=True, num_steps=5)
    assert torch.equal(longer.locator.locations, model.locator.locations[[0, 1, 2, 2, 2]])


def test_shapes_are_checked_under_todays_names(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["model_args"]["hidden_size"] = 24
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"tensors do not fit its config.json, 'baseline.weight' for one"):
        checkpoint.load(saved)


LOADERS = """
import sys
import dtram_hub, timm, torch
from transformers import pipeline

kept = torch.load(sys.argv[1], weights_only=True)
for repeat in range(2):
    models = [timm.create_model("hf-hub:me/birds", pretrained=True), dtram_hub.pull("me/birds")]
    models += [pipeline("image-classification", model=source).model.timm_model for source in sys.argv[2:]]
for model in models:
    weights = model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in kept["weights"].items())
    torch.testing.assert_close(model.eval()(kept["images"]), kept["logits"], rtol=1e-5, atol=1e-6)
print(len(models), "alike")
"""


@pytest.mark.long
def test_the_hub_by_timm_by_us_and_by_transformers(
    hub: LoopbackHub, saved: Path, model: DTRAM, images: Tensor, tmp_path: Path
) -> None:
    dtram_hub.push(saved, REPO, token=TOKEN)
    kept = {"images": images, "logits": model(images), "weights": model.state_dict()}
    torch.save(kept, tmp_path / "kept.pt")
    words = [sys.executable, "-c", LOADERS, str(tmp_path / "kept.pt"), REPO, str(saved)]
    environment = {"HF_TOKEN": TOKEN}
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("4 alike\n")


def test_a_stage_file_also_where_parts_differ(model: DTRAM, images: Tensor, tmp_path: Path) -> None:
    checkpoint.save_weights(model, tmp_path / "ram_3.safetensors")
    age(tmp_path / "ram_3.safetensors")
    fresh = DTRAM(**model.arguments()).eval()
    checkpoint.load_weights(fresh, tmp_path / "ram_3.safetensors")
    assert torch.equal(fresh(images), model(images))
    other = DTRAM(**model.arguments() | {"stopper": "margin", "num_steps": 5}).eval()
    before = {name: tensor.clone() for name, tensor in other.stopper.state_dict().items()}
    checkpoint.load_weights(other, tmp_path / "ram_3.safetensors", fitting=True)
    assert torch.equal(other.locator.locations, model.locator.locations[[0, 1, 2, 2, 2]])
    assert torch.equal(other.locator.linear.weight, model.locator.linear.weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.stopper.state_dict().items())


def test_stages_from_a_run_of_old(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    words = ["stages.ram.epochs=1", "stages.dtram.epochs=1", "model.num_steps=2"]
    train(f"output={whole}", *words)
    expected = load_file(whole / "stages" / "ram_2.safetensors")
    for path in (whole / "stages").iterdir():
        age(path)
    words += [f"output={tmp_path / 'next'}", f"stages_from={whole}"]
    run = train_script.Run(read_recipe(asked_recipe.DEFAULT_RECIPE, [*SMALL, *words]), False)
    assert run.stages[run.progress.stage].name == "dtram"
    found = load_file(tmp_path / "next" / "stages" / "ram_2.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_a_state_of_accelerate(model: DTRAM, tmp_path: Path) -> None:
    task = Task(model, LossConfig())
    accelerator = Accelerator(cpu=True)
    prepared = accelerator.prepare(task)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    accelerator.save_state(str(tmp_path / "state"))
    age(tmp_path / "state" / "model.safetensors")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    accelerator.load_state(str(tmp_path / "state"))
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    accelerator.free_memory(prepared)
