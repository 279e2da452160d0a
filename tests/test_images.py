"""Views of stored pixels of any size are those of the whole image in floats."""

import numpy as np
import pytest
import torch

from dtram_hub.images import pyramid
from dtram_hub.images.extents import Extents
from dtram_hub.images.pyramid import Pyramid, UnreadableImage, halve
from dtram_hub.images.ragged import Ragged
from dtram_hub.images.region import Region
from dtram_hub.images.resize import resize
from dtram_hub.images.views import Normalise
from dtram_hub.models.glimpse import context_extents, glimpse_extents, views

NORMALISE = Normalise({"mean": (0.5, 0.3, 0.1), "std": (0.2, 0.3, 0.4)})
SIZES = [(40, 40), (17, 60), (60, 17), (1, 33), (33, 1), (9, 9)]


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def as_floats(image: np.ndarray) -> torch.Tensor:
    """The image as one batch of normalised floats."""
    return NORMALISE(torch.from_numpy(image).permute(2, 0, 1)[None])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", [4, 8, 9])
def test_glimpses_of_stored_pixels_are_those_of_floats_to_the_bit(size: tuple[int, int], crop: int) -> None:
    """At every border, also where a glimpse is larger than the image."""
    image, line = picture(*size), torch.linspace(-1, 1, 5)
    locations = torch.cartesian_prod(line, line)
    extents, rows = glimpse_extents(size, locations, crop), torch.zeros(25, dtype=torch.int64)
    expected = views(as_floats(image), extents, crop, rows=rows)
    stored = torch.from_numpy(image).permute(2, 0, 1)[None]
    assert torch.equal(views(stored, extents, crop, rows=rows, normalise=NORMALISE), expected)
    assert torch.equal(views(Ragged([image]), extents, crop, rows=rows, normalise=NORMALISE), expected)


