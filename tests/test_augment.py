"""Augmentations: exact where they can be, bounded where they are random, functions of their draws alone."""

from dataclasses import dataclass

import pytest
import torch
from torchvision.transforms import RandomResizedCrop

from dtram_hub.data import augment
from dtram_hub.data.augment import AUGMENTATIONS, Augmentation, crop, distort, flip, turn


def change(images: torch.Tensor, seed: int = 0, **settings) -> torch.Tensor:
    """Augment images by random draws."""
    augmentation = Augmentation(**settings)
    generator = torch.Generator().manual_seed(seed)
    return augmentation(images, torch.rand(len(images), augmentation.columns, generator=generator))


def random_images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def test_the_defaults_take_no_draws_and_change_no_pixel() -> None:
    images = random_images(5, 3, 13, 13)
    assert Augmentation().columns == 0
    assert torch.equal(change(images), images)
    assert torch.equal(distort(images, {}, torch.rand(5, 37)), images)


DISTORT = {"shift": 2, "rotate": 9, "scale": 0.1, "bend": 1}
ALL = {"flip": True, "turn": True, "crop": 0.3, "colour": 0.4, "distort": DISTORT}
ALL |= {"rand_augment": "rand-m9-n3-mstd0.5-inc1", "erase": 0.5}


def test_the_table_names_every_setting_and_counts_its_draws() -> None:
    assert {name: Augmentation(**{name: ALL[name]}).columns for name in AUGMENTATIONS} == {
        name: columns for name, (_, columns) in AUGMENTATIONS.items()
    }
    assert Augmentation(**ALL).columns == sum(columns for _, columns in AUGMENTATIONS.values())


