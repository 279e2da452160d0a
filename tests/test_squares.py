"""Squares: training, prediction, timm and transformers make the same pixels of a photograph of any shape."""

import io
import logging
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from dtram_hub.data import canvas
from dtram_hub.data.canvas import Form
from dtram_hub.data.config import DataConfig
from dtram_hub.data.sources import load
from dtram_hub.data.squares import SQUARES, transform_of
from dtram_hub.inference.prepare import Preparation
from dtram_hub.learning.recipe import Recipe, build_model, load_data
from folders import make_folder, pixels

MEAN = (0.1, 0.5, 0.9)
COLOUR = tuple(round(255 * value) for value in MEAN)
SIZES = [(60, 40), (40, 60), (37, 111), (225, 450), (450, 225), (16, 16), (5, 7), (301, 40)]
STRIPS = [(1, 3000), (3000, 1), (3, 2000)]


def noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    levels = np.random.default_rng(0).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(levels).convert(mode)


def decoded(image: Image.Image, form: Form) -> torch.Tensor:
    file = io.BytesIO()
    image.save(file, "PNG")
    return torch.tensor(canvas.decode({"path": None, "bytes": file.getvalue()}, form).pixels)


def as_in_timm(image: Image.Image, crop_mode: str, mean: tuple[float, ...], side: int) -> torch.Tensor:
    size = (len(mean), side, side)
    transform = timm.data.create_transform(size, **transform_of(crop_mode), mean=mean, normalize=False)
    return transform(image)


@pytest.mark.parametrize("side", [16, 225])
@pytest.mark.parametrize("crop_mode", ["squash", "pad"])
def test_decoding_gives_the_pixels_of_timm(crop_mode: str, side: int) -> None:
    for size in SIZES:
        for mode, mean in (("RGB", MEAN), ("L", MEAN[:1])):
            form = Form(len(mean), side, crop_mode=crop_mode, colour=COLOUR[: len(mean)])
            image = noise(size, mode)
            assert torch.equal(decoded(image, form), as_in_timm(image, crop_mode, mean, side))


def test_the_centre_is_that_of_timm_but_for_rounding() -> None:
    for size in [(60, 40), (40, 60), (80, 32), (16, 16)]:
        image = noise(size)
        differences = decoded(image, Form(3, 8)).int() - as_in_timm(image, "centre", MEAN, 8).int()
        assert differences.abs().max() <= 1


def test_what_a_square_shows() -> None:
    image = Image.new("RGB", (40, 20), (200, 0, 0))
    image.paste((0, 0, 200), (0, 0, 10, 20))  # blue on the left quarter
    red = {"centre": 16, "squash": 12, "pad": 12}  # of 16 columns of the middle row
    for crop_mode, columns in red.items():
        square = decoded(image, Form(3, 16, crop_mode=crop_mode, colour=(9, 9, 9)))
        assert abs(int((square[0, 8] > 100).sum()) - columns) <= 1
    square = decoded(image, Form(3, 16, crop_mode="pad", colour=(7, 8, 9)))
    assert (square[:, :4] == torch.tensor([7, 8, 9]).view(3, 1, 1)).all()
    assert (square[:, 12:] == torch.tensor([7, 8, 9]).view(3, 1, 1)).all()
    assert (square[1, 4:12] < 3).all()


@pytest.mark.parametrize(
    ("crop_mode", "expected"),
    [("centre", [-1, 0, 0, 1]), ("squash", [-1, 0, 0, 0.5]), ("pad", [-0.5, 0, 0, 0.5])],
)
def test_boxes_lie_where_their_square_shows_them(
    tmp_path: Path, crop_mode: str, expected: list[float]
) -> None:
    noise((40, 20)).save(tmp_path / "a.png")
    box = canvas.box_in({"path": str(tmp_path / "a.png")}, [20, 0, 10, 10], Form(3, 8, crop_mode=crop_mode))
    assert box == pytest.approx(expected)


def small_recipe(root: Path, crop_mode: str, **data) -> Recipe:
    config = DataConfig(
        "imagefolder", str(root), cache=str(root.parent / "cache"), crop_mode=crop_mode, **data
    )
    views = {"image_size": 48, "context": "resize", "context_size": 32, "glimpse_crop": 32}
    return Recipe(architecture="dtram_test_resnet", model=views, data=config)


