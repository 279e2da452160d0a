"""The folder of a run: the names of its files, and the format of its recipe.yaml and metrics.json.

Every file is written whole or not at all. This module needs only YAML and JSON, so that programs can read,
show and push a run without the packages of training.

    recipe.yaml                 the recipe; its first comments hold versions and command line
    run.lock                    held by the process that trains here
    stages/NAME.safetensors     the weights of each stage
    checkpoints/                states for resuming, see `resume`
    metrics.json                the results; they mark the run as finished
    *.png                       see PICTURES
    config.json, *.safetensors  the model, see `models.checkpoint`

metrics.json holds `results`, a list of rows with "model" (a title), "stage" (a name), "mean_steps",
"accuracy" and "kind". A row of kind "stage" is the result of a stage, with "stage_kind", "num_steps",
"balanced_accuracy" and "validation_accuracy" as well. A row of kind "comparison" is the result of the same
weights with other locations or stops. "stop_threshold" is that of the row, if `dtram calibrate` has changed
the model's since. "pointing" of a row with glimpses, if the source knows boxes, holds
the share of boxes that were found after each step, see `learning.pointing`. `stage_kinds` maps the name of
every stage to its kind ("encoder", "ram" or "dtram"). `seconds` maps it to its training time. Both are in
the order of the stages. `budget`, if the recipe has one, holds the fields of `inference.uncertainty.Budget`.

The answers of the run's own model to the test images are counted further. `scores` holds those of
`learning.class_metrics`, for the classes that `classes` names; more than MOST_CLASSES have no "confusion".
`budgets` holds the rows of `learning.budget_rows`. `images` holds the number of images of each split. Runs
of older versions lack these four.
"""

import json
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ..files import write_json, write_text
from ..prompt import one_line
from .results_schema import check_metrics, check_recipe

RECIPE, METRICS = "recipe.yaml", "metrics.json"
PICTURES = {
    "tradeoff.png": "Error against mean steps, for each way to stop",
    "steps.png": "Histogram of steps",
    "glimpses.png": "Test images by number of looks, with numbered looks",
    "locations.png": "Where the second look at each test image lies",
    "confusion.png": "Answers by right class",
}
SHOWS_IMAGES = ("glimpses.png",)  # pictures with images of the data in them
MOST_CLASSES = 200  # whose confusion matrix metrics.json holds
LEARNED_STOPS = "learned stops of the DT-RAM"  # the curve of the run's own model
ON_HUB = re.compile(r"(hf-hub:)?[\w-][\w.-]*/[\w.-]+(@[\w.-]+)?")  # org/name; a folder may look the same
PUBLIC_HEAD = ("# versions:", "# stage:")  # not the command line, which names private folders


