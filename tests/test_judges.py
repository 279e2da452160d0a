"""Folds of the training images, and the encoders that are blind to one each."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import asked_recipe
import train as train_script
from conftest import tiny_model
from dtram_hub.data.splits import Split
from dtram_hub.learning.curriculum import FoldsConfig, Stages, plan_stages, stage_before
from dtram_hub.learning.judges import Judge, Judges, blind_to, fold_of
from dtram_hub.learning.losses import LossConfig, dtram_loss
from dtram_hub.learning.recipe import read_recipe
from dtram_hub.learning.run_folder import RunFolder
from dtram_hub.learning.shared_stages import shared_stages
from dtram_hub.learning.task import Task
from dtram_hub.models import checkpoint
from dtram_hub.models.records import Noise
from small_runs import refusal
from test_longer_runs import TINY, run, same


def test_every_class_is_dealt_evenly_to_the_folds() -> None:
    labels = torch.arange(7).repeat_interleave(torch.tensor([3, 4, 5, 30, 1, 8, 9]))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(5))]
    folds = fold_of(labels, 3, seed=1)
    for label in range(7):
        counts = folds[labels == label].bincount(minlength=4)[1:]
        assert counts.max() - counts.min() <= 1
    assert folds.bincount(minlength=4).tolist() == [0, 20, 20, 20]
    assert torch.equal(folds, fold_of(labels, 3, seed=1))
    assert not torch.equal(folds, fold_of(labels, 3, seed=2))


def test_each_fold_leaves_its_own_images_out() -> None:
    split = Split(torch.arange(30, dtype=torch.uint8).view(30, 1, 1, 1), torch.arange(30) % 5)
    seen = [blind_to(split, fold, 3, seed=0) for fold in (1, 2, 3)]
    pixels = [set(each.at(torch.arange(len(each))).flatten().tolist()) for each in seen]
    assert [len(each) for each in pixels] == [20, 20, 20]
    missing = [set(range(30)) - each for each in pixels]
    assert set.union(*missing) == set(range(30))
    assert not set.intersection(*pixels)


def test_a_judge_answers_each_image_with_the_model_that_is_blind_to_it() -> None:
    torch.manual_seed(0)
    models = [tiny_model("resize", "average").eval() for _ in range(3)]
    images, size = torch.randn(5, 1, 24, 24), models[0].num_steps
    locations, folds = torch.rand(10, size, 2) * 2 - 1, torch.tensor([2, 1, 2, 3, 1])
    found = Judge(models, folds).logits(images, locations)
    for image, fold in enumerate(folds.tolist()):
        rows = slice(2 * image, 2 * image + 2)
        alone = models[fold - 1].rollout(images[[image]], num_rollouts=2, locations=locations[rows]).logits
        torch.testing.assert_close(found[rows], alone, atol=1e-5, rtol=1e-5)
    assert not found.requires_grad


def test_a_judge_with_the_weights_of_the_model_changes_no_loss(tmp_path: Path) -> None:
    model = tiny_model("resize", "average", dynamic=True)
    model.requires_grad_(True)
    checkpoint.save_weights(model, tmp_path / "same.safetensors")
    labels, images = torch.tensor([0, 1, 2, 1]), torch.randn(4, 1, 24, 24)
    judges = Judges(model, [tmp_path / "same.safetensors"] * 2, labels, seed=0)
    task = Task(model, LossConfig(reward="log_likelihood"), num_rollouts=2).eval()
    noise = Noise.draw(4, 2, model.num_steps, model.locator.noise_columns, torch.Generator().manual_seed(1))
    own = task(images, labels, noise)
    judged = task(images, labels, noise, judge=judges.of(torch.arange(4), torch.device("cpu")))
    torch.testing.assert_close(judged.total, own.total, atol=1e-5, rtol=1e-5)
    assert all(not p.requires_grad for each in judges.models for p in each.parameters())


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_answers_of_the_judge_earn_the_rewards_and_train_nothing(dynamic: bool) -> None:
    model = tiny_model("resize", "average", dynamic=dynamic)
    labels = torch.tensor([0, 1]).repeat_interleave(2)
    rollout = model.rollout(torch.randn(2, 1, 24, 24), sample=True, num_rollouts=2)
    wrong = torch.full_like(rollout.logits, 0.0)
    wrong[..., 2] = 5.0  # class 2, which no image has
    right = torch.nn.functional.one_hot(labels, wrong.shape[2]).float()[:, None].expand_as(wrong)
    found = [
        dtram_loss(rollout, labels, LossConfig(discount=0.9), dynamic=dynamic, judged=judged)
        for judged in (wrong, right)
    ]
    expected = (0.9 ** rollout.steps.double()).mean().item() if dynamic else 1.0
    assert [loss.mean_return.item() for loss in found] == pytest.approx([0.0, expected])
    assert [loss.accuracy.item() for loss in found] == [0.0, 1.0]
    assert torch.equal(found[0].classification, found[1].classification)


def test_no_stage_starts_from_a_fold() -> None:
    stages = plan_stages(3, Stages(folds=FoldsConfig(epochs=1, count=2)))
    assert [stage.name for stage in stages] == ["encoder", "fold_1", "fold_2", "ram_2", "ram_3", "dtram"]
    before = [stage_before(stages, number) for number in range(6)]
    names = [stage and stage.name for stage in before]
    assert names == [None, None, None, "encoder", "ram_2", "ram_3"]
    assert not any(stage.fold for stage in plan_stages(3, Stages()))


FOLDS = [
    *("data.options.num_train=60", "data.options.num_validation=32", "model.aggregate=average"),
    *("stages.encoder.split=train", "stages.folds.split=train", "stages.folds.count=2"),
    *("stages.folds.epochs=1", "stages.ram.epochs=1", "stages.dtram.epochs=0", "model.num_steps=2"),
    *("stages.ram.freeze=answers", "stages.dtram.freeze=answers", "batch_size=20"),
]


def test_folds_start_where_the_training_starts_and_a_stopped_run_repeats_them(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", *FOLDS, "stages.folds.learning_rate=1e-12")
    kept = {path.stem: load_file(path) for path in (tmp_path / "whole" / "stages").iterdir()}
    assert sorted(kept) == ["encoder", "fold_1", "fold_2", "ram_2"]
    for name, start in whole.start.items():
        if start.is_floating_point() and "num_batches" not in name:
            torch.testing.assert_close(kept["fold_2"][name], start, atol=1e-6, rtol=1e-5)
    learned = [name for name in kept["encoder"] if name.startswith("encoder.") and name.endswith("weight")]
    assert any((kept["encoder"][name] - whole.start[name]).abs().max() > 1e-4 for name in learned)
    assert all(torch.equal(kept["ram_2"][name], kept["encoder"][name]) for name in learned)


def test_a_run_that_is_stopped_between_its_folds_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    run(tmp_path / "whole", *FOLDS)
    words = [*TINY, f"output={tmp_path / 'parts'}", *FOLDS]
    stopped = train_script.Run(read_recipe(asked_recipe.DEFAULT_RECIPE, words), resume=False)
    for stage in stopped.stages[:2]:
        stopped.train_stage(stage)
        stopped.progress = stopped.progress.next_stage(stage.name, stopped.folder)
    stopped.folder.release()
    assert not stopped.folder.stage_weights("fold_2").exists()
    run(tmp_path / "parts", *FOLDS, resume=True)
    for name in ("fold_1", "fold_2", "ram_2"):
        assert same(*(tmp_path / folder / "stages" / f"{name}.safetensors" for folder in ("whole", "parts")))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["stages.folds.count=1"], "count=1 is not an integer of at least 2"),
        (["stages.folds.split=train+closeup"], r"split='train\+closeup': .*accepted is one split"),
        (["stages.ram.split=validation"], "no policy learns on split='train'"),
        (["accumulation=2"], "accumulation=2 is more than the 1 batches in an epoch of stage 'fold_1'"),
        (["stages.ram.freeze=nothing"], "stages.ram.freeze='nothing'.* accepted is 'answers'"),
    ],
)
def test_folds_that_would_be_for_nothing_are_refused(words: list[str], reason: str, tmp_path: Path) -> None:
    assert re.search(reason, refusal(*FOLDS, *words, f"output={tmp_path / 'run'}"))


def test_only_runs_with_as_many_folds_share_them(tmp_path: Path) -> None:
    run(tmp_path / "two", *FOLDS)
    folder = RunFolder(tmp_path / "two")
    folder.write_metrics({"results": [], "seconds": {}})
    words = [*TINY, *FOLDS, "stages.folds.count=3", f"stages_from={folder}", "stages_until=fold_2"]
    recipe = read_recipe(asked_recipe.DEFAULT_RECIPE, words)
    stages = plan_stages(2, recipe.stages)
    with pytest.raises(ValueError, match=r"has stages\.folds\.count=2, this one 3"):
        shared_stages(folder.path, recipe, stages, {})
