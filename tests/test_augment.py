"""Random changes of training images: exact where they can be, bounded where they are random."""

import torch

from dtram_hub.data.augment import crop_and_colour, distort, flip


def test_no_distortion_changes_no_pixel() -> None:
    images = torch.randint(0, 256, (5, 3, 13, 13), dtype=torch.uint8)
    assert torch.equal(distort(images), images)


def centres(images: torch.Tensor) -> torch.Tensor:
    """Centre of mass of every image, (B, 2) in pixels."""
    weights = images.float().squeeze(1)
    span = torch.arange(images.shape[-1], dtype=torch.float32)
    total = weights.sum((1, 2))
    return (
        torch.stack([(weights.sum(2) * span).sum(1), (weights.sum(1) * span).sum(1)], dim=1) / total[:, None]
    )


def test_shifts_are_even_within_their_bound_and_keep_the_brightness() -> None:
    images = torch.zeros(4000, 1, 21, 21, dtype=torch.uint8)
    images[:, :, 10, 10] = 240
    moved = distort(images, shift=3)
    assert moved.dtype == torch.uint8
    offsets = centres(moved) - 10
    assert 2.9 < offsets.abs().max() <= 3.02
    assert offsets.mean(0).abs().max() < 0.1
    torch.testing.assert_close(offsets.std(0), torch.tensor([3**0.5] * 2), atol=0.1, rtol=0)
    assert (moved.sum((1, 2, 3)).float() - 240).abs().max() <= 2


def test_turning_and_stretching_keep_the_middle_and_bending_keeps_the_corners_apart() -> None:
    images = torch.zeros(200, 1, 21, 21, dtype=torch.uint8)
    images[:, :, 10, 10] = 200
    assert torch.equal(distort(images, rotate=180)[:, :, 10, 10], images[:, :, 10, 10])
    bar = torch.zeros(500, 1, 21, 21, dtype=torch.uint8)
    bar[:, :, 5:16, 10] = 200
    heights = (distort(bar, scale=0.2).amax(3).squeeze(1) > 100).sum(1)
    assert heights.min() in (9, 10)
    assert heights.max() in (13, 14)
    bent = distort(bar, bend=1.0)
    assert not torch.equal(bent[0], bent[1])
    assert (centres(bent) - 10).abs().max() < 4


def test_what_comes_in_from_outside_is_zero() -> None:
    full = torch.full((300, 1, 9, 9), 255, dtype=torch.uint8)
    moved = distort(full, shift=2)
    assert moved[:, :, 3:6, 3:6].eq(255).all()
    assert moved[:, :, 0, 0].min() == 0


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = torch.arange(1000 * 4, dtype=torch.int64).view(1000, 1, 1, 4).to(torch.uint8)
    mirrored = (flip(images) == images.flip(3)).flatten(1).all(1)
    kept = (flip(images) == images).flatten(1).all(1)
    assert 400 < mirrored.sum() < 600
    assert 400 < kept.sum() < 600


def test_crops_enlarge_a_part_of_at_least_the_given_area() -> None:
    assert torch.equal(crop_and_colour(ramp := ramps(3)), ramp)
    spans = []
    for image in crop_and_colour(ramps(300), least=0.25).float():
        rows, columns = image[0].mean(1), image[1].mean(0)
        spans.append(((rows[-1] - rows[0]) / 200, (columns[-1] - columns[0]) / 200))
    areas = torch.tensor([a * b for a, b in spans])
    assert areas.min() > 0.2
    assert areas.max() < 1.01
    assert 0.45 < areas.mean() < 0.75
    assert areas.std() > 0.1


def ramps(count: int) -> torch.Tensor:
    """(count, 3, 41, 41) uint8: rows count from 0 to 200 in the first channel, columns in the second."""
    ramp = torch.arange(0, 201, 5, dtype=torch.uint8)
    down, right = ramp[:, None].expand(41, 41), ramp[None, :].expand(41, 41)
    return torch.stack([down, right, torch.full_like(down, 90)]).expand(count, -1, -1, -1)


def test_colours_change_for_each_image_and_stay_within_bounds() -> None:
    grey = torch.full((200, 3, 5, 5), 100, dtype=torch.uint8)
    changed = crop_and_colour(grey, colour=0.3).float()
    assert (changed.flatten(1).std(1) == 0).all()  # a flat grey stays flat and grey
    levels = changed[:, 0, 0, 0]
    assert 69 <= levels.min() < 80
    assert 120 < levels.max() <= 131