@pytest.mark.parametrize("data", [{}, {"mean": [0.2], "std": [0.5]}], ids=["of the encoder", "of the recipe"])
@pytest.mark.parametrize("crop_mode", SQUARES)
def test_a_saved_model_prepares_images_as_its_training_did(
    tmp_path: Path, crop_mode: str, data: dict
) -> None:
    root = make_folder(tmp_path / "pets", {"train": 3, "validation": 1, "test": 3}, size=(20, 60))
    recipe = small_recipe(root, crop_mode, **data)
    trained = pixels(load_data(recipe).splits["test"])
    build_model(recipe, 2).save_pretrained(tmp_path / "model")
    model = timm.create_model(f"local-dir:{tmp_path / 'model'}", pretrained=True)
    images = [root / "test" / name / f"{i}.png" for name in ("cat", "dog") for i in range(3)]
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model.pretrained_cfg))
    mean, std = (torch.tensor(model.pretrained_cfg[key]).view(-1, 1, 1) for key in ("mean", "std"))
    if data:
        assert (mean.unique().tolist(), std.unique().tolist()) == ([pytest.approx(0.2)], [0.5])
    for path, square in zip(images, trained, strict=True):
        ours = Preparation(model)(path).image
        theirs = (transform(Image.open(path)) * std + mean) * 255
        assert torch.equal(theirs.round().to(torch.uint8), ours)
        assert (ours.int() - square.int()).abs().max() <= (crop_mode == "centre")


@pytest.mark.long  # importing transformers takes seconds
def test_transformers_makes_the_same_squares(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = timm.create_model("dtram_test_resnet", image_size=64, context_size=64, glimpse_crop=32)
    model.pretrained_cfg |= transform_of("pad") | {"mean": MEAN, "std": (0.5, 0.25, 1.0)}
    model.save_pretrained(tmp_path)
    image, processor = noise((40, 20)), transformers.AutoImageProcessor.from_pretrained(tmp_path)
    floats = processor(image)["pixel_values"][0]
    levels = (floats * torch.tensor((0.5, 0.25, 1.0)).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255
    assert torch.equal(levels.round().to(torch.uint8), Preparation(model)(image).image)


@pytest.mark.parametrize("size", STRIPS)
def test_strips_neither_vanish_nor_fill_the_memory(tmp_path: Path, size: tuple[int, int]) -> None:
    for crop_mode in SQUARES:
        strip, model = noise(size), timm.create_model("dtram_glimpse_mlp", in_chans=3, image_size=28)
        model.pretrained_cfg |= transform_of(crop_mode) | {"mean": MEAN, "std": MEAN}
        found = Preparation(model)(strip).image
        trained = decoded(strip, Form(3, 28, crop_mode=crop_mode, colour=COLOUR))
        assert found.shape == trained.shape == (3, 28, 28)
        assert crop_mode == "centre" or torch.equal(found, trained)


def test_another_way_or_colour_is_decoded_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_folder(tmp_path / "pets", {"train": 2, "validation": 1, "test": 1}, size=(8, 24))
    caplog.set_level(logging.INFO, "dtram_hub")
    for data in ({}, {"crop_mode": "squash"}, {"crop_mode": "pad"}, {"crop_mode": "pad", "mean": [1.0]}):
        for _ in range(2):
            found = load_data(small_recipe(root, **{"crop_mode": "centre"} | data)).splits["test"]
    assert sum("decoding" in message for message in caplog.messages) == 4 * 3
    assert (pixels(found)[:, :, 0] == 255).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"source": "digits"}, "data.crop_mode='pad' is for photographs; the images of data.source='digits'"),
        ({"image_size": None}, "data.crop_mode='pad' makes squares; with context='fit' or image_size=null"),
        ({"keeps_aspect": True}, "data.crop_mode='pad' makes squares; with context='fit' or image_size=null"),
    ],
)
def test_images_without_squares_are_refused(words: dict, message: str) -> None:
    config = DataConfig(words.pop("source", "imagefolder"), "nowhere", crop_mode="pad")
    with pytest.raises(ValueError, match=message):
        load(config, **{"seed": 0, "image_size": 32, "in_chans": 1} | words)
