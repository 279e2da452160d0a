"""Model cards. Every number comes from the files of a run, or is counted on the model."""

from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from ..bundled import bundled
from ..files import write_text
from ..inference.uncertainty import Budget
from ..learning.curriculum import KINDS
from ..learning.run_folder import PICTURES, RunFolder, own_result
from ..models import checkpoint
from ..models.dtram import DTRAM
from ..models.flops import accuracy_at_mean_steps, count_compute
from .hub_client import CARD, check_repo_id
from .markdown import render

DATA: dict[str, dict[str, Any]] = {
    "mnist": {
        "name": "MNIST",
        "hub_id": "ylecun/mnist",
        "license": "MIT, as its copy on the Hub says",
        "description": "60,000 training images, some of them held out for validation; 10,000 test images.",
        "limits": "It knows single, centred, white handwritten digits on black, and answers anything else\n"
        "just as surely. MNIST is an easy, much used test set: a few hundredths of a percent mean nothing.",
    },
    "digits": {
        "name": "cluttered digits",
        "license": "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits, in scikit-learn's copy)",
        "description": "small handwritten digits among fragments of others, made from the recipe's seed.",
        "limits": "It knows the digits of its own data and is of use for nothing but trying out.",
    },
    "deeppcb": {
        "name": "DeepPCB",
        "license": "MIT",
        "terms": {"license": "mit"},
        "description": "1,500 circuit boards of 640 x 640 pixels, with the official split. An image is a\n"
        "board with all its defects repaired by pixels of its template, or all but one. The label is the\n"
        "kind of the defect that is left. Some training boards are held out for validation. No training\n"
        "used a box.",
        "limits": "It knows six kinds of defects on binary images of bare boards, and answers any other\n"
        "picture just as surely. It has seen no board with several defects.",
    },
    "cub": {
        "name": "{classes} classes of CUB-200-2011",
        "license": "non-commercial research and education only, as its makers ask",
        "terms": {
            "license": "other",
            "license_name": "non-commercial-research-and-education",
            "license_link": "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        },
        "description": "photographs of the {classes} bird species above, with the official split into\n"
        "training and test images; some of the training images are held out for validation. Neither boxes\n"
        "nor parts were used.",
        "limits": "It knows the {classes} species of its training images, and answers any other photograph\n"
        "just as surely. The encoder started from ImageNet, whose photographs are known to overlap the test\n"
        "images of CUB-200-2011 slightly, so new photographs may be harder. The terms of the photographs\n"
        "allow non-commercial research and education only; hold these weights to the same.",
    },
}


def render_card(
    folder: str | Path,
    name: str | None = None,
    source: str | None = None,
    pictures: dict[str, str] | None = None,
) -> ModelCard:
    """Render the card of a checkpoint.

    Args:
        folder: a checkpoint. A finished run has metrics.json and recipe.yaml too; without them the card shows
            no results.
        name: name of the model, `<architecture>.<tag>` for one that ships; the folder's name by default.
        source: argument of `timm.create_model` that loads the model; `name` by default.
        pictures: links by file name, for keys of PICTURES; the pictures in the folder by default.

    Raises:
        ValueError: a file is missing, or is not in the format of a run.
    """
    folder = Path(folder)
    name = name or folder.absolute().name
    model, config = checkpoint.load(folder), checkpoint.read_config(folder)
    metrics, recipe = _read_run(folder)
    data, compute = _describe_data(recipe, config), count_compute(model)
    result = own_result(metrics) if metrics else None
    if pictures is None:
        pictures = {file: file for file in RunFolder(folder).pictures()}
    values = {
        "card_data": _card_data(name, data, result, compute).to_yaml(),
        "name": name,
        "source": source or name,
        "summary": _summary(model, data),
        "backbone": model.backbone,
        "labels": config.get("label_names") or [],
        **_describe_input(model, config["pretrained_cfg"]),
        "compute": compute,
        "num_steps": model.num_steps,
        "stop_threshold": model.stop_threshold if model.dynamic else None,
        "result": result,
        "metrics": metrics,
        **(_describe_results(metrics, recipe, model.num_steps) if metrics else {}),
        "pictures": [{"link": link, "title": PICTURES[file]} for file, link in pictures.items()],
        "data": data,
    }
    return ModelCard(render(bundled("model_cards/template.md"), values))


def write_card(folder: Path, repo_id: str, overwrite: bool = False) -> Path:
    """Write README.md into a run's folder, for a repository "org/name", and return its path.

    Raises:
        ValueError: `repo_id` is no name of a repository, there is a README.md and `overwrite` is False, or
            as in `render_card`.
    """
    check_repo_id(repo_id)
    path = folder / CARD
    if path.exists() and not overwrite:
        raise ValueError(f"{str(path)!r} exists, and may have been edited; --overwrite replaces it.")
    write_text(path, render_card(folder, repo_id.partition("/")[2], f"hf-hub:{repo_id}").content)
    return path


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
    data = _describe_data(recipe, {})
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


def _describe_results(metrics: dict, recipe: dict, num_steps: int) -> dict:
    """The template's values for a finished run."""
    result = own_result(metrics)
    return {
        "test_error": _error(result["accuracy"]),
        "validation_error": _error(result["validation_accuracy"]),
        "budget": str(Budget(**metrics["budget"])) if "budget" in metrics else None,
        "learned_on_validation": _learned_on_validation(recipe, metrics),
        "histogram": [
            {"steps": steps, "images": images, "error": _error(result["accuracy_by_steps"][steps])}
            for steps, images in result["step_histogram"].items()
        ],
        "pointing": _pointing(metrics),
        "tradeoff": _tradeoff(metrics["curves"], num_steps) if metrics.get("curves") else None,
        "minutes": sum(metrics["seconds"].values()) / 60,
        "stages": [
            {"name": name, "epochs": recipe["stages"][kind]["epochs"], "seconds": metrics["seconds"][name]}
            for name, kind in metrics["stage_kinds"].items()
        ],
    }


def _describe_data(recipe: dict, config: dict) -> dict:
    """Name, license, description and limits of the data; hub_id and terms of the weights, if any."""
    source = recipe.get("data", {}).get("source") or ""
    if source in DATA:
        fill = {"classes": config.get("num_classes")}
        return {
            key: text.format_map(fill) if isinstance(text, str) else text
            for key, text in DATA[source].items()
        }
    classes = f"the {config.get('num_classes')} classes"
    unknown = {
        "license": "not stated here; ask for that of the images themselves",
        "description": "images of the classes in `config.json`.",
        "limits": f"It knows {classes} of its training images, and answers any other image just as surely.",
    }
    if source.startswith("hub:"):
        hub_id = source.removeprefix("hub:")
        return unknown | {"name": hub_id, "hub_id": hub_id, "license": "that of the data set on the Hub"}
    return unknown | {"name": "a folder of images" if source else "images"}


def _learned_on_validation(recipe: dict, metrics: dict) -> str | None:
    """The parts that the stages learned on validation images, in words; None if there are none."""
    found = [
        about.subject
        for kind, about in KINDS.items()
        if kind in metrics["stage_kinds"].values()
        and "validation" in (recipe["stages"][kind].get("split") or "train").split("+")
    ]
    return " and ".join(found).capitalize() if found else None


def _error(accuracy: float) -> float:
    return 100 * (1 - accuracy)


def _card_data(name: str, data: dict, result: dict | None, compute) -> ModelCardData:
    measured = []
    if result:
        measured = [
            ("accuracy", "Accuracy", result["accuracy"]),
            ("mean_steps", "Mean steps", result["mean_steps"]),
            ("gflops", "GFLOPs per image", compute.at(result["mean_steps"])),
        ]
    return ModelCardData(
        model_name=name,
        library_name="timm",
        pipeline_tag="image-classification",
        **data.get("terms", {"license": "apache-2.0"}),
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
        ]
        or None,
    )


