"""Runs that average their weights, end a stage early, get more epochs, or start from another model."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import asked_recipe
import train as train_script
from conftest import tiny_model
from dtram_hub.data.config import DataConfig
from dtram_hub.learning.averaging import Average
from dtram_hub.learning.curriculum import plan_stages
from dtram_hub.learning.recipe import read_recipe
from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.learning.same_run import check_same_recipe, tell_longer
from dtram_hub.learning.starting_weights import start_from
from dtram_hub.models import checkpoint
from dtram_hub.sharing.named_models import find_model
from small_runs import SMALL

TINY = [
    *SMALL,
    *("data.options.num_train=64", "data.options.num_validation=32", "data.options.num_test=32"),
    *(
        "stages.encoder.epochs=2",
        "stages.ram.epochs=0",
        "stages.dtram.epochs=0",
        "optimizer.schedule=constant",
        "optimizer.warmup=0",
    ),
]


def run(output: Path, *words: str, resume: bool = False) -> train_script.Run:
    """Train a tiny run, and leave out its report."""
    recipe = read_recipe(asked_recipe.DEFAULT_RECIPE, [*TINY, f"output={output}", *words])
    made = train_script.Run(recipe, resume)
    try:
        made.train()
        made.accelerator.end_training()
    finally:
        made.folder.release()
    return made


def same(one: Path, other: Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_average_follows_the_weights_by_its_decay() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average, expected = Average(model, 0.5), 0.0
    for step in range(1, 6):
        torch.nn.init.constant_(model.weight, float(step))
        average.update(step)
        decay = 0.0 if step == 1 else min(0.5, 1 - step ** (-2 / 3))
        expected = decay * expected + (1 - decay) * step
        assert average.averaged.weight.item() == pytest.approx(expected)


def test_averaged_weights_are_kept_and_resumed_to_the_last_bit(tmp_path: Path) -> None:
    run(tmp_path / "whole", "ema=0.9")
    run(tmp_path / "parts", "ema=0.9", "stages.encoder.epochs=1")
    run(tmp_path / "parts", "ema=0.9", resume=True)
    whole, parts = (tmp_path / name / "checkpoints" / "000-00002" for name in ("whole", "parts"))
    assert same(whole / "average.safetensors", parts / "average.safetensors")
    learned, kept = load_file(whole / "model.safetensors"), load_file(whole / "best.safetensors")
    assert any(not torch.equal(learned[f"model.{name}"], tensor) for name, tensor in kept.items())


def test_a_stage_without_a_better_epoch_ends_early(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="dtram_hub")
    words = ["stages.encoder.epochs=9", "patience=1", "stages.encoder.learning_rate=0.005", "seed=1"]
    run(tmp_path / "run", *words)
    done = int(max((tmp_path / "run" / "checkpoints").glob("0*")).name[4:])
    returns = [float(word) for word in re.findall(r"validation return ([\d.]+)", caplog.text)]
    best = max(range(done), key=lambda epoch: (returns[epoch], epoch)) + 1  # of equal epochs the last
    assert done == best + 1 < 9, "the test needs a stage that ends early"
    assert f"no epoch was better than {best}" in caplog.text


def test_a_run_goes_on_with_more_epochs_as_if_it_had_them_from_the_start(tmp_path: Path) -> None:
    run(tmp_path / "long", "stages.encoder.epochs=3")
    short = run(tmp_path / "short", "stages.encoder.epochs=2")
    short.folder.metrics_path.write_text("{}")
    grown = run(tmp_path / "short", "stages.encoder.epochs=3", resume=True)
    assert same(*(tmp_path / name / "checkpoints/000-00003/model.safetensors" for name in ("long", "short")))
    assert not short.folder.is_finished
    assert read_recipe(grown.folder.recipe_path).stages.encoder.epochs == 3


def test_a_stage_that_others_have_followed_gets_no_more_epochs(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    words = ["stages.encoder.epochs=5", "stages.ram.epochs=2", "stages.dtram.epochs=1"]
    folder.write_recipe(asdict(read_recipe(asked_recipe.DEFAULT_RECIPE, [*TINY, *words])))
    longer = read_recipe(asked_recipe.DEFAULT_RECIPE, [*TINY, *words, "stages.ram.epochs=3"])
    stages = plan_stages(3, longer.stages)
    assert [stage.name for stage in stages] == ["encoder", "ram_2", "ram_3", "dtram"]
    assert tell_longer(folder, longer, stages, reached=2)  # ram_3 gets one epoch more, ram_2 is done
    with pytest.raises(
        ValueError, match=r"ram\.epochs cannot grow any more, because dtram has begun; accepted is 2"
    ):
        tell_longer(folder, longer, stages, reached=3)
    check_same_recipe(folder, longer)
    shorter = read_recipe(asked_recipe.DEFAULT_RECIPE, [*TINY, *words, "stages.ram.epochs=1"])
    with pytest.raises(ValueError, match=r"has another 'stages\.ram\.epochs'"):
        check_same_recipe(folder, shorter)


def test_another_model_gives_its_weights_to_other_classes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="dtram_hub")
    name = "dtram_glimpse_mlp.mnist_dtram98"
    known = timm.create_model(name, pretrained=True)
    model = timm.create_model("dtram_glimpse_mlp", **known.arguments() | {"num_classes": 7})
    model.pretrained_cfg |= {"mean": (0.3,), "std": (0.4,)}
    start_from(model, find_model(name).build(), name, DataConfig(std=[0.7]))
    theirs, mine = known.state_dict(), model.state_dict()
    changed = {key.split(".")[0] for key in mine if not torch.equal(theirs[key], mine[key])}
    assert changed == {"head"}
    assert f"init_from={name!r}" in caplog.text
    cfg = model.pretrained_cfg
    assert [*cfg["mean"], *cfg["std"]] == [*known.pretrained_cfg["mean"], 0.7]
    with pytest.raises(ValueError, match="accepted is the same encoder"):
        start_from(tiny_model("resize", "last"), known, name, DataConfig())


def test_a_run_from_another_model_goes_on_with_its_mean(tmp_path: Path) -> None:
    other = run(tmp_path / "other", "stages.encoder.epochs=1").model
    other.pretrained_cfg |= {"mean": (0.3,), "std": (0.4,)}
    (tmp_path / "known").mkdir()
    checkpoint.save(other, tmp_path / "known", [str(digit) for digit in range(10)])
    word = f"init_from={tmp_path / 'known'}"
    run(tmp_path / "whole", word)
    run(tmp_path / "parts", word, "stages.encoder.epochs=1")
    parts = run(tmp_path / "parts", word, resume=True)
    assert parts.model.pretrained_cfg["mean"][0] == 0.3
    assert same(*(tmp_path / name / "checkpoints/000-00002/model.safetensors" for name in ("whole", "parts")))


def test_the_tracker_gets_scores_and_a_picture_of_every_stage(tmp_path: Path) -> None:
    run(tmp_path / "run", "trackers=[tensorboard]")
    events = EventAccumulator(str(tmp_path / "run" / "logs"))
    events.Reload()
    scores = {name.partition("/")[2] for name in events.Tags()["scalars"]}
    assert {"train_accuracy", "validation_balanced_accuracy", "learning_rate", "seconds_left"} <= scores
    assert [event.step for event in events.Scalars("encoder/train_accuracy")] == [0, 1]
    (picture,) = events.Images("encoder/glimpses")
    assert picture.width > 100
