"""The end of a run: what is measured, by independent counts, and what the folder holds afterwards."""

import re
from pathlib import Path

import pytest
import timm
import torch
from accelerate import Accelerator
from PIL import Image

import histograms
from conftest import make_undecided
from dtram_hub.data.splits import Data, Split
from dtram_hub.images.views import Normalise
from dtram_hub.inference.uncertainty import Budget
from dtram_hub.learning.curriculum import Stages, plan_stages
from dtram_hub.learning.evaluation import Evaluator
from dtram_hub.learning.pictures import choose, examples_of, second_looks, spread_over_classes
from dtram_hub.learning.report import write_report
from dtram_hub.learning.run_folder import RunFolder, own_result, stage_rows
from dtram_hub.models import checkpoint
from dtram_hub.models.input import looks_in_words
from dtram_hub.models.registry import WEIGHTS

FACTS = {"seed": 7, "seconds": {"encoder": 1.0, "ram_2": 2.0, "ram_3": 3.0, "dtram": 4.0}, "version": "0"}


class Watched(Split):
    """A split that remembers the most images that it was asked for at once."""

    most = 0

    def at(self, index: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, len(index))
        return super().at(index)


def make_split(count: int) -> Watched:
    patches = torch.rand(count, 1, 4, 4).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    return Watched((255 * patches).byte(), torch.arange(count) % 5, torch.arange(count) % 3)


@pytest.fixture
def run(tmp_path: Path) -> tuple[RunFolder, Evaluator, Data]:
    """A run of three steps whose stages are trained, each to other weights, and not tested yet."""
    views = {"image_size": 32, "context": "resize", "context_size": 12, "glimpse_crop": 12}
    shape = {"num_classes": 5, "in_chans": 1, "num_steps": 3, "hidden_size": 32, "aggregate": "last"}
    model = timm.create_model("dtram", backbone="glimpse_convnet", **views, **shape).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.kaiming_normal_(parameter)
    normalise = Normalise(model.pretrained_cfg)
    splits = {"validation": make_split(30), "test": make_split(70)}
    images = normalise(splits["test"].canvases)
    model, head, folder = make_undecided(model, images), model.get_classifier(), RunFolder(tmp_path)
    folder.make()
    folder.write_recipe({"data": {"source": "digits"}})
    for stage in plan_stages(3, Stages()):
        torch.nn.init.normal_(head.weight)
        with torch.no_grad():  # every class is the answer to some images
            head.bias -= model.rollout(images).logits.mean((0, 1))
        checkpoint.save_weights(model, folder.stage_weights(stage.name))
    evaluator = Evaluator(model, Accelerator(), batch_size=16)
    return folder, evaluator, Data(splits, class_names=list("abcde"))


def test_every_stage_is_measured_with_its_own_weights(run: tuple[RunFolder, Evaluator, Data]) -> None:
    folder, evaluator, data = run
    stages = plan_stages(3, Stages())
    metrics = write_report(folder, evaluator, data, stages, FACTS)
    assert folder.read_metrics() == metrics
    assert metrics["stage_kinds"] == {"encoder": "encoder", "ram_2": "ram", "ram_3": "ram", "dtram": "dtram"}
    assert (metrics["test_images"], metrics["seed"]) == (70, 7)
    found = [(row["stage"], row["stage_kind"], row["num_steps"], row["model"]) for row in stage_rows(metrics)]
    assert found == [
        ("encoder", "encoder", 1, "encoder alone"),
        ("ram_2", "ram", 2, "RAM, 2 steps"),
        ("ram_3", "ram", 3, "RAM, 3 steps"),
        ("dtram", "dtram", 3, "DT-RAM, at most 3 steps"),
    ]
    model, test = evaluator.model, data.splits["test"]
    for stage, row in zip(stages, stage_rows(metrics), strict=True):
        model.num_steps, model.dynamic = stage.num_steps, stage.dynamic
        checkpoint.load_weights(model, folder.stage_weights(stage.name))
        answers = model.predict(test.canvases)
        right = answers.logits.argmax(-1) == test.labels
        assert row["accuracy"] == pytest.approx(right.double().mean().item())
        assert row["mean_steps"] == pytest.approx(answers.steps.double().mean().item())
    assert 1.2 < own_result(metrics)["mean_steps"] < 2.8, "the test needs a model that is undecided"
    assert len({row["accuracy"] for row in metrics["results"]}) > 5, "the test needs answers that differ"


