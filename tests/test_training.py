"""training/train.py as a user runs it: what it leaves behind, resumption, processes, refusals."""

import json
import shutil
import signal
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import asked_recipe
import train as train_script
import validate as validate_script
from dtram_hub.cli.compare import compare
from dtram_hub.images.views import Normalise
from dtram_hub.inference.budget import threshold_for
from dtram_hub.learning import run_folder
from dtram_hub.learning.recipe import load_data, read_recipe
from dtram_hub.learning.resume import checksum
from dtram_hub.models import checkpoint
from dtram_hub.sharing.export_stage import export_stage
from folders import make_folder, pixels
from small_runs import SCRIPT, SMALL, apart, command, refusal, run_here, train


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


@pytest.mark.parametrize(
    "kills",
    [["001-00001"], pytest.param(["001-00001", "003-00001"], marks=pytest.mark.long)],
    ids=["in a RAM stage", "and in that of the DT-RAM"],
)
def test_killed_and_resumed_is_bit_equal_to_never_killed(
    kills: list[str], finished: tuple[Path, str], tmp_path: Path
) -> None:
    """With two workers, while the other run has none, and with a damaged last state."""
    whole, _ = finished
    output = tmp_path / "killed"
    words = [f"output={output}", "data.workers=2"]
    for mark in kills:
        process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not (output / "checkpoints" / mark).exists():
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        words = [f"output={output}", "data.workers=2", "--resume"]
    assert not (output / "model.safetensors").exists()
    last = max((output / "checkpoints").glob("0*"))
    (last / "optimizer.bin").write_bytes((last / "optimizer.bin").read_bytes()[:-1])
    assert f"'{last}/optimizer.bin' is missing or damaged. The run continues from" in train(*words)
    expected, found = load_file(whole / "model.safetensors"), load_file(output / "model.safetensors")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    results = [json.loads((folder / "metrics.json").read_text())["results"] for folder in (whole, output)]
    assert results[0] == results[1]


