"""The types of metrics.json and recipe.yaml, whose texts and numbers go into tables, pictures and cards."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

Share = Annotated[FiniteFloat, Field(ge=0, le=1)]
Steps = Annotated[FiniteFloat, Field(ge=1, le=1e6)]
Count = Annotated[int, Field(ge=0)]
Number = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}$")]
SplitName = Annotated[str, Field(pattern=r"^[a-z]{1,20}$")]


class Part(BaseModel):
    """Any part of a file. Other versions may have other keys beside."""

    model_config = ConfigDict(strict=True, protected_namespaces=())


class Point(Part):
    mean_steps: Steps
    accuracy: Share
    balanced_accuracy: Share | None = None


class Row(Point):
    model: str
    stage: str
    kind: Literal["stage", "comparison"]
    stage_kind: str | None = None
    num_steps: Annotated[int, Field(ge=1, le=10**6)] | None = None
    stop_threshold: Share | None = None
    validation_accuracy: Share | None = None
    gflops: FiniteFloat | None = None
    pointing: list[Share] = []
    step_histogram: dict[Number, Count] = {}
    accuracy_by_steps: dict[Number, Share] = {}

    @model_validator(mode="after")
    def is_whole(self) -> "Row":
        if self.step_histogram.keys() != self.accuracy_by_steps.keys():
            raise ValueError("step_histogram and accuracy_by_steps have other steps")
        if self.kind == "stage" and None in (self.num_steps, self.validation_accuracy):
            raise ValueError("num_steps or validation_accuracy is missing")
        return self


class BudgetRow(Part):
    mean_steps: Steps
    stop_threshold: Share
    images: Count
    measured: Steps
    low: Steps
    high: Steps


class AtBudget(Point):
    budget: Steps | None
    stop_threshold: Share | None


class Scores(Part):
    accuracy: Share
    balanced_accuracy: Share
    calibration_error: Share
    top5_accuracy: Share | None = None
    class_accuracy: list[Share | None]
    confusion: list[list[Count]] | None = None


class Metrics(Part):
    results: list[Row]
    stage_kinds: dict[str, str]
    seconds: dict[str, FiniteFloat]
    curves: dict[str, list[Point]] = {}
    budget: BudgetRow | None = None
    budgets: list[AtBudget] = []
    images: dict[SplitName, Count] = {}
    classes: list[str] = []
    scores: Scores | None = None
    test_images: Count | None = None
    seed: int | None = None
    machine: str | None = None
    version: str | None = None
    note: str | None = None
    precision: Literal["float32", "float16", "bfloat16", "float64"] | None = None
    data: dict[str, str] = {}
    spearman_steps_difficulty: FiniteFloat | None = None

    @model_validator(mode="after")
    def has_all_times(self) -> "Metrics":
        if not self.seconds.keys() >= self.stage_kinds.keys():
            raise ValueError("seconds lacks a stage")
        if self.scores and len(self.scores.class_accuracy) != len(self.classes):
            raise ValueError("scores.class_accuracy and classes have other lengths")
        return self


class DataSection(Part):
    source: str | None


class ModelSection(Part):
    backbone: str | None = None


class StageSection(Part):
    epochs: Count | None = None
    split: str | None = None


class RecipeFile(Part):
    data: DataSection
    stages: dict[str, StageSection] = {}
    encoder_weights: str | None = None
    init_from: str | None = None
    architecture: str | None = None
    model: ModelSection = ModelSection()


def check_metrics(metrics: object) -> None:
    """ValueError, which names the first value that does not fit, unless `metrics` are those of a run."""
    _check(Metrics, metrics)


def check_recipe(recipe: object) -> None:
    """ValueError, which names the first value that does not fit, unless `recipe` is that of a run."""
    _check(RecipeFile, recipe)


def _check(schema: type[Part], values: object) -> None:
    try:
        schema.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ValueError(f"{where}: {first['msg']}") from None
