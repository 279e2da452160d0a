"""What a stage starts from, how its rates run, and which of its epochs is kept."""

import itertools
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import asked_recipe
import train as train_script
from dtram_hub import DTRAM
from dtram_hub.learning.curriculum import Stage, enter_stage, location_std, plan_stages
from dtram_hub.learning.optimizer import make_optimizer, rate_factor, set_learning_rate
from dtram_hub.learning.recipe import read_recipe
from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.learning.shared_stages import shared_stages
from dtram_hub.learning.stage_training import StageTraining
from small_runs import SMALL, train


def test_an_encoder_is_shared_by_models_in_which_it_answers_itself(tmp_path: Path) -> None:
    def plan(aggregate: str) -> tuple:
        words = ["model.num_steps=2", "mean_steps=null", f"model.aggregate={aggregate}"]
        words.append("stages_until=encoder")
        recipe = read_recipe(asked_recipe.DEFAULT_RECIPE, words)
        return recipe, plan_stages(2, recipe.stages)

    recipe, stages = plan("residual")
    (tmp_path / "stages").mkdir()
    row = {"model": "encoder alone", "kind": "stage", "stage": "encoder", "stage_kind": "encoder"}
    row |= {"num_steps": 1, "mean_steps": 1.0, "accuracy": 0.5, "validation_accuracy": 0.5}
    metrics = {"results": [row], "stage_kinds": {"encoder": "encoder"}, "seconds": {"encoder": 1.0}}
    RunFolder(tmp_path).write_metrics(metrics | {"data": {"train": "a"}})
    (tmp_path / "stages" / "encoder.safetensors").write_bytes(b"")
    RunFolder(tmp_path).write_recipe(asdict(recipe))
    assert shared_stages(tmp_path, *plan("average"), {"train": "a"}) == stages[:1]
    with pytest.raises(ValueError, match="that run has another 'model'"):
        shared_stages(tmp_path, *plan("last"), {"train": "a"})
    with pytest.raises(ValueError, match="that run has another 'model'"):
        shared_stages(tmp_path, *plan("evidence"), {"train": "a"})
    with pytest.raises(ValueError, match="that run learned from other data: train changed"):
        shared_stages(tmp_path, *plan("average"), {"train": "b"})
    RunFolder(tmp_path).write_metrics(metrics)  # of an older version
    assert shared_stages(tmp_path, *plan("average"), {"train": "b"}) == stages[:1]


def test_a_stage_that_trains_on_validation_keeps_its_last_epoch(tmp_path: Path) -> None:
    output = tmp_path / "run"
    words = ["stages.ram.epochs=0", "stages.dtram.epochs=4", "stages.dtram.split=validation"]
    words += ["seed=1"]
    printed = train(f"output={output}", *words)
    returns = [float(word) for word in re.findall(r"dtram .*train return ([\d.]+)", printed)]
    assert max(returns) > returns[-1], "the test needs a last epoch that is not the best"
    state, kept = output / "checkpoints" / "001-00004", load_file(output / "stages" / "dtram.safetensors")
    last = load_file(state / "model.safetensors")
    assert all(torch.equal(last[f"model.{name}"], tensor) for name, tensor in kept.items())


def test_of_epochs_that_do_equally_well_on_validation_the_last_is_kept(tmp_path: Path) -> None:
    words = ["stages.encoder.epochs=3", "stages.encoder.learning_rate=1e-5"]
    words += ["stages.ram.epochs=0", "stages.dtram.epochs=0"]
    printed = train(f"output={tmp_path / 'run'}", *words)
    returns = re.findall(r"validation return ([\d.]+)", printed)
    assert returns == returns[:1] * 3, "the test needs equally good epochs"
    last = load_file(tmp_path / "run" / "checkpoints" / "000-00003" / "model.safetensors")
    kept = load_file(tmp_path / "run" / "stages" / "encoder.safetensors")
    assert all(torch.equal(last[f"model.{name}"], tensor) for name, tensor in kept.items())


def test_exploration_and_learning_rates_follow_the_epoch(tmp_path: Path) -> None:
    words = [f"output={tmp_path / 'run'}", "stages.ram.location_std=0.5", "model.location_std=0.2"]
    words += ["optimizer.locator_rate=0.25"]
    run = train_script.Run(read_recipe(asked_recipe.DEFAULT_RECIPE, [*SMALL, *words]), resume=False)
    stage = next(stage for stage in run.stages if stage.name == "ram_2")
    for epoch, expected in [(0.0, 0.5), (1.0, 0.35), (2.0, 0.2)]:
        assert location_std(stage, run.model.location_std, epoch) == pytest.approx(expected)
    enter_stage(run.model, stage)
    optimizer = make_optimizer(run.model, run.recipe.optimizer, stage.learning_rate)
    set_learning_rate(optimizer, stage.learning_rate * rate_factor(run.recipe.optimizer, 1.1, stage.epochs))
    names = {parameter: name for name, parameter in run.model.named_parameters()}
    half = pytest.approx(stage.learning_rate / 2)  # half way down the cosine, warm-up left out
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            own = names[parameter].startswith("locator.")
            assert (group["lr"] * 4 if own else group["lr"]) == half


def test_every_batch_of_a_run_has_noise_of_its_own_and_always_the_same(tmp_path: Path) -> None:
    drawn = []
    for seed in (0, 1, 0):
        words = [*SMALL, f"seed={seed}", f"output={tmp_path / str(len(drawn))}"]
        run = train_script.Run(read_recipe(asked_recipe.DEFAULT_RECIPE, words), resume=False)
        for number in (1, 2):
            training = StageTraining(run.recipe, run.evaluator, run.stages, number, run.data, run.folder)
            for epoch, batch in itertools.product((0, 1), (0, 1)):
                drawn.append(training.draw_noise(epoch, batch).stop)
    assert len({tuple(noise.flatten().tolist()) for noise in drawn}) == 16
    assert all(torch.equal(*pair) for pair in zip(drawn[:8], drawn[16:], strict=True))


def test_the_first_layers_of_an_encoder_keep_their_weights(tmp_path: Path) -> None:
    """And they take no part in the backward pass."""
    model = DTRAM("test_efficientnet", 3, 3, 2, 64, "resize", 32, 32, hidden_size=16)
    enter_stage(model, Stage(kind="ram", num_steps=2, freeze_layers=2))
    frozen = {name for name, p in model.encoder.named_parameters() if not p.requires_grad}
    assert frozen == {
        name
        for name, _ in model.encoder.named_parameters()
        if name.startswith(("conv_stem.", "bn1.", "blocks.0."))
    }
    enter_stage(model, Stage(kind="ram", num_steps=2))
    assert all(p.requires_grad for p in model.encoder.parameters())
    small = DTRAM("glimpse_convnet", 3, 1, 2, 32, "resize", 12, 12, hidden_size=16, aggregate="last")
    for encoder, layers in ((model, r"\d"), (small, "0")):
        with pytest.raises(ValueError, match=rf"freeze_layers=9; the encoder has {layers} layers"):
            enter_stage(encoder, Stage(kind="ram", num_steps=2, freeze_layers=9))