def test_a_mean_over_images_hides_no_class(
    run: tuple[RunFolder, Evaluator, Data], capsys: pytest.CaptureFixture
) -> None:
    folder, evaluator, data = run
    test = data.splits["test"]
    test.labels = torch.where(torch.arange(70) < 60, 0, test.labels)  # class 0 in most images
    metrics = write_report(folder, evaluator, data, plan_stages(3, Stages()), FACTS)
    answers = evaluator.model.predict(test.canvases)
    right = answers.logits.argmax(-1) == test.labels
    each = [right[test.labels == label].double().mean().item() for label in range(5)]
    own, scores = own_result(metrics), metrics["scores"]
    assert scores["class_accuracy"] == pytest.approx(each)
    assert own["balanced_accuracy"] == scores["balanced_accuracy"] == pytest.approx(sum(each) / 5)
    assert own["accuracy"] == scores["accuracy"] == pytest.approx(right.double().mean().item())
    assert abs(own["balanced_accuracy"] - own["accuracy"]) > 0.02, "the test needs classes that differ"
    assert [sum(row) for row in scores["confusion"]] == test.labels.bincount().tolist()
    assert sum(scores["confusion"][i][i] for i in range(5)) == right.sum()
    assert metrics["classes"] == list("abcde")
    assert {row["stage"] for row in metrics["results"] if "balanced_accuracy" in row} == {
        *("encoder", "ram_2", "ram_3", "dtram")
    }
    first, *budgets = metrics["budgets"]
    assert first == {"stop_threshold": 0.5, "budget": None} | {
        name: own[name] for name in first.keys() & own.keys()
    }
    for row in budgets:
        steps = evaluator.model.predict(test.canvases, stop_threshold=row["stop_threshold"]).steps
        assert row["mean_steps"] == pytest.approx(steps.double().mean().item())
        assert row["mean_steps"] <= row["budget"]
    assert (budgets[0]["mean_steps"], budgets[-1]["mean_steps"]) == (1, 3)
    printed = capsys.readouterr().out
    assert f"{100 * own['accuracy']:.2f} % │" in printed
    assert f"{100 * own['balanced_accuracy']:.2f} % │" in printed
    assert f"Mean accuracy of the classes {100 * own['balanced_accuracy']:.2f} %" in printed


def test_metrics_of_many_classes_stay_small(monkeypatch: pytest.MonkeyPatch, run: tuple) -> None:
    folder, evaluator, data = run
    monkeypatch.setattr("dtram_hub.learning.report.MOST_CLASSES", 4)
    monkeypatch.setattr("dtram_hub.learning.pictures.MOST_NAMES", 4)
    metrics = write_report(folder, evaluator, data, plan_stages(3, Stages())[:1], FACTS)
    assert "confusion" not in metrics["scores"]
    assert folder.pictures() == ["steps.png", "glimpses.png"]
    assert len(metrics["scores"]["class_accuracy"]) == 5
    assert len(metrics["budgets"]) == 1  # an encoder takes one look
    assert folder.read_metrics() == metrics


def test_comparisons_are_told_from_stages(run: tuple[RunFolder, Evaluator, Data]) -> None:
    folder, evaluator, data = run
    metrics = write_report(folder, evaluator, data, plan_stages(3, Stages()), FACTS)
    rows = {row["model"]: row for row in metrics["results"] if row["kind"] == "comparison"}
    assert list(rows) == [
        "RAM 3, glimpses anywhere",
        "RAM 3, glimpses at the centre",
        "softmax threshold on RAM 3",
        "softmax threshold on the DT-RAM",
        "DT-RAM, its stops dealt at random",
        "DT-RAM, glimpses anywhere",
    ]
    assert len(metrics["results"]) == len(rows) + len(stage_rows(metrics))
    own, test = own_result(metrics), data.splits["test"]
    for title in ("softmax threshold on RAM 3", "softmax threshold on the DT-RAM"):
        assert rows[title]["mean_steps"] == own["mean_steps"]
    assert rows["DT-RAM, its stops dealt at random"]["mean_steps"] == pytest.approx(own["mean_steps"])
    checkpoint.load_weights(evaluator.model, folder.stage_weights("ram_3"))
    centre = torch.zeros(len(test), 3, 2)
    logits = evaluator.model.rollout(test.canvases, locations=centre).logits[:, -1]
    accuracy = (logits.argmax(-1) == test.labels).double().mean().item()
    assert rows["RAM 3, glimpses at the centre"]["accuracy"] == pytest.approx(accuracy)
    assert rows["RAM 3, glimpses at the centre"]["mean_steps"] == 3
    assert rows["DT-RAM, glimpses anywhere"]["stage"] == "dtram"


