"""The encoder is timm's, weights included."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from dtram_hub.encoder import create_encoder, encode, encode_and_classify, feature_size, load_encoder_weights

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


def test_views_of_two_sizes_where_the_encoder_takes_them() -> None:
    encoder = create_encoder("resnet18", 0, 3, {64, 96}).eval()
    assert (
        encode(encoder, torch.randn(2, 3, 64, 64)).shape == encode(encoder, torch.randn(2, 3, 96, 96)).shape
    )
    with pytest.raises(
        ValueError, match="takes one input size, not context_size and glimpse_size of 64 and 96"
    ):
        create_encoder("test_vit", 0, 3, {64, 96})


@pytest.mark.parametrize("classes", [0, 1000])
def test_pretrained_weights_arrive_and_a_new_classifier_stays_fresh(tmp_path: Path, classes: int) -> None:
    torch.manual_seed(1)
    trained = timm.create_model("test_efficientnet_ln", num_classes=classes)
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    encoder = create_encoder("test_efficientnet_ln", 5, 3, {64})
    load_encoder_weights(encoder, "test_efficientnet_ln", 3, str(path))
    expected = trained.state_dict()
    found = {
        name: tensor for name, tensor in encoder.state_dict().items() if not name.startswith("classifier")
    }
    assert len(found) > 20
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    encoder = create_encoder("test_efficientnet_ln", 5, 3, {64})
    with pytest.raises(ValueError, match=r"encoder_weights='a\.pth' is neither 'timm' nor an existing"):
        load_encoder_weights(encoder, "test_efficientnet_ln", 3, "a.pth")
    path = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), path)
    with pytest.raises(ValueError, match=r"do not fit 'test_efficientnet_ln'"):
        load_encoder_weights(encoder, "test_efficientnet_ln", 3, str(path))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"do not fit 'test_efficientnet_ln'"):
        load_encoder_weights(encoder, "test_efficientnet_ln", 3, str(path))
