"""A tag, a directory or a repository beside a name: exactly those weights arrive, with their mean and std."""

import copy
import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save
from timm.models import save_for_hf
from torch import nn

from dtram_hub import DTRAM
from dtram_hub.learning.recipe import Recipe, build_model
from dtram_hub.models import checkpoint
from dtram_hub.models.registry import WEIGHTS
from loopback_hub import LoopbackHub

SMALL = {"image_size": 96, "context_size": 64, "glimpse_crop": 32}
TAG = "efficientnet_b0.ra4_e3600_r224_in1k"  # not timm's default, and of another mean and std
HALF = (0.5, 0.5, 0.5)


def same(model: DTRAM, encoder: nn.Module) -> bool:
    """Whether the model's encoder has the weights of `encoder`, its classifier excepted."""
    theirs = {k: v for k, v in encoder.state_dict().items() if not k.startswith(("classifier.", "head.fc."))}
    return all(torch.equal(tensor, theirs[name]) for name, tensor in model.encoder.state_dict().items()
               if name in theirs)  # fmt: skip


@pytest.fixture
def tagged(hub: LoopbackHub) -> nn.Module:
    """The weights of TAG on a Hub that has no others."""
    torch.manual_seed(5)
    encoder = timm.create_model("efficientnet_b0")
    hub.add(f"timm/{TAG}", {"model.safetensors": save(encoder.state_dict())})
    return encoder


@pytest.mark.parametrize(
    ("architecture", "model"),
    [("dtram", {"backbone": TAG}), (f"dtram_{TAG}", {}), ("dtram_efficientnet_b0", {"backbone": TAG})],
)
def test_a_tag_in_a_recipe(tagged: nn.Module, architecture: str, model: dict) -> None:
    recipe = Recipe(architecture=architecture, model=model | SMALL, encoder_weights="timm")
    built = build_model(recipe, 7)
    assert same(built, tagged)
    assert built.backbone == "efficientnet_b0"
    assert built.pretrained_cfg["mean"] == built.pretrained_cfg["std"] == HALF
    assert built.num_classes == 7


@pytest.mark.parametrize("name", [f"dtram_{TAG}", "dtram"])
def test_a_tag_in_timm(tagged: nn.Module, name: str, tmp_path: Path) -> None:
    words = {"backbone": TAG} if name == "dtram" else {}
    at_once = timm.create_model(name, pretrained=True, **words, **SMALL)
    later = copy.deepcopy(timm.create_model(name, **words, **SMALL))
    assert not same(later, tagged)
    later.load_encoder()
    assert same(at_once, tagged)
    assert same(later, tagged)
    later.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_args"]["backbone"] == "efficientnet_b0"
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert again.pretrained_cfg["mean"] == [*HALF]
    assert same(again, tagged)


def test_the_tag_of_dtram_is_its_backbones(tagged: nn.Module) -> None:
    tag = TAG.partition(".")[2]
    model = timm.create_model(f"dtram.{tag}", backbone="efficientnet_b0", pretrained=True, **SMALL)
    assert same(model, tagged)


def test_a_directory_and_a_repository(hub: LoopbackHub, tmp_path: Path) -> None:
    encoder = timm.create_model("test_resnet", num_classes=5)
    encoder.pretrained_cfg["mean"] = HALF
    save_for_hf(encoder, str(tmp_path), safe_serialization=True)
    hub.add("me/encoder", {path.name: path.read_bytes() for path in tmp_path.iterdir()})
    for source in (f"local-dir:{tmp_path}", "hf-hub:me/encoder"):
        recipe = Recipe(model=SMALL | {"backbone": source}, encoder_weights="timm")
        at_once = timm.create_model("dtram", backbone=source, pretrained=True, **SMALL)
        for model in (at_once, build_model(recipe, 5)):
            assert model.backbone == "test_resnet"
            assert tuple(model.pretrained_cfg["mean"]) == HALF
            assert model.num_classes == 5
            expected = encoder.state_dict()
            assert all(torch.equal(tensor, expected[k]) for k, tensor in model.encoder.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "'checkpoint_path' is no keyword of an encoder"),
        ({"model_args": {"nope": 1}}, "model_args has 'nope', which is no keyword of 'test_resnet'"),
        ({"architecture": "dtram_resnet18"}, "is a DT-RAM itself"),
        ({"pretrained_cfg": {"mean": "x"}}, "mean='x' is refused"),
    ],
)
def test_a_directory_of_an_encoder_may_lie_as_well(tmp_path: Path, change: dict, message: str) -> None:
    save_for_hf(timm.create_model("test_resnet"), str(tmp_path), safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ValueError, match=rf"backbone='local-dir:.*' cannot be read: .*{message}"):
        timm.create_model("dtram", backbone=f"local-dir:{tmp_path}", **SMALL)


