"""What a training should tell its user: signs of a model that learns nothing, or gets worse."""

from torch import Tensor

FEW = 20  # images of a class, below which it can hardly be learned


def few_images(labels: Tensor, class_names: list[str]) -> str | None:
    """A sentence about classes with fewer than FEW training images; None if there are none.

    Args:
        labels: (N,) int64, of all training images.
        class_names: in the order of the labels.
    """
    counts = labels.bincount(minlength=len(class_names)).tolist()
    few = [(count, name) for name, count in zip(class_names, counts, strict=True) if count < FEW]
    if not few:
        return None
    shown = ", ".join(f"{name!r} ({count})" for count, name in sorted(few)[:5])
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return (
        f"few images: {shown}{more} have fewer than {FEW} training images. More images help most; "
        "data.balance=0.5 draws rare classes more often, and loss.balance=0.5 lets them count more."
    )


def dead_encoder(logits: Tensor, labels: Tensor) -> str | None:
    """A sentence about an encoder whose last units are zero for every image; else None.

    Its gradient is zero as well, so it never learns again. It gives all images the same logits.

    Args:
        logits: (N, C), of validation images.
        labels: (N,) int64.
    """
    if len(labels.unique()) == 1 or not (logits == logits[0]).all():
        return None
    return (
        "dead encoder: all validation images have the same logits to the last bit. The encoder's features no "
        "longer depend on the image, and no gradient revives them. Train the stage again with a smaller "
        "learning_rate, or a larger optimizer.warmup where images are few."
    )


def one_answer(answers: Tensor, labels: Tensor, class_names: list[str]) -> str | None:
    """A sentence about a model that gives all validation images the same answer, wrongly; else None.

    Args:
        answers, labels: (N,) int64.
        class_names: in the order of the labels.
    """
    if len(answers.unique()) > 1 or len(labels.unique()) == 1:
        return None
    share, name = (labels == answers[0]).double().mean().item(), class_names[int(answers[0])]
    return (
        f"one answer: the model calls all validation images {name!r}, and {100 * share:.1f} % of them are. A "
        "smaller learning_rate, more epochs or loss.balance=1 may help, and for small things in large images "
        "the recipe 'inspection'."
    )


def below_most_frequent(accuracy: float, shares: Tensor, class_names: list[str]) -> str | None:
    """A sentence about a training accuracy below that of always naming the most frequent class; else None.

    Args:
        accuracy: of the training images, in [0, 1].
        shares: (C,), the share of every class among them.
        class_names: in the order of the labels.
    """
    most, frequent = shares.max(0)
    if accuracy >= most:
        return None
    return (
        f"low training accuracy: {100 * accuracy:.1f} %; {class_names[int(frequent)]!r} for every image "
        f"would give {100 * most:.1f} %. Random crops (data.crop) may cut off what decides."
    )


def better_stage(rows: list[dict]) -> dict | None:
    """The stage that should be the run's model in place of the last one; None if the last one should.

    It answers more validation images right than the last stage, and takes no more looks.

    Args:
        rows: the rows of stages in metrics.json, in order.
    """
    last = rows[-1]
    cheaper = [row for row in rows if row["mean_steps"] <= last["mean_steps"]]
    best = max(cheaper, key=lambda row: row["validation_accuracy"])
    return best if best["validation_accuracy"] > last["validation_accuracy"] else None


def offer(better: dict, last: dict, folder: str) -> str:
    """The sentence that offers a better stage; arguments from `better_stage`, and the run's folder."""
    one, other = (
        f"{row['stage']} with {100 * row['validation_accuracy']:.1f} % at {row['mean_steps']:.2f} looks"
        for row in (last, better)
    )
    return (
        f"worse on validation than an earlier stage: {one}, {other}. The earlier one becomes a model by "
        f"dtram export {folder} --stage {better['stage']} --out FOLDER"
    )
