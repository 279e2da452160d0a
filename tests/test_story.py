"""The story of an image: its looks are those of a prediction, its windows and views those of the pixels."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from conftest import tiny_model
from dtram_hub import DTRAM
from dtram_hub.inference.story import Window, tell

DIGITS = "dtram_glimpse_mlp.mnist_dtram98"


@pytest.fixture(scope="module")
def digits() -> DTRAM:
    return timm.create_model(DIGITS, pretrained=True).eval()


def random_image(seed: int, side: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(side, side), dtype=np.uint8)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9, 1.0])
def test_the_looks_of_a_story_are_those_of_a_prediction(small_model: DTRAM, threshold: float) -> None:
    counts = set()
    for seed in range(8):
        story = tell(small_model, Image.fromarray(random_image(seed, 32)))
        looks = story.until(threshold)
        found = small_model.predict(torch.from_numpy(story.picture)[None, None], stop_threshold=threshold)
        assert len(looks) == found.steps
        best = found.logits[0].softmax(-1).topk(3)
        assert [belief.name for belief in looks[-1].beliefs] == [str(int(i)) for i in best.indices]
        assert [belief.prob for belief in looks[-1].beliefs] == pytest.approx(best.values.tolist(), abs=1e-5)
        stops = found.stop_probs[0, : len(looks)].tolist()
        assert [look.stop_prob for look in looks] == pytest.approx(stops, abs=1e-5)
        counts.add(len(looks))
    assert counts == {0.0: {1}, 1.0: {4}}.get(threshold, counts)


def test_a_view_has_the_pixels_of_its_window(digits: DTRAM) -> None:
    image = random_image(1, 28)
    story = tell(digits, Image.fromarray(image))
    assert (story.picture == image).all()
    padded = np.pad(image, 28)  # a glimpse that leaves the image sees the mean, which is black here
    for look in story.looks:
        top, left = round(28 * look.window.top), round(28 * look.window.left)
        assert not look.is_context
        assert (look.window.height, look.window.width) == (8 / 28, 8 / 28)
        assert (look.view == padded[top + 28 : top + 36, left + 28 : left + 36]).all()


def test_the_first_window_is_the_context() -> None:
    whole = Window(0.0, 0.0, 1.0, 1.0)
    for context, window in (("resize", whole), ("crop", Window(0.25, 0.25, 0.5, 0.5)), ("none", None)):
        look = tell(tiny_model(context, "last").eval(), Image.fromarray(random_image(0, 24))).looks[0]
        assert look.is_context == (window is not None)
        assert window in (None, look.window)
        assert look.view.shape == (12, 12)
    wide = Image.fromarray(np.full((20, 80, 3), (9, 90, 200), np.uint8))
    model = DTRAM("glimpse_convnet", 3, 3, 2, 64, "fit", 16, 16, hidden_size=8, aggregate="last").eval()
    story = tell(model, wide)
    assert story.picture.shape == (16, 64, 3)
    assert (story.picture == (9, 90, 200)).all()
    assert story.looks[0].window == Window(-1.5, 0.0, 4.0, 1.0)  # the square around the image
    assert (story.looks[0].view[8] == (9, 90, 200)).all()


def test_a_ram_has_no_stop_probability_and_takes_all_looks() -> None:
    model = timm.create_model("dtram_glimpse_mlp.mnist_ram4", pretrained=True).eval()
    story = tell(model, Image.fromarray(random_image(0, 28)))
    assert [look.stop_prob for look in story.until(0.0)] == [None] * 4


def test_what_is_no_image_or_gives_no_number_is_one_sentence(digits: DTRAM, tmp_path: Path) -> None:
    text, cut, gone = tmp_path / "text\x1b[2J.png", tmp_path / "cut.png", tmp_path / "gone.png"
    text.write_text("no image")
    Image.fromarray(random_image(0, 28)).save(cut)
    cut.write_bytes(cut.read_bytes()[:300])
    for path, said in (
        (text, r"text\x1b[2J.png is no readable image (its format is unknown)."),
        (cut, "cut.png is no readable image ("),
        (gone, "gone.png is no readable image (FileNotFoundError: No such file or directory)."),
    ):
        with pytest.raises(ValueError, match="is no readable image") as refused:
            tell(digits, path)
        assert str(refused.value).startswith(said)
        assert str(refused.value).isprintable()
    model = tiny_model("resize", "last").eval()
    with torch.no_grad():
        model.head.weight.fill_(torch.inf)
    with pytest.raises(ValueError, match=r"the image has no answer: the model's logits are not finite\."):
        tell(model, Image.fromarray(random_image(0, 24)))
