"""The checkpoints that ship with the package: they load offline, and are as good as their cards say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import shipped_cards as cards
from dtram_hub.data.deeppcb import compose, read_board
from dtram_hub.data.layouts import open_cub
from dtram_hub.data.mnist import read_mnist
from dtram_hub.images.views import Normalise
from dtram_hub.learning.pointing import pointing
from dtram_hub.models import checkpoint
from dtram_hub.models.registry import SHIPPED, WEIGHTS

CARDS = Path(__file__).parents[1] / "model_cards"
MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"
BIRDS = Path(__file__).parents[2] / "shared" / "data" / "cub50"
BOARDS = Path(__file__).parents[2] / "shared" / "data" / "deeppcb"

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
NEWER = {"context_encoder": "shared", "levels": None}  # keywords that are newer than some weights
EXPECTED = {
    "dtram_glimpse_mlp": {"input_size": (1, 28, 28), "mean": (0.0,), "std": (1.0,)},
    "dtram_mobilenetv2_100": {"input_size": (3, 448, 448), "crop_pct": 1.0, "interpolation": "bicubic"}
    | IMAGENET,
    "dtram_tf_efficientnet_lite0": {"input_size": (1, 640, 640), "mean": (0.5,), "std": (0.5,)},
}

shipped = pytest.mark.parametrize("name", SHIPPED)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def metrics_of(name: str) -> dict:
    return json.loads((WEIGHTS / name / "metrics.json").read_text())


def test_the_default_is_the_model_with_discount_098() -> None:
    model = timm.create_model("dtram_glimpse_mlp", pretrained=True)
    named = timm.create_model("dtram_glimpse_mlp.mnist_dtram98", pretrained=True)
    assert model.pretrained_cfg["tag"] == "mnist_dtram98"
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), named.state_dict().values(), strict=True)
    )
    assert model.arguments() == named.arguments()
    assert timm.create_model("dtram_glimpse_mlp").stop_threshold == 0.5  # calibrated only with the weights


@shipped
def test_it_loads_as_it_was_trained(name: str, tmp_path: Path) -> None:
    model = timm.create_model(name, pretrained=True).eval()
    shipped = SHIPPED[name]["model_args"] | {"num_classes": SHIPPED[name]["num_classes"]}
    assert model.arguments() == NEWER | shipped
    assert (WEIGHTS / name / "model.safetensors").stat().st_size < (1e6 if "mnist" in name else 1e7)
    config = timm.data.resolve_model_data_config(model)
    assert {key: config[key] for key in EXPECTED[name.partition(".")[0]]} == EXPECTED[name.partition(".")[0]]
    found = model.predict(torch.rand(50 if "mnist" in name else 2, *config["input_size"]))
    assert found.steps.min() >= 1
    assert found.steps.max() <= model.num_steps
    checkpoint.save(model, tmp_path)
    assert str(WEIGHTS) not in (tmp_path / "config.json").read_text()
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.rand(2, *config["input_size"])
    assert torch.equal(again(images), model(images))


@pytest.mark.parametrize("name", [name for name in SHIPPED if "mnist" in name])
@pytest.mark.skipif(not MNIST.is_dir(), reason="the real test images are not here")
def test_it_is_as_good_as_its_card_says(name: str) -> None:
    images, labels = (torch.tensor(array) for array in read_mnist(MNIST, "test"))
    model = timm.create_model(name, pretrained=True).eval()
    found = model.predict(images[:, None].float() / 255)
    (result, *_), steps = metrics_of(name)["results"], found.steps.double().mean().item()
    # One image in ten thousand may fall the other way where another processor rounds otherwise.
    assert (found.logits.argmax(1) == labels).double().mean().item() == pytest.approx(
        result["accuracy"], abs=3e-4
    )
    assert steps == pytest.approx(result["mean_steps"], abs=3e-3)


@pytest.mark.skipif(not BIRDS.is_dir(), reason="the real test images are not here")
def test_birds_through_timms_own_transform() -> None:
    model = timm.create_model("dtram_mobilenetv2_100.cub50", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    test = open_cub(BIRDS)["test"].select(range(0, 1389, 12))
    images = torch.stack([transform(Image.open(row["image"]["path"]).convert("RGB")) for row in test])
    found = model.predict(images)
    right = (found.logits.argmax(1) == torch.tensor(test["label"])).double().mean().item()
    # Of 116 images; the standard error is 0.04.
    assert right == pytest.approx(
        metrics_of("dtram_mobilenetv2_100.cub50")["results"][0]["accuracy"], abs=0.08
    )


@pytest.mark.skipif(not BOARDS.is_dir(), reason="the real test images are not here")
def test_boards_and_the_places_of_their_defects() -> None:
    name = "dtram_tf_efficientnet_lite0.deeppcb"
    model = timm.create_model(name, pretrained=True).eval()
    some = (BOARDS / "test.txt").read_text().splitlines()[::10]
    test = compose([read_board(BOARDS, *line.split()) for line in some], np.arange(50), "kind", 2, seed=2)
    found = model.predict(
        Normalise(model.pretrained_cfg)(test.at(torch.arange(len(test)))), stop_threshold=1.0
    )
    result = metrics_of(name)["results"][0]
    right = (found.logits.argmax(1) == test.labels).double().mean().item()
    # Of 100 images; the standard error is 0.03.
    assert right == pytest.approx(result["accuracy"], abs=0.07)
    reach = model.glimpse_crop / model.image_size
    assert pointing(found.locations, test.boxes, reach)[-1] > 0.9


@shipped
def test_its_card_says_what_its_metrics_say(name: str) -> None:
    assert cards.render_shipped(name) == (CARDS / f"{name}.md").read_text()
    result = metrics_of(name)["results"][0]
    text = (CARDS / f"{name}.md").read_text()
    assert f"| test error | {100 * (1 - result['accuracy']):.2f} % |" in text
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == text.count("```") // 2 == 1
    for code in blocks:
        exec(code, {})


def test_channels_and_classes_adapt_as_timms_do() -> None:
    grey = timm.create_model("dtram_glimpse_mlp", pretrained=True).eval()
    colour = timm.create_model("dtram_glimpse_mlp", pretrained=True, in_chans=3).eval()
    images = torch.rand(6, 1, 28, 28)
    torch.testing.assert_close(colour(images.expand(-1, 3, -1, -1)), grey(images), rtol=1e-4, atol=1e-4)
    five = timm.create_model("dtram_glimpse_mlp", pretrained=True, num_classes=5).eval()
    assert five(images).shape == (6, 5)
    assert torch.equal(five.locator.linear.weight, grey.locator.linear.weight)
