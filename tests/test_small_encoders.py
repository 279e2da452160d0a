"""The package's own encoders: what and where, by hand, and as timm models."""

import pytest
import timm
import torch

from dtram_hub import DTRAM
from dtram_hub.models.encoder import encode
from dtram_hub.models.small_encoders import GlimpseMLP


def test_what_and_where_by_hand() -> None:
    net = GlimpseMLP(img_size=3, in_chans=2, what_features=4, where_features=5, num_features=6)
    views, places = torch.randn(7, 2, 3, 3), torch.rand(7, 2) * 2 - 1
    what = (net.what.weight.flatten(1) @ views.flatten(1).T).T + net.what.bias
    where = (net.where.weight @ places.T).T + net.where.bias
    both = torch.cat([what, where], dim=1).clamp(min=0)
    expected = ((net.fc.weight @ both.T).T + net.fc.bias).clamp(min=0)
    torch.testing.assert_close(encode(net, views, places), expected)
    torch.testing.assert_close(net.what(views).flatten(1), what)  # the layer is a convolution in shape


def test_sizes_are_the_papers() -> None:
    shapes = {name: tuple(p.shape) for name, p in timm.create_model("glimpse_mlp").named_parameters()}
    assert shapes["what.weight"] == (128, 1, 8, 8)
    assert shapes["where.weight"] == (128, 2)
    assert shapes["fc.weight"] == (256, 256)


def test_a_view_without_a_place_counts_as_taken_in_the_middle() -> None:
    net = timm.create_model("glimpse_mlp")
    views = torch.rand(3, 1, 8, 8)
    assert torch.equal(net.forward_features(views), net.forward_features(views, torch.zeros(3, 2)))
    assert net(views).shape == (3, 10)


def test_the_location_is_told_to_the_encoder_or_to_the_core_but_not_to_both() -> None:
    sizes = {"image_size": 20, "context": "none", "glimpse_crop": 8, "aggregate": "last", "in_chans": 1}
    for backbone, told, core in [
        ("glimpse_mlp", True, False),
        ("glimpse_mlp", False, False),
        ("glimpse_convnet", True, True),
    ]:
        model = DTRAM(backbone, 10, **sizes, hidden_size=16, location_input=told)
        assert (model.location_to_hidden is not None) == core
        # On a blank image every glimpse looks the same: only being told makes a difference.
        features = model.see(torch.zeros(2, 1, 20, 20), torch.tensor([[-0.5, 0.0], [0.5, 0.3]])).features
        assert torch.equal(features[0], features[1]) == (backbone != "glimpse_mlp" or not told)


def test_the_maps_of_the_convolutional_encoder_are_what_its_features_come_from() -> None:
    net, views = timm.create_model("glimpse_convnet", img_size=16).eval(), torch.rand(3, 1, 16, 16)
    features, (fine, coarse) = net.forward_intermediates(views)
    assert fine.shape == (3, 32, 8, 8)
    assert torch.equal(features, coarse)
    assert torch.equal(fine, net.conv2(net.conv1(views).relu()).relu())
    assert torch.equal(coarse, net.conv3(fine).relu())
    assert torch.equal(net.fc(coarse.flatten(1)).relu(), net.forward_head(features, pre_logits=True))
    assert torch.equal(net.forward_intermediates(views, [0], intermediates_only=True)[0], fine)
    moved = views.roll(4, 3)
    moved[..., :4] = 0
    views[..., -4:] = 0
    first, second = (net.forward_features(side)[..., :, 1:-1] for side in (views, moved))
    torch.testing.assert_close(second[..., 1:], first[..., :-1])  # a cell is 4 pixels wide
    maps = timm.create_model("glimpse_convnet", features_only=True)(views)
    assert [found.shape[1:] for found in maps] == [(32, 8, 8), (32, 4, 4)]
    with pytest.raises(ValueError, match="output_fmt='NLC'"):
        net.forward_intermediates(views, output_fmt="NLC")
