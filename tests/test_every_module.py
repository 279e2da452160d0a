"""A small architecture of every module of timm: built, trained, fitted with a new classifier, run; as shapes.

NAMES leaves out modules whose smallest model has more than 60 million parameters, or takes seconds to build.
The plain suite runs KINDS of them, whose features differ most. The long suite has every architecture.
"""

import pytest
import timm
import torch
from timm.models._manipulate import group_parameters

from conftest import only_long

NAMES = [
    "convit_tiny", "convmixer_768_32", "cpubone_nano", "crossvit_tiny_240", "cs3darknet_focus_s",
    "cspnext_tiny", "davit_tiny", "deit_tiny_patch16_224", "dla46x_c", "dpn48b", "edgenext_xx_small",
    "efficientformer_l1", "efficientvim_m1", "efficientvit_b0", "ese_vovnet19b_slim_dw",
    "fasternet_t0", "fastvit_t8", "focalnet_tiny_srf", "gcvit_xxtiny", "ghostnet_050",
    "gmlp_ti16_224", "hardcorenas_b", "hgnetv2_b0", "hiera_tiny_224", "hrnet_w18_small", "iformer_t",
    "inception_next_atto", "inception_v3", "lcnetv2_small", "legacy_seresnet18", "legacy_xception",
    "levit_128s", "lowformer_b0", "mobilenetv3_small_050", "mobilevit_xxs", "nest_tiny",
    "nextvit_small", "pit_ti_224", "poolformerv2_s12", "pvt_v2_b0", "rdnet_tiny", "regnetx_002",
    "repghostnet_050", "res2next50", "resnest14d", "resnetv2_18", "rexnet_100", "sam2_hiera_tiny",
    "selecsls42", "shvit_s1", "skresnet18", "starnet_s050", "swiftformer_xs",
    "swin_tiny_patch4_window7_224", "swinv2_cr_tiny_224", "swinv2_tiny_window8_256", "test_byobnet",
    "test_coatnet", "test_convnext", "test_efficientnet", "test_mambaout", "test_nfnet",
    "test_resnet", "test_vit", "test_vit_relpos", "tiny_vit_5m_224", "tresnet_m", "twins_svt_small",
    "visformer_tiny", "vit_tiny_patch16_dinov3_qkvb", "vit_tiny_r_s16_p8_224", "xception41p",
    "xcit_nano_12_p8_224",
]  # fmt: skip

KINDS = [
    "convit_tiny", "dpn48b", "hrnet_w18_small", "levit_128s", "mobilenetv3_small_050",
    "test_byobnet", "test_coatnet", "test_convnext", "test_efficientnet", "test_mambaout",
    "test_nfnet", "test_resnet", "test_vit", "tresnet_m",
]  # fmt: skip
SEEING = [
    "hiera_tiny_224",
    "mobilenetv3_small_050",
    "swin_tiny_patch4_window7_224",
    "test_vit",
]  # kinds of maps
OURS = timm.list_models("dtram*") + timm.list_models(module="small_encoders")
OTHERS = [name for name in timm.list_models(exclude_filters=OURS) if name not in KINDS]


@pytest.mark.parametrize("name", [*KINDS, *only_long(OTHERS)])
def test_a_dtram_around_it_runs_trains_and_is_adapted(name: str) -> None:
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    model = timm.create_model(f"dtram_{name}", num_steps=2, num_classes=3, hidden_size=8, device="meta")
    images = torch.zeros(2, 3, model.image_size, model.image_size, device="meta")
    model(images).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert len(set(group_parameters(model, model.group_matcher(), reverse=True).values())) > 1
    model.reset_classifier(5)
    with torch.no_grad():
        features = model.eval().forward_features(images)
    assert features.shape == (2, model.num_features)
    assert model.forward_head(features).shape == (2, 5)
    assert model.forward_head(features, pre_logits=True).shape == (2, 8)


@pytest.mark.parametrize("name", [*SEEING, *only_long(name for name in NAMES if name not in SEEING)])
def test_a_policy_and_an_answer_that_read_its_map(name: str) -> None:
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    words = {"num_steps": 2, "num_classes": 3, "hidden_size": 8, "locator": "attend", "aggregate": "evidence"}
    model = timm.create_model(f"dtram_{name}", device="meta", **words)
    images = torch.zeros(2, 3, model.image_size, model.image_size, device="meta")
    seen = model.see(images, None)
    cells = seen.cells.shape[1]
    assert cells**0.5 % 1 == 0
    assert 7**2 <= cells <= (model.context_size / 7) ** 2
    assert (seen.centres.shape, seen.evidence.shape) == ((2, cells, 2), (2, cells, 3))
    model(images).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
