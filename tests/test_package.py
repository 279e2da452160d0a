"""The package as users get it: its version in every place, and what the wheel holds and does."""

import re
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from PIL import Image

import dtram_hub
from dtram_hub.learning.run_folder import METRICS
from dtram_hub.models.registry import SHIPPED
from small_runs import SMALL

ROOT = Path(__file__).parents[1]
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]


def test_version_and_date_are_those_of_the_changelog() -> None:
    released = re.findall(r"^## \[([\d.]+)\] - ([\d-]+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (dtram_hub.__version__, str(cited["date-released"])) == released[0]
    assert str(cited["version"]) == dtram_hub.__version__


def files_of(source: str, target: str) -> set[str]:
    """Where the files of a file or folder of the repository lie in the wheel."""
    path = ROOT / source
    found = [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
    return {str(Path(target) / file.relative_to(path)) for file in found if "__pycache__" not in file.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.long
def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    parts = [(name, name) for name in BUILD["only-include"]] + [*BUILD["force-include"].items()]
    assert names == set().union(*(files_of(*part) for part in parts))
    needed = ["py.typed", "model_cards/template.md", "training/train.py", "training/recipes/digits.yaml"]
    needed += [f"weights/{name}/model.safetensors" for name in SHIPPED]
    assert {f"dtram_hub/{name}" for name in needed} <= names
    assert {name.partition("/")[0] for name in names} == {"dtram_hub", "dtram_cli"}


@pytest.mark.long
def test_the_source_archive_holds_what_builds_and_tests_it(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/test_package.py"} <= names
    hidden = {name for name in names if name.startswith(".") or "__pycache__" in name}
    assert hidden <= {".gitignore"}


@pytest.mark.long
def test_the_wheel_does_what_the_readme_says_without_the_repository(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    home, work = tmp_path / "venv", tmp_path / "work"
    venv.create(home)
    (packages,) = home.glob("lib/python*/site-packages")
    # The dependencies without the repository: nobody reads the .pth file of an editable install in there.
    dependencies = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(dependencies))
    words = ["-m", "pip", "--python", str(home), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, *words], check=True)
    work.mkdir()
    Image.new("L", (28, 28), 255).save(work / "white.png")
    environment = {"PATH": f"{home / 'bin'}:/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "HOME": str(tmp_path)}

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=work, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    code = "import dtram_cli, dtram_hub, sys; print(dtram_hub.__file__, dtram_cli.__file__, *sys.path)"
    of_hub, of_cli, *searched = run("python", "-c", code).split()
    assert Path(of_hub).parents[1] == Path(of_cli).parents[1] == packages
    assert not [path for path in searched if Path(path) == ROOT or ROOT in Path(path).parents]
    assert run("dtram", "--version") == f"dtram, version {dtram_hub.__version__}\n"
    assert "dtram_resnet50" in run("dtram", "list", "*resnet50*").split()
    assert "242,460" in run("dtram", "info", "dtram_glimpse_mlp.mnist_dtram98")
    run("dtram", "predict", "dtram_glimpse_mlp.mnist_dtram98", "white.png", "--save", "glimpses")
    assert [path.name for path in (work / "glimpses").iterdir()] == ["white_glimpses.png"]
    assert "--resume" in run("dtram", "train", "--help")
    run("dtram", "train", "digits", *SMALL, "output=runs/mine")
    assert (work / "runs/mine" / METRICS).is_file()
    run("dtram", "validate", "runs/mine")
    assert run("dtram", "predict", "runs/mine", "white.png", "--out", "answers.csv") == "answers.csv\n"
    assert (work / "answers.csv").read_text().count("white.png") == 1
    run("dtram", "card", "runs/mine", "my-name/mine")
    assert "my-name/mine" in (work / "runs/mine/README.md").read_text()
