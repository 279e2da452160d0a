"""Uploads to the Hub: a model and its card, in one commit."""

import json
import logging
import shutil
import tempfile
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from torch import nn

from ..checks import check_flag, short
from ..files import write_text
from ..inference.answers import class_names
from ..learning.run_folder import METRICS, PICTURES, RECIPE, SHOWS_IMAGES, RunFolder
from ..models import checkpoint
from ..models.checkpoint import CONFIG, WEIGHTS
from ..prompt import one_line
from . import cards
from .hub_client import CARD, PUSHED, again, explained, open_api
from .licence import check_license, licence_of, without_licence

logger = logging.getLogger(__name__)


def push(
    model_or_dir: nn.Module | str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    license: str | None = None,
    pictures: bool = True,
) -> CommitInfo:
    """Upload a model with its card to the Hub in one commit, which arrives whole or not at all.

    A run's folder adds its metrics, its recipe without private folders, and its pictures. A README.md in the
    folder is the card; otherwise the card is rendered. Files of an earlier push that this push lacks are
    removed. All other files of the repository stay. A message names the files before they are sent.

    Args:
        model_or_dir: a DTRAM, or a directory with config.json and model.safetensors.
        repo_id: "org/name"; created if it does not exist.
        private: whether a new repository is private. An existing one must then be private already.
        revision: branch, created if it does not exist; `main` by default.
        token: a token of the Hub; by default HF_TOKEN, or the token of `hf auth login`.
        commit_message: title of the commit.
        create_pr: whether to open a pull request in place of a commit to the branch.
        tag: a new tag for the commit.
        license: the licence of the weights, as the Hub writes it, such as "apache-2.0"; None states none.
        pictures: whether to upload the run's pictures, one of which shows test images.

    Returns:
        The commit: `.oid` is its hash, `.commit_url` its page, `.pr_url` the page of the pull request.

    Raises:
        ValueError: a bad argument, an existing tag, a directory that `DTRAM.from_pretrained` rejects, one
            with pipes or with links to files elsewhere, or one with a README.md that states another licence
            or shows pictures that are left out.
        PermissionError: the Hub refuses the token, or the token may not write to the repository.
        ConnectionError: the Hub does not answer, or fails four times.
    """
    if tag and create_pr:
        raise ValueError(f"tag={tag!r} names a commit of a branch; create_pr=True takes no tag.")
    check_license(license)
    check_flag("pictures", pictures)
    api, name = open_api(repo_id, token), repo_id.partition("/")[2]
    message = commit_message or f"Upload {name} with dtram-hub"
    settings = {"revision": revision, "commit_message": message, "create_pr": create_pr}
    with tempfile.TemporaryDirectory() as folder, explained(repo_id, revision):
        _collect(model_or_dir, Path(folder), repo_id, license, PICTURES if pictures else ())
        is_private = again(_open, api, repo_id, private, None if create_pr else revision, tag)
        _announce(Path(folder), repo_id, is_private)
        arguments = (api, repo_id, Path(folder), settings)
        # A repeated commit of the same files is harmless. A repeated pull request would be a second one.
        commit = _commit(*arguments) if create_pr else again(_commit, *arguments)
    if tag:
        _tag(api, repo_id, tag, commit)
    return commit


def _collect(
    model_or_dir: nn.Module | str | Path,
    folder: Path,
    repo_id: str,
    license: str | None,
    pictures: Iterable[str],
) -> None:
    """Write all files of the push into an empty folder."""
    name = repo_id.partition("/")[2]
    if isinstance(model_or_dir, nn.Module):
        checkpoint.save(model_or_dir, folder, class_names(model_or_dir))
    else:
        source = RunFolder(model_or_dir)
        checkpoint.load(source.path)  # a checkpoint that does not load is not pushed
        _check_own(source.path, RECIPE)
        for file in (CONFIG, WEIGHTS, CARD, METRICS, *pictures):
            if _check_own(source.path, file):
                shutil.copy(source.path / file, folder / file)
        if source.exists:
            write_text(RunFolder(folder).recipe_path, source.public_recipe(name))
        _check_card(folder, source.path / CARD, license)
    checkpoint.write_header(folder / WEIGHTS, cards.facts(folder))
    results = cards.eval_results(folder)
    if results:
        (folder / ".eval_results").mkdir()
        write_text(folder / ".eval_results" / "dtram.yaml", results)
    if not (folder / CARD).is_file():
        terms = {"license": license} if license else None
        cards.render_card(folder, name, f"hf-hub:{repo_id}", terms=terms).save(folder / CARD)