class RunFolder:
    """The folder of one run, which may not exist yet."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.recipe_path = self.path / RECIPE
        self.metrics_path = self.path / METRICS
        self.states = self.path / "checkpoints"
        self.partial_state = self.states / "partial"
        self._lock: Any = None

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.recipe_path.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether all stages are trained and tested."""
        return self.metrics_path.is_file()

    def claim(self) -> None:
        """Make the folder, and hold it until this process ends, however it ends.

        What a killed run was writing is removed.

        Raises:
            ValueError: another process holds the folder, or it cannot be written.
        """
        from filelock import FileLock, Timeout  # readers of a run need no lock

        lock = FileLock(self.path / "run.lock")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:  # an OSError as well
            raise ValueError(
                f"output={str(self)!r} is in use by another training; wait for its end, "
                "or pass output=FOLDER for another folder."
            ) from None
        except OSError as error:
            raise ValueError(
                f"output={str(self)!r} is no folder that can be written ({error.strerror}); "
                "pass output=FOLDER for another one."
            ) from None
        self._lock = lock
        shutil.rmtree(self.partial_state, ignore_errors=True)
        for folder in (self.path, self.path / "stages"):
            for left in folder.glob("*.tmp"):
                left.unlink()

    def release(self) -> None:
        """Give a claimed folder back, and remove it if it holds nothing."""
        if self._lock is None:
            return
        Path(self._lock.lock_file).unlink()  # before the release, so that no one holds a removed file
        self._lock.release()
        self._lock = None
        with suppress(OSError):
            self.path.rmdir()

    def make(self) -> None:
        """Make the folder of the stages."""
        (self.path / "stages").mkdir(parents=True, exist_ok=True)

    def stage_weights(self, name: str) -> Path:
        """The path of the weights of a stage."""
        return self.path / "stages" / f"{name}.safetensors"

    def kept_stages(self) -> set[str]:
        """The names of the stages that have weights here."""
        return {path.stem for path in (self.path / "stages").glob("*.safetensors")}

    def picture(self, name: str) -> Path:
        """The path of a picture, a key of PICTURES."""
        return self.path / name

    def pictures(self) -> list[str]:
        """The file names of the PICTURES that exist here."""
        return [name for name in PICTURES if self.picture(name).is_file()]

    def write_recipe(self, recipe: dict, **facts: object) -> None:
        """Write recipe.yaml; `facts`, such as versions and command, become its first comments."""
        write_text(
            self.recipe_path, _recipe_text([f"# {name}: {fact}" for name, fact in facts.items()], recipe)
        )

    def read_recipe(self) -> dict:
        """Read recipe.yaml.

        Raises:
            ValueError: there is no such file, or its content is not that of a run.
        """
        text = self._read(self.recipe_path)
        try:
            recipe = yaml.safe_load(text)
            check_recipe(recipe)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise _no_run(self.recipe_path, error) from None
        return recipe

    def public_recipe(self, name: str, **facts: object) -> str:
        """The text of recipe.yaml for publication, without private folders and without the command line.

        Args:
            name: name of the model, which replaces the output folder.
            facts: further first comments.

        Raises:
            ValueError: as in `read_recipe`.
        """
        recipe = self.read_recipe()
        recipe |= {"output": f"runs/{name}", "stages_from": None}
        recipe["data"] |= {"root": None, "cache": None}
        if recipe.get("encoder_weights"):
            recipe["encoder_weights"] = Path(recipe["encoder_weights"]).name
        given = recipe.get("init_from")
        if given and (Path(given).exists() or not ON_HUB.fullmatch(given)):
            recipe["init_from"] = Path(given).name
        head = [line for line in self._read(self.recipe_path).splitlines() if line.startswith(PUBLIC_HEAD)]
        return _recipe_text(head + [f"# {name}: {fact}" for name, fact in facts.items()], recipe)

    def write_metrics(self, metrics: dict) -> None:
        """Write metrics.json, in the format of the module's docstring."""
        write_json(self.metrics_path, metrics)

    def read_metrics(self, *needed: str) -> dict:
        """Read metrics.json. Kinds of rows and stages that an older version left out are added.

        Args:
            needed: optional entries that must be there, such as "seed".

        Raises:
            ValueError: there is no such file, or its content is not that of a run.
        """
        text = self._read(self.metrics_path)
        try:
            metrics = json.loads(text)
            _name_kinds(metrics)
            check_metrics(metrics)
            own_result(metrics)
            for name in needed:
                if metrics.get(name) is None:
                    raise ValueError(f"{name!r} is missing")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise _no_run(self.metrics_path, error) from None
        return metrics

    def _read(self, path: Path) -> str:
        if not path.is_file():
            raise ValueError(f"{str(self)!r} has no {path.name}; accepted is the folder of a finished run.")
        try:
            return path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise _no_run(path, error) from None


def stage_rows(metrics: dict) -> list[dict]:
    """The rows of kind "stage", in order."""
    return [row for row in metrics["results"] if row["kind"] == "stage"]


def own_result(metrics: dict) -> dict:
    """The row of the last stage, whose weights are the run's model."""
    return stage_rows(metrics)[-1]


def _name_kinds(metrics: dict) -> None:
    """Add the kinds of rows and stages to metrics of an older version, from other keys of each row."""
    if "stage_kinds" not in metrics:
        metrics["stage_kinds"] = {name: _old_kind(name) for name in metrics["seconds"]}
    for row in metrics["results"]:
        if "kind" not in row:
            row["kind"] = "stage" if "validation_accuracy" in row else "comparison"
        if row["kind"] == "stage" and "stage_kind" not in row:
            row["stage_kind"] = metrics["stage_kinds"][row["stage"]]


def _old_kind(stage: str) -> str:
    return stage if stage in ("encoder", "dtram") else "ram"


def _recipe_text(head: list[str], recipe: dict) -> str:
    return "\n".join([*head, yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)])


def _no_run(path: Path, error: Exception) -> ValueError:
    """The refusal of a file that no run wrote, with the reason; a ValueError tells its own."""
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return ValueError(f"{path} is not in the format of a run ({one_line(f'{kind}{error}')}).")