def test_a_folder_of_images_with_every_other_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The imagefolder recipe, shrunk: bf16, accumulation, SGD in steps, no curriculum, a budget of steps."""
    root = make_folder(tmp_path / "pets", {"train": 20, "test": 4})
    words = [
        *("training/recipes/imagefolder.yaml", f"data.root={root}", f"output={tmp_path / 'run'}"),
        *("architecture=dtram", "model.backbone=test_efficientnet", "encoder_weights=null"),
        *("model.image_size=48", "model.context_size=32", "model.glimpse_crop=16", "model.glimpse_size=16"),
        "model.hidden_size=16",
        *("model.context=crop", "model.aggregate=residual", "optimizer.name=sgd", "optimizer.schedule=step"),
        *("loss.baseline=learned", "loss.reward=probability", "stages.ram.learning_rate=0.01"),
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
    monkeypatch.chdir(SCRIPT.parents[1])
    run_here(words)
    model = checkpoint.load(tmp_path / "run")
    assert model.pretrained_cfg["label_names"] == ["cat", "dog"]
    assert model.backbone == "test_efficientnet"
    kept = {
        stage: load_file(tmp_path / "run" / "stages" / f"{stage}.safetensors")
        for stage in ("encoder", "ram_3")
    }
    encoder = [name for name in kept["encoder"] if name.startswith("encoder.")]
    assert all(torch.equal(kept["encoder"][name], kept["ram_3"][name]) for name in encoder)
    assert not torch.equal(kept["encoder"]["locator.linear.weight"], kept["ram_3"]["locator.linear.weight"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    own = [row["stage"] for row in metrics["results"] if "validation_accuracy" in row]
    assert own == ["encoder", "ram_3", "dtram"]
    assert (metrics["test_images"], metrics["precision"]) == (8, "float32")
    held_out = load_data(read_recipe(tmp_path / "run" / "recipe.yaml")).splits["validation"]
    images = Normalise(model.pretrained_cfg)(pixels(held_out))
    with torch.no_grad():
        stop_probs = model.rollout(images).stop_logits.sigmoid()  # in the precision in which users run it
    assert 0 < model.stop_threshold < 1
    assert model.stop_threshold == pytest.approx(threshold_for(stop_probs, 2.0), abs=1e-6)
    (root / "train" / "dog").rename(root / "train" / "ant")  # the labels of cat and dog change places
    (root / "test" / "dog").rename(root / "test" / "ant")
    words = [f"output={tmp_path / 'run'}", "--resume"]  # without the recipe, which the run keeps
    with pytest.raises(SystemExit, match="learned from other data: classes and train and test changed"):
        run_here(words)


def test_a_dead_encoder_is_told_once(tmp_path: Path) -> None:
    encoder = timm.create_model("test_resnet")
    for norm in (encoder.layer4[-1].bn2, encoder.layer4[-1].downsample[-1]):
        torch.nn.init.constant_(norm.bias, -100.0)  # the last units are zero for every image
    save_file(encoder.state_dict(), tmp_path / "dead.safetensors")
    words = [f"output={tmp_path / 'run'}", "architecture=dtram", "model.backbone=test_resnet"]
    words += [f"encoder_weights={tmp_path / 'dead.safetensors'}", "model.aggregate=residual"]
    words += ["model.context=resize", "model.context_size=32", "model.location_input=false"]
    printed = train(*words, "stages.encoder.epochs=2", "stages.ram.epochs=0", "stages.dtram.epochs=0")
    assert printed.count("dead encoder: all validation images have the same logits") == 1
    assert "one answer" not in printed


def test_a_finished_run_is_not_overwritten_and_not_continued_with_another_recipe(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    output, _ = finished
    assert f"output='{output}' holds a run already; pass --resume" in refusal(f"output={output}")
    assert "has another 'seed'" in refusal(f"output={output}", "seed=1", "--resume")
    assert "holds no run to continue" in refusal(f"output={tmp_path / 'nothing'}", "--resume")


def test_validate_agrees_with_the_run(finished: tuple[Path, str], capsys: pytest.CaptureFixture) -> None:
    output, _ = finished
    with apart():
        validate_script.main([str(output), "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    own = next(line for line in lines if line["stop_threshold"] == 0.5)
    metrics = json.loads((output / "metrics.json").read_text())
    expected = {row["model"]: row for row in metrics["results"]}["DT-RAM, at most 3 steps"]
    assert own | expected == expected | {"stop_threshold": 0.5, "budget": None}
    assert next(line for line in lines if line["budget"] == 3.0)["mean_steps"] == 3.0


def test_compare_gives_mean_and_spread(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    runs = []
    for seed, accuracy in enumerate((0.8, 0.9)):
        metrics = json.loads((finished[0] / "metrics.json").read_text()) | {"seed": seed}
        row = run_folder.own_result(metrics) | {"model": "DT-RAM", "mean_steps": 2.0, "accuracy": accuracy}
        metrics["results"] = [row]
        runs.append(tmp_path / str(seed))
        runs[-1].mkdir()
        (runs[-1] / "metrics.json").write_text(json.dumps(metrics))
    compare(tuple(map(str, runs)), as_json=False)
    assert "| DT-RAM | 2.00 ± 0.00 | 85.00 ± 7.07 | 80.00, 90.00 |" in capsys.readouterr().out


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
    recipe = read_recipe(asked_recipe.DEFAULT_RECIPE, [*SMALL, *words])
    longer = train_script.Run(recipe, resume=False)
    assert (longer.progress.stage, longer.stages[longer.progress.stage].name) == (3, "ram_4")
    words = [f"output={tmp_path / 'smaller'}", f"stages_from={whole}", "stages_until=encoder"]
    words += ["model.glimpse_crop=20", "model.glimpse_size=16", "model.stopper=margin"]
    recipe = read_recipe(asked_recipe.DEFAULT_RECIPE, [*SMALL, *words])
    smaller = train_script.Run(recipe, resume=False)
    assert smaller.stages[smaller.progress.stage].name == "ram_2"
    name = Path("stages", "encoder.safetensors")
    expected, found = load_file(whole / name), load_file(smaller.folder.path / name)
    fitting = [name for name in expected if not name.startswith("stopper")]
    assert all(torch.equal(expected[name], found[name]) for name in fitting)
    assert found["stopper.net.0.weight"].shape == (128, 2)
    assert f"stages_from='{whole}': that run has another 'seed'" in refusal(*other, "seed=1")
    assert f"stages_from='{whole}': that run has another 'model'" in refusal(*other, "model.hidden_size=8")
    assert f"stages_from='{whole}': that run has another 'model'" in refusal(*other, "model.location_std=0.2")
    assert "is not the folder of a finished run" in refusal(other[0], f"stages_from={tmp_path}")


def test_a_stage_is_exported_as_a_model_of_its_own(finished: tuple[Path, str], tmp_path: Path) -> None:
    run, _ = finished
    export_stage(run_folder.RunFolder(run), "ram_2", tmp_path / "ram2")
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
    assert read_recipe(tmp_path / "ram2" / "recipe.yaml").output == "runs/ram2"
    with pytest.raises(ValueError, match=r"stage='ram_9' is not one of 'encoder', 'ram_2', 'ram_3', 'dtram'"):
        export_stage(run_folder.RunFolder(run), "ram_9", tmp_path / "none")


def test_a_state_of_another_version_is_refused_in_one_sentence(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    """The optimizer of an older version has other groups, with another key for their rate."""
    output = tmp_path / "old"
    shutil.copytree(finished[0], output)
    state = max((output / "checkpoints").glob("0*"))
    progress = json.loads((state / "progress.json").read_text())
    (state / "progress.json").write_text(json.dumps(progress | {"epochs_done": 1}))
    saved = torch.load(state / "optimizer.bin")
    for group in saved["param_groups"]:
        group["rate"] = group.pop("lr_scale")
    for groups in (saved["param_groups"], saved["param_groups"][:1]):
        torch.save(saved | {"param_groups": groups}, state / "optimizer.bin")
        sums = [f"{checksum(path)}  {path.name}" for path in state.iterdir() if path.name != "SHA256SUMS"]
        (state / "SHA256SUMS").write_text("\n".join(sums))
        message = refusal(f"output={output}", "--resume")
        assert message.startswith(f"train.py: --resume: the state in '{state}' does not fit this version")


def test_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    output = tmp_path / "burst"
    words = [
        f"output={output}",
        "stages.ram.learning_rate=1e30",
        "optimizer.clip_norm=null",
        "optimizer.warmup=0",
    ]
    assert refusal(*words).startswith("train.py: the loss of stage 'ram_2', epoch 1, batch")
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
        (["trackers=[wandb]"], "trackers='wandb' is not installed; accepted here: tensorboard"),
        (["trackers=[tensorbord]"], "trackers='tensorbord' is not one of 'aim'"),
        (
            ["architecture=dtram", "model.backbone=test_resnet", "encoder_weights=timm"],
            "encoder_weights='timm': the weights of 'test_resnet' could not be fetched from http://127.0.0.1",
        ),
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
    assert asked_recipe.find_recipe() == asked_recipe.DEFAULT_RECIPE
    assert asked_recipe.find_recipe("imagefolder") == asked_recipe.RECIPES / "imagefolder.yaml"
    (tmp_path / "imagefolder").write_text("seed: 1")
    assert asked_recipe.find_recipe("imagefolder") == Path("imagefolder")


def test_a_run_is_resumed_by_its_own_recipe_even_if_the_default_one_refuses_its_words(tmp_path: Path) -> None:
    words = [f"output={tmp_path}", "model.num_steps=2", "seed=3"]
    with pytest.raises(ValueError, match=r"mean_steps=2.8 is not a number in \[1, 2\]"):
        asked_recipe.read_words(words, resume=True)
    recipe = read_recipe(asked_recipe.DEFAULT_RECIPE, [*words, "mean_steps=1.5"])
    run_folder.RunFolder(tmp_path).write_recipe(asdict(recipe))
    assert asked_recipe.read_words(words, resume=True) == recipe
    assert asked_recipe.read_words(words[:1], resume=True) == recipe
    with pytest.raises(ValueError, match=r"2 recipes were given \(a, b\); accepted is one"):
        asked_recipe.read_words(["a", "seed=1", "b"], resume=True)
