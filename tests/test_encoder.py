"""The encoder is timm's, weights included."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

import dtram_hub.models.encoder as encoder_module
from dtram_hub.models.encoder import (
    create_encoder,
    encode,
    encode_and_classify,
    feature_size,
    load_encoder,
    size_keywords,
)

LN = {"backbone": "test_efficientnet_ln", "num_classes": 5, "in_chans": 3, "view_sizes": {64}}
NAMES = ["resnet18", "mobilenetv3_small_050", "test_vit", "test_efficientnet_ln"]


@pytest.mark.parametrize("name", NAMES)
def test_features_and_logits_are_timms(name: str) -> None:
    encoder = create_encoder(name, 7, 3, {160}).eval()
    images = torch.randn(2, 3, 160, 160)
    features, logits = encode_and_classify(encoder, images)
    assert features.shape == (2, feature_size(encoder))
    assert torch.equal(logits, encoder(images))
    assert torch.equal(features, encode(encoder, images))
    encoder.reset_classifier(0)
    torch.testing.assert_close(encoder(images), features)


@pytest.mark.parametrize("name", ["test_efficientnet", "mobilenetv3_small_050", "resnet18"])
def test_a_fresh_classifier_of_few_classes_is_narrow(name: str) -> None:
    """EfficientNets draw theirs from ±C^-0.5; a ResNet draws as torch does, and keeps timm's very numbers."""
    torch.manual_seed(1)
    weight = create_encoder(name, 3, 3, {64}).get_classifier().weight
    limit = weight.shape[1] ** -0.5
    assert weight.abs().max() <= limit
    assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.1)
    torch.manual_seed(1)
    of_timm = timm.create_model(name, num_classes=3).get_classifier().weight
    assert torch.equal(weight, of_timm) == (name == "resnet18")


def test_a_pretrained_classifier_stays_as_it_is(tmp_path: Path) -> None:
    trained = timm.create_model("test_efficientnet")
    torch.nn.init.normal_(trained.classifier.weight)  # wider than a fresh one may be
    save_file(trained.state_dict(), tmp_path / "weights.safetensors")
    for classes in (1000, 3):
        words = {"backbone": "test_efficientnet", "num_classes": classes, "in_chans": 3, "view_sizes": {64}}
        encoder = create_encoder(**words)
        load_encoder(encoder, str(tmp_path / "weights.safetensors"), **words)
        assert torch.equal(encoder.conv_stem.weight, trained.conv_stem.weight)
        if classes == 1000:
            assert torch.equal(encoder.classifier.weight, trained.classifier.weight)
        else:
            assert encoder.classifier.weight.abs().max() <= trained.num_features**-0.5


@pytest.mark.parametrize(
    ("name", "sizes", "keywords"),
    [
        ("resnet18", {64, 96}, {}),
        ("vit_tiny_patch16_224", {64, 96}, {"dynamic_img_size": True}),
        ("vit_tiny_patch16_224", {50, 90}, {"dynamic_img_size": True, "dynamic_img_pad": True}),
        ("mvitv2_tiny", {224, 288}, {"img_size": 288}),
        ("levit_128s", {224}, {}),
        ("levit_128s", {64, 96}, None),
    ],
)
def test_an_encoder_is_built_for_all_its_views(name: str, sizes: set[int], keywords: dict | None) -> None:
    assert size_keywords(name, sizes)[0] == keywords
    if keywords is None:
        with pytest.raises(
            ValueError,
            match=r"takes no views of 64 and 96 pixels and 3 channels \(.*\)\. It takes 224 for both: "
            r"context='resize', context_size=224, glimpse_size=224\.",
        ):
            create_encoder(name, 0, 3, sizes)
        return
    encoder = create_encoder(name, 0, 3, sizes).eval()
    for size in sizes:
        assert encode(encoder, torch.randn(2, 3, size, size)).shape == (2, feature_size(encoder))


def test_a_trial_leaves_the_random_numbers_alone() -> None:
    encoder_module._size_keywords.cache_clear()
    torch.manual_seed(0)
    size_keywords("mvitv2_tiny", {224, 288})
    found = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(found, torch.rand(3))


def test_unknown_and_unsuitable_backbones_are_refused() -> None:
    for backbone, message in (
        ("resnt18", r"backbone='resnt18' is not a timm model\. Did you mean 'resnet18'\?"),
        ("dtram_resnet18", "is a DT-RAM itself"),
        (torch.nn.Linear(2, 2), "backbone is a Linear; accepted is a name, which a checkpoint can keep"),
        (None, "backbone=None is not a timm model"),
    ):
        with pytest.raises(ValueError, match=message):
            create_encoder(backbone, 0, 3, {64})
    with pytest.raises(TypeError, match="no_such_argument"):
        create_encoder("resnet18", 0, 3, {64}, no_such_argument=1)


@pytest.mark.parametrize("classes", [0, 1000])
def test_pretrained_weights_arrive_and_a_new_classifier_stays_fresh(tmp_path: Path, classes: int) -> None:
    torch.manual_seed(1)
    trained = timm.create_model("test_efficientnet_ln", num_classes=classes)
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    encoder = create_encoder(**LN)
    load_encoder(encoder, str(path), **LN)
    expected = trained.state_dict()
    found = {
        name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("classifier")
    }
    assert len(found) > 20
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    encoder = create_encoder(**LN)
    with pytest.raises(ValueError, match=r"encoder_weights='a\.pth' is neither 'timm' nor an existing"):
        load_encoder(encoder, "a.pth", **LN)
    path = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), path)
    with pytest.raises(ValueError, match=r"do not fit 'test_efficientnet_ln'"):
        load_encoder(encoder, str(path), **LN)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"do not fit 'test_efficientnet_ln'"):
        load_encoder(encoder, str(path), **LN)
