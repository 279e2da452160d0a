"""training/train.py as a user runs it: what it leaves behind, resumption, processes, refusals."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from timm.models import group_parameters

import ablate
import export_stage as export_script
import train as train_script
from dtram_hub.learning import run_folder
from dtram_hub.learning.curriculum import plan_stages
from dtram_hub.learning.optimizer import make_optimizer, rate_factor, set_learning_rate
from dtram_hub.learning.recipe import write_recipe
from dtram_hub.learning.resume import shared_stages
from dtram_hub.models import checkpoint
from folders import make_folder

SCRIPT = Path(__file__).parents[1] / "training" / "train.py"
SMALL = [
    *("threads=1", "trackers=[]", "batch_size=32", "mean_steps=null"),
    *("model.num_steps=3", "model.image_size=32", "model.hidden_size=16"),
    *("data.options.num_train=640", "data.options.num_closeup=64", "data.options.zoom=2"),
    *("data.options.num_validation=64", "data.options.num_test=64"),
    *("stages.encoder.epochs=1", "stages.ram.epochs=2", "stages.dtram.epochs=2"),
]


def command(*words: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *SMALL, *words]


def train(*words: str, **environment: str) -> str:
    done = subprocess.run(command(*words), capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(*words: str) -> str:
    """The sentence with which a run is refused."""
    with pytest.raises(SystemExit) as refused:
        train_script.main([*SMALL, *words])
    return str(refused.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    output = tmp_path_factory.mktemp("runs") / "whole"
    return output, train(f"output={output}")


def test_what_a_run_leaves_behind(finished: tuple[Path, str]) -> None:
    output, printed = finished
    names = {path.name for path in output.iterdir()}
    assert names >= {
        "model.safetensors",
        "config.json",
        "metrics.json",
        "recipe.yaml",
        "steps.png",
        "glimpses.png",
    }
    for title in (
        "encoder alone",
        "RAM, 2 steps",
        "RAM, 3 steps",
        "softmax threshold on RAM 3",
        "DT-RAM, at most 3",
    ):
        assert title in printed
    metrics = json.loads((output / "metrics.json").read_text())
    scores = {row["model"]: row for row in metrics["results"]}["DT-RAM, at most 3 steps"]
    assert sum(scores["step_histogram"].values()) == metrics["test_images"] == 64
    model = timm.create_model(f"local-dir:{output}", pretrained=True)
    assert (model.num_steps, model.dynamic, model.hidden_size) == (3, True, 16)
    assert model.pretrained_cfg["label_names"] == list("0123456789")
    kept = load_file(output / "stages" / "dtram.safetensors")
    assert all(
        torch.equal(kept[name], tensor) for name, tensor in checkpoint.load(output).state_dict().items()
    )
    with Image.open(output / "glimpses.png") as picture:
        assert np.asarray(picture.convert("RGB")).std() > 0
    head = (output / "recipe.yaml").read_text().splitlines()[0]
    assert f"torch {torch.__version__}" in head


def test_killed_and_resumed_is_bit_equal_to_never_killed(finished: tuple[Path, str], tmp_path: Path) -> None:
    whole, _ = finished
    output = tmp_path / "killed"
    words = [f"output={output}"]
    for mark in ("001-00001", "003-00001"):  # in the middle of a RAM stage, and of the DT-RAM's
        process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (output / "checkpoints" / mark).exists():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        words = [f"output={output}", "--resume"]
    assert not (output / "model.safetensors").exists()
    train(*words)
    expected, found = load_file(whole / "model.safetensors"), load_file(output / "model.safetensors")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    results = [json.loads((folder / "metrics.json").read_text())["results"] for folder in (whole, output)]
    assert results[0] == results[1]


def test_two_processes_train_together(tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29531"]
    output = tmp_path / "two"
    done = subprocess.run(
        [*launch, *command(f"output={output}")[1:]],
        capture_output=True,
        text=True,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((output / "metrics.json").read_text())
    scores = metrics["results"]
    assert all(sum(row["step_histogram"].values()) == 64 for row in scores if "step_histogram" in row)
    assert done.stdout.count("encoder alone") == 1


def test_a_folder_of_images_with_every_other_setting(tmp_path: Path) -> None:
    """The imagefolder recipe, shrunk: bf16, accumulation, SGD in steps, no curriculum, a budget of steps."""
    root = make_folder(tmp_path / "pets", {"train": 20, "test": 4})
    words = [
        *("training/recipes/imagefolder.yaml", f"data.root={root}", f"output={tmp_path / 'run'}"),
        *("architecture=dtram", "model.backbone=test_efficientnet", "encoder_weights=null"),
        *("model.image_size=48", "model.context_size=32", "model.glimpse_crop=16", "model.glimpse_size=16"),
        "model.hidden_size=16",
        *("model.context=crop", "model.aggregate=residual", "optimizer.name=sgd", "optimizer.schedule=step"),
        *("loss.baseline=learned", "loss.reward=correct", "stages.ram.learning_rate=0.01"),
        *("batch_size=4", "accumulation=2", "num_rollouts=2", "precision=bf16", "curriculum=false"),
        *("loss.supervision=all", "mean_steps=2.0", "threads=1", "trackers=[]", "optimizer.step_epochs=1"),
        *(
            "stages.encoder.epochs=2",
            "stages.ram.epochs=1",
            "stages.ram.freeze=encoder",
            "stages.ram.split=train",
            "stages.dtram.epochs=1",
            "stages.dtram.split=train",
        ),
    ]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, cwd=SCRIPT.parents[1]
    )
    assert done.returncode == 0, done.stderr
    model = checkpoint.load(tmp_path / "run")
    assert model.pretrained_cfg["label_names"] == ["cat", "dog"]
    assert model.backbone == "test_efficientnet"
    kept = {
        stage: load_file(tmp_path / "run" / "stages" / f"{stage}.safetensors")
        for stage in ("encoder", "ram_3")
    }
    encoder = [name for name in kept["encoder"] if name.startswith("encoder.")]
    assert all(torch.equal(kept["encoder"][name], kept["ram_3"][name]) for name in encoder)
    assert not torch.equal(kept["encoder"]["locator.weight"], kept["ram_3"]["locator.weight"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    own = [row["stage"] for row in metrics["results"] if "validation_accuracy" in row]
    assert own == ["encoder", "ram_3", "dtram"]
    assert metrics["test_images"] == 8


def test_a_finished_run_is_not_overwritten_and_not_continued_with_another_recipe(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    output, _ = finished
    assert f"output='{output}' holds a run already; pass --resume" in refusal(f"output={output}")
    assert "has another 'seed'" in refusal(f"output={output}", "seed=1", "--resume")
    assert "holds no run to go on with" in refusal(f"output={tmp_path / 'nothing'}", "--resume")


def run_script(name: str, *words: str) -> str:
    done = subprocess.run([sys.executable, SCRIPT.with_name(name), *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_validate_agrees_with_the_run(finished: tuple[Path, str]) -> None:
    output, _ = finished
    lines = [json.loads(line) for line in run_script("validate.py", str(output), "--json").splitlines()]
    own = next(line for line in lines if line["stop_threshold"] == 0.5)
    metrics = json.loads((output / "metrics.json").read_text())
    expected = {row["model"]: row for row in metrics["results"]}["DT-RAM, at most 3 steps"]
    assert own | expected == expected | {"stop_threshold": 0.5}
    assert next(line for line in lines if line["stop_threshold"] == 1.0)["mean_steps"] == 3.0


def test_compare_gives_mean_and_spread(finished: tuple[Path, str], tmp_path: Path) -> None:
    runs = []
    for seed, accuracy in enumerate((0.8, 0.9)):
        metrics = json.loads((finished[0] / "metrics.json").read_text()) | {"seed": seed}
        row = run_folder.own_result(metrics) | {"model": "DT-RAM", "mean_steps": 2.0, "accuracy": accuracy}
        metrics["results"] = [row]
        runs.append(tmp_path / str(seed))
        runs[-1].mkdir()
        (runs[-1] / "metrics.json").write_text(json.dumps(metrics))
    assert "| DT-RAM | 2.00 ± 0.00 | 85.00 ± 7.07 | 80.00, 90.00 |" in run_script(
        "compare.py", *map(str, runs)
    )


def test_stages_of_another_run_are_taken_over_and_the_rest_is_trained_the_same(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    whole, _ = finished
    output = tmp_path / "shared"
    printed = train(f"output={output}", f"stages_from={whole}")
    assert "ram_3" not in printed.split("test images")[0]
    assert "dtram    epoch  2/2" in printed
    expected, found = load_file(whole / "model.safetensors"), load_file(output / "model.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (whole, output))
    assert after["results"] == before["results"]
    assert after["seconds"].keys() == before["seconds"].keys()
    assert after["seconds"]["ram_2"] == before["seconds"]["ram_2"]
    other = [f"output={tmp_path / 'other'}", f"stages_from={whole}"]
    words = [f"output={tmp_path / 'longer'}", f"stages_from={whole}", "model.num_steps=4"]
    recipe = train_script.read_recipe(train_script.DEFAULT_RECIPE, [*SMALL, *words])
    longer = train_script.Run(recipe, resume=False)
    assert (longer.progress.stage, longer.stages[longer.progress.stage].name) == (3, "ram_4")
    words = [f"output={tmp_path / 'smaller'}", f"stages_from={whole}", "stages_until=encoder"]
    words += ["model.glimpse_crop=20", "model.glimpse_size=16", "model.stopper=margin"]
    recipe = train_script.read_recipe(train_script.DEFAULT_RECIPE, [*SMALL, *words])
    smaller = train_script.Run(recipe, resume=False)
    assert smaller.stages[smaller.progress.stage].name == "ram_2"
    name = Path("stages", "encoder.safetensors")
    expected, found = load_file(whole / name), load_file(smaller.output / name)
    fitting = [name for name in expected if not name.startswith("stop_head")]
    assert all(torch.equal(expected[name], found[name]) for name in fitting)
    assert found["stop_head.0.weight"].shape == (128, 2)
    assert f"stages_from='{whole}': that run has another 'seed'" in refusal(*other, "seed=1")
    assert f"stages_from='{whole}': that run has another 'model'" in refusal(*other, "model.hidden_size=8")
    assert f"stages_from='{whole}': that run has another 'model'" in refusal(*other, "model.location_std=0.1")
    assert "is not the folder of a finished run" in refusal(other[0], f"stages_from={tmp_path}")


def test_an_encoder_is_shared_by_models_in_which_it_answers_itself(tmp_path: Path) -> None:
    def plan(aggregate: str) -> tuple:
        words = ["model.num_steps=2", "mean_steps=null", f"model.aggregate={aggregate}"]
        words.append("stages_until=encoder")
        recipe = train_script.read_recipe(train_script.DEFAULT_RECIPE, words)
        return recipe, plan_stages(2, recipe.stages)

    recipe, stages = plan("residual")
    (tmp_path / "stages").mkdir()
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "stages" / "encoder.safetensors").write_bytes(b"")
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert shared_stages(tmp_path, *plan("average")) == stages[:1]
    with pytest.raises(ValueError, match="that run has another 'model'"):
        shared_stages(tmp_path, *plan("last"))


def test_a_stage_that_trains_on_validation_keeps_its_last_epoch(tmp_path: Path) -> None:
    output = tmp_path / "run"
    words = ["stages.ram.epochs=0", "stages.dtram.epochs=4", "stages.dtram.split=validation"]
    printed = train(f"output={output}", *words)
    rewards = [float(word) for word in re.findall(r"dtram .*reward ([\d.]+)", printed)]
    assert max(rewards) > rewards[-1], "the test needs a last epoch that is not the best"
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


def test_a_stage_is_exported_as_a_model_of_its_own(finished: tuple[Path, str], tmp_path: Path) -> None:
    run, _ = finished
    run_script("export_stage.py", str(run), "ram_2", str(tmp_path / "ram2"))
    model = timm.create_model(f"local-dir:{tmp_path / 'ram2'}", pretrained=True)
    assert (model.num_steps, model.dynamic) == (2, False)
    kept = load_file(run / "stages" / "ram_2.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in model.state_dict().items())
    whole, own = (json.loads((folder / "metrics.json").read_text()) for folder in (run, tmp_path / "ram2"))
    assert own["results"] == [row for row in whole["results"] if row["stage"] == "ram_2"]
    assert list(own["seconds"]) == ["encoder", "ram_2"]
    assert "curves" not in own
    configs = [json.loads((path / "config.json").read_text()) for path in (run, tmp_path / "ram2")]
    assert configs[1]["pretrained_cfg"] == configs[0]["pretrained_cfg"]
    assert configs[1]["pretrained_cfg"]["crop_pct"] == 1.0  # the canvas, not what the encoder was made for
    assert str(run) not in (tmp_path / "ram2" / "recipe.yaml").read_text()
    assert train_script.read_recipe(tmp_path / "ram2" / "recipe.yaml").output == "runs/ram2"
    with pytest.raises(SystemExit, match=r"stage='ram_9' is not one of 'encoder', 'ram_2', 'ram_3', 'dtram'"):
        export_script.main([str(run), "ram_9", str(tmp_path / "none")])


def test_exploration_and_learning_rates_follow_the_epoch(tmp_path: Path) -> None:
    words = [f"output={tmp_path / 'run'}", "stages.ram.location_std=0.5", "optimizer.locator_rate=0.25"]
    run = train_script.Run(
        train_script.read_recipe(train_script.DEFAULT_RECIPE, [*SMALL, *words]), resume=False
    )
    stage = next(stage for stage in run.stages if stage.name == "ram_2")
    for epoch, expected in [(0.0, 0.5), (1.0, 0.35), (2.0, 0.2)]:
        run.set_exploration(stage, epoch)
        assert run.model.location_std == pytest.approx(expected)
    train_script.enter_stage(run.model, stage)
    optimizer = make_optimizer(run.model, run.recipe.optimizer, stage.learning_rate)
    set_learning_rate(optimizer, stage.learning_rate * rate_factor(run.recipe.optimizer, 1.1, stage.epochs))
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates[0] == pytest.approx(stage.learning_rate / 2)  # half way down the cosine, warm-up left out
    assert rates[1] == rates[0] / 4
    assert [p.shape for p in optimizer.param_groups[1]["params"]] == [(2, 16), (2,)]


def test_damaged_checkpoint_is_named(finished: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path / "damaged")
    (progress,) = (tmp_path / "damaged" / "checkpoints").glob("*/progress.json")
    progress.write_text("{")
    recipe = tmp_path / "damaged" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(str(finished[0]), str(tmp_path / "damaged")))
    assert "is damaged" in refusal(f"output={tmp_path / 'damaged'}", "--resume")


def test_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    output = tmp_path / "burst"
    words = [
        f"output={output}",
        "stages.ram.learning_rate=1e30",
        "optimizer.clip_norm=null",
        "optimizer.warmup=0",
    ]
    done = subprocess.run(command(*words), capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "train.py: the loss of stage 'ram_2', epoch 1, batch" in done.stderr.splitlines()[-1]
    assert (output / "checkpoints" / "000-00001" / "model.safetensors").is_file()
    assert all(
        tensor.isfinite().all() for tensor in load_file(output / "stages" / "encoder.safetensors").values()
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([f"stages.{name}.epochs=0" for name in ("encoder", "ram", "dtram")], "leave nothing to train"),
        (
            ["stages.ram.epoch=2"],
            "recipe key 'stages.ram.epoch' is unknown. Did you mean 'stages.ram.epochs'?",
        ),
        (["data.source=imagefolder"], "data.options.num_train is unknown to data.source='imagefolder'"),
        (["model.num_classes=7"], "model.num_classes=7, but data.source has 10 classes"),
        (["model.glimpse_crop=99"], "image_size=32 is smaller than the largest view, 99 pixels"),
        (["stages.ram.split=trian"], "stages.ram.split='trian' is not one of 'train'"),
        (["accumulation=99"], "accumulation=99 is more than the 22 batches in an epoch of stage 'encoder'"),
        (["architecture=resnet18"], "architecture='resnet18' is not a DT-RAM"),
        (["nowhere.yaml"], "recipe 'nowhere.yaml' is not a file"),
        (
            ["data.options.max_cluter=3"],
            "data.options.max_cluter is unknown to data.source='digits'. Did you mean 'max_clutter'?",
        ),
    ],
)
def test_bad_settings_are_refused_before_any_work(words: list[str], message: str, tmp_path: Path) -> None:
    assert message in refusal(f"output={tmp_path / 'run'}", *words)
    assert not (tmp_path / "run").exists()


def test_a_recipe_is_found_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_script.find_recipe() == train_script.DEFAULT_RECIPE
    assert train_script.find_recipe("imagefolder") == train_script.RECIPES / "imagefolder.yaml"
    (tmp_path / "imagefolder").write_text("seed: 1")
    assert train_script.find_recipe("imagefolder") == Path("imagefolder")


def test_learning_rates_fall_with_depth_and_locators_have_their_own(tmp_path: Path) -> None:
    words = [
        "model.backbone=test_efficientnet",
        "model.context_size=32",
        "model.glimpse_crop=32",
        "model.hidden_size=16",
    ]
    words += ["optimizer.layer_decay=0.5", "optimizer.locator_rate=0.1", f"output={tmp_path / 'run'}"]
    words += ["optimizer.places_rate=30", "model.locator=stepwise"]
    recipe = train_script.read_recipe(train_script.DEFAULT_RECIPE, [*SMALL, *words, "model.image_size=64"])
    run = train_script.Run(recipe, resume=False)
    train_script.enter_stage(run.model, run.stages[1])
    optimizer = make_optimizer(run.model, run.recipe.optimizer, run.stages[1].learning_rate)
    names = {parameter: name for name, parameter in run.model.named_parameters()}
    rates = {names[p]: group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    layers = group_parameters(run.model, run.model.group_matcher(), reverse=True)
    assert rates["head.weight"] == rates["input_to_hidden.weight"] == 1
    assert (rates["locator.weight"], rates["places"]) == (0.1, 30)
    assert rates["encoder.conv_stem.weight"] == 0.5 ** layers["head.weight"]
    assert (
        layers["encoder.conv_stem.weight"] == 0 < layers["encoder.conv_head.weight"] < layers["head.weight"]
    )
    assert not [name for name in rates if name.startswith("stop_head")]  # not before the DT-RAM


def test_a_study_shares_stages_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    study = {
        "recipe": str(train_script.DEFAULT_RECIPE),
        "output": str(tmp_path / "study"),
        "seeds": [3],
        "variants": {
            "whole": {},
            "last": {"changes": ["loss.supervision=last"], "shares": "whole", "until": "encoder"},
        },
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    words = [
        str(tmp_path / "study.yaml"),
        *SMALL,
        "model.num_steps=2",
        "stages.ram.epochs=1",
        "stages.dtram.epochs=1",
    ]
    ablate.main([*words, "--only", "last"])
    metrics = json.loads((tmp_path / "study" / "whole-3" / "metrics.json").read_text())
    other = tmp_path / "study" / "whole-12"  # finished earlier, with another seed
    other.mkdir()
    (other / "metrics.json").write_text(json.dumps(metrics))
    before = (tmp_path / "study" / "whole-3" / "metrics.json").stat().st_mtime_ns
    ablate.main(words)
    assert (tmp_path / "study" / "whole-3" / "metrics.json").stat().st_mtime_ns == before
    kept = [
        load_file(tmp_path / "study" / f"{name}-3" / "stages" / "encoder.safetensors")["head.weight"]
        for name in ("whole", "last")
    ]
    assert torch.equal(*kept)
    with (tmp_path / "study" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    runs = dict.fromkeys((row["variant"], row["seed"]) for row in rows)
    assert list(runs) == [("whole", "3"), ("whole", "12"), ("last", "3")]
    for row in rows[: len(rows) // 3]:
        (result,) = [r for r in metrics["results"] if r["model"] == row["model"]]
        assert float(row["accuracy"]) == result["accuracy"]
    assert "| whole | RAM, 2 steps | 2.00 ± 0.00 |" in (tmp_path / "study" / "tables.md").read_text()
    assert (tmp_path / "study" / "variants.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({"recipe": "nowhere.yaml"}, [], "recipe='nowhere.yaml' of study"),
        ({"variant": {}}, [], "Key 'variant' not in 'Study'"),
        (
            {"variants": {"a": {"changes": ["sed=1"]}}},
            [],
            "recipe key 'sed' is unknown. Did you mean 'seed'?",
        ),
        (
            {"variants": {"a": {}, "b": {"shares": "c"}, "c": {"shares": "b"}}},
            [],
            "variants.b.shares='c' is none of the variants before it: 'a'.",
        ),
        (
            {"variants": {"a": {"shares": "a"}}},
            [],
            "variants.a.shares='a' is none of the variants before it: there",
        ),
        ({}, ["--only", "c"], "--only='c' is not one of 'a'"),
    ],
)
def test_bad_studies_are_named_before_the_first_run(
    tmp_path: Path, change: dict, words: list[str], message: str
) -> None:
    study = {"recipe": str(train_script.DEFAULT_RECIPE), "variants": {"a": {}}} | change
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    with pytest.raises(SystemExit, match=re.escape(message)):
        ablate.main([str(tmp_path / "study.yaml"), *words])


def test_a_study_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("recipe: [a\nvariants: }")
    with pytest.raises(SystemExit, match=re.escape(f"ablate.py: study '{tmp_path / 'study.yaml'}': while")):
        ablate.main([str(tmp_path / "study.yaml")])
