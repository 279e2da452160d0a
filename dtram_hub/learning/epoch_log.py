"""The line of an epoch, and the time that is left."""

from .curriculum import Stage

# The groups of scores in a line, and the word of each score; others go to the trackers alone.
GROUPS = (
    {"loss": "loss", "train_return": "train return", "train_accuracy": "accuracy", "steps": "steps"},
    {
        "validation_return": "validation return",
        "validation_accuracy": "accuracy",
        "validation_balanced_accuracy": "balanced",
    },
)


def line(stage: Stage, epoch: int, scores: dict[str, float], seconds: float, left: float) -> str:
    """The line of a finished epoch.

    Args:
        stage: the stage in training.
        epoch: its number, from 0.
        scores: those of GROUPS, "learning_rate", and others.
        seconds: the training time of the stage so far.
        left: seconds to the end of all stages.
    """
    parts = [f"{stage.name:8} epoch {epoch + 1:2}/{stage.epochs}"]
    for group in GROUPS:
        shown = [f"{word} {scores[key]:.4f}" for key, word in group.items() if key in scores]
        parts += ["  ".join(shown)] if shown else []
    parts.append(f"rate {scores['learning_rate']:.1e}")
    parts.append(f"{duration(seconds)}, about {duration(left)} left")
    return " | ".join(parts)


def seconds_left(
    stages: list[Stage], images: list[int], number: int, done: int, epoch_seconds: float
) -> float:
    """The seconds that a training still needs, if a look at an image takes as long in all stages.

    Args:
        stages: all stages, in order.
        images: the number of training images of each stage.
        number: of the stage in training, from 0.
        done: the number of its finished epochs.
        epoch_seconds: the time of the last epoch.
    """
    looks = [stage.num_steps * count for stage, count in zip(stages, images, strict=True)]
    epochs = [stage.epochs for stage in stages]
    epochs[: number + 1] = [0] * number + [epochs[number] - done]
    left = sum(look * count for look, count in zip(looks, epochs, strict=True))
    return epoch_seconds * left / looks[number]


def duration(seconds: float) -> str:
    """A time in words: 42 s, 3.5 min, 2.1 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
