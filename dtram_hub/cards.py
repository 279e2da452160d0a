"""Model cards: every number in them is read from the files that a run left behind."""

import json
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from omegaconf import OmegaConf

from .metrics import accuracy_at_mean_steps

DATA = {
    "mnist": {
        "name": "MNIST",
        "hub_id": "ylecun/mnist",
        "license": "MIT, as its copy on the Hub says",
        "description": "60,000 training images, some of them held out for validation; 10,000 test images.",
        "limits": "It knows single, centred, white handwritten digits on black, and answers anything else\n"
        "just as surely. MNIST is an easy, much used test set: a few hundredths of a percent mean nothing.",
    },
}


def render_card(folder: str | Path, template: str | Path) -> ModelCard:
    """The card of a checkpoint.

    Args:
        folder: named `<architecture>.<tag>`, with config.json, metrics.json and recipe.yaml.
        template: a jinja2 template, see `model_cards/template.md`.

    Raises:
        ValueError: one of the files is missing, or the data source has no description in DATA.
    """
    folder = Path(folder)
    for name in ("config.json", "metrics.json", "recipe.yaml"):
        if not (folder / name).is_file():
            raise ValueError(f"checkpoint {str(folder)!r} has no {name}, which its card is made from.")
    config, metrics = (json.loads((folder / f"{name}.json").read_text()) for name in ("config", "metrics"))
    recipe = OmegaConf.load(folder / "recipe.yaml")
    if recipe.data.source not in DATA:
        raise ValueError(
            f"data.source={recipe.data.source!r} has no description; known are {', '.join(DATA)}."
        )
    data, arguments, result = DATA[recipe.data.source], config["model_args"], metrics["results"][0]
    cfg = config["pretrained_cfg"]
    return ModelCard.from_template(
        card_data=_card_data(folder.name, data, result),
        template_path=str(template),
        name=folder.name,
        summary=_summary(arguments, data),
        version=metrics["version"],
        input_size=cfg["input_size"],
        mean=cfg["mean"][0],
        std=cfg["std"][0],
        test_images=metrics["test_images"],
        test_error=_error(result["accuracy"]),
        validation_error=_error(result["validation_accuracy"]),
        mean_steps=result["mean_steps"],
        num_steps=arguments["num_steps"],
        stop_threshold=arguments["stop_threshold"] if arguments["dynamic"] else None,
        histogram=[
            {"steps": steps, "images": images, "error": _error(result["accuracy_by_steps"][steps])}
            for steps, images in result["step_histogram"].items()
        ],
        tradeoff=_tradeoff(metrics["curves"], arguments["num_steps"]) if "curves" in metrics else None,
        data=data,
        seed=metrics["seed"],
        machine=metrics["machine"],
        minutes=sum(metrics["seconds"].values()) / 60,
        stages=[
            {"name": name, "epochs": recipe.stages[name.split("_")[0]].epochs, "seconds": seconds}
            for name, seconds in metrics["seconds"].items()
        ],
    )


def _error(accuracy: float) -> float:
    return 100 * (1 - accuracy)


def _card_data(name: str, data: dict, result: dict) -> ModelCardData:
    metrics = {
        "accuracy": ("Accuracy", result["accuracy"]),
        "mean_steps": ("Mean steps", result["mean_steps"]),
    }
    return ModelCardData(
        model_name=name,
        library_name="timm",
        license="apache-2.0",
        datasets=[data["hub_id"]],
        tags=["image-classification", "timm", "dtram", "recurrent-attention", "early-exit"],
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type=data["hub_id"],
                dataset_name=data["name"],
                dataset_split="test",
                metric_type=kind,
                metric_name=title,
                metric_value=round(value, 6),
            )
            for kind, (title, value) in metrics.items()
        ],
    )


def _summary(arguments: dict, data: dict) -> str:
    view = "" if arguments["context"] == "none" else "one look at the whole image, then "
    glimpses = f"glimpses of {arguments['glimpse_crop']} x {arguments['glimpse_crop']} pixels"
    if arguments["dynamic"]:
        steps = f"at most {arguments['num_steps']} looks, and stops by itself when it has seen enough"
        return f"A classifier for {data['name']} that sees {view}{glimpses}: {steps}."
    looks = f"always {arguments['num_steps']} looks (RAM)"
    return f"A classifier for {data['name']} that sees {view}{glimpses}, {looks}."


def _tradeoff(curves: dict[str, list[dict]], num_steps: int) -> dict:
    """Errors of every policy at budgets half a step apart, where all policies have points on both sides."""
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
