"""Glimpses are exact copies of pixels, wherever they fall."""

import pytest
import torch
import torch.nn.functional as F

from dtram_hub.images.extents import Extents
from dtram_hub.images.resize import resize
from dtram_hub.models.glimpse import (
    cell_centres,
    context_extents,
    glimpse_extents,
    retina,
    views,
)


def glimpse_corners(locations: torch.Tensor, size: tuple[int, int], crop: int) -> torch.Tensor:
    return glimpse_extents(size, locations, crop).corners


def crop_exact(images: torch.Tensor, locations: torch.Tensor, crop: int, rows=None) -> torch.Tensor:
    return views(images, glimpse_extents(tuple(images.shape[2:]), locations, crop), crop, rows=rows)


def crop_bilinear(images: torch.Tensor, locations: torch.Tensor, crop: int, rows=None) -> torch.Tensor:
    extents = glimpse_extents(tuple(images.shape[2:]), locations, crop, "bilinear")
    return views(images, extents, crop, "bilinear", rows)


def sliced(images: torch.Tensor, corners: torch.Tensor, crop: int) -> torch.Tensor:
    """The same crops by plain slicing of a zero-padded image."""
    pad = crop + 2
    padded = F.pad(images, (pad,) * 4)
    return torch.stack(
        [
            image[:, top + pad : top + pad + crop, left + pad : left + pad + crop]
            for image, (top, left) in zip(padded, corners.tolist(), strict=True)
        ]
    )


