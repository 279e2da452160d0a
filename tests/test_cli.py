"""The program `dtram`: what it prints, what it writes, and how it ends."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch

import dtram_hub
from asked_recipe import DEFAULT_RECIPE, find_recipe
from dtram_hub import DTRAM
from dtram_hub.learning.recipe import _known_keys
from dtram_hub.learning.recipe_keys import all_keys
from dtram_hub.models.registry import SHIPPED, WEIGHTS
from hub_faults import TOKEN, make_model
from loopback_hub import Fault, LoopbackHub

SECTIONS = {
    "model",
    "data",
    "loss",
    "mix",
    "stages",
    "optimizer",
    "stages.encoder",
    "stages.folds",
    "stages.ram",
    "stages.dtram",
}
DIGITS = "dtram_glimpse_mlp.mnist_dtram98"


def test_help_and_version_import_nothing_large() -> None:
    code = (
        "import sys, dtram_cli\n"
        "names = ('list', 'info', 'predict', 'calibrate', 'compare', 'export', 'card', 'push', 'pull')\n"
        "helps = [[name, '--help'] for name in names]\n"
        "for words in (['--version'], ['train', '--list'], ['--help'], *helps):\n"
        "    dtram_cli.dtram(words, prog_name='dtram', standalone_mode=False)\n"
        "print({'dtram_hub', 'huggingface_hub', 'numpy', 'timm', 'torch'} & {*sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == (f"dtram, version {dtram_hub.__version__}", "set()")
    assert sum(line.startswith("Usage: dtram ") for line in lines) == 10


def test_list(dtram) -> None:
    code, printed, _ = dtram("list", "*resnet50")
    assert code == 0
    assert "dtram_resnet50" in printed.split()
    code, printed, _ = dtram("list", "--pretrained", "dtram_glimpse_mlp*")
    assert printed.split() == [name for name in SHIPPED if name.startswith("dtram_glimpse_mlp")]
    assert dtram("list", "nothing") == (1, "", "dtram: no model is called 'dtram*nothing'.")


def test_info(dtram) -> None:
    code, printed, _ = dtram("info", DIGITS, "--json")
    found = json.loads(printed)
    assert code == 0
    weights = timm.create_model(DIGITS).named_parameters()
    # One multiplication and addition for every weight that a glimpse meets; nothing here is convolved twice.
    met = sum(p.numel() for name, p in weights if name.endswith("weight") and "baseline" not in name)
    assert found["gflops_later_look"] * 1e9 == pytest.approx(2 * met, rel=1e-12)
    measured = json.loads((WEIGHTS / DIGITS / "metrics.json").read_text())["results"][0]
    assert (found["accuracy"], found["mean_steps"]) == (measured["accuracy"], measured["mean_steps"])
    expected = found["gflops_first_look"] + (measured["mean_steps"] - 1) * found["gflops_later_look"]
    assert found["gflops_mean_steps"] == pytest.approx(expected, rel=1e-12)
    assert re.search(r"^parameters +242,460$", dtram("info", DIGITS)[1], re.MULTILINE)


def test_push_pull_card(dtram, hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    make_model(1).save_pretrained(tmp_path / "run")
    code, printed, said = dtram("push", tmp_path / "run", "me/cli", "--tag", "v1", "--private")
    assert (code, printed.strip()) == (
        0,
        f"{hub.url}/me/cli/commit/{hub.repos['models', 'me/cli'].refs['main']}",
    )
    public, licence = said.splitlines()
    assert public == "To me/cli, which is private: README.md, config.json, model.safetensors."
    assert licence.endswith("license='apache-2.0' (--license apache-2.0), for example, states one.")
    code, printed, _ = dtram("pull", "me/cli", tmp_path / "copy", "--revision", "v1")
    assert code == 0
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    code, printed, _ = dtram("info", tmp_path / "copy", "--json")
    assert json.loads(printed)["encoder"] == "glimpse_convnet"
    assert json.loads(dtram("info", "me/cli@v1", "--json")[1])["classes"] == 3
    (tmp_path / "copy" / "README.md").write_text("edited by hand")
    code, _, complaint = dtram("card", tmp_path / "copy", "me/cli")
    assert code == 1
    assert complaint.endswith("may have been edited; --overwrite replaces it.")
    assert (tmp_path / "copy" / "README.md").read_text() == "edited by hand"
    code, printed, said = dtram("card", tmp_path / "copy", "me/cli", "--overwrite")
    card = Path(printed.strip()).read_text()
    assert 'create_model("hf-hub:me/cli"' in card
    assert "license:" not in card
    assert said.startswith(f"{printed.strip()} states no licence")
    words = ("--overwrite", "--license", "mit", "--no-pictures")
    (tmp_path / "copy" / "steps.png").write_bytes(b"picture")
    assert dtram("card", tmp_path / "copy", "me/cli", *words)[::2] == (0, "")
    assert "\nlicense: mit\n" in Path(printed.strip()).read_text()
    assert dtram("push", tmp_path / "copy", "me/cli", "--license", "mit", "--no-pictures")[0] == 0
    assert "steps.png" not in hub.repos["models", "me/cli"].files
    (tmp_path / "copy" / "steps.png").unlink()
    code, _, complaint = dtram("pull", "me/cli", tmp_path / "copy")
    assert code == 1
    assert complaint.endswith("is not empty; accepted is a new one.")
    assert torch.equal(DTRAM.from_pretrained(tmp_path / "copy").head.weight, make_model(1).head.weight)


def test_a_users_mistakes_end_in_one_sentence(
    dtram, hub: LoopbackHub, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for words, message in [
        (("info", "dtram_resnt50"), "Did you mean 'dtram_resnet50'?"),
        (("info", "dtram_resnet18.nope"), "tags of dtram_resnet18: a1_in1k"),
        (("info", "me/none"), "'me/none' does not exist"),
        (("info", tmp_path), "has no config.json"),
        (("predict", "resnet50", images[0]), "is no DT-RAM, folder or org/name"),
        (("push", tmp_path, "me/x"), "has no config.json"),
    ]:
        code, _, complaint = dtram(*words)
        assert code == 1
        assert complaint.startswith("dtram: ")
        assert message in complaint
        assert "\n" not in complaint
    for words in [
        ("nope",),
        ("predict", DIGITS),
        ("push", "nowhere", "me/x"),
    ]:
        assert dtram(*words)[0] == 2
    hub.faults["head"] = [Fault("status", 500)] * 50
    hub.add("timm/resnet34.a1_in1k", {"model.safetensors": b"..."})
    code, _, complaint = dtram("predict", "dtram_resnet34.a1_in1k", images[0])
    assert code == 1
    assert complaint.startswith("dtram: ")


def test_help_has_examples(dtram) -> None:
    names = ("list", "info", "predict", "train", "calibrate", "compare", "export", "card", "push", "pull")
    for name in names:
        code, printed, _ = dtram(name, "--help")
        assert code == 0
        assert f"\n  dtram {name} " in printed


def test_scripts_are_found_and_their_status_is_handed_on(dtram, tmp_path: Path) -> None:
    code, _, complaint = dtram("validate", tmp_path, "--split", "train")
    assert code == 1
    assert complaint == (
        f"validate.py: checkpoint {str(tmp_path)!r} has no config.json; accepted is a directory with both."
    )
    assert dtram("validate", "--split")[0] == 2
    code, printed, _ = dtram("validate", "--help")
    assert code == 0
    assert printed.startswith("usage: validate.py [-h] ")


def test_train_names_its_recipes_and_their_keys(dtram) -> None:
    code, printed, _ = dtram("train", "--list")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()] == [
        path.stem for path in sorted(DEFAULT_RECIPE.parent.glob("*.yaml"))
    ]
    purpose = "DT-RAM on MNIST with discount 0.98 (the paper's DT-RAM-1), through the whole curriculum: "
    assert f"mnist_dtram_98     {purpose}RAM with 2, 3, .. 7 steps, then DT-RAM.\n" in printed
    code, printed, _ = dtram("train", "--help")
    assert code == 0
    shown = [" ".join(line.split()) for line in printed.splitlines()]
    for line in (
        "batch_size integer, 28",
        "data.root word or null, null",
        "data.levels list of numbers or null, null",
        "model.num_steps integer, 3",
        "stages.dtram.learning_rate number, 0.001",
        "trackers list of words, ['tensorboard']",
    ):
        assert line in shown
    assert {key.name for key in all_keys()} >= {*_known_keys()} - SECTIONS
    with pytest.raises(ValueError, match=r"is not a file, and none of .*\. Did you mean 'digits'\?$"):
        find_recipe("digts")
