"""A model takes stored pixels and images of different sizes, and answers as it does for floats of each."""

import numpy as np
import pytest
import timm
import torch

from dtram_hub.images.pyramid import Pyramid, halve
from dtram_hub.images.views import Normalise
from dtram_hub.models.dtram import DTRAM
from dtram_hub.models.input import say_once
from dtram_hub.models.records import Noise, Prediction

SIZES = [(70, 50), (33, 120), (48, 48), (20, 64)]
SMALL = "An image is smaller than a view of 32 pixels"


def build(**words) -> DTRAM:
    torch.manual_seed(0)
    shape = {"num_classes": 4, "num_steps": 3, "hidden_size": 16, "image_size": "native", "context": "fit"}
    views = {"context_size": 64, "glimpse_crop": 32, "aggregate": "evidence", "locator": "attend"}
    model = timm.create_model("dtram_test_resnet", **shape | views | words).eval()
    torch.nn.init.normal_(model.locator.query.weight)
    torch.nn.init.normal_(model.stopper.net[-1].weight)
    return model


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def check_same(one: Prediction, other: Prediction) -> None:
    """As exact as sums in another order allow; a stop that was close to the threshold may differ."""
    torch.testing.assert_close(one.logits, other.logits, rtol=0, atol=1e-4)
    near = ((one.stop_probs - 0.5).abs() < 1e-4).any(1)
    assert torch.equal(one.steps[~near], other.steps[~near])
    torch.testing.assert_close(one.locations, other.locations, equal_nan=True)


@pytest.mark.filterwarnings(f"ignore:{SMALL}")
@pytest.mark.parametrize("context", ["fit", "resize", "crop"])
def test_a_ragged_batch_is_answered_as_each_image_alone_and_as_its_floats(context: str) -> None:
    model, images = build(context=context), pictures()
    together, normalise = model.predict(images), Normalise(model.pretrained_cfg)
    assert torch.equal(model(images), together.logits)
    for i, image in enumerate(images):
        own = Prediction(*(value[i : i + 1] for value in vars(together).values()))
        tensor = torch.from_numpy(image).permute(2, 0, 1)
        floats = normalise(tensor[None])
        for given in ([image], [tensor], tensor[None], floats, [floats[0]], [Pyramid([image])]):
            check_same(model.predict(given), own)


@pytest.mark.filterwarnings(f"ignore:{SMALL}")
def test_rows_choose_the_images_of_context_views() -> None:
    model = build()
    images, rows = model.open(pictures()), torch.tensor([3, 1, 1])
    assert torch.equal(model.view(images, None, rows), model.view(images, None)[rows])


def test_a_rollout_does_not_depend_on_the_other_images() -> None:
    model, images = build(), pictures()[:3]
    noise = torch.rand(6, 3, 4, generator=torch.Generator().manual_seed(1)).clamp(min=1e-6)
    words = {"sample": True, "num_rollouts": 2}
    whole = model.rollout(images, noise=Noise(noise[..., :3], noise[..., 3]), **words)
    for i, image in enumerate(images):
        own = noise[2 * i : 2 * i + 2]
        alone = model.rollout([image], noise=Noise(own[..., :3], own[..., 3]), **words)
        for name in ("logits", "locations", "location_log_probs", "stop_logits", "location_scores"):
            found, expected = getattr(whole, name)[2 * i : 2 * i + 2], getattr(alone, name)
            torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-4, atol=1e-4)


def test_every_parameter_gets_a_gradient_from_images_of_different_sizes() -> None:
    model = build().train()
    rollout = model.rollout(pictures()[:3], sample=True)
    parts = (rollout.logits, rollout.location_log_probs, rollout.stop_logits, rollout.baselines)
    sum(part.sum() for part in parts).backward()
    lacking = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lacking == []


@pytest.mark.filterwarnings(f"ignore:{SMALL}")
def test_cells_of_the_padding_are_never_chosen() -> None:
    """An image of 1:8 fills an eighth of its fitted context, the halves of two rows of cells."""
    model = build()
    images = model.open([np.full((16, 128, 3), 200, np.uint8)])
    state = model.advance(images, model.begin(images), None)
    _, centres, valid, reach, *_ = state.fixed
    assert valid.view(4, 4).all(1).tolist() == [False, True, True, False]
    assert centres[0, 4:12, 0].tolist() == [-0.5] * 4 + [0.5] * 4
    assert centres[0, 4:8, 1].tolist() == [-0.75, -0.25, 0.25, 0.75]
    assert reach.tolist() == [[[2.0, 0.25]]]  # glimpses of 32 in 16 and in 128 pixels


