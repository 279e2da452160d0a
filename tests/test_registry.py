"""Every timm architecture has a DT-RAM, and what comes back passes for a timm model."""

import copy
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import _hub, save_for_hf
from timm.models._manipulate import group_parameters
from timm.optim import param_groups_layer_decay

from dtram_hub import DTRAM
from dtram_hub.models.registry import SHIPPED, WEIGHTS

SMALL = {"image_size": 96, "context_size": 64, "glimpse_crop": 32}
MOBILENET = Path(__file__).parents[2] / "shared/data/weights/mobilenetv2_100.coral_in1k_same.safetensors"


def test_every_architecture_and_every_tag_of_timm_has_its_dtram() -> None:
    timms = set(timm.list_models(exclude_filters=["dtram*", "glimpse_*"]))
    assert len(timms) > 1000
    assert set(timm.list_models("dtram_*")) == {f"dtram_{name}" for name in timms} | {"dtram_glimpse_mlp"}
    tags = set(timm.list_models(exclude_filters=["dtram*", "glimpse_*"], pretrained=True, include_tags=True))
    found = set(timm.list_models("dtram_*", pretrained=True, include_tags=True))
    assert {f"dtram_{tag}" for tag in tags} == found - set(SHIPPED)


def test_without_a_tag_weights_are_the_encoders() -> None:
    for name in timm.list_models("dtram_mobilenetv2*"):
        theirs, ours = timm.get_pretrained_cfg(name.removeprefix("dtram_")), timm.get_pretrained_cfg(name)
        assert ours.tag == theirs.tag


def test_the_configuration_is_the_encoders() -> None:
    for name in ("resnet50.a1_in1k", "vit_base_patch16_clip_224.openai", "levit_128s.fb_dist_in1k"):
        theirs, ours = timm.get_pretrained_cfg(name), timm.get_pretrained_cfg(f"dtram_{name}")
        for key in ("mean", "std", "interpolation", "crop_pct", "crop_mode", "num_classes", "hf_hub_id"):
            assert getattr(ours, key) == getattr(theirs, key), (name, key)
        assert ours.tag == theirs.tag
        assert ours.architecture == f"dtram_{theirs.architecture}"


@pytest.mark.parametrize(
    ("name", "keywords", "expected"),
    [
        ("dtram_resnet18", {}, ("crop", 512, 448, 224)),
        ("dtram_resnet18", {"img_size": 256}, ("crop", 256, 224, 96)),
        ("dtram_resnet18", {"img_size": (96, 96)}, ("crop", 96, 64, 32)),
        ("dtram_vit_tiny_patch16_224", {}, ("crop", 512, 448, 224)),
        ("dtram_levit_128s", {}, ("resize", 512, 224, 224)),
        ("dtram_levit_128s", {"image_size": 300}, ("resize", 300, 224, 224)),
        ("dtram_resnet18", SMALL, ("crop", 96, 64, 32)),
    ],
)
def test_views_are_the_papers_or_the_encoders_own(name: str, keywords: dict, expected: tuple) -> None:
    model = timm.create_model(name, num_classes=3, **keywords)
    assert (model.context, model.image_size, model.context_size, model.glimpse_size) == expected
    assert model.pretrained_cfg["input_size"] == (3, model.image_size, model.image_size)
    assert timm.data.resolve_model_data_config(model)["input_size"] == model.pretrained_cfg["input_size"]


def test_a_built_models_configuration_is_its_own() -> None:
    model = timm.create_model("dtram_resnet50", num_classes=3)
    assert model.pretrained_cfg["input_size"] == (3, 512, 512)
    assert timm.data.resolve_model_data_config(model)["mean"] == (0.485, 0.456, 0.406)
    assert (model.context_size, model.glimpse_size, model.num_steps, model.hidden_size) == (448, 224, 3, 512)
    small = {"image_size": 64, "context": "resize", "context_size": 32, "glimpse_crop": 32}
    grey = timm.create_model("dtram", backbone="resnet18", in_chans=1, **small)
    assert grey.pretrained_cfg["input_size"] == (1, 64, 64)
    assert len(grey.pretrained_cfg["mean"]) == 1


def test_timms_keywords_act_as_in_timm() -> None:
    model = timm.create_model(
        "dtram_resnet18", num_classes=7, in_chans=1, drop_rate=0.25, drop_path_rate=0.1, **SMALL
    )
    assert model(torch.randn(2, 1, 96, 96)).shape == (2, 7)
    assert model.encoder.drop_rate == 0.25
    assert len(model.pretrained_cfg["mean"]) == 1
    with pytest.raises(TypeError, match="not_an_argument"):
        timm.create_model("dtram_resnet18", not_an_argument=1)
    with pytest.raises(ValueError, match=r"img_size=\(64, 96\) is not square"):
        timm.create_model("dtram_resnet18", img_size=(64, 96))
    placed = timm.create_model("dtram_resnet18", device="meta", dtype=torch.bfloat16, **SMALL)
    assert {(p.device.type, p.dtype) for p in placed.parameters()} == {("meta", torch.bfloat16)}


