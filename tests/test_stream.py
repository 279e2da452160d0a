"""Streams: every image has one outcome, in full batches, with the steps and answers of `predict`."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

import dtram_hub
from conftest import make_undecided, tiny_model
from dtram_hub import DTRAM
from dtram_hub.data.splits import Split
from dtram_hub.inference.pace import Budget, Threshold
from dtram_hub.inference.pool import Pool
from dtram_hub.inference.prepare import Preparation
from dtram_hub.inference.stream import Outcome, stream
from dtram_hub.learning.evaluation import Evaluator


def steps_of(outcomes: list[Outcome]) -> Tensor:
    return torch.cat([outcome.found.steps for outcome in outcomes])


def make_decided(model: DTRAM, images: object) -> None:
    """A stop policy that stops some of `images` after the first look, and is never close to its threshold."""
    make_undecided(model, images)
    last = model.stopper.net[-1]
    with torch.no_grad():
        last.weight *= 1000
        last.bias.zero_()
        logits = model.rollout(images).stop_logits[:, 0].sort().values
        middle = logits[len(logits) // 3 : 2 * len(logits) // 3]
        widest = middle.diff().argmax()
        last.bias -= middle[widest : widest + 2].mean()
        assert model.rollout(images).stop_logits.abs().min() > 1e-3


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("dtram")]


@pytest.mark.parametrize(
    ("context", "aggregate"), [("resize", "last"), ("resize", "average"), ("none", "last")]
)
def test_a_stream_finds_what_predict_finds(context: str, aggregate: str) -> None:
    images = torch.rand(70, 1, 24, 24)
    model = tiny_model(context, aggregate).eval()
    make_decided(model, images)
    together = model.predict(images)
    assert 1 < together.steps.double().mean() < 3
    for in_order in (True, False):
        outcomes = list(stream(model, images, batch_size=8, in_order=in_order))
        if not in_order:
            outcomes.sort(key=lambda outcome: outcome.number)
        assert [outcome.number for outcome in outcomes] == list(range(70))
        assert torch.equal(steps_of(outcomes), together.steps)
        for name in ("logits", "locations", "stop_probs", "features"):
            found = torch.cat([getattr(outcome.found, name) for outcome in outcomes])
            tolerance = 1e-3 if name == "stop_probs" else 1e-5  # `make_decided` magnifies them
            expected = getattr(together, name)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=tolerance, equal_nan=True)


def test_a_policy_that_sees_and_its_memory_move_with_the_images() -> None:
    words = {"locator": "attend", "aggregate": "evidence", "context_encoder": "own"}
    model = DTRAM("test_efficientnet", 3, 3, 4, 96, "resize", 64, 32, hidden_size=16, **words).eval()
    images = torch.randint(0, 256, (40, 3, 96, 96), dtype=torch.uint8)
    make_decided(model, images)
    together, outcomes = model.predict(images), list(stream(model, images, batch_size=6))
    assert len(together.steps.unique()) > 1
    assert torch.equal(steps_of(outcomes), together.steps)
    found = torch.cat([outcome.found.locations for outcome in outcomes])
    torch.testing.assert_close(found, together.locations, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_images_of_any_size_are_refilled_too() -> None:
    words = {"locator": "attend", "image_size": "native", "context": "fit"}
    model = DTRAM(
        "test_efficientnet", 3, 3, 3, context_size=64, glimpse_crop=32, hidden_size=16, **words
    ).eval()
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (70 + 5 * i, 150 - 3 * i, 3), np.uint8) for i in range(20)]
    make_decided(model, images)
    outcomes = list(stream(model, images, batch_size=4))
    for image, outcome in zip(images, outcomes, strict=True):
        alone = model.predict([image])
        assert torch.equal(outcome.found.steps, alone.steps)
        torch.testing.assert_close(outcome.found.logits, alone.logits, rtol=1e-4, atol=1e-5)


def test_the_encoder_sees_full_batches(small_model: DTRAM) -> None:
    seen = []
    small_model.encoder.register_forward_pre_hook(lambda _, views: seen.append(len(views[0])))
    images = torch.rand(200, 1, 32, 32)
    looks = int(steps_of(list(stream(small_model, images, batch_size=10))).sum())
    assert sum(seen) == looks
    assert seen.count(10) >= looks // 10 - 3  # the last looks of the last images are fewer
    seen.clear()
    small_model.predict(images[:10])
    assert seen[0] == 10
    assert max(seen[1:]) < 10


def test_the_images_that_have_waited_longest_look_first(small_model: DTRAM) -> None:
    small_model.dynamic = False
    pool = Pool(small_model, 4, 4, Threshold(0.5))
    for keys in ([0, 1, 2], [3, 4, 5]):
        assert pool.admit(keys, torch.rand(3, 1, 32, 32)) == []
    assert pool.glimpse(4) == []
    assert [pool.keys[place] for place in pool.waiting.rows.tolist()] == [4, 5, 0, 1, 2, 3]
    assert pool.waiting.looks.tolist() == [1, 1, 2, 2, 2, 2]
    assert sorted(key for finished in pool.drain() for key in finished.keys) == list(range(6))


def test_an_evaluation_is_in_the_order_of_its_split(small_model: DTRAM) -> None:
    pixels = torch.randint(0, 256, (33, 1, 32, 32), dtype=torch.uint8)
    make_decided(small_model, pixels)
    evaluator = Evaluator(small_model, Accelerator(cpu=True), batch_size=5)
    split, together = Split(pixels, torch.zeros(33, dtype=torch.int64)), small_model.predict(pixels)
    assert len(together.steps.unique()) > 1
    for answers in (evaluator.predict(split), evaluator.full(split).at(small_model)):
        assert torch.equal(answers.steps, together.steps)
        for name in ("logits", "locations"):
            found, expected = getattr(answers, name), getattr(together, name)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_a_ram_takes_all_steps(small_model: DTRAM) -> None:
    small_model.dynamic = False
    images = torch.rand(9, 1, 32, 32)
    outcomes = list(stream(small_model, images, batch_size=4))
    assert steps_of(outcomes).tolist() == [4] * 9
    torch.testing.assert_close(outcomes[-1].found.logits, small_model.predict(images[8:]).logits)
    with pytest.raises(ValueError, match="dynamic=False takes 4 steps with every image"):
        stream(small_model, images, mean_steps=2)


def test_broken_images_have_errors_and_nothing_is_lost(small_model: DTRAM, tmp_path: Path) -> None:
    given = []
    for number in range(60):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((40, 30 + number), number, np.uint8)).save(path)
        given.append(
            [path, str(path), path.read_bytes(), Image.open(path), {"bytes": path.read_bytes()}][number % 5]
        )
    given[7], given[23], given[31] = tmp_path / "none.png", b"no image", {"bytes": None, "path": None}
    given[40], given[41] = torch.rand(1, 32), np.zeros((3, 3), bool)
    given[42] = torch.rand(1, 32, 32)  # normalised, beside stored pixels
    broken = [7, 23, 31, 40, 41, 42]
    outcomes = list(stream(small_model, given, batch_size=8))
    assert [outcome.number for outcome in outcomes] == list(range(60))
    assert [outcome.number for outcome in outcomes if outcome.error] == broken
    assert all((outcome.found is None) == bool(outcome.error) for outcome in outcomes)
    assert [outcome.given for outcome in outcomes] == given
    assert "is no readable image" in outcomes[7].error
    assert "its pixels are float32, and those of the first image uint8" in outcomes[42].error


def test_an_image_that_breaks_while_it_is_looked_at_fails_alone() -> None:
    class Broken(np.ndarray):
        def __getitem__(self, where: object) -> object:
            raise OSError("the disk has gone")

    words = {"image_size": "native", "context": "fit", "hidden_size": 16}
    model = DTRAM("test_efficientnet", 3, 3, 2, context_size=64, glimpse_crop=32, **words).eval()
    images = [np.zeros((64, 80, 3), np.uint8) for _ in range(10)]
    images[4] = images[4].view(Broken)
    outcomes = list(stream(model, images, batch_size=8))
    assert [outcome.number for outcome in outcomes if outcome.error] == [4]
    assert "the disk has gone" in outcomes[4].error
    assert "image" not in outcomes[4].error.removeprefix("is no readable image")


def test_a_consumer_that_leaves_ends_all_threads_and_reads_little_ahead(small_model: DTRAM) -> None:
    taken = []

    def endless() -> Iterator[Tensor]:
        while True:
            taken.append(None)
            yield torch.rand(1, 32, 32)

    outcomes = stream(small_model, endless(), batch_size=4, workers=3)
    assert [next(outcomes).number for _ in range(100)] == list(range(100))
    assert threads_of_ours()
    outcomes.close()
    assert threads_of_ours() == []
    assert len(taken) < 100 + 4 * (2 + 2 + 8 + 1)  # read ahead, places, those that overtake, one batch
    with pytest.raises(ZeroDivisionError):
        list(stream(small_model, (torch.rand(1, 32, 32) / (1 // (i < 5)) for i in range(9)), batch_size=2))
    assert threads_of_ours() == []


def test_arguments_are_refused_before_anything_is_read(small_model: DTRAM) -> None:
    for words, message in [
        ({"batch_size": 0}, "batch_size=0"),
        ({"workers": 0}, "workers=0"),
        ({"workers": 10**6}, "workers=1000000 is more than 4096"),
        ({"mean_steps": 5}, "mean_steps=5 is not a number in"),
        (
            {"mean_steps": 2, "stop_threshold": 0.5},
            "mean_steps=2 sets the stops, and so does stop_threshold=0.5",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            stream(small_model, iter(lambda: 1 / 0, None), **words)
    with pytest.raises(ValueError, match="is one image"):
        stream(small_model, "photo.jpg")
    assert list(stream(small_model, [])) == []


@pytest.mark.parametrize("mean_steps", [1.0, 1.3, 2.2, 3.7, 4.0])
def test_a_stream_keeps_to_its_budget(small_model: DTRAM, mean_steps: float) -> None:
    outcomes = list(stream(small_model, torch.rand(1000, 1, 32, 32), mean_steps=mean_steps))
    assert abs(steps_of(outcomes).double().mean() / mean_steps - 1) < 0.02


@pytest.mark.parametrize("wander", [False, True])
def test_the_threshold_of_a_budget_follows_images_that_change(wander: bool) -> None:
    """Images whose stop probabilities rise by 0.1 a step; later ones are harder if they `wander`."""
    pace, steps = Budget(1.8, 4, 0.5), []
    generator = torch.Generator().manual_seed(0)
    for number in range(40):
        probs = torch.rand(25, generator=generator) * (1 - 0.5 * wander * number / 40)
        looks = torch.ones(25, dtype=torch.int64)
        going = torch.ones(25, dtype=torch.bool)
        while going.any():
            going = pace.goes_on(looks, probs)
            steps += looks[~going].tolist()
            looks, probs = looks[going] + 1, probs[going] + 0.1
    assert len(steps) == 1000
    assert abs(np.mean(steps) / 1.8 - 1) < 0.02


@pytest.mark.parametrize("mean_steps", [1, 1.5, 2.0, 3.1, 4.0])
def test_a_batch_spends_its_budget_on_the_images_that_are_least_sure(
    small_model: DTRAM, mean_steps: float
) -> None:
    images = torch.rand(20, 1, 32, 32)
    found, free = small_model.predict(images, mean_steps=mean_steps), small_model.predict(images, 1.0)
    assert int(found.steps.sum()) == int(20 * mean_steps)
    rows = torch.arange(20)
    after = free.stop_probs.gather(1, found.steps[:, None] - 1).squeeze(1)
    if mean_steps == 1.5:  # two rounds of five and more: those seen once are surer than those seen again were
        seen_again = found.steps > 1
        assert free.stop_probs[~seen_again, 0].min() >= free.stop_probs[seen_again, 0].max()
    torch.testing.assert_close(found.stop_probs[rows, found.steps - 1], after, rtol=1e-4, atol=1e-5)
    for steps in found.steps.unique().tolist():  # the answers are those of `predict` after so many steps
        part = found.steps == steps
        alone = small_model.predict(images[part], stop_threshold=1.0, max_steps=steps)
        torch.testing.assert_close(found.logits[part], alone.logits, rtol=1e-4, atol=1e-5)


def test_no_step_starts_that_would_end_late(small_model: DTRAM) -> None:
    images = torch.rand(6, 1, 32, 32)
    assert small_model.predict(images, stop_threshold=1.0, deadline=1e-9).steps.tolist() == [1] * 6
    assert small_model.predict(images, stop_threshold=1.0, deadline=60).steps.tolist() == [4] * 6
    times = small_model.look_times
    assert (len(times.first[6]), len(times.later[6])) == (
        2,
        2,
    )  # after the last step nothing is left to decide
    times.later[6].append(100.0)
    assert times.expect(6) == times.expect(3) == 100
    assert times.expect(12) == 200
    assert small_model.predict(images, stop_threshold=1.0, deadline=60).steps.tolist() == [1] * 6
    assert small_model.predict(images, mean_steps=3, deadline=60).steps.tolist() == [1] * 6
    for deadline in (0, -1, "soon"):
        with pytest.raises(ValueError, match="deadline="):
            small_model.predict(images, deadline=deadline)


def test_calibrate_takes_loaders_files_and_tensors(small_model: DTRAM, tmp_path: Path) -> None:
    pixels = torch.randint(0, 256, (40, 1, 32, 32), dtype=torch.uint8)
    expected = dtram_hub.calibrate(small_model, pixels, 2.0)
    assert abs(small_model.predict(pixels).steps.double().mean() - 2) <= 1 / 40 + 1e-9
    labels = torch.zeros(40)
    loader = DataLoader(list(zip(pixels, labels, strict=True)), batch_size=7)
    assert dtram_hub.calibrate(small_model, loader, 2.0) == pytest.approx(expected, abs=1e-5)
    rows = [{"image": Image.fromarray(image[0].numpy()), "label": 0} for image in pixels]
    prepared = [Preparation(small_model)(row).image for row in rows]  # resized and cropped, as in timm
    expected = dtram_hub.calibrate(small_model, torch.stack(prepared), 2.0)
    assert dtram_hub.calibrate(small_model, rows, 2.0) == pytest.approx(expected, abs=1e-6)
    with pytest.warns(UserWarning, match=r"1 of 41 images were left out; the first is no readable image"):
        dtram_hub.calibrate(small_model, [*rows, tmp_path / "none.png"], 2.0)
    with pytest.raises(ValueError, match="holds no image"):
        dtram_hub.calibrate(small_model, [])
    with pytest.raises(ValueError, match="is less than the"):
        dtram_hub.calibrate(small_model, pixels, latency=1e-9)
    assert dtram_hub.calibrate(small_model, pixels, latency=60.0) == 1.0
    with pytest.raises(ValueError, match=r"latency=1.0 sets the budget, and so does mean_steps=2"):
        dtram_hub.calibrate(small_model, pixels, 2, latency=1.0)