def test_the_folder_of_a_finished_run_is_whole(
    run: tuple[RunFolder, Evaluator, Data], caplog: pytest.LogCaptureFixture
) -> None:
    folder, evaluator, data = run
    with caplog.at_level("INFO", "dtram_hub.learning.report"):
        metrics = write_report(folder, evaluator, data, plan_stages(3, Stages()), FACTS, mean_steps=1.5)
    budget = Budget(**metrics["budget"])
    assert (budget.mean_steps, budget.images, budget.is_wide) == (1.5, 30, True)
    assert 1 < budget.low < budget.measured < budget.high < 3
    assert caplog.messages[0].endswith(str(budget))  # some versions of accelerate add the rank
    assert data.splits["test"].most <= 3 * 6  # not all of them, which may be more than memory holds
    assert {path.name for path in folder.path.iterdir()} == {
        *("config.json", "model.safetensors", "recipe.yaml", "metrics.json", "stages"),
        *("tradeoff.png", "steps.png", "glimpses.png", "locations.png", "confusion.png"),
    }
    for name in folder.pictures():
        with Image.open(folder.picture(name)) as picture:
            assert picture.convert("L").getextrema() != (255, 255)
    saved, last = checkpoint.load(folder.path), evaluator.model.state_dict()
    assert all(torch.equal(tensor, last[name]) for name, tensor in saved.state_dict().items())
    assert (saved.num_steps, saved.dynamic, saved.pretrained_cfg["label_names"]) == (3, True, list("abcde"))
    validation = data.splits["validation"]
    steps = saved.predict(validation.canvases).steps.double().mean().item()
    assert steps == pytest.approx(1.5, abs=0.1)


def test_boxes_judge_the_glimpses(run: tuple[RunFolder, Evaluator, Data]) -> None:
    folder, evaluator, data = run
    test = data.splits["test"]
    corners = torch.rand(70, 1, 2) * 1.5 - 1
    test.boxes = torch.cat([corners, corners + 0.2], dim=2)
    test.boxes[::7] = torch.nan
    metrics = write_report(folder, evaluator, data, plan_stages(3, Stages()), FACTS)
    assert folder.read_metrics() == metrics
    rows = {row["model"]: row for row in metrics["results"]}
    with_glimpses = [row for row in rows.values() if "pointing" in row]
    assert {row["stage"] for row in with_glimpses} == {"ram_2", "ram_3", "dtram"}
    for row in with_glimpses:
        assert row["pointing"][0] == 0  # the context view is no glimpse
        assert row["pointing"] == sorted(row["pointing"])
    assert rows["RAM 3, glimpses led to the truth first"]["pointing"][1] == 1
    middle = (corners[:, 0] + 0.1).abs().amax(1)[torch.arange(70) % 7 != 0]
    expected = (middle <= 12 / 32).double().mean().item()
    assert rows["RAM 3, glimpses at the centre"]["pointing"] == pytest.approx([0, expected, expected])


def test_pictures_show_every_class_before_one_comes_again() -> None:
    labels, index = torch.tensor([0, 0, 0, 1, 2, 1, 3]), torch.tensor([0, 1, 3, 4, 5])
    none = torch.zeros(4, dtype=torch.int64)
    assert spread_over_classes(labels, index, none).tolist() == [0, 3, 4, 1, 5]
    assert spread_over_classes(labels, index[:0], none).tolist() == []
    assert spread_over_classes(labels, index, torch.tensor([2, 0, 1, 0])).tolist() == [3, 4, 5, 0, 1]
    # Two of each number of looks: the second row goes on with the classes that the first lacks.
    labels, steps = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3]), torch.tensor([1, 1, 1, 1, 3, 3, 3, 3])
    assert choose(labels, steps, per_row=2).tolist() == [0, 1, 6, 7]


