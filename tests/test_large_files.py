"""Files larger than the memory are read by region, and small ones as they are."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import timm
import torch
import zarr
from PIL import Image

from dtram_hub.images import tiff
from dtram_hub.images.pyramid import Pyramid, UnreadableImage, halve
from dtram_hub.images.tiff import is_tiff, open_tiff

TILES = {"tile": (128, 128), "compression": "deflate"}


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    small = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, channels), np.uint8)
    return small.repeat(8, 0).repeat(8, 1).squeeze()


def write_pyramid(path: Path, levels: list[np.ndarray], **words) -> Path:
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(levels[0], subifds=len(levels) - 1, **TILES | words)
        for level in levels[1:]:
            file.write(level, subfiletype=1, **TILES | words)
    return path


@pytest.fixture
def native(tmp_path: Path) -> Path:
    """The folder of a model for images of any size, of at most three looks."""
    torch.manual_seed(0)
    shape = {"num_classes": 3, "num_steps": 3, "hidden_size": 16, "image_size": "native", "context": "fit"}
    views = {"context_size": 64, "glimpse_crop": 32, "aggregate": "evidence", "locator": "attend"}
    model = timm.create_model("dtram_test_resnet", dynamic=False, **shape | views)
    model.save_pretrained(tmp_path / "native", ["ant", "bee", "cow"])
    return tmp_path / "native"


@pytest.mark.parametrize(("channels", "in_chans"), [(3, 3), (1, 1), (1, 3), (3, 1), (4, 3)])
def test_a_pyramid_on_disk_is_read_by_region(channels: int, in_chans: int, tmp_path: Path) -> None:
    image = picture(1200, 1040, channels)
    path = write_pyramid(tmp_path / "a.tif", [image, image[::2, ::2], image[::4, ::4]])
    found = open_tiff(path, in_chans, 10**9)
    assert is_tiff(path)
    assert [found.level_size(level) for level in range(len(found))] == [(1200, 1040), (600, 520), (300, 260)]
    region = found.read(1, 100, 30, 150, 90)
    with Image.fromarray(image[::2, ::2][100:150, 30:90]) as small:
        expected = np.asarray(small.convert("L" if in_chans == 1 else "RGB"))
    assert region.shape == (50, 60, in_chans)
    assert np.abs(region.astype(int) - expected.reshape(region.shape)).max() <= (
        channels == 3 and in_chans == 1
    )


def test_without_levels_they_are_made_in_one_pass_and_this_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = picture(1200, 1040)
    tifffile.imwrite(tmp_path / "a.tif", image, **TILES)
    found = open_tiff(tmp_path / "a.tif", 3, 10**9)
    assert "has no small level; one is made, which reads 1,248,000 pixels once" in caplog.text
    assert np.array_equal(found.read(1, 0, 0, *found.level_size(1)), halve(image))
    with pytest.raises(
        UnreadableImage, match="1,248,000 pixels and no smaller levels, more than 1,000,000; --max-pix"
    ):
        open_tiff(tmp_path / "a.tif", 3, 10**6)


def test_a_tiff_that_other_programs_read_whole_is_left_to_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "small.tif", picture(80, 80), **{"tile": (16, 16)})
    tifffile.imwrite(tmp_path / "strips.tif", picture(1200, 1040))
    assert open_tiff(tmp_path / "small.tif", 3, 10**9) is None
    assert open_tiff(tmp_path / "strips.tif", 3, 10**9) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "it is a damaged TIFF"),
        (
            lambda path: tifffile.imwrite(path, np.zeros((3, 1200, 1040), np.uint8), **TILES),
            "neither grey nor RGB",
        ),
    ],
)
def test_a_tiff_that_cannot_be_used_is_named(change, message: str, tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", [picture(1200, 1040)])
    change(path)
    with pytest.raises(UnreadableImage, match=message):
        open_tiff(path, 3, 10**9)


def test_tiles_that_would_fill_the_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pyramid(tmp_path / "a.tif", [picture(1200, 1040)])
    monkeypatch.setattr(tiff, "LARGEST_CHUNK", 128 * 128 * 3 - 1)
    with pytest.raises(UnreadableImage, match=r"its tiles of \(128, 128, 3\) are larger than 49,151 bytes"):
        open_tiff(path, 3, 10**9)


def test_what_is_sliced_like_an_array_is_an_image(native: Path, tmp_path: Path) -> None:
    image = picture(160, 240)
    mapped = np.memmap(tmp_path / "raw", np.uint8, "w+", shape=image.shape)
    mapped[:] = image
    model = timm.create_model(f"local-dir:{native}", pretrained=True).eval()
    expected = model.predict([image]).logits
    assert torch.equal(model.predict([mapped]).logits, expected)
    assert torch.equal(model.predict([zarr.array(image, chunks=(32, 32, 3))]).logits, expected)


def test_predict_reads_a_slide_by_region(dtram, native: Path, tmp_path: Path) -> None:
    image = picture(1600, 1200)
    levels = [image, halve(image), halve(halve(image))]
    path = write_pyramid(tmp_path / "slide.tif", levels)
    code, printed, _ = dtram("predict", native, path, "--json", "--save", tmp_path / "seen")
    row = json.loads(printed)
    model = timm.create_model(f"local-dir:{native}", pretrained=True).eval()
    found = model.predict([Pyramid(levels)])
    assert (code, row["index"], row["steps"]) == (0, int(found.logits.argmax()), 3)
    np.testing.assert_allclose(row["locations"][1:], found.locations[0, 1:], atol=1e-4)
    with Image.open(row["picture"]) as drawn:
        assert min(drawn.size) > 300


def test_without_tifffile_a_large_tiff_says_what_is_missing(
    dtram, native: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pyramid(tmp_path / "slide.tif", [picture(1200, 1040)])
    monkeypatch.setitem(sys.modules, "tifffile", None)
    code, _, complaint = dtram("predict", native, path, "--max-pixels", 10**6)
    assert code == 1
    assert "it has 1,248,000 pixels, more than 1,000,000" in complaint
    assert "pip install 'dtram-hub[large]' reads a TIFF by region" in complaint


def test_predict_sees_a_photograph_as_it_is(dtram, native: Path, tmp_path: Path) -> None:
    image = picture(160, 480)
    Image.fromarray(image).save(tmp_path / "wide.png")
    _, printed, _ = dtram("predict", native, tmp_path / "wide.png", "--json")
    model = timm.create_model(f"local-dir:{native}", pretrained=True).eval()
    found = model.predict([image])
    np.testing.assert_allclose(json.loads(printed)["locations"][1:], found.locations[0, 1:], atol=1e-4)


def test_a_square_model_sees_a_small_copy_of_a_slide(dtram, tmp_path: Path) -> None:
    image = picture(1600, 1200)
    path = write_pyramid(tmp_path / "slide.tif", [image, halve(image), halve(halve(image))])
    name = "dtram_glimpse_mlp.mnist_dtram98"
    _, printed, _ = dtram("predict", name, path, "--json")
    model = timm.create_model(name, pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    found = model.predict(transform(Image.fromarray(halve(halve(image))).convert("L"))[None])
    assert json.loads(printed)["steps"] == int(found.steps)


def test_a_slide_that_ends_half_way_fails_and_the_others_go_on(dtram, native: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1200, 3), np.uint8)
    good = write_pyramid(tmp_path / "good.tif", [noise, noise[::4, ::4]])
    broken = tmp_path / "broken.tif"
    content = bytearray(good.read_bytes())
    content[len(content) // 8 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 8)
    broken.write_bytes(content)
    code, printed, complaint = dtram("predict", native, broken, good)
    assert code == 1
    assert printed.startswith(str(good))
    assert f"{broken} is no readable image (rows " in complaint


def test_more_pixels_are_decoded_when_they_are_allowed(dtram, native: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(160, 480)).save(tmp_path / "a.png")
    code, _, complaint = dtram("predict", native, tmp_path / "a.png", "--max-pixels", 160 * 480 - 1)
    assert (code, "it has 76,800 pixels, more than 76,799; --max-pixels allows them" in complaint) == (
        1,
        True,
    )
    assert dtram("predict", native, tmp_path / "a.png", "--max-pixels", 160 * 480)[0] == 0
