"""Foreign scripts see our models; transformers reads what we save."""

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from dtram_hub.models import checkpoint


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "dtram_hub.run", *words], capture_output=True, text=True, cwd=cwd
    )


def test_a_script_runs_with_its_own_arguments_and_our_models(tmp_path: Path) -> None:
    (tmp_path / "neighbour.py").write_text("VALUE = 3\n")
    (tmp_path / "script.py").write_text(
        "import sys, timm, neighbour\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv[1:], timm.is_model('dtram_resnet18'), neighbour.VALUE)\n"
    )
    done = run("script.py", "DATA", "--model", "dtram_resnet18", cwd=tmp_path)
    assert done.stdout.strip() == "['DATA', '--model', 'dtram_resnet18'] True 3", done.stderr


@pytest.mark.long
def test_a_module_runs_as_well(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("import sys, timm; print(sys.argv[1:], timm.is_model('dtram'))")
    assert run("module", "-x", cwd=tmp_path).stdout.strip() == "['-x'] True"


@pytest.mark.long
def test_a_missing_script_and_no_script_are_named(tmp_path: Path) -> None:
    done = run("nothing.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "dtram_hub.run: script 'nothing.py' is not a file."
    assert "validate.py DATA --model" in run(cwd=tmp_path).stderr


def test_transformers_reads_a_saved_model(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = timm.create_model("dtram_test_resnet", num_classes=3, img_size=96, stop_threshold=0.4).eval()
    checkpoint.save(model, tmp_path, ["cat", "dog", "owl"])
    again = transformers.AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(again(images).logits, model(images))
    assert again.config.id2label[2] == "owl"
    classify = transformers.pipeline("image-classification", model=str(tmp_path))
    from PIL import Image

    found = classify(Image.new("RGB", (120, 100), (200, 30, 30)))
    assert {row["label"] for row in found} == {"cat", "dog", "owl"}
    assert abs(sum(row["score"] for row in found) - 1) < 1e-5