@pytest.mark.parametrize("crop", [1, 4, 5, 12])
@pytest.mark.parametrize("size", [(12, 12), (13, 12), (12, 17), (15, 13)])
def test_crops_equal_slices_on_a_grid_over_the_borders(size: tuple[int, int], crop: int) -> None:
    line = torch.linspace(-1, 1, 9)
    locations = torch.cartesian_prod(line, line)
    images = torch.rand(len(locations), 3, *size)
    expected = sliced(images, glimpse_corners(locations, size, crop), crop)
    assert torch.equal(crop_exact(images, locations, crop), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_views_in_half_precision_are_the_rounded_ones(dtype: torch.dtype) -> None:
    """torch has no antialiased resize for half precision on a CPU."""
    images, locations = torch.rand(3, 2, 20, 26).to(dtype), torch.rand(3, 2) * 2 - 1
    whole = images.float()
    for cut in (
        lambda pixels: resize(pixels, 7),
        lambda pixels: retina(pixels, locations, 8, 5, scales=2),
        lambda pixels: retina(pixels, locations, 8, 8, mode="bilinear"),
        lambda pixels: retina(pixels, locations, 8, 5, mode="bilinear"),
    ):
        assert cut(images).dtype == dtype
        torch.testing.assert_close(cut(images).float(), cut(whole), rtol=2**-7, atol=2**-7)
        assert cut(whole).dtype == torch.float32


def test_a_resize_in_single_precision_is_torchs_to_the_bit() -> None:
    images = torch.rand(2, 3, 30, 21)
    expected = F.interpolate(images, (9, 9), mode="bilinear", antialias=True, align_corners=False)
    assert torch.equal(resize(images, 9), expected)


def test_corners_by_hand() -> None:
    locations = torch.tensor([[0.0, 0.0], [-1.0, 1.0], [1.0, -1.0], [-0.5, 0.25]])
    # Centres at (l + 1) / 2 * (8, 16): (4, 8), (0, 16), (8, 0), (2, 10); minus half of the crop.
    assert glimpse_corners(locations, (8, 16), 4).tolist() == [[2, 6], [-2, 14], [6, -2], [0, 8]]
    # An odd crop has its corner on a half pixel, which rounds up.
    assert glimpse_corners(torch.zeros(1, 2), (8, 8), 3).tolist() == [[3, 3]]


@pytest.mark.parametrize("cut", [crop_exact, crop_bilinear])
def test_rows_say_which_image_a_window_lies_in(cut) -> None:
    images, rows = torch.rand(3, 2, 12, 17), torch.tensor([2, 0, 2, 2])
    locations = torch.rand(4, 2) * 2 - 1
    assert torch.equal(cut(images, locations, 5, rows), cut(images[rows], locations, 5))
    context = context_extents((12, 17), "crop", 7)
    assert torch.equal(views(images, context, 7, rows=rows), views(images[rows], context, 7))


def test_outside_is_zero_even_when_the_border_is_not_a_number() -> None:
    images = torch.full((1, 1, 4, 4), torch.nan)
    glimpse = crop_exact(images, torch.tensor([[-1.0, -1.0]]), 4)
    assert glimpse[0, 0, :2].eq(0).all()
    assert glimpse[0, 0, 2:, 2:].isnan().all()


def test_gradient_of_a_crop_is_one_where_it_looked_and_zero_elsewhere() -> None:
    images = torch.zeros(1, 2, 6, 6, requires_grad=True)
    crop_exact(images, torch.tensor([[-1.0, 0.0]]), 4).sum().backward()
    expected = torch.zeros(6, 6)
    expected[0:2, 1:5] = 1
    assert torch.equal(images.grad[0, 0], expected)
    assert torch.equal(images.grad[0, 1], expected)


@pytest.mark.parametrize("crop", [4, 5])
def test_bilinear_equals_exact_on_whole_pixels(crop: int) -> None:
    images = torch.rand(7, 3, 10, 14, dtype=torch.float64)
    corners = torch.tensor([[0, 0], [2, 3], [-2, 9], [8, 12], [-3, -3], [5, 5], [6, 0]])
    locations = (corners.double() + crop / 2) / torch.tensor([10, 14]) * 2 - 1
    assert torch.equal(glimpse_corners(locations, (10, 14), crop), corners)
    torch.testing.assert_close(crop_bilinear(images, locations, crop), crop_exact(images, locations, crop))


def test_bilinear_gradient_in_the_location() -> None:
    images = torch.rand(2, 1, 9, 9, dtype=torch.float64)
    locations = torch.tensor([[0.13, -0.27], [0.41, 0.09]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda where: crop_bilinear(images, where, 3), locations)


def test_views_are_resized_only_when_sizes_differ() -> None:
    images, extents = torch.rand(2, 3, 16, 16), glimpse_extents((16, 16), torch.zeros(2, 2), 8)
    assert torch.equal(views(images, extents, 8), images[:, :, 4:12, 4:12])
    assert torch.equal(views(images, extents, 4), resize(images[:, :, 4:12, 4:12], 4))
    assert resize(images, 16) is images


def test_context_views() -> None:
    images = torch.rand(2, 3, 11, 8)
    assert torch.equal(views(images, context_extents((11, 8), "crop", 5), 5), images[:, :, 3:8, 1:6])
    assert torch.equal(views(images, context_extents((11, 8), "resize", 4), 4), resize(images, 4))
    flat = torch.full((1, 1, 12, 12), 0.25)
    seen = views(flat, context_extents((12, 12), "resize", 5), 5)
    torch.testing.assert_close(seen, torch.full((1, 1, 5, 5), 0.25))


def test_cell_centres_lie_in_the_image_that_the_context_is_cut_from() -> None:
    centres, valid = cell_centres(context_extents((12, 16), "resize", 4), (12, 16), (2, 4))
    assert centres[0].tolist() == [[y, x] for y in (-0.5, 0.5) for x in (-0.75, -0.25, 0.25, 0.75)]
    assert valid.all()
    # The central 8 of 16 x 16 pixels, in 2 x 2 cells: their centres are 2 pixels from the middle.
    centres, valid = cell_centres(context_extents((16, 16), "crop", 8), (16, 16), (2, 2))
    assert centres[0].tolist() == [[-0.25, -0.25], [-0.25, 0.25], [0.25, -0.25], [0.25, 0.25]]
    # A window that reaches over the edges: cells outside do not count, of others the part inside does.
    centres, valid = cell_centres(Extents((-4, 0), (16, 16)), (8, 16), (4, 2))
    assert valid.tolist() == [[False] * 2 + [True] * 4 + [False] * 2]
    assert centres[0, 2:6].tolist() == [[y, x] for y in (-0.5, 0.5) for x in (-0.5, 0.5)]
    centres, valid = cell_centres(Extents((-2, 0), (8, 8)), (8, 8), (2, 1))
    assert centres[0].tolist() == [[-0.75, 0.0], [0.0, 0.0]]
    # A glimpse at a cell's centre has the cell in its middle.
    images = torch.zeros(1, 1, 16, 16)
    images[0, 0, 8:12, 4:8] = 1  # what the cell below and left of the middle covers
    assert crop_exact(images, centres[0, 2:3], 4).eq(1).all()


def test_retina_is_glimpses_of_doubling_width_around_one_place() -> None:
    images = torch.rand(3, 2, 32, 32)
    places = torch.tensor([[0.0, 0.0], [-1.0, 0.3], [0.9, -0.9]])
    seen = retina(images, places, crop=4, size=4, scales=3)
    assert seen.shape == (3, 6, 4, 4)
    for k, width in enumerate((4, 8, 16)):
        expected = resize(crop_exact(images, places, width), 4)
        torch.testing.assert_close(seen[:, 2 * k : 2 * k + 2], expected, rtol=0, atol=0)
    # All scales look at the same place: on a ramp, every one of them has the same mean away from the border.
    ramp = torch.arange(32.0).expand(1, 1, 32, 32)
    means = retina(ramp, torch.zeros(1, 2), 4, 4, 3).mean((2, 3))
    torch.testing.assert_close(means, torch.full((1, 3), 15.5), rtol=0, atol=1e-4)