def _summary(model, data: dict) -> str:
    view = "" if model.context == "none" else "one look at the whole image, then "
    glimpses = f"glimpses of {model.glimpse_crop} x {model.glimpse_crop} pixels"
    if model.dynamic:
        steps = f"at most {model.num_steps} looks, and stops by itself when it has seen enough"
        return f"A classifier for {data['name']} that sees {view}{glimpses}: {steps}."
    looks = f"always {model.num_steps} looks (RAM)"
    return f"A classifier for {data['name']} that sees {view}{glimpses}, {looks}."


def _pointing(metrics: dict) -> dict | None:
    """The share of boxes that the glimpses of each model find, in percent; None without boxes."""
    rows = [row for row in metrics["results"] if len(row.get("pointing", [])) > 1]
    most = max((len(row["pointing"]) for row in rows), default=0)
    rows = [
        row for row in rows if len(row["pointing"]) == most
    ]  # those of the longest RAM, and of the DT-RAM
    shown = [
        {"model": row["model"], "shares": [100 * share for share in row["pointing"][1:]]} for row in rows
    ]
    return {"steps": list(range(2, most + 1)), "rows": shown} if rows else None


def _tradeoff(curves: dict[str, list[dict]], num_steps: int) -> dict:
    """The errors of every stop policy at budgets of 1.5, 2, .. mean steps below T."""
    budgets = [steps / 2 for steps in range(3, 2 * num_steps)]
    return {
        "policies": list(curves),
        "rows": [
            {
                "steps": steps,
                "errors": [_error(accuracy_at_mean_steps(curve, steps)) for curve in curves.values()],
            }
            for steps in budgets
        ],
    }
