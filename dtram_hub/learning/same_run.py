"""Whether a run goes on as it began: by the same recipe, on the same images."""

import re
from hashlib import sha256

from accelerate.logging import get_logger

from ..data.splits import Data
from .curriculum import Stage
from .recipe import Recipe, by_full_keys, read_recipe
from .run_folder import RunFolder

FREE_KEYS = ("output", "threads", "data.workers")  # keys that do not affect what is learned
EPOCHS = re.compile(r"stages\.\w+\.epochs")
AGAIN = "Start again with another output=FOLDER."

logger = get_logger(__name__)


def check_same_recipe(folder: RunFolder, recipe: Recipe) -> None:
    """ValueError unless the folder holds a run by this recipe. FREE_KEYS may differ, epochs may be more."""
    if not folder.exists:
        raise ValueError(f"--resume: output={str(folder)!r} holds no run to continue.")
    before, now = (by_full_keys(each) for each in (read_recipe(folder.recipe_path), recipe))
    for key, value in now.items():
        known = before.get(key)
        longer = EPOCHS.fullmatch(key) and value > known > 0
        if key not in FREE_KEYS and value != known and not longer:
            raise ValueError(f"--resume: the run in {str(folder)!r} has another {key!r}.")


def tell_longer(folder: RunFolder, recipe: Recipe, stages: list[Stage], reached: int) -> bool:
    """Tell which stages have more epochs than the run was started with.

    Args:
        folder: the run.
        recipe: the recipe to continue it by.
        stages: its stages, in order.
        reached: the number of the stage in training, or of the last one.

    Returns:
        Whether there are such stages.

    Raises:
        ValueError: all stages of a kind that has more epochs are finished, and others have begun.
    """
    known = read_recipe(folder.recipe_path).stages
    kinds = {stage.kind for stage in stages}
    longer = {kind for kind in kinds if getattr(recipe.stages, kind).epochs > getattr(known, kind).epochs}
    coming = stages[reached:]
    for kind in sorted(longer - {stage.kind for stage in coming}):
        raise ValueError(
            f"--resume: stages.{kind}.epochs cannot grow any more, because {coming[0].name} has begun; "
            f"accepted is {getattr(known, kind).epochs}. {AGAIN}"
        )
    if longer:
        names = ", ".join(f"{stage.name} has {stage.epochs}" for stage in coming if stage.kind in longer)
        logger.info(f"--resume: more epochs than before: {names}. Learning rates follow the new length.")
    return bool(longer)


def check_same_data(whose: str, before: dict[str, str], now: dict[str, str]) -> None:
    """ValueError unless the images and classes are those of the run `whose`; see `identify`."""
    changed = [name for name in before | now if before.get(name) != now.get(name)]
    if changed:
        raise ValueError(
            f"{whose} learned from other data: {' and '.join(changed)} changed; accepted are the same "
            f"images in the same classes. {AGAIN}"
        )


def identify(data: Data) -> dict[str, str]:
    """Checksums by which other data are known: `Data.identity`, and one of the names of the classes."""
    names = "\n".join(data.class_names).encode(errors="surrogateescape")
    return {"classes": sha256(names).hexdigest()} | data.identity
