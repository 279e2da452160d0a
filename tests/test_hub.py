"""The Hub: what is pushed comes back the same, and nothing bad is ever trusted."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
import yaml
from huggingface_hub import constants
from safetensors import safe_open
from safetensors.torch import save

import dtram_hub
import hub_faults
from dtram_hub import DTRAM
from dtram_hub.models.registry import WEIGHTS
from dtram_hub.sharing.pull import download
from hub_faults import FAULTS, FOR_GOOD, PULL, PUSH, REPO, TOKEN, make_model
from loopback_hub import Fault, LoopbackHub

SHIPPED = WEIGHTS / "dtram_glimpse_mlp.mnist_dtram98"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


@pytest.fixture
def pushed(hub: LoopbackHub) -> LoopbackHub:
    """A Hub that holds one small model."""
    dtram_hub.push(make_model(1), REPO, token=TOKEN)
    hub.requests.clear()
    return hub


def files(hub: LoopbackHub, repo_id: str = REPO) -> dict[str, bytes]:
    return hub.repos["models", repo_id].files


FRESH_PROCESS = """
import json, sys
import dtram_hub, timm, torch
from PIL import Image
from transformers import pipeline

for repo_id, file in json.loads(sys.argv[1]).items():
    kept = torch.load(file, weights_only=True)
    models = [timm.create_model(f"hf-hub:{repo_id}", pretrained=True)]
    models.append(dtram_hub.DTRAM.from_pretrained(repo_id))
    classify = pipeline("image-classification", model=repo_id)
    models.append(classify.model.timm_model)
    for model in models:
        assert torch.equal(model.eval()(kept["images"]), kept["logits"]), repo_id
        assert repr(model.arguments()) == kept["arguments"], repo_id
    labels = {found["label"] for found in classify(Image.new("RGB", (64, 64)))}
    assert labels <= {"ant", "bee", "cow"}, labels
    print(repo_id, "is the same")
