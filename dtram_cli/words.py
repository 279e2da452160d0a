"""Words of the command line that several commands take, and what a shell completes them to."""

import re
from pathlib import Path

import click
from click.shell_completion import CompletionItem

ROOT = Path(__file__).parents[1]
# An installed package holds training/; in a checkout training/ lies beside this folder.
TRAINING = next(path for path in (ROOT / "dtram_hub" / "training", ROOT / "training") if path.is_dir())
SHIPPED = ROOT / "dtram_hub" / "weights"

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FILE = click.Path(dir_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)
LICENSE = click.option(
    "--license",
    help="Licence of the weights: apache-2.0, cc-by-4.0, other, .. The card states none by default.",
)
MODEL = "MODEL is a name that `dtram list` knows, a folder, or org/name on the Hub."


class ModelName(click.ParamType):
    """A model: a shell completes the names of those that ship, and folders."""

    name = "model"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = sorted(path.name for path in SHIPPED.glob(f"{incomplete}*") if path.is_dir())
        return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="dir")]


class Seconds(click.ParamType):
    """A time such as 20ms or 0.02s, in seconds."""

    name = "time"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+) ?(ms|s)", value)
        if not found:
            self.fail(f"{value!r} is no time; accepted are 20ms and 0.02s, for example.", param, ctx)
        return float(found[1]) / (1000 if found[2] == "ms" else 1)


def recipes() -> dict[str, str]:
    """The names of the recipes that ship, each with the first sentence of its file."""
    found = {}
    for path in sorted((TRAINING / "recipes").glob("*.yaml")):
        head = path.read_text(encoding="utf-8").partition("\n#\n")[0]
        text = " ".join(line.removeprefix("#").strip() for line in head.splitlines())
        found[path.stem] = re.split(r"(?<=[^.]\.) ", text)[0]
    return found


class RecipeWord(click.ParamType):
    """A recipe or key=value: a shell completes the names of recipes, and files."""

    name = "recipe"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = [CompletionItem(name, help=text) for name, text in recipes().items()]
        names = [item for item in names if item.value.startswith(incomplete)]
        return names or [CompletionItem(incomplete, type="file")]