@pytest.fixture
def timm_weights(tmp_path: Path) -> tuple[timm.models.ResNet, Path]:
    """A trained ResNet-18, as far as anyone can tell, in timm's own layout."""
    torch.manual_seed(3)
    trained = timm.create_model("resnet18").eval()
    save_file(trained.state_dict(), tmp_path / "resnet18.safetensors")
    return trained, tmp_path / "resnet18.safetensors"


def test_a_pretrained_residual_model_is_timms_classifier(timm_weights) -> None:
    trained, path = timm_weights
    model = timm.create_model(
        "dtram_resnet18.a1_in1k",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(path)},
        image_size=96,
        context="resize",
        context_size=96,
        glimpse_crop=48,
    ).eval()
    images = torch.randn(3, 3, 96, 96)
    with torch.no_grad():
        found = model.predict(images)
        torch.testing.assert_close(found.logits, trained(images), rtol=0, atol=1e-5)
    assert found.steps.tolist() == [1, 1, 1]
    assert torch.equal(model(images), found.logits)


def test_other_classes_and_channels_are_adapted_as_in_timm(timm_weights) -> None:
    _, path = timm_weights
    weights = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
    ours = timm.create_model("dtram_resnet18", num_classes=5, in_chans=1, **weights, **SMALL)
    theirs = timm.create_model("resnet18", num_classes=5, in_chans=1, **weights)
    kept = {name: p for name, p in theirs.state_dict().items() if not name.startswith("fc.")}
    assert all(torch.equal(ours.encoder.state_dict()[name], p) for name, p in kept.items())
    assert ours.encoder.fc.out_features == ours.head.out_features == 5


def test_a_backbone_may_be_a_tag_or_a_directory(timm_weights, tmp_path: Path) -> None:
    trained, _ = timm_weights
    save_for_hf(trained, str(tmp_path / "saved"), safe_serialization=True)
    model = timm.create_model("dtram", backbone=f"local-dir:{tmp_path / 'saved'}", pretrained=True, **SMALL)
    assert model.backbone == "resnet18"
    assert all(torch.equal(p, trained.state_dict()[name]) for name, p in model.encoder.state_dict().items())
    tagged = timm.create_model("dtram", backbone="vit_tiny_patch16_224.augreg_in21k", num_classes=2, **SMALL)
    assert tagged.backbone == "vit_tiny_patch16_224"
    assert tagged.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"backbone='resnt18' is not a timm model\. Did you mean 'resnet18'"):
        timm.create_model("dtram", backbone="resnt18")
    with pytest.raises(ValueError, match="backbone is a ResNet; accepted is a name"):
        timm.create_model("dtram", backbone=trained)


@pytest.mark.skipif(not MOBILENET.is_file(), reason="needs real weights, which are not part of the package")
def test_real_mobilenet_weights_give_timms_logits_in_one_step() -> None:
    overlay = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(MOBILENET)}}
    theirs = timm.create_model("mobilenetv2_100", **overlay).eval()
    ours = timm.create_model("dtram_mobilenetv2_100", **overlay).eval()
    images = torch.randn(2, 3, 512, 512)
    with torch.no_grad():
        found = ours.predict(images)
        torch.testing.assert_close(found.logits, theirs(images[:, :, 32:-32, 32:-32]), rtol=0, atol=1e-5)
    assert found.steps.tolist() == [1, 1]


@pytest.mark.skipif(not hasattr(_hub, "get_model_args"), reason="an older timm saves no arguments by itself")
def test_timms_own_saver_keeps_what_changed_after_construction(tmp_path: Path) -> None:
    model = timm.create_model("dtram", backbone="resnet18.a1_in1k", num_classes=3, **SMALL).eval()
    model.num_steps, model.stop_threshold = 5, 0.25
    model.reset_classifier(4)
    save_for_hf(model, str(tmp_path), model_config={"label_names": list("abcd")}, safe_serialization=True)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert again.arguments() == model.arguments()
    images = torch.randn(2, 3, 96, 96)
    assert torch.equal(again(images), model(images))
    assert again.pretrained_cfg["label_names"] == list("abcd")


FAMILIES = [  # with real numbers; `test_every_module.py` has the rest, as shapes
    ("resnet18", "residual"), ("resnet18", "last"), ("mobilenetv3_small_050", "residual"),
    ("test_nfnet", "residual"), ("vit_tiny_patch16_224", "residual"), ("mambaout_femto", "residual"),
    ("deit_tiny_distilled_patch16_224", "residual"), ("levit_128s", "residual"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "aggregate"), FAMILIES)
