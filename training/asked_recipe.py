"""The recipe that the words of a command line ask for."""

from pathlib import Path

from dtram_hub.checks import nearest
from dtram_hub.learning.recipe import Recipe, read_recipe, split_words
from dtram_hub.learning.run_folder import RunFolder

RECIPES = Path(__file__).parent / "recipes"
DEFAULT_RECIPE = RECIPES / "digits.yaml"


def read_words(words: list[str], resume: bool) -> Recipe:
    """The recipe that is named among the words, with their overrides.

    Without a name it is the default recipe, or to resume the recipe of the run in `output`.

    Raises:
        ValueError: two names, or as in `read_recipe`.
    """
    name, overrides = split_words(words)
    path = find_recipe(name) if name else find_recipe()
    if resume and name is None:
        outputs = [word.partition("=")[2] for word in overrides if word.startswith("output=")]
        output = outputs[-1] if outputs else read_recipe(path).output
        if RunFolder(output).exists:
            path, overrides = RunFolder(output).recipe_path, [f"output={output}", *overrides]
    return read_recipe(path, overrides)


def find_recipe(word: str = "digits") -> Path:
    """The path of a recipe: `word` itself, or the file in `recipes/` with this name.

    Raises:
        ValueError: there is neither.
    """
    named = RECIPES / f"{word}.yaml"
    if Path(word).is_file():
        return Path(word)
    if not named.is_file():
        names = sorted(path.stem for path in RECIPES.glob("*.yaml"))
        raise ValueError(
            f"recipe {word!r} is not a file, and none of {', '.join(names)}.{nearest(word, names)}"
        )
    return named