def test_a_shipped_tag_lends_its_arguments_and_its_encoder() -> None:
    name = "dtram_mobilenetv2_100.cub50"
    recipe = Recipe(architecture=name, model={"hidden_size": 64}, encoder_weights="timm")
    model = build_model(recipe, 3)
    whole = load_file(WEIGHTS / name / "model.safetensors")
    for key, tensor in model.encoder.state_dict().items():
        if not key.startswith("classifier"):
            torch.testing.assert_close(tensor, whole[f"encoder.{key}"].to(tensor.dtype), rtol=0, atol=0)
    assert (model.hidden_size, model.num_classes, model.image_size) == (64, 3, 448)
    assert "label_names" not in model.pretrained_cfg


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("dtram_resnet18.a2_in2k", r"has no such tag\. Did you mean 'a2_in1k'\?"),
        ("dtram_resnt18.a2_in1k", r"is not a DT-RAM\. Did you mean 'dtram_resnet18'\?"),
    ],
)
def test_unknown_tags_are_named(architecture: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(Recipe(architecture=architecture), 3)
    with pytest.raises(ValueError, match=r"backbone='resnet18\.nope'.*Invalid pretrained tag"):
        timm.create_model("dtram", backbone="resnet18.nope")


CHANGES = {"mean": HALF, "std": (0.1, 0.2, 0.3), "crop_pct": 0.9, "interpolation": "bilinear"}


@pytest.mark.parametrize(
    "name", ["dtram", "dtram_test_resnet", "dtram_resnet18.a2_in1k", "dtram_mobilenetv2_100.cub50"]
)
def test_changes_of_the_configuration_arrive(name: str) -> None:
    sizes = {} if "cub50" in name else SMALL
    model = timm.create_model(name, pretrained_cfg_overlay=CHANGES, **sizes)
    assert {key: model.pretrained_cfg[key] for key in CHANGES} == CHANGES


def test_changes_of_the_configuration_of_a_checkpoint_arrive(tmp_path: Path) -> None:
    timm.create_model("dtram_test_resnet", **SMALL).save_pretrained(tmp_path)
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True, pretrained_cfg_overlay=CHANGES)
    assert {key: model.pretrained_cfg[key] for key in CHANGES} == CHANGES


@pytest.mark.skipif(not hasattr(timm.models, "resolve_model_input_args"), reason="needs a newer timm")
@pytest.mark.parametrize("name", ["dtram_mobilenetv2_100.cub50", "dtram_glimpse_mlp", f"dtram_{TAG}"])
def test_timms_scripts_get_what_timm_gets(tagged: nn.Module, name: str) -> None:
    """validate.py passes on the configuration that timm has registered, in place of its tag."""
    words = timm.models.resolve_model_input_args(name, {}, pretrained=True)
    assert isinstance(words["pretrained_cfg"], dict)
    found, expected = timm.create_model(**words), timm.create_model(name, pretrained=True)
    assert found.arguments() == expected.arguments()
    assert found.pretrained_cfg == expected.pretrained_cfg
    theirs = expected.state_dict()
    shared = [key for key in theirs if key.startswith("encoder.") or "dtram_eff" not in name]
    assert all(torch.equal(found.state_dict()[key], theirs[key]) for key in shared)


def test_whoever_loads_birds_knows_their_names(tmp_path: Path, hub: LoopbackHub) -> None:
    name = "dtram_mobilenetv2_100.cub50"
    names = json.loads((WEIGHTS / name / "config.json").read_text())["label_names"]
    shipped = timm.create_model(name, pretrained=True)
    shipped.save_pretrained(tmp_path)
    hub.add("me/birds", {path.name: path.read_bytes() for path in tmp_path.iterdir()})
    models = [shipped, checkpoint.load(tmp_path), DTRAM.from_pretrained("me/birds")]
    models += [
        timm.create_model(f"{path}", pretrained=True) for path in (f"local-dir:{tmp_path}", "hf-hub:me/birds")
    ]
    assert [list(model.pretrained_cfg["label_names"]) == names for model in models] == [True] * 5
    other = timm.create_model(name, pretrained=True, num_classes=7)
    assert "label_names" not in other.pretrained_cfg
