"""`dtram calibrate`: another threshold in a folder, and nothing else; metrics stay true."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

import dtram_hub
from conftest import tiny_model
from dtram_hub import DTRAM
from dtram_hub.inference.budget import threshold_for
from dtram_hub.learning.evaluation import Evaluator
from dtram_hub.learning.recipe import load_data, read_recipe
from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.models import checkpoint
from dtram_hub.models.registry import WEIGHTS
from dtram_hub.sharing.cards import render_card

DIGITS = Path(__file__).parents[1] / "training" / "recipes" / "digits.yaml"
FEW = [f"data.options.num_{name}=40" for name in ("train", "closeup", "validation", "test")]
SHIPPED = "dtram_glimpse_mlp.mnist_dtram98"


@pytest.fixture
def folder(small_model: DTRAM, tmp_path: Path) -> Path:
    """A model, and 40 grey photographs beside it."""
    generator = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(40):
        pixels = generator.integers(255, size=(32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    small_model.save_pretrained(tmp_path / "run", list("abcde"))
    return tmp_path / "run"


def test_the_threshold_of_given_images_is_kept_and_nothing_else_changes(dtram, folder: Path) -> None:
    photos = folder.parent / "photos"
    before = json.loads((folder / "config.json").read_text()), (folder / "model.safetensors").read_bytes()
    code, printed, _ = dtram("calibrate", folder, "--images", photos, "--mean-steps", 2.5, "--json")
    found, after = json.loads(printed), json.loads((folder / "config.json").read_text())
    assert code == 0
    model = checkpoint.load(folder)
    assert after["model_args"].pop("stop_threshold") == found["stop_threshold"] == model.stop_threshold
    assert before[0]["model_args"].pop("stop_threshold") == found["stop_threshold_before"] == 0.5
    assert (after, (folder / "model.safetensors").read_bytes()) == before
    assert found["images"] == 40
    assert found["low"] < found["measured"] <= 2.5 < found["high"]
    expected = dtram_hub.calibrate(model, sorted(photos.iterdir()), 2.5)
    assert found["stop_threshold"] == pytest.approx(expected, abs=1e-6)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}


def test_time_enough_for_all_steps_sets_no_stops(dtram, folder: Path) -> None:
    words = ("calibrate", folder, "--images", folder.parent / "photos", "--latency", "60s", "--device", "cpu")
    code, printed, _ = dtram(*words)
    assert (code, checkpoint.load(folder).stop_threshold) == (0, 1.0)
    assert printed.startswith(
        "stop threshold: 0.5000 before, 1.0000 now\nOne image may take 4.00 steps for a mean of 60 seconds"
    )


def test_the_split_of_a_recipe_sets_the_threshold_that_training_sets(dtram, tmp_path: Path) -> None:
    model = tiny_model("resize", "last").eval()
    torch.nn.init.normal_(model.stopper.net[-1].weight)
    model.save_pretrained(tmp_path / "run")
    words = [*FEW, "model.image_size=24", "data.options.zoom=1"]
    code, _, complaint = dtram("calibrate", tmp_path / "run", DIGITS, *words, "--mean-steps", 2)
    assert (code, complaint) == (0, "")
    recipe = read_recipe(DIGITS, words)
    seen = Evaluator(model, Accelerator(), 16).full(load_data(recipe).splits["validation"])
    expected = threshold_for(seen.stop_probs, 2)
    assert checkpoint.load(tmp_path / "run").stop_threshold == pytest.approx(expected, abs=1e-6)
    assert 0 < expected < 1


def test_metrics_name_the_budget_and_the_threshold_of_their_results(dtram, folder: Path) -> None:
    run = RunFolder(folder.with_name("digits"))
    shutil.copytree(WEIGHTS / SHIPPED, run.path)
    before, old = run.read_metrics(), checkpoint.load(run.path).stop_threshold
    for mean_steps in (3, 2):
        words = ("calibrate", run, "--images", folder.parent / "photos", "--mean-steps", mean_steps)
        code, printed, _ = dtram(*words)
        assert code == 0
    after, now = run.read_metrics(), checkpoint.load(run.path).stop_threshold
    budget = after.pop("budget")
    assert (budget["mean_steps"], budget["stop_threshold"]) == (2, now)
    rows = [row for row in after["results"] if row["kind"] == "stage"]
    assert rows[-1].pop("stop_threshold") == old != now
    before.pop("budget", None)
    assert after == before
    assert "of the test images right" in printed
    text = render_card(run.path).text
    assert f"| stop threshold | {old:.4f} |\n\nThese are the results of that stop threshold." in text
    assert f"The model has another one since, {now:.4f}." in text
    assert "another one since" not in render_card(WEIGHTS / SHIPPED).text
    facts = json.loads(dtram("info", run, "--json")[1])
    assert (facts["stop_threshold"], facts["results_at_stop_threshold"]) == (now, old)


def test_mistakes_change_nothing_and_end_in_a_sentence(dtram, folder: Path) -> None:
    photos, before = folder.parent / "photos", (folder / "config.json").read_bytes()
    tiny_model("resize", "last", dynamic=False).save_pretrained(folder.with_name("ram"))
    budget = ("--mean-steps", 2)
    for words, message in [
        (
            (SHIPPED, *budget),
            f"model {SHIPPED!r} is no folder, and only a folder can be changed; first `save_",
        ),
        (("me/birds@v1", *budget), "first `dtram pull me/birds@v1 FOLDER`."),
        ((WEIGHTS / SHIPPED, *budget), "ships with dtram-hub and stays as it is"),
        ((folder.with_name("ram"), *budget), "dynamic=False takes 3 steps with every image"),
        ((folder,), "--mean-steps and --latency are two ways to set a budget"),
        ((folder, *budget, "--latency", "1s"), "--mean-steps and --latency are two ways to set a budget"),
        ((folder, "--mean-steps", 9), "--mean-steps=9.0 is not a number in [1, 4]"),
        ((folder, *budget), "recipe.yaml' is not a file; --images FOLDER gives images without one."),
        ((folder, DIGITS, *budget, "--split", "nope", *FEW), "--split='nope' is not one of 'train'"),
        ((folder, "data.root=x", *budget, "--images", photos), "'data.root=x' is of no use then."),
        ((folder, *budget, "--images", folder), "holds no images"),
        ((folder, "--latency", "1e-9s"), "'1e-9s' is no time; accepted are 20ms and 0.02s"),
        ((folder, "--latency", "20"), "'20' is no time; accepted are 20ms and 0.02s"),
        ((folder, "--latency", "0.0001ms", "--images", photos), "is less than the"),
    ]:
        code, printed, complaint = dtram("calibrate", *words)
        assert (code in (1, 2), printed, message in complaint) == (True, "", True), complaint
    assert (folder / "config.json").read_bytes() == before
