"""Model cards. Every number comes from the files of a run, or is counted on the model."""

from pathlib import Path

import timm
import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from ..bundled import bundled
from ..files import write_text
from ..learning.run_folder import PICTURES, RunFolder, own_result
from ..models import checkpoint
from ..models.dtram import DTRAM
from ..models.flops import Compute, count_compute
from ..models.glimpse import CONTEXTS
from .card_data import describe_data
from .card_results import describe_results
from .hub_client import CARD, check_repo_id
from .licence import check_license
from .markdown import render


def render_card(
    folder: str | Path,
    name: str | None = None,
    source: str | None = None,
    pictures: dict[str, str] | None = None,
    terms: dict[str, str] | None = None,
) -> ModelCard:
    """Render the card of a checkpoint.

    Args:
        folder: a checkpoint. A finished run has metrics.json and recipe.yaml too; without them the card shows
            no results.
        name: name of the model, `<architecture>.<tag>` for one that ships; the folder's name by default.
        source: argument of `timm.create_model` that loads the model; `name` by default.
        pictures: links by file name, for keys of PICTURES; the pictures in the folder by default.
        terms: metadata of the licence of the weights, "license" and for "other" also "license_name" and
            "license_link"; without them the card states no licence.

    Raises:
        ValueError: a file is missing, or is not in the format of a run.
    """
    folder = Path(folder)
    name = name or folder.absolute().name
    model, config = checkpoint.load(folder), checkpoint.read_config(folder)
    metrics, recipe = _read_run(folder)
    data, compute = describe_data(recipe, metrics, model.num_classes), count_compute(model)
    result = own_result(metrics) if metrics else None
    if pictures is None:
        pictures = {file: file for file in RunFolder(folder).pictures()}
    values = {
        "card_data": _card_data(name, data, result, compute, base_model(recipe, model), terms).to_yaml(),
        "name": name,
        "source": source or name,
        "summary": _summary(model, data),
        "backbone": model.backbone,
        "labels": config.get("label_names") or [],
        **_describe_input(model, config["pretrained_cfg"]),
        "compute": compute,
        "num_steps": model.num_steps,
        "stop_threshold": model.stop_threshold if model.dynamic else None,
        "tested_threshold": (result or {}).get("stop_threshold") or model.stop_threshold,
        "result": result,
        "metrics": metrics,
        **(describe_results(metrics, recipe, model.num_steps) if metrics else {}),
        "pictures": [{"link": link, "title": PICTURES[file]} for file, link in pictures.items()],
        "data": data,
        "terms": terms or {},
    }
    return ModelCard(render(bundled("model_cards/template.md"), values))


def write_card(
    folder: Path, repo_id: str, overwrite: bool = False, license: str | None = None, pictures: bool = True
) -> Path:
    """Write README.md into a run's folder, for a repository "org/name", and return its path.

    Args:
        folder: the folder of the run.
        repo_id: the repository that the card names.
        overwrite: whether to replace a README.md.
        license: the licence of the weights, as the Hub writes it; None states none.
        pictures: whether the card shows the folder's pictures.

    Raises:
        ValueError: `repo_id` is no name of a repository, `license` is none of a licence, there is a README.md
            and `overwrite` is False, or as in `render_card`.
    """
    check_repo_id(repo_id)
    check_license(license)
    path = folder / CARD
    if path.exists() and not overwrite:
        raise ValueError(f"{str(path)!r} exists, and may have been edited; --overwrite replaces it.")
    name, terms = repo_id.partition("/")[2], {"license": license} if license else None
    card = render_card(folder, name, f"hf-hub:{repo_id}", None if pictures else {}, terms)
    write_text(path, card.content)
    return path


def base_model(recipe: dict, model: DTRAM) -> str | None:
    """The Hub's id of the weights that the encoder started with; None unless they were timm's own."""
    if recipe.get("encoder_weights") != "timm":
        return None
    tag = (recipe.get("architecture") or "").partition(".")[2]
    asked = recipe.get("model", {}).get("backbone") or f"{model.backbone}{f'.{tag}' * bool(tag)}"
    if asked.startswith("hf-hub:"):
        return asked.removeprefix("hf-hub:")
    cfg = timm.get_pretrained_cfg(asked, allow_unregistered=True)
    return cfg.hf_hub_id if cfg else None


