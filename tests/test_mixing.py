"""Mixed images and labels, and where they are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dtram_hub.learning.mixing import MixConfig, mix
from small_runs import refusal

IMAGES = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 2, 1, 1])


def test_mixup_is_the_mean_of_two_images_by_the_shares_of_their_labels() -> None:
    images, shares = mix(MixConfig(mixup=0.8), IMAGES, LABELS, 3, seed=5)
    own = shares[0, 0].item()
    assert 0 < own < 1
    assert shares[0].tolist() == pytest.approx([own, 1 - own, 0])
    expected = own * IMAGES.float() + (1 - own) * IMAGES.flip(0).float()
    assert (images.float() - expected).abs().max() <= 0.501
    assert images.dtype == torch.uint8


def test_cutmix_pastes_a_box_of_the_share_of_its_label() -> None:
    images, shares = mix(MixConfig(cutmix=1.0), IMAGES, LABELS, 3, seed=2)
    pasted = ((images == IMAGES.flip(0)) & (images != IMAGES)).any(1)[0]
    rows, columns = pasted.any(1).nonzero().flatten(), pasted.any(0).nonzero().flatten()
    assert len(rows)
    area = int(rows[-1] - rows[0] + 1) * int(columns[-1] - columns[0] + 1)
    assert shares[0].tolist() == pytest.approx([1 - area / 256, area / 256, 0])
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = False
    assert torch.equal(images[:, :, outside], IMAGES[:, :, outside])


def test_a_seed_decides_and_the_global_generator_is_left_alone() -> None:
    np.random.seed(3)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    both = [mix(MixConfig(mixup=0.2, cutmix=1.0), IMAGES, LABELS, 3, seed) for seed in (1, 1, 2)]
    assert np.random.rand() == expected  # noqa: NPY002
    assert torch.equal(both[0][0], both[1][0])
    assert not torch.equal(both[0][0], both[2][0])
    unmixed, shares = mix(MixConfig(mixup=0.2, probability=0.0), IMAGES, LABELS, 3, 1)
    assert torch.equal(unmixed, IMAGES)
    assert torch.equal(shares.argmax(1), LABELS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["batch_size=7"], "each process has 7 images in a batch, accepted is an even number"),
        (["mix.mixup=-1"], "mix.mixup=-1.0"),
        (["stages.encoder.epochs=0"], "in the stage of the encoder, which this plan lacks"),
        (["init_from=runs/a", "stages_from=runs/b"], "both give the weights to start with"),
    ],
)
def test_what_cannot_be_mixed_is_refused_before_the_training(
    words: list[str], message: str, tmp_path: Path
) -> None:
    assert message in refusal("mix.mixup=0.2", *words, f"output={tmp_path / 'run'}")
