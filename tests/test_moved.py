"""Old import paths still work, with a warning; and importing the package brings only what a model needs."""

import json
import pickle
import subprocess
import sys
import warnings
from importlib import import_module

import pytest

import dtram_hub
from dtram_hub.moved import MOVED

# A name that each old module had, as README and docs named them.
NAMES = {
    "checkpoint": "load",
    "cluttered_digits": "cluttered_digits",
    "compute": "count_compute",
    "curriculum": "enter_stage",
    "early_exit": "calibrate",
    "encoder": "size_keywords",
    "export": "export_looks",
    "glimpse": "retina",
    "hub": "push",
    "losses": "dtram_loss",
    "mnist": "read_mnist",
    "model": "DTRAM",
    "recipe": "read_recipe",
    "registry": "SHIPPED",
}


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(("old", "name"), NAMES.items())
def test_an_old_path_gives_what_the_new_one_does(old: str, name: str) -> None:
    with pytest.warns(
        FutureWarning, match=f"dtram_hub.{old} has moved; import {name} from dtram_hub"
    ) as seen:
        found = getattr(import_module(f"dtram_hub.{old}"), name)
    assert seen[0].filename == __file__
    assert found is next(
        getattr(module, name)
        for module in (import_module(f"dtram_hub.{new}") for new in MOVED[old])
        if hasattr(module, name)
    )


def test_every_new_path_exists_and_no_old_one_is_in_its_way() -> None:
    for old, news in MOVED.items():
        assert all(import_module(f"dtram_hub.{new}").__file__ for new in news)
        assert not hasattr(import_module(f"dtram_hub.{old}"), "__file__")


def test_statements_of_old_programs_run_and_each_warns_once() -> None:
    code = (
        "import dtram_hub.export\n"
        "from dtram_hub.export import export_looks\n"
        "from dtram_hub import checkpoint\n"
        "assert dtram_hub.export.export_looks is export_looks\n"
        "assert checkpoint.load.__module__ == 'dtram_hub.models.checkpoint'\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "has moved" in line]
    assert [line.split(": FutureWarning: ") for line in warned] == [
        ["<string>:2", "dtram_hub.export has moved; import export_looks from dtram_hub.models.export."],
        ["<string>:4", "dtram_hub.export has moved; import export_looks from dtram_hub.models.export."],
        ["<string>:5", "dtram_hub.checkpoint has moved; import load from dtram_hub.models.checkpoint."],
    ]


def test_a_name_that_never_was_is_refused_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            AttributeError, match=r"no attribute 'nothing'\. Moved to dtram_hub\.models\.export\."
        ):
            dtram_hub.export.nothing  # noqa: B018
        with pytest.raises(AttributeError, match="module 'dtram_hub' has no attribute 'nothing'"):
            dtram_hub.nothing  # noqa: B018
        assert not hasattr(dtram_hub.export, "__path__")


def test_a_fresh_process_imports_what_it_needs_and_has_all_names() -> None:
    code = (
        "import json, sys, dtram_hub, timm\n"
        "timm.create_model('dtram_resnet18')\n"
        "print(json.dumps([name for name, module in sys.modules.items() if hasattr(module, '__file__')]))\n"
        "assert 'push' not in vars(dtram_hub)\n"
        "assert {*dtram_hub.__all__, '__version__'} <= {*dir(dtram_hub)}\n"
        "import dtram_hub.learning.run_folder\n"  # needs no package that trains
        "assert not {'omegaconf', 'accelerate', 'matplotlib', 'datasets', 'scipy'} & {*sys.modules}\n"
        "from dtram_hub import *\n"
        "import dtram_hub.sharing\n"
        "assert dtram_hub.push is push and callable(pull)\n"
    )
    done = run(code)
    assert done.returncode == 0, done.stderr
    loaded = {*json.loads(done.stdout)}
    ours = {name for name in loaded if name.startswith("dtram_hub.")}
    assert "dtram_hub.models.registry" in ours
    rooms = ("dtram_hub.sharing", "dtram_hub.learning", "dtram_hub.data", "dtram_hub.plots", "dtram_hub.cli")
    assert not [name for name in ours if name.startswith(rooms)]
    assert not loaded & {
        "accelerate",
        "datasets",
        "evaluate",
        "jinja2",
        "matplotlib",
        "omegaconf",
        "tenacity",
    }


def test_hub_functions_come_from_their_room() -> None:
    for name in ("push", "pull"):
        assert callable(getattr(dtram_hub, name))
        assert getattr(dtram_hub, name).__module__.startswith("dtram_hub.sharing.")
    assert not {"export", "checkpoint"} & {*dir(dtram_hub)}


def test_a_stand_in_is_pickled_by_its_name() -> None:
    stand_in = sys.modules["dtram_hub.model"]
    assert pickle.loads(pickle.dumps(stand_in)) is stand_in