def test_a_glimpse_covers_the_more_cells_the_smaller_its_image_is() -> None:
    model = build(context="resize")
    images = model.open([np.zeros((side, side, 3), np.uint8) for side in (256, 64)])
    state = model.advance(images, model.begin(images), None)
    state = model.advance(images, state, torch.zeros(2, 2))
    centres = state.fixed[1]
    expected = [(centres[i].abs() <= reach).all(-1).sum().item() for i, reach in ((0, 0.125), (1, 0.5))]
    assert state.memory[0].sum(1).tolist() == expected
    assert expected[0] < expected[1]


def test_levels_from_a_file_and_levels_that_are_made_give_the_same_answer() -> None:
    image = np.random.default_rng(1).integers(0, 256, (900, 1300, 3), np.uint8)
    model, levels = build(), [image]
    while max(levels[-1].shape) > 256:
        levels.append(halve(levels[-1]))
    found, again = model.predict([Pyramid(levels)]), model.predict([image])
    assert len(levels) == len(Pyramid([image]))
    assert torch.equal(found.logits, again.logits)
    assert torch.equal(found.steps, again.steps)


def test_an_image_smaller_than_a_glimpse_is_filled_up_and_said() -> None:
    model = build()
    for given in ([np.zeros((20, 64, 3), np.uint8)], torch.zeros(2, 3, 20, 64)):
        say_once.cache_clear()
        with pytest.warns(UserWarning, match=SMALL) as said:
            answers = [model(given) for _ in range(2)]
        assert len(said) == 1
        assert torch.stack(answers).isfinite().all()


def test_twelve_bits_in_sixteen_are_as_bright_as_eight() -> None:
    image = pictures()[0]
    wide = (image.astype(np.uint16) * 16 + image // 16).clip(max=4095)
    eight, twelve = build(num_steps=1), build(num_steps=1, levels=[0, 4095])
    views = [model.view(model.open([given]), None) for model, given in ((eight, image), (twelve, wide))]
    torch.testing.assert_close(*views, rtol=0, atol=1 / 255 / 0.2)
    tensor = torch.from_numpy(wide).permute(2, 0, 1)[None]
    assert tensor.dtype == torch.uint16
    assert torch.equal(twelve.view(twelve.open(tensor), None), views[1])
    assert torch.equal(twelve.view(twelve.open([image]), None), views[0])  # 8 bits have levels of their own


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.rand(2, 3, 32, 32),
            r"images has shape \(2, 3, 32, 32\); accepted is \(batch, 1, height, width\)",
        ),
        (torch.rand(1, 32, 32), r"shape \(1, 32, 32\)"),
        (torch.rand(0, 1, 32, 32), "an empty batch"),
        (torch.ones(2, 1, 32, 32, dtype=torch.int32), "dtype torch.int32 have no known range of levels"),
        (torch.rand(2, 1, 0, 32), "a height and a width of at least 1 pixel"),
        ([], "images is empty"),
        ([torch.rand(1, 32, 32), torch.rand(3, 32, 32)], "1 channels of float32 and 3 channels of float32"),
        ([torch.rand(3, 32, 32)], "images have 3 channels; accepted are 1"),
        ([torch.rand(32, 32)], r"an image has shape \(32, 32\)"),
        (
            [torch.rand(1, 9, 9), torch.ones(1, 9, 9, dtype=torch.uint8)],
            "one number of channels and one dtype",
        ),
        ([np.ones((32, 32))], "dtype torch.float64 have no known range of levels"),
        ([np.ones((32, 32), bool)], "an image has dtype dtype"),
        (["cat.jpg"], "an image is 'cat.jpg'"),
    ],
)
@pytest.mark.parametrize("call", ["forward", "predict", "rollout"])
def test_bad_images_are_named(small_model: DTRAM, call: str, images: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(small_model, call)(images)