models[0].push_to_hub("me/again", token=sys.argv[2])
"""
ARCHITECTURES = {
    "dtram_test_vit": {"img_size": 160, "num_steps": 4, "context": "resize", "glimpse_crop": 160},
    "dtram_test_efficientnet": {"image_size": 64, "context_size": 64, "glimpse_crop": 32, "dynamic": False},
}


def test_a_fresh_process_gets_the_same_logits_from_every_loader(
    hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {}
    for name, arguments in ARCHITECTURES.items():
        model = timm.create_model(name, num_classes=3, **arguments).eval()
        model.pretrained_cfg["label_names"] = ["ant", "bee", "cow"]
        torch.nn.init.normal_(model.head.weight)
        images = torch.randn(2, 3, model.image_size, model.image_size)
        kept = {"images": images, "logits": model(images).detach(), "arguments": repr(model.arguments())}
        torch.save(kept, tmp_path / f"{name}.pt")
        model.push_to_hub(f"me/{name}", token=TOKEN)
        wanted[f"me/{name}"] = str(tmp_path / f"{name}.pt")
    command = [sys.executable, "-c", FRESH_PROCESS, json.dumps(wanted), TOKEN]
    # Here with Xet on, which the Hub answers as if every file were a small one.
    monkeypatch.setattr(hub, "lfs", False)
    fresh = {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_DISABLE_XET": "0"}
    environment = os.environ | fresh
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[: len(ARCHITECTURES)] == [
        f"me/{name} is the same" for name in ARCHITECTURES
    ]
    assert files(hub, "me/again")["model.safetensors"] == files(hub, f"me/{name}")["model.safetensors"]


def test_a_run_is_pushed_whole_in_one_commit(hub: LoopbackHub, tmp_path: Path) -> None:
    commit = dtram_hub.push(
        SHIPPED, "me/digits", token=TOKEN, private=True, tag="v1.0", commit_message="first"
    )
    repo = hub.repos["models", "me/digits"]
    assert repo.private
    assert repo.tags == {"v1.0": commit.oid}
    assert [title for _, title in repo.history] == ["first", "initial commit"]
    assert set(repo.files) == {
        *(".gitattributes", "README.md", "config.json", "metrics.json", "model.safetensors", "recipe.yaml"),
        ".eval_results/dtram.yaml",
    }
    assert repo.files["metrics.json"] == (SHIPPED / "metrics.json").read_bytes()
    (tmp_path / "w").write_bytes(repo.files["model.safetensors"])
    with safe_open(tmp_path / "w", framework="pt") as file:
        assert file.metadata() == {
            "format": "pt",
            "architecture": "dtram_glimpse_mlp",
            "version": "dtram-hub 0.1.0",
            "accuracy": "0.9925",
            "mean_steps": "3.0152",
        }
    (result,) = yaml.safe_load(repo.files[".eval_results/dtram.yaml"])
    assert (result["dataset"]["id"], result["value"]) == ("ylecun/mnist", 0.9925)
    pulled = dtram_hub.pull("me/digits", token=TOKEN)
    shipped = timm.create_model("dtram_glimpse_mlp.mnist_dtram98", pretrained=True).eval()
    images = torch.rand(4, 1, 28, 28)
    assert torch.equal(pulled(images), shipped(images))
    assert pulled.arguments() == shipped.arguments()


def test_the_same_again_is_no_new_commit_and_stale_files_go(hub: LoopbackHub) -> None:
    first = dtram_hub.push(SHIPPED, REPO, token=TOKEN)
    assert dtram_hub.push(SHIPPED, REPO, token=TOKEN).oid == first.oid
    assert len(hub.repos["models", REPO].history) == 2
    hub.repos["models", REPO].commit(files(hub) | {"steps.png": b"old", "notes.txt": b"mine"}, "by hand")
    dtram_hub.push(make_model(1), REPO, token=TOKEN)
    assert set(files(hub)) == {".gitattributes", "README.md", "config.json", "model.safetensors", "notes.txt"}


def test_branches_and_pull_requests(pushed: LoopbackHub) -> None:
    before = dict(files(pushed))
    dtram_hub.push(make_model(2), REPO, token=TOKEN, revision="trial")
    request = dtram_hub.push(make_model(3), REPO, token=TOKEN, create_pr=True)
    assert request.pr_url == f"{pushed.url}/{REPO}/discussions/1"
    assert files(pushed) == before
    images = torch.rand(2, 1, 16, 16)
    for seed, revision in {1: "main", 2: "trial", 3: "refs/pr/1"}.items():
        assert torch.equal(dtram_hub.pull(REPO, revision)(images), make_model(seed)(images))


def test_folders_of_this_machine_stay_here(hub: LoopbackHub, tmp_path: Path) -> None:
    for path in SHIPPED.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    recipe = yaml.safe_load((SHIPPED / "recipe.yaml").read_text())
    recipe["data"]["root"], recipe["encoder_weights"] = "/home/ann/mnist", "/home/ann/w.safetensors"
    recipe |= {"output": "/home/ann/runs/x", "stages_from": "/home/ann/runs/y"}
    head = "# versions: torch 2\n# command: train.py data.root=/home/ann/mnist\n"
    (tmp_path / "recipe.yaml").write_text(head + yaml.safe_dump(recipe))
    dtram_hub.push(tmp_path, "me/x", token=TOKEN)
    assert not [name for name, content in files(hub, "me/x").items() if b"/home/ann" in content]
    assert b"# versions: torch 2" in files(hub, "me/x")["recipe.yaml"]


@pytest.mark.parametrize(("path", "token"), [("model.safetensors", None), ("config.json", None)])
def test_a_corrupted_cache_is_found_and_mended(
    pushed: LoopbackHub, tmp_path: Path, path: str, token: str | None
) -> None:
    folder = download(REPO, cache_dir=tmp_path)
    blob = (folder / path).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    pushed.requests.clear()
    model = dtram_hub.pull(REPO, folder.name, cache_dir=tmp_path)
    assert pushed.requests.count("download") == 1
    assert blob.read_bytes() == content
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(model(images), make_model(1)(images))


def test_a_pinned_commit_and_offline_need_no_request(
    pushed: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oid = download(REPO, cache_dir=tmp_path).name
    pushed.requests.clear()
    dtram_hub.pull(REPO, oid, cache_dir=tmp_path)
    assert pushed.requests == []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    DTRAM.from_pretrained(REPO, cache_dir=tmp_path)
    assert pushed.requests == []
    with pytest.raises(ConnectionError, match="'me/other' is not in the cache, and HF_HUB_OFFLINE is set"):
        dtram_hub.pull("me/other", cache_dir=tmp_path)


def changed_config(hub: LoopbackHub, **changes) -> dict[str, bytes]:
    config = json.loads(files(hub)["config.json"])
    arguments = config["model_args"] | changes.pop("model_args", {})
    return {"config.json": json.dumps(config | changes | {"model_args": arguments}).encode()}


BAD_CONFIGS = {
    "no architecture": ({"architecture": None}, "holds a None, not a DT-RAM"),
    "other model": ({"architecture": "resnet18"}, "holds a resnet18, not a DT-RAM"),
    "unknown architecture": (
        {"architecture": "dtram_nope"},
        "holds a dtram_nope, which timm .* does not know",
    ),
    "unknown argument": ({"model_args": {"glimpse_colour": 3}}, "glimpse_colour"),
    "unknown encoder": ({"model_args": {"backbone": "resnet18x"}}, "Did you mean 'resnet18"),
    "encoder from elsewhere": ({"model_args": {"backbone": "hf-hub:evil/x"}}, "is not a timm model"),
    "bad argument": ({"model_args": {"num_steps": "many"}}, "num_steps='many' is not an integer"),
    "fewer classes": ({"num_classes": 2}, "tensors do not fit"),
    "labels": ({"label_names": ["a"]}, "names 1 labels for 3 classes"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configurations_are_refused_in_one_sentence(pushed: LoopbackHub, case: str) -> None:
    change, message = BAD_CONFIGS[case]
    pushed.repos["models", REPO].commit(files(pushed) | changed_config(pushed, **change), "bad")
    with pytest.raises(ValueError, match=message) as caught:
        dtram_hub.pull(REPO)
    assert "\n" not in str(caught.value)


def test_bad_weights_are_refused_in_one_sentence(pushed: LoopbackHub) -> None:
    repo, good = pushed.repos["models", REPO], dict(files(pushed))
    weights = good["model.safetensors"]
    for bad, message in {
        weights[:-100]: r"model\.safetensors is damaged or truncated",
        b"\x80\x04K\x01.": r"model\.safetensors is damaged or truncated",
        save({"a": torch.zeros(2)}): "tensors do not fit its config.json",
    }.items():
        repo.commit(good | {"model.safetensors": bad}, "bad")
        with pytest.raises(ValueError, match=message) as caught:
            dtram_hub.pull(REPO)
        assert "\n" not in str(caught.value)
    del good["model.safetensors"]
    repo.commit(good | {"pytorch_model.bin": b"\x80\x04K\x01."}, "pickled")
    with pytest.raises(
        ValueError, match=r"has no model\.safetensors, only pytorch_model\.bin, and pickles are"
    ):
        dtram_hub.pull(REPO)


def test_missing_things_and_rights_are_named(pushed: LoopbackHub, tmp_path: Path) -> None:
    dtram_hub.push(make_model(1), "me/secret", token=TOKEN, private=True)
    assert dtram_hub.pull("me/secret", token=TOKEN).num_steps == 3
    for call, kind, message in [
        (
            lambda: dtram_hub.pull("me/none"),
            ValueError,
            "'me/none' does not exist on .* or your token may not",
        ),
        (
            lambda: dtram_hub.pull("me/secret", token="hf_stranger", cache_dir=tmp_path),
            ValueError,
            "does not exist .* may not see",
        ),
        (lambda: dtram_hub.pull(REPO, "v9"), ValueError, "revision='v9' is no branch, tag or commit"),
        (lambda: dtram_hub.pull("model"), ValueError, "repo_id='model' is not of the form 'org/name'"),
        (lambda: dtram_hub.push(make_model(1), REPO, token="hf_wrong"), PermissionError, "refuses the token"),
        (lambda: dtram_hub.push(make_model(1), REPO, token="hf_stranger"), PermissionError, "may not write"),
        (lambda: dtram_hub.push(make_model(1), REPO, token="hf_\nx"), ValueError, "^token has blanks"),
        (lambda: dtram_hub.push(make_model(1), REPO, token=TOKEN, private=True), ValueError, "is public"),
        (lambda: dtram_hub.push("nowhere", REPO, token=TOKEN), ValueError, "'nowhere' has no config.json"),
    ]:
        with pytest.raises(kind, match=message) as caught:
            call()
        assert not re.search(r"hf_\w|\n", str(caught.value))
    dtram_hub.push(make_model(1), REPO, token=TOKEN, tag="v1")
    with pytest.raises(ValueError, match="tag='v1' is taken"):
        dtram_hub.push(make_model(1), REPO, token=TOKEN, tag="v1")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_passes_is_overcome(hub: LoopbackHub, fault: str) -> None:
    cases = [case[:2] for case in hub_faults.CASES if case[2] == fault]
    for action, kind in [case for case in cases if case[1] in ("lfs_upload", "commit", "head", "download")]:
        assert hub_faults.run(hub, action, kind, fault, 1) == "succeeds", (action, kind)


@pytest.mark.parametrize(("action", "kind"), [*(("push", k) for k in PUSH), *(("pull", k) for k in PULL)])
def test_a_fault_that_stays_is_told_and_changes_nothing(hub: LoopbackHub, action: str, kind: str) -> None:
    outcome = hub_faults.run(hub, action, kind, "500", FOR_GOOD)
    if kind == "lfs_verify":  # by then the file has arrived, and the next attempt finds it there
        assert outcome == "succeeds"
    else:
        assert outcome.startswith("ConnectionError: repo_id='me/model': the Hub answers")


def test_a_push_never_lands_on_a_commit_that_it_has_not_seen(pushed: LoopbackHub) -> None:
    pushed.faults["commit"] = [Fault("overtaken")]
    dtram_hub.push(make_model(2), REPO, token=TOKEN)
    assert pushed.requests.count("commit") == 2  # the first was refused
    assert files(pushed)["NOTES.md"] == b"someone else's"


def test_the_hub_says_when_to_come_back(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    hub.faults["create"] = [Fault("status", 429, retry_after="7")]
    dtram_hub.push(make_model(1), REPO, token=TOKEN)
    assert waited == [7.0]
    hub.faults["create"] = [Fault("status", 429, retry_after="3600")]
    with pytest.raises(ConnectionError, match="try again in 3600 seconds"):
        dtram_hub.push(make_model(2), REPO, token=TOKEN)
    assert waited == [7.0]


def test_an_encoder_comes_from_a_repository_in_timms_format(hub: LoopbackHub) -> None:
    encoder = timm.create_model("resnet18", num_classes=1000)
    hub.add("timm/resnet18.a1_in1k", {"model.safetensors": save(encoder.state_dict())})
    model = timm.create_model("dtram_resnet18.a1_in1k", pretrained=True)
    found = model.encoder.state_dict()
    assert found.keys() == encoder.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in encoder.state_dict().items())
    files = {"config.json": json.dumps({"architecture": "resnet10t", "pretrained_cfg": {}}).encode()}
    encoder = timm.create_model("resnet10t")
    hub.add("me/encoder", files | {"model.safetensors": save(encoder.state_dict())})
    model = timm.create_model("dtram", backbone="hf-hub:me/encoder", pretrained=True)
    assert torch.equal(model.encoder.fc.weight, encoder.fc.weight)
