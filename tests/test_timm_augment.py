"""RandAugment and random erasing: timm's own results, from an image's draws alone."""

import random

import numpy as np
import pytest
import torch
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from dtram_hub.data.augment import Augmentation
from dtram_hub.data.timm_augment import erase, rand_augment, seeded_by

POLICIES = ["rand", "rand-m10-n9-p1-inc1", "rand-m0-n9-p1", "rand-m9-n5-mstd0.5-tweights", "rand-mstd101-t3a"]


def global_states() -> list:
    _, keys, *place = np.random.get_state()  # noqa: NPY002
    return [random.getstate(), keys.tolist(), place, torch.get_rng_state().tolist()]


def images_of(count: int, channels: int, side: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_operation_takes_grey_and_colours(policy: str, channels: int) -> None:
    images = images_of(150, channels)
    changed = rand_augment(images, policy, torch.rand(150, 2))
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    assert (changed != images).flatten(1).any(1).float().mean() > 0.5


def test_an_image_is_the_one_that_timm_makes_with_the_same_seeds() -> None:
    images, draws = images_of(20, 3, 24), torch.rand(20, 2)
    found = rand_augment(images, "rand-m9-n3-p1-mstd0.5", draws)
    timm = rand_augment_transform("rand-m9-n3-p1-mstd0.5", {"img_mean": (128,) * 3})
    for image, own, changed in zip(images, draws, found, strict=True):
        with seeded_by(own):
            assert torch.equal(tv.pil_to_tensor(timm(tv.to_pil_image(image))), changed)


def test_draws_seed_all_generators_and_leave_no_trace() -> None:
    draws = torch.tensor([[0.25, 0.5], [0.25, 0.5], [0.5, 0.25], [0.25, 0.75]])
    before, found = global_states(), []
    for own in draws:
        with seeded_by(own):
            found.append((random.random(), np.random.rand(), torch.rand(()).item()))  # noqa: NPY002
    assert found[0] == found[1]
    for numbers in zip(*found, strict=True):
        assert len(set(numbers)) == 3
    with pytest.raises(ZeroDivisionError), seeded_by(draws[0]):
        random.random() / 0
    Augmentation(rand_augment="rand", erase=1)(images_of(4, 3), draws.repeat(1, 2))
    assert global_states() == before


def test_erasing_puts_noise_of_the_images_colours_into_one_rectangle() -> None:
    images = torch.randint(90, 111, (400, 3, 40, 40), dtype=torch.uint8)
    images[:, 2] = 7
    changed = erase(images, 0.25, torch.rand(400, 2))
    differs = (changed != images).any(1)
    erased = differs.flatten(1).any(1)
    assert 0.18 < erased.float().mean() < 0.32
    assert torch.equal(changed[:, 2], images[:, 2])  # of one level, and so is the noise
    areas = []
    for image, own in zip(changed[erased], differs[erased], strict=True):
        rows, columns = own.any(1).nonzero(), own.any(0).nonzero()
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        areas.append(own[box].numel() / 1600)
        assert own[box].float().mean() > 0.9
        assert abs(image[:2, *box].float().mean() - 100) < 4
    assert min(areas) > 0.01
    assert 0.25 < max(areas) < 0.36
    assert torch.equal(erase(images, 0.0, torch.rand(400, 2)), images)


@pytest.mark.parametrize(
    "policy",
    ["", "m9", "rand-m9.5", "rand-x3", "rand-tweight", "rand-p2", "rand-n0", "augmix-m3", "rand-m9\n"],
)
def test_what_timm_would_drop_or_misread_is_refused(policy: str) -> None:
    with pytest.raises(ValueError, match=r"^data.rand_augment='.*' is no policy of timm; accepted is 'rand'"):
        Augmentation(rand_augment=policy)


@pytest.mark.parametrize("share", [-0.1, 1.5])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=rf"data.erase={share} is not a number in \[0, 1\]"):
        Augmentation(erase=share)