@pytest.mark.parametrize("used", [*[[name] for name in ALL], list(ALL)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_changed_by_its_own_draws_alone(used: list[str], channels: int) -> None:
    augmentation = Augmentation(**{name: ALL[name] for name in used})
    images = random_images(12, channels, 17, 17)
    draws = torch.rand(12, augmentation.columns)
    whole = augmentation(images, draws)
    assert (whole.shape, whole.dtype) == (images.shape, torch.uint8)
    assert torch.equal(augmentation(images, draws), whole)
    for index in (torch.tensor([3]), torch.tensor([9, 2, 5])):
        assert torch.equal(augmentation(images[index], draws[index]), whole[index])
    assert not torch.equal(augmentation(images, draws.flip(0)), whole)


def test_the_global_generator_is_left_alone() -> None:
    images = random_images(4, 3, 16, 16)
    state = torch.get_rng_state()
    change(images, **ALL)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_augmentation_is_one_function_one_line_and_one_field(monkeypatch: pytest.MonkeyPatch) -> None:
    def invert(images: torch.Tensor, share: float, draws: torch.Tensor) -> torch.Tensor:
        return torch.where((draws < share).view(-1, 1, 1, 1), 255 - images, images)

    @dataclass
    class Inverting(Augmentation):
        invert: float = 0.0

    monkeypatch.setitem(AUGMENTATIONS, "invert", (invert, 1))
    images, draws = random_images(3, 1, 4, 4), torch.tensor([[0.4], [0.6], [0.0]])
    assert (Inverting().columns, Inverting(invert=0.5).columns) == (0, 1)
    expected = torch.stack([255 - images[0], images[1], 255 - images[2]])
    assert torch.equal(Inverting(invert=0.5)(images, draws), expected)


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
    moved = change(images, distort={"shift": 3})
    assert moved.dtype == torch.uint8
    offsets = centres(moved) - 10
    assert 2.9 < offsets.abs().max() <= 3.02
    assert offsets.mean(0).abs().max() < 0.1
    torch.testing.assert_close(offsets.std(0), torch.tensor([3**0.5] * 2), atol=0.1, rtol=0)
    assert (moved.sum((1, 2, 3)).float() - 240).abs().max() <= 2


def test_turning_and_stretching_keep_the_middle_and_bending_keeps_the_corners_apart() -> None:
    images = torch.zeros(200, 1, 21, 21, dtype=torch.uint8)
    images[:, :, 10, 10] = 200
    assert torch.equal(change(images, distort={"rotate": 180})[:, :, 10, 10], images[:, :, 10, 10])
    bar = torch.zeros(500, 1, 21, 21, dtype=torch.uint8)
    bar[:, :, 5:16, 10] = 200
    heights = (change(bar, distort={"scale": 0.2}).amax(3).squeeze(1) > 100).sum(1)
    assert heights.min() in (9, 10)
    assert heights.max() in (13, 14)
    bent = change(bar, distort={"bend": 1.0})
    assert not torch.equal(bent[0], bent[1])
    assert (centres(bent) - 10).abs().max() < 4


def test_the_extremes_of_uniform_draws_bend_within_five_deviations() -> None:
    bar = torch.zeros(2, 1, 41, 41, dtype=torch.uint8)
    bar[:, :, 15:26, 20] = 200
    draws = torch.full((2, 37), 0.5)
    draws[0, 5:], draws[1, 5:] = 0.0, 1 - 2**-24
    offsets = centres(distort(bar, {"bend": 1.0}, draws)) - 20
    torch.testing.assert_close(offsets, torch.tensor([[4.75, 4.75], [-4.75, -4.75]]), atol=0.1, rtol=0)


def test_what_comes_in_from_outside_is_zero() -> None:
    full = torch.full((300, 1, 9, 9), 255, dtype=torch.uint8)
    moved = change(full, distort={"shift": 2})
    assert moved[:, :, 3:6, 3:6].eq(255).all()
    assert moved[:, :, 0, 0].min() == 0


def test_flip_mirrors_the_images_of_the_lower_draws() -> None:
    images = torch.arange(8, dtype=torch.uint8).view(2, 1, 1, 4)
    draws = torch.tensor([[0.49], [0.5]])
    assert flip(images, True, draws).flatten(1).tolist() == [[3, 2, 1, 0], [4, 5, 6, 7]]
    assert torch.equal(flip(images, False, draws), images)


def test_turn_rotates_by_quarters() -> None:
    images = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).expand(4, 1, 2, 2)
    draws = torch.tensor([[0.24], [0.25], [0.5], [0.75]])
    turned = [[1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2]]
    assert turn(images, True, draws).flatten(1).tolist() == turned
    assert torch.equal(turn(images, False, draws), images)


def test_crops_enlarge_a_part_of_at_least_the_given_area() -> None:
    assert torch.equal(crop(ramps(3), 1.0, torch.full((3, 22), 0.5)), ramps(3))
    spans = []
    for image in change(ramps(300), crop=0.25).float():
        rows, columns = image[0].mean(1), image[1].mean(0)
        spans.append(((rows[-1] - rows[0]) / 200, (columns[-1] - columns[0]) / 200))
    areas = torch.tensor([a * b for a, b in spans])
    assert areas.min() > 0.2
    assert areas.max() < 1.01
    assert 0.45 < areas.mean() < 0.75
    assert areas.std() > 0.1


def test_boxes_lie_inside_and_are_as_torchvision_has_them() -> None:
    boxes = augment.crop_boxes(0.2, (64, 64), torch.rand(4000, 22)).float()
    assert boxes[:, :2].min() == 0
    assert (boxes[:, :2] + boxes[:, 2:]).max() == 64
    image = torch.zeros(1, 64, 64)
    known = [RandomResizedCrop.get_params(image, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    known = torch.tensor([[top, left, height, width] for top, left, height, width in known]).float()
    torch.testing.assert_close(boxes.mean(0), known.mean(0), atol=1.2, rtol=0)
    torch.testing.assert_close(boxes.std(0), known.std(0), atol=0.8, rtol=0)


def test_a_box_may_touch_every_edge() -> None:
    draws = torch.full((2, 22), 0.5)  # aspect 1
    draws[:, :10] = 0.0  # the smallest area
    draws[0, 20:], draws[1, 20:] = 0.0, 1 - 2**-24
    assert augment.crop_boxes(0.25, (64, 64), draws).tolist() == [[0, 0, 32, 32], [32, 32, 32, 32]]


def ramps(count: int) -> torch.Tensor:
    """(count, 3, 41, 41) uint8: rows count from 0 to 200 in the first channel, columns in the second."""
    ramp = torch.arange(0, 201, 5, dtype=torch.uint8)
    down, right = ramp[:, None].expand(41, 41), ramp[None, :].expand(41, 41)
    return torch.stack([down, right, torch.full_like(down, 90)]).expand(count, -1, -1, -1)


def test_colours_change_for_each_image_and_stay_within_bounds() -> None:
    grey = torch.full((200, 3, 5, 5), 100, dtype=torch.uint8)
    changed = change(grey, colour=0.3).float()
    assert (changed.flatten(1).std(1) == 0).all()  # a flat grey stays flat and grey
    levels = changed[:, 0, 0, 0]
    assert 69 <= levels.min() < 80
    assert 120 < levels.max() <= 131


def test_boxes_of_a_long_image_are_long() -> None:
    boxes = augment.crop_boxes(0.2, (100, 500), torch.rand(2000, 22)).double()
    aspects = boxes[:, 3] / boxes[:, 2] / 5
    assert aspects.min() > 3 / 4 - 0.02
    assert aspects.max() < 4 / 3 + 0.02
