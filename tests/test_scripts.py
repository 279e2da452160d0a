"""The scripts in training/ that read runs: nothing is dropped or overwritten, no text of a run is obeyed."""

import json
import re
import shutil
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image

import ablate
import histograms
import validate
from dtram_hub.learning.recipe import read_recipe
from dtram_hub.models.registry import WEIGHTS
from dtram_hub.plots import PALE, WRONG, Example, plot_glimpses, plot_histograms, plot_tradeoff

RUNS = [WEIGHTS / f"dtram_glimpse_mlp.mnist_dtram{budget}" for budget in (98, 99)]
DIGITS = Path(__file__).parents[1] / "training" / "recipes" / "digits.yaml"
FEW = [f"data.options.{name}=40" for name in ("num_train", "num_closeup", "num_validation", "num_test")]
FEW += ["data.options.zoom=2", "model.image_size=64"]


def twins(tmp_path: Path) -> list[Path]:
    """Two runs whose folders have one name."""
    for folder, run in zip("AB", RUNS, strict=True):
        shutil.copytree(run, tmp_path / folder / "run")
    return [tmp_path / folder / "run" for folder in "AB"]


def test_runs_of_one_name_are_all_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, pictures = twins(tmp_path), [tmp_path / name for name in ("both.png", "one.png", "here.png")]
    histograms.main([*map(str, runs), "--output", str(pictures[0])])
    histograms.main([str(runs[1]), "--output", str(pictures[1])])
    monkeypatch.chdir(runs[1])
    histograms.main([".", "--output", str(pictures[2])])
    colours = []
    for picture in pictures:
        with Image.open(picture) as drawn:
            colours.append({colour for _, colour in drawn.convert("RGB").getcolors(10**6)})
    assert [(255, 127, 14) in found for found in colours] == [True, False, False]  # a second histogram


def test_labels_are_no_formulas(tmp_path: Path) -> None:
    hostile = ["$\\frac{$", "\x1b[2J", "_hidden", "a\nb", "long " * 400, "$x$ %"]
    image, box = torch.zeros(1, 8, 8, dtype=torch.uint8), torch.tensor([[2.0, 2, 4, 4]])
    plot_glimpses(tmp_path / "g.png", [Example(image, box, text) for text in hostile], hostile[0])
    plot_histograms(tmp_path / "h.png", {f"{name} {i}": {"1": 3} for i, name in enumerate(2 * hostile)})
    for name in ("g.png", "h.png"):
        with Image.open(tmp_path / name) as drawn:
            assert drawn.convert("L").getextrema() != (255, 255)


def test_the_runs_of_a_variant_are_those_of_its_whole_name(tmp_path: Path) -> None:
    study = ablate.Study(output=str(tmp_path))
    for name in ("a[1]-0", "a1-5", "a-b-7", "a-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").touch()
    assert {name: [*ablate.finished_runs(study, name)] for name in ("a[1]", "a", "a-b")} == {
        "a[1]": [0],
        "a": [3],
        "a-b": [7],
    }


@pytest.fixture
def ram(tmp_path: Path) -> Path:
    shape = {"image_size": 64, "context": "resize", "context_size": 16, "glimpse_crop": 16}
    model = timm.create_model(
        "dtram", backbone="glimpse_convnet", num_classes=10, in_chans=1, num_steps=2, dynamic=False, **shape
    )
    model.save_pretrained(tmp_path / "ram", list("0123456789"))
    return tmp_path / "ram"


def test_a_ram_is_validated_without_a_threshold(ram: Path, capsys: pytest.CaptureFixture) -> None:
    words = [str(ram), str(DIGITS), *FEW]
    validate.main([*words, "--json"])
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["stop_threshold"], row["mean_steps"], row["step_histogram"]) == (None, 2.0, {"2": 40})
    validate.main(words)
    assert re.search(r"none +.+ +2\.00", capsys.readouterr().out)


def test_mistakes_of_validate_end_in_one_sentence(ram: Path, tmp_path: Path) -> None:
    for given, message in [
        ([ram, *FEW], "recipe .* is not a file"),
        ([ram, DIGITS, "other.yaml", *FEW], r"2 recipes were given \(.*digits\.yaml, other\.yaml\)"),
        ([ram, DIGITS, "--split", "nope", *FEW], "--split='nope' is not one of 'train'"),
        ([tmp_path / "none", DIGITS], "has no config.json"),
    ]:
        with pytest.raises(SystemExit, match=rf"^validate\.py: .*{message}.*[^\n]$"):
            validate.main([*map(str, given)])
    config = json.loads((ram / "config.json").read_text())
    config["label_names"][3:5] = "43"
    (ram / "config.json").write_text(json.dumps(config))
    with pytest.raises(SystemExit, match=r"calls class 3 '4', and the data '3'\."):
        validate.main([str(ram), str(DIGITS), *FEW])


@pytest.mark.parametrize("threads", ["0", "-2"])
def test_a_recipe_takes_a_number_of_threads(threads: str) -> None:
    with pytest.raises(ValueError, match=rf"^threads={threads} is not an integer of at least 1\.$"):
        read_recipe(DIGITS, [f"threads={threads}"])


def test_more_threads_than_any_machine_runs_are_refused() -> None:
    assert read_recipe(DIGITS, ["threads=4096"]).threads == 4096
    for threads in ("4097", "1000000000000"):
        with pytest.raises(
            ValueError, match=rf"^threads={threads} is more than 4096, the most that is accep"
        ):
            read_recipe(DIGITS, [f"threads={threads}"])


def test_lines_on_the_same_points_and_windows_over_the_edge_are_seen(tmp_path: Path) -> None:
    points = [{"mean_steps": 1 + i / 29, "accuracy": 0.5 + i / 100} for i in range(30)]
    curves = {"fixed": points[::10]} | dict.fromkeys(("a", "b", "c"), points)
    plot_tradeoff(tmp_path / "t.png", curves, {"mean_steps": 1.5, "accuracy": 0.7})
    grey, boxes = (
        torch.full((1, 20, 20), 128, dtype=torch.uint8),
        torch.tensor([[0.0, 0, 20, 20], [-5, 12, 10, 10]]),
    )
    plot_glimpses(
        tmp_path / "g.png", [Example(grey, boxes, "far", is_right=False)], "Look 1 is the whole image."
    )
    colours = {
        picture: {
            f"#{r:02x}{g:02x}{b:02x}": count for count, (r, g, b) in found.convert("RGB").getcolors(10**6)
        }
        for picture in ("t", "g")
        for found in [Image.open(tmp_path / f"{picture}.png")]
    }
    assert all(colours["t"].get(colour, 0) > 500 for colour in PALE[:3])
    assert colours["g"]["#1f77b4"] > 2 * colours["g"]["#ff7f0e"] > 100  # a frame around the image, and a part
    assert colours["g"][WRONG] > 10
