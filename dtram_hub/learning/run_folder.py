"""The folder of a run: the names of its files, and the format of its recipe.yaml and metrics.json.

Everything is written whole or not at all. Nothing here needs more than YAML and JSON, so that a run can be
read, shown and pushed without the packages that train one.

    recipe.yaml                 what was asked for, and versions and command line in its comment head
    stages/NAME.safetensors     the weights that each stage kept
    checkpoints/                states to go on from, see `resume`
    metrics.json                what was measured; it makes the run a finished one
    *.png                       see PICTURES
    config.json, *.safetensors  the model, see `models.checkpoint`

metrics.json holds `results`, a list of rows with "model" (a title), "stage" (a name), "mean_steps",
"accuracy" and "kind". A row of kind "stage" is a stage's own result; it has "stage_kind", "num_steps" and
"validation_accuracy" as well. A row of kind "comparison" is another way to use the weights of a stage.
`stage_kinds` has the kind of every stage by its name ("encoder", "ram" or "dtram"), `seconds` its training
time; both in order.
"""

import json
from pathlib import Path

import yaml

from ..files import write_json, write_text

RECIPE, METRICS = "recipe.yaml", "metrics.json"
PICTURES = {
    "tradeoff.png": "Error against mean steps, for each way to stop",
    "steps.png": "Histogram of steps",
    "glimpses.png": "Test images by number of steps, with numbered glimpses",
}
PUBLIC_HEAD = ("# versions:", "# stage:")  # the command line names folders of one's own machine


class RunFolder:
    """One run's folder; it need not exist yet."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.recipe_path = self.path / RECIPE
        self.metrics_path = self.path / METRICS
        self.states = self.path / "checkpoints"

    def __str__(self) -> str:
        return str(self.path)

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.recipe_path.is_file()

    @property
    def is_finished(self) -> bool:
        """Whether all its stages were trained and tested."""
        return self.metrics_path.is_file()

    def make(self) -> None:
        """Make the folder, for the stages' weights as well."""
        (self.path / "stages").mkdir(parents=True, exist_ok=True)

    def stage_weights(self, name: str) -> Path:
        """Where the weights are that stage `name` keeps."""
        return self.path / "stages" / f"{name}.safetensors"

    def kept_stages(self) -> set[str]:
        """Names of the stages whose weights are here."""
        return {path.stem for path in (self.path / "stages").glob("*.safetensors")}

    def picture(self, name: str) -> Path:
        """Where a picture is, one of PICTURES."""
        return self.path / name

    def pictures(self) -> list[str]:
        """The PICTURES that are here, by file name."""
        return [name for name in PICTURES if self.picture(name).is_file()]

    def write_recipe(self, recipe: dict, **facts: object) -> None:
        """Write recipe.yaml; `facts`, such as versions and command, are the comment at its head."""
        write_text(
            self.recipe_path, _recipe_text([f"# {name}: {fact}" for name, fact in facts.items()], recipe)
        )

    def read_recipe(self) -> dict:
        """What recipe.yaml says, section by section.

        Raises:
            ValueError: there is no such file, or a run did not write it.
        """
        try:
            recipe = yaml.safe_load(self._read(self.recipe_path))
            recipe["data"]["source"]
        except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{self.recipe_path} is not what a run writes ({_line(error)}).") from None
        return recipe

    def public_recipe(self, name: str, **facts: object) -> str:
        """The text of recipe.yaml for other people: no folder of this machine, and no command line.

        Args:
            name: of the model, which takes the place of the output folder.
            facts: more for the comment at its head.

        Raises:
            ValueError: as `read_recipe`.
        """
        recipe = self.read_recipe()
        recipe |= {"output": f"runs/{name}", "stages_from": None}
        recipe["data"] |= {"root": None, "cache": None}
        if recipe.get("encoder_weights"):
            recipe["encoder_weights"] = Path(recipe["encoder_weights"]).name
        head = [line for line in self._read(self.recipe_path).splitlines() if line.startswith(PUBLIC_HEAD)]
        return _recipe_text(head + [f"# {name}: {fact}" for name, fact in facts.items()], recipe)

    def write_metrics(self, metrics: dict) -> None:
        """Write metrics.json, as the head of this module describes it."""
        write_json(self.metrics_path, metrics)

    def read_metrics(self) -> dict:
        """What metrics.json says; an old one that does not tell stages from comparisons is told apart.

        Raises:
            ValueError: there is no such file, or a run did not write it.
        """
        try:
            metrics = json.loads(self._read(self.metrics_path))
            _name_kinds(metrics)
            own_result(metrics)
        except (json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.metrics_path} is not what a run writes ({_line(error)}).") from None
        return metrics

    def _read(self, path: Path) -> str:
        if not path.is_file():
            raise ValueError(f"{str(self)!r} has no {path.name}; accepted is the folder of a finished run.")
        return path.read_text(encoding="utf-8")


def stage_rows(metrics: dict) -> list[dict]:
    """The rows of the stages themselves, in order."""
    return [row for row in metrics["results"] if row["kind"] == "stage"]


def own_result(metrics: dict) -> dict:
    """The row of the run's model, which is its last stage."""
    return stage_rows(metrics)[-1]


def _name_kinds(metrics: dict) -> None:
    """Give an old metrics.json the kinds of its rows and stages, which it says only between the lines."""
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


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
