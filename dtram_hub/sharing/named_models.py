"""Models by the word that the program `dtram` takes: a name of timm's, a folder, or org/name on the Hub."""

from dataclasses import dataclass
from pathlib import Path

import timm

from ..checks import nearest
from ..models import checkpoint
from ..models.dtram import DTRAM
from ..models.registry import WEIGHTS


@dataclass(frozen=True)
class NamedModel:
    """A model by its word, before it is built.

    word: the user's word.
    folder: its files; None where timm has them, or where there are none.
    origin: where its files come from, in words.
    by_name: whether the word is a name that timm knows, whose tag is the model's own.
    """

    word: str
    folder: Path | None
    origin: str
    by_name: bool = False

    def build(self, pretrained: bool = True) -> DTRAM:
        """The model in evaluation mode; without `pretrained`, only a model with a folder has its weights.

        Raises:
            ValueError: as in `checkpoint.load`.
        """
        if self.folder:
            return checkpoint.load(self.folder)
        known = bool(tags_of(self.word.partition(".")[0]))
        return timm.create_model(self.word, pretrained=pretrained and known).eval()


def find_model(word: str) -> NamedModel:
    """Find the files of a model, and download them from the Hub if necessary.

    Args:
        word: a folder, or "local-dir:" with one; "org/name" or "org/name@revision", or "hf-hub:" with one; a
            name of timm's, with or without tag.

    Raises:
        ValueError: no such name, folder or repository.
        PermissionError, ConnectionError: as in `sharing.pull.download`.
    """
    path = Path(word.removeprefix("local-dir:"))
    if path.is_dir():
        return NamedModel(word, path, f"folder {path.absolute()}")
    if path.exists():
        raise ValueError(f"model {word!r} is a file; accepted is the folder of a model.")
    if _means_folder(word):
        raise ValueError(f"model {word!r}: no such folder exists; the Hub's are written 'hf-hub:org/name'.")
    if "/" in word:
        return NamedModel(word, _download(word), f"hf-hub:{word.removeprefix('hf-hub:')}")
    _check_name(word)
    default = timm.get_pretrained_cfg(word)  # of the weights that timm takes for a name without tag
    shipped = WEIGHTS / (word if "." in word or default is None else f"{word}.{default.tag}")
    if shipped.is_dir():
        return NamedModel(word, shipped, "ships with dtram-hub", by_name=True)
    return NamedModel(word, None, "timm's weights of the encoder", by_name=True)


def tags_of(architecture: str) -> list[str]:
    """The tags of an architecture's weights."""
    return [name.partition(".")[2] for name in timm.list_models(f"{architecture}.*", pretrained=True)]


def _means_folder(word: str) -> bool:
    """Whether a word that is no folder was meant as one."""
    if word.startswith("hf-hub:"):
        return False
    is_path = word.startswith(("local-dir:", ".", "/", "~")) or "\\" in word or word.count("/") > 1
    return is_path or ("/" in word and Path(word).parent.is_dir())


def _download(word: str) -> Path:
    from .pull import download  # a local model needs no client of the Hub

    repo_id, _, revision = word.removeprefix("hf-hub:").partition("@")
    try:
        return download(repo_id, revision or None)
    except (ValueError, PermissionError, ConnectionError) as error:
        if word.startswith("hf-hub:"):
            raise
        raise type(error)(f"no folder {word!r} exists here, and on the Hub {error}") from None


def _check_name(name: str) -> None:
    """ValueError unless timm knows a DT-RAM of this name and its tag."""
    architecture, _, tag = name.partition(".")
    names = timm.list_models("dtram*")
    if architecture not in names:
        raise ValueError(f"model {name!r} is no DT-RAM, folder or org/name.{nearest(architecture, names)}")
    tags = tags_of(architecture)
    if tag and tag not in tags:
        raise ValueError(f"model {name!r} is unknown; tags of {architecture}: {', '.join(tags) or 'none'}.")
