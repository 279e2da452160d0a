"""The data of a run in words: name, licence, contents and limits."""

DATA: dict[str, dict[str, str]] = {
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
        "description": "photographs of the {classes} bird species above, with the official split into\n"
        "training and test images; some of the training images are held out for validation. Neither boxes\n"
        "nor parts were used.",
        "limits": "It knows the {classes} species of its training images, and answers any other photograph\n"
        "just as surely. The encoder started from ImageNet, whose photographs are known to overlap the test\n"
        "images of CUB-200-2011 slightly, so new photographs may be harder. The terms of the photographs\n"
        "allow non-commercial research and education only; hold these weights to the same.",
    },
}


def describe_data(recipe: dict, metrics: dict, classes: int | None) -> dict:
    """Name, license, description and limits of the data; "hub_id" of a data set of the Hub.

    A folder has no name here, because its name may be private.

    Args:
        recipe: recipe.yaml, or {}.
        metrics: metrics.json, or {}.
        classes: the number of classes.
    """
    source = recipe.get("data", {}).get("source") or ""
    if source in DATA:
        fill = {"classes": classes}
        return {key: text.format_map(fill) for key, text in DATA[source].items()}
    counts = ", ".join(f"{count:,} for {split}" for split, count in metrics.get("images", {}).items())
    sizes = f": {counts}" if counts else ""
    unknown = {
        "license": "not stated here; ask for that of the images themselves",
        "description": f"images of {classes} classes, which `config.json` names{sizes}.",
        "limits": f"It knows the {classes} classes of its training images, and answers any other image just "
        "as surely.",
    }
    if source.startswith("hub:"):
        hub_id = source.removeprefix("hub:")
        return unknown | {"name": hub_id, "hub_id": hub_id, "license": "that of the data set on the Hub"}
    return unknown | {"name": "a folder of images" if source else "images"}