@pytest.mark.parametrize("mode", ["exact", "bilinear"])
@pytest.mark.parametrize("view", [3, 5, 8])
@pytest.mark.parametrize("size", SIZES)
def test_resized_views_of_stored_pixels_are_those_of_floats(
    size: tuple[int, int], view: int, mode: str
) -> None:
    image, locations = picture(*size), torch.rand(6, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    rows, stored = torch.zeros(6, dtype=torch.int64), torch.from_numpy(image).permute(2, 0, 1)[None]
    extents = glimpse_extents(size, locations, 8, mode)
    expected = views(as_floats(image), extents, view, mode, rows)
    for images in (stored, Ragged([image])):
        found = views(images, extents, view, mode, rows, NORMALISE)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("context", ["crop", "resize", "fit"])
def test_contexts_of_images_of_different_sizes_are_those_of_each_alone(context: str) -> None:
    images = [picture(*size, seed=seed) for seed, size in enumerate(SIZES)]
    ragged = Ragged(images)
    found = views(ragged, context_extents(ragged.sizes, context, 12), 12, normalise=NORMALISE)
    for image, own in zip(images, found, strict=True):
        alone = Ragged([image])
        again = views(alone, context_extents(alone.sizes, context, 12), 12, normalise=NORMALISE)
        assert torch.equal(again[0], own)
        extents = context_extents(image.shape[:2], context, 12)
        expected = views(as_floats(image), extents, 12)
        torch.testing.assert_close(own, expected[0], rtol=0, atol=1e-5)
        stored = torch.from_numpy(image).permute(2, 0, 1)[None]
        whole = views(stored, extents, 12, normalise=NORMALISE)
        torch.testing.assert_close(whole, expected, rtol=0, atol=1e-5)


def test_a_fitted_context_keeps_the_aspect_and_fills_up_with_the_mean() -> None:
    """An image of 4 x 8 pixels in a square of 8: two rows above and below are the mean."""
    image = picture(4, 8)
    seen = views(Ragged([image]), context_extents(torch.tensor([[4, 8]]), "fit", 8), 8, normalise=NORMALISE)
    assert torch.equal(seen[0, :, 2:6], as_floats(image)[0])
    assert seen[0, :, [0, 1, 6, 7]].eq(0).all()


def test_a_grey_image_needs_no_axis_of_channels() -> None:
    image = picture(9, 12, 1)
    normalise, extents = Normalise({"mean": (0.5,), "std": (0.25,)}), Extents((2, 3), (5, 5))
    windows = Extents(torch.tensor([[2, 3]]), (5, 5))
    expected = views(torch.from_numpy(image).permute(2, 0, 1)[None], extents, 5, normalise=normalise)
    assert torch.equal(views(Ragged([image[:, :, 0]]), windows, 5, normalise=normalise), expected)


@pytest.mark.parametrize(
    ("dtype", "levels", "white"),
    [(np.uint8, None, 255), (np.uint16, None, 65535), (np.uint16, (0, 4095), 4095), (np.float32, (-1, 3), 3)],
)
def test_levels_say_what_is_black_and_white(dtype: type, levels: tuple | None, white: float) -> None:
    black = levels[0] if levels else 0
    image = np.array([[black, white], [(black + white) / 2, black]]).astype(dtype)
    normalise = Normalise({"mean": (0.0,), "std": (1.0,)}, levels)
    seen = views(Ragged([image]), Extents(torch.tensor([[0, 0]]), (2, 4)), 4, normalise=normalise)
    found = views(Ragged([image]), Extents(torch.tensor([[0, 0]]), (2, 2)), 2, normalise=normalise)
    expected = torch.from_numpy((image.astype(float) - black) / (white - black)).float()
    torch.testing.assert_close(found[0, 0], expected, rtol=0, atol=1e-6)
    assert seen[0, 0, :, 3].abs().max() < 1e-6  # outside of the image, whatever black is


def test_halves_are_means_over_areas() -> None:
    image = picture(5, 7)
    half = halve(image)
    assert half.shape == (3, 4, 3)
    for row in range(3):
        for column in range(4):
            area = image[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(-1, 3).astype(float)
            assert (half[row, column] == np.floor(area.mean(0) + 0.5)).all()


def test_halves_read_in_bands_and_kept_on_disk_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture(1501, 40)
    whole = halve(image)
    monkeypatch.setattr(pyramid, "BAND_BYTES", 1)
    monkeypatch.setattr(pyramid, "IN_MEMORY_BYTES", 1)
    again = halve(image)
    assert isinstance(again, np.memmap)
    assert np.array_equal(again, whole)


def test_a_large_image_gets_levels_and_a_small_one_stays_as_it_is() -> None:
    assert len(Pyramid([np.zeros((1024, 1024), np.uint8)])) == 1
    large = Pyramid([np.zeros((1025, 1024, 3), np.uint8)])
    assert [large.level_size(level) for level in range(len(large))] == [
        (1025, 1024),
        (513, 512),
        (257, 256),
        (129, 128),
    ]
    # Levels that are there are used, and continued if the smallest is still large.
    given = Pyramid([np.zeros((8192, 64), np.uint8), np.zeros((2048, 16), np.uint8)])
    assert len(given) == 2


class Counted:
    """An array-like that counts what is read, and fails where it is told to."""

    def __init__(self, pixels: np.ndarray, broken_from: int = 10**9):
        self.pixels, self.broken_from, self.read = pixels, broken_from, 0
        self.shape, self.dtype = pixels.shape, pixels.dtype

    def __getitem__(self, where: tuple[slice, slice]) -> np.ndarray:
        if where[0].stop > self.broken_from:
            raise OSError("the disk is gone")
        found = self.pixels[where]
        self.read += found.size
        return found


def test_what_is_read_lazily_gives_what_the_array_gives_and_reads_little() -> None:
    image = picture(1500, 1300)
    levels = [image, halve(image), halve(halve(image))]
    lazy = [Counted(level) for level in levels]
    sizes, locations = torch.tensor([[1500, 1300]]), torch.tensor([[0.3, -0.7]])
    for extents in (context_extents(sizes, "resize", 96), glimpse_extents(sizes, locations, 64)):
        view = 96 if isinstance(extents.sides, torch.Tensor) else 64
        one, other = (
            views(Ragged([Pyramid(given)]), extents, view, normalise=NORMALISE) for given in (levels, lazy)
        )
        assert torch.equal(one, other)
    assert lazy[0].read == 64 * 64 * 3
    assert (lazy[1].read, lazy[2].read) == (0, levels[2].size)


def test_a_context_is_the_whole_of_the_smallest_level_that_is_large_enough() -> None:
    image = picture(1500, 1300)
    levels = [image, halve(image), halve(halve(image))]
    ragged = Ragged([Pyramid(levels)])
    for view, level in ((96, 2), (400, 1), (1200, 0)):
        seen = views(ragged, context_extents(ragged.sizes, "resize", view), view, normalise=NORMALISE)
        expected = resize(as_floats(levels[level]), view)
        torch.testing.assert_close(seen, expected, rtol=0, atol=1e-5)


def test_a_region_that_cannot_be_read_names_its_image() -> None:
    images = Ragged([picture(30, 30), Counted(picture(30, 30), broken_from=20)])
    extents = Extents(torch.tensor([[20, 0], [20, 0]]), (8, 8))
    with pytest.raises(
        UnreadableImage, match=r"image 1 of 2: rows 20 to 28 cannot be read \(OSError: the disk is gone\)"
    ):
        images.cut(extents, 8)


def test_images_that_are_no_numbers_are_named() -> None:
    image = np.ones((9, 9), np.float32)
    image[4, 4] = np.nan
    with pytest.raises(UnreadableImage, match="image 0 of 1: it holds NaN or infinity"):
        Ragged([image]).cut(Extents(torch.tensor([[0, 0]]), (9, 9)), 9)


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_region_reads_what_the_turned_crop_holds(mirrored: bool, quarters: int) -> None:
    image = picture(37, 53)
    region = Region(Pyramid([image, halve(image)]), (6, 8, 20, 34), mirrored, quarters)
    for level, scale in ((0, 1), (1, 2)):
        part = region.image.levels[level][6 // scale : 26 // scale, 8 // scale : 42 // scale]
        expected = np.rot90(part[:, ::-1] if mirrored else part, quarters)
        height, width = region.level_size(level)
        assert (height, width) == expected.shape[:2]
        assert np.array_equal(region.read(level, 0, 0, height, width), expected)
        assert np.array_equal(region.read(level, 2, 3, 7, 5), expected[2:7, 3:5])
    assert region.size == ((34, 20) if quarters % 2 else (20, 34))