def test_the_second_look_is_the_first_that_an_image_decides() -> None:
    nothing = [torch.nan, torch.nan]
    locations = torch.tensor(
        [[nothing, [0.1, 0.2], [0.5, 0.5]], [nothing, nothing, nothing], [[0.3, 0.4], [0.6, 0.6], nothing]]
    )
    torch.testing.assert_close(second_looks(locations), torch.tensor([[0.1, 0.2], [0.6, 0.6]]))
    assert second_looks(locations[:, :1]).shape == (0, 2)


def test_examples_tell_the_confidence_and_the_right_class(run: tuple[RunFolder, Evaluator, Data]) -> None:
    _, evaluator, data = run
    answers = evaluator.full(data.splits["test"]).at(evaluator.model)
    test, model = data.splits["test"], evaluator.model
    examples = examples_of(model, test, data.class_names, answers, torch.arange(70))
    probs = answers.logits.softmax(-1)
    for k, example in enumerate(examples):
        guess, label = int(probs[k].argmax()), int(data.splits["test"].labels[k])
        caption = f"{'abcde'[guess]} ({100 * probs[k].max():.0f} %)"
        assert example.caption == (caption if guess == label else f"{caption}, is {'abcde'[label]}")
        assert example.is_right == (guess == label)
        assert len(example.boxes) == answers.steps[k]
        assert example.boxes[0].tolist() == [0, 0, 32, 32]  # the context, the whole image
        for box, location in zip(example.boxes[1:], answers.locations[k, 1:], strict=False):
            centre = box[:2] + box[2:] / 2
            assert (centre - (location + 1) * 16).abs().max() <= 0.5
            assert box[2:].tolist() == [12, 12]
    assert len({example.is_right for example in examples}) == 2
    assert looks_in_words(evaluator.model) == "Look 1 is the whole image. Every later look is a glimpse."


def test_a_run_without_a_dtram_has_no_learned_stops(run: tuple[RunFolder, Evaluator, Data]) -> None:
    folder, evaluator, data = run
    metrics = write_report(folder, evaluator, data, plan_stages(3, Stages())[:-1], FACTS, mean_steps=1.5)
    assert list(metrics["curves"]) == ["softmax threshold on RAM 3"]
    assert own_result(metrics)["stage"] == "ram_3"
    assert "budget" not in metrics
    assert "spearman_steps_difficulty" not in metrics
    assert not evaluator.model.dynamic


def test_an_encoder_alone_has_nothing_to_compare(run: tuple[RunFolder, Evaluator, Data]) -> None:
    folder, evaluator, data = run
    metrics = write_report(folder, evaluator, data, plan_stages(3, Stages())[:1], FACTS)
    assert [row["kind"] for row in metrics["results"]] == ["stage"]
    assert metrics["curves"] == {}
    assert folder.pictures() == ["steps.png", "glimpses.png", "confusion.png"]


def test_histograms_of_shipped_runs_are_drawn_side_by_side(tmp_path: Path) -> None:
    picture, runs = (
        tmp_path / "steps.png",
        [str(WEIGHTS / f"dtram_glimpse_mlp.mnist_dtram{i}") for i in (98, 99)],
    )
    histograms.main([*runs, "--output", str(picture)])
    with Image.open(picture) as drawn:
        assert {(31, 119, 180), (255, 127, 14)} <= {
            colour for _, colour in drawn.convert("RGB").getcolors(10**6)
        }
    for run, reason in {
        WEIGHTS / "dtram_glimpse_mlp.mnist_ram2": "end with a DT-RAM",
        tmp_path: "json",
    }.items():
        with pytest.raises(SystemExit, match=rf"^histograms\.py: .*{re.escape(str(run))}.*{reason}"):
            histograms.main([str(run)])