def test_the_contract(name: str, aggregate: str) -> None:
    """forward = forward_head(forward_features), gradients, groups, decay, a new classifier, everywhere."""
    torch.manual_seed(0)
    sizes = {} if name == "levit_128s" else {"image_size": 128, "context_size": 96, "glimpse_crop": 64}
    model = timm.create_model(f"dtram_{name}", num_classes=6, hidden_size=16, aggregate=aggregate, **sizes)
    images = torch.randn(2, 3, model.image_size, model.image_size)
    model(images).mean().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]

    model.eval()
    model.stop_threshold = 1.0  # all looks
    with torch.no_grad():
        logits, features = model(images), model.forward_features(images)
        assert features.shape == (2, model.num_features)
        assert torch.equal(model.forward_head(features), logits)
        assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
        model.reset_classifier(0)
        assert model(images).shape == (2, model.num_features) == (2, 16)
        model.reset_classifier(4)
        assert model(images).shape == (2, 4)
    if aggregate == "residual":
        assert model.pretrained_cfg["classifier"][0] == "head"
    for key in model.pretrained_cfg["classifier"], model.pretrained_cfg["first_conv"]:
        assert all(f"{n}.weight" in model.state_dict() for n in ([key] if isinstance(key, str) else key))
    names = {n for n, _ in model.named_parameters()}
    own = model.encoder.no_weight_decay() if hasattr(model.encoder, "no_weight_decay") else set()
    assert model.no_weight_decay() == {f"encoder.{n}" for n in own}
    if hasattr(model.encoder, "group_matcher"):
        ours = group_parameters(model, model.group_matcher(), reverse=True)
        theirs = group_parameters(model.encoder, model.encoder.group_matcher(), reverse=True)
        assert {n: ours[f"encoder.{n}"] for n in theirs} == theirs
        assert {ours[n] for n in names if not n.startswith("encoder.")} == {max(ours.values())}
        groups = [param_groups_layer_decay(part, layer_decay=0.7) for part in (model, model.encoder)]
        assert len(groups[0]) >= len(groups[1]) >= 2


def test_checkpointing_gradients_changes_nothing() -> None:
    model = timm.create_model("dtram_resnet18", num_classes=3, **SMALL).eval()
    images = torch.randn(2, 3, 96, 96)
    before = model(images)
    model.set_grad_checkpointing()
    torch.testing.assert_close(model(images), before)


def test_intermediates_are_the_encoders_of_the_context_view() -> None:
    model = timm.create_model("dtram_resnet18", num_classes=3, **SMALL).eval()
    images = torch.randn(2, 3, 96, 96)
    features, maps = model.forward_intermediates(images, indices=[1, 3])
    _, expected = model.encoder.forward_intermediates(images[:, :, 16:80, 16:80], indices=[1, 3])
    assert torch.equal(features, model.forward_features(images))
    assert all(torch.equal(a, b) for a, b in zip(maps, expected, strict=True))
    assert model.feature_info == model.encoder.feature_info
    only = timm.create_model("dtram_resnet18", features_only=True, out_indices=(1, 3), **SMALL).eval()
    assert [tuple(x.shape) for x in only(images)] == [(2, 64, 16, 16), (2, 256, 4, 4)]
    with pytest.raises(ValueError, match="context='none' has no context view"):
        timm.create_model("dtram_glimpse_mlp").forward_intermediates(torch.rand(1, 1, 28, 28))


def test_a_new_classifier_keeps_device_type_mode_and_freezing() -> None:
    model = timm.create_model("dtram_resnet18", num_classes=3, **SMALL).eval()
    model.requires_grad_(False)
    model.reset_classifier(0)
    assert not [n for n, p in model.named_parameters() if p.requires_grad]
    model = copy.deepcopy(model).to(torch.float64)
    model.reset_classifier(2)
    assert model.head.weight.dtype == model.encoder.fc.weight.dtype == torch.float64
    assert not any(module.training for module in model.modules())


@pytest.mark.skipif(not timm.is_model("qwen3_vit_88m_enc"), reason="needs a newer timm")
def test_a_tower_without_classifier_takes_one_from_h() -> None:
    model = timm.create_model("dtram_qwen3_vit_88m_enc", num_classes=3, device="meta").eval()
    assert model.aggregate == "last"
    assert model(torch.zeros(2, 3, 512, 512, device="meta")).shape == (2, 3)


def test_shipped_weights_take_other_classes() -> None:
    model = timm.create_model("dtram_glimpse_mlp", pretrained=True, num_classes=3)
    whole = load_file(WEIGHTS / "dtram_glimpse_mlp.mnist_dtram98/model.safetensors")
    assert torch.equal(model.hidden_to_hidden.weight, whole["hidden_to_hidden.weight"])
    assert model.head.weight.shape == (3, 256)
    assert isinstance(timm.create_model("dtram_glimpse_mlp", pretrained=True, num_classes=0), DTRAM)