def _check_card(folder: Path, card: Path, license: str | None) -> None:
    """ValueError if a card of the user's own states another licence, or shows a picture that is left out."""
    if not (folder / CARD).is_file():
        return
    stated = licence_of(folder / CARD)
    if license is not None and stated != license:
        raise ValueError(
            f"license={license!r}, but {str(card)!r} states {short(stated)}; change it there, or remove it."
        )
    text = (folder / CARD).read_text(encoding="utf-8")
    for name in PICTURES:
        if f"({name})" in text and card.with_name(name).is_file() and not (folder / name).is_file():
            raise ValueError(
                f"pictures=False, but {str(card)!r} shows {name}; remove it there, or remove the file."
            )


def _announce(folder: Path, repo_id: str, is_private: bool) -> None:
    """Say which files leave this machine, what they show, and who can read them."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    readers = "is private" if is_private else "everyone can read"
    logger.info(f"To {repo_id}, which {readers}: {', '.join(names)}.")
    shown = [name for name in names if name in SHOWS_IMAGES]
    if shown:
        logger.info(
            f"Pictures that show images of the data: {len(shown)} ({', '.join(shown)}); "
            "pictures=False (--no-pictures) leaves all pictures out."
        )
    if not licence_of(folder / CARD):
        logger.warning(without_licence(CARD))


def _check_own(folder: Path, name: str) -> bool:
    """Whether a folder has a file; ValueError for a pipe, and for a link to a file that lies elsewhere.

    Such a link could publish any file of this machine.
    """
    path = folder / name
    if not (path.exists() or path.is_symlink()):
        return False
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{str(path)!r} is no file of its own; a push takes no pipes and no links elsewhere."
        )
    return True


def _open(api: HfApi, repo_id: str, private: bool, branch: str | None, tag: str | None) -> bool:
    """Create the repository and the branch if they do not exist; whether the repository is private.

    Raises:
        ValueError: `private` for a public repository, or a tag that exists.
    """
    api.create_repo(repo_id, private=private, exist_ok=True)
    is_private = api.repo_info(repo_id).private
    if private and not is_private:
        raise ValueError(f"repo_id={repo_id!r} exists and is public; private=True does not hide it.")
    if tag and tag in {ref.name for ref in api.list_repo_refs(repo_id).tags}:
        raise ValueError(f"tag={tag!r} is taken in {repo_id!r}; accepted is the name of a new release.")
    if branch:
        api.create_branch(repo_id, branch=branch, exist_ok=True)
    return bool(is_private)


def _commit(api: HfApi, repo_id: str, folder: Path, settings: dict) -> CommitInfo:
    """Commit the files of `folder`, and remove those of an earlier push; without changes, commit nothing."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    head = api.model_info(repo_id, revision=settings["revision"])
    there = {sibling.rfilename for sibling in head.siblings or ()}
    stale = [name for name in there - files.keys() if any(fnmatch(name, pattern) for pattern in PUSHED)]
    operations: list[CommitOperationAdd | CommitOperationDelete]
    operations = [CommitOperationAdd(name, path) for name, path in files.items()]
    operations += [CommitOperationDelete(name) for name in stale]
    try:
        return api.create_commit(repo_id, operations, parent_commit=head.sha, **settings)
    except RuntimeError as error:  # the client wraps the error of a failed upload
        raise error.__cause__ or error from None
    except json.JSONDecodeError:  # a ValueError as well: an error page, after which `again` asks once more
        raise
    except ValueError as error:  # what the Hub does not accept in the card's metadata
        raise ValueError(f"repo_id={repo_id!r}: the Hub refuses the card: {one_line(error)}") from None


def _tag(api: HfApi, repo_id: str, tag: str, commit: CommitInfo) -> None:
    """Tag a commit. The message of a failure adds that the files were uploaded."""
    try:
        with explained(repo_id, commit.oid):
            again(api.create_tag, repo_id, tag=tag, revision=commit.oid, exist_ok=True)
    except OSError as error:
        there = f"The files are there, as commit {commit.oid}, without their tag."
        raise type(error)(f"{error} {there}") from None