def facts(folder: str | Path) -> dict[str, str]:
    """The metadata of a weights file: the architecture, and the version and results of a finished run."""
    metrics, _ = _read_run(folder)
    found = {"architecture": checkpoint.read_config(folder)["architecture"]}
    if metrics:
        result = own_result(metrics)
        found |= {name: str(round(result[name], 6)) for name in ("accuracy", "mean_steps")}
        found["version"] = f"dtram-hub {metrics['version']}"
    return found


def eval_results(folder: str | Path) -> str | None:
    """The text of the Hub's `.eval_results/*.yaml`, for a run on a data set of the Hub; otherwise None."""
    metrics, recipe = _read_run(folder)
    data = describe_data(recipe, metrics, None)
    if not metrics or not data.get("hub_id"):
        return None
    result = own_result(metrics)
    notes = f"accuracy on test, {result['mean_steps']:.2f} looks per image, seed {metrics['seed']}"
    entry = EvalResultEntry(data["hub_id"], "image-classification", round(result["accuracy"], 6), notes=notes)
    return yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)


def _read_run(folder: str | Path) -> tuple[dict, dict]:
    """metrics.json and recipe.yaml of a finished run; both empty for another folder.

    Raises:
        ValueError: a file is not in the format of a run, or lacks an entry that cards show.
    """
    run = RunFolder(folder)
    if not (run.exists and run.is_finished):
        return {}, {}
    metrics, recipe = run.read_metrics("seed", "machine", "version", "test_images"), run.read_recipe()
    for kind in metrics["stage_kinds"].values():
        if recipe.get("stages", {}).get(kind, {}).get("epochs") is None:
            raise ValueError(
                f"{run.recipe_path} is not in the format of a run ('stages.{kind}.epochs' is missing)."
            )
    return metrics, recipe


def _describe_input(model: DTRAM, cfg: dict) -> dict:
    """Example, size, mean and standard deviation of the images, the latter from timm's configuration."""
    colours = {key: [round(float(value), 4) for value in cfg[key]] for key in ("mean", "std")}
    channels, height, width = cfg["input_size"]
    example, size = f"torch.rand(2, {channels}, {height}, {width})", f"{height} x {width} pixels"
    if model.context == "fit":
        size = f"resized to {model.image_size} pixels along the longer side"
    if model.image_size is None:
        example = f"[torch.randint(256, ({channels}, 300, 500), dtype=torch.uint8)]"
        size = "of any size and shape"
    return {"example": example, "size": size} | colours


def _card_data(
    name: str, data: dict, result: dict | None, compute: Compute, base: str | None, terms: dict | None
) -> ModelCardData:
    measured = []
    if result:
        measured = [
            ("accuracy", "Accuracy", result["accuracy"]),
            ("balanced_accuracy", "Balanced accuracy", result.get("balanced_accuracy")),
            ("mean_steps", "Mean steps", result["mean_steps"]),
            ("gflops", "GFLOPs per image", compute.at(result["mean_steps"])),
        ]
    return ModelCardData(
        model_name=name,
        library_name="timm",
        pipeline_tag="image-classification",
        base_model=base,
        **(terms or {}),
        datasets=[data["hub_id"]] if data.get("hub_id") else None,
        tags=["image-classification", "timm", "dtram", "recurrent-attention", "early-exit"],
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=data.get("hub_id", data["name"]),
                dataset_name=data["name"],
                dataset_split="test",
                metric_type=kind,
                metric_name=title,
                metric_value=round(float(value), 6),
            )
            for kind, title, value in measured
            if value is not None
        ]
        or None,
    )


def _summary(model: DTRAM, data: dict) -> str:
    view = "" if model.context == "none" else f"one look at {CONTEXTS[model.context]}, then "
    glimpses = f"glimpses of {model.glimpse_crop} x {model.glimpse_crop} pixels"
    if model.dynamic:
        steps = f"at most {model.num_steps} looks, and stops by itself when it has seen enough"
        return f"A classifier for {data['name']} that sees {view}{glimpses}: {steps}."
    looks = f"always {model.num_steps} looks (RAM)"
    return f"A classifier for {data['name']} that sees {view}{glimpses}, {looks}."
