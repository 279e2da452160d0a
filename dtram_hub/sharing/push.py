"""Uploads to the Hub: a model and its card, in one commit."""

import shutil
import tempfile
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from torch import nn

from ..files import write_text
from ..inference.answers import class_names
from ..learning.run_folder import METRICS, PICTURES, RECIPE, RunFolder
from ..models import checkpoint
from ..models.checkpoint import CONFIG, WEIGHTS
from . import cards
from .hub_client import CARD, PUSHED, again, explained, open_api


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
) -> CommitInfo:
    """Upload a model with its card to the Hub in one commit, which arrives whole or not at all.

    A run's folder adds its metrics, its recipe without private folders, and its pictures. A README.md in the
    folder is the card; otherwise the card is rendered. Files of an earlier push that this push lacks are
    removed. All other files of the repository stay.

    Args:
        model_or_dir: a DTRAM, or a directory with config.json and model.safetensors.
        repo_id: "org/name"; created if it does not exist.
        private: whether a new repository is private. An existing one must then be private already.
        revision: branch, created if it does not exist; `main` by default.
        token: a token of the Hub; by default HF_TOKEN, or the token of `hf auth login`.
        commit_message: title of the commit.
        create_pr: whether to open a pull request in place of a commit to the branch.
        tag: a new tag for the commit.

    Returns:
        The commit: `.oid` is its hash, `.commit_url` its page, `.pr_url` the page of the pull request.

    Raises:
        ValueError: a bad argument, an existing tag, a directory that `DTRAM.from_pretrained` rejects, or one
            with pipes or with links to files elsewhere.
        PermissionError: the Hub refuses the token, or the token may not write to the repository.
        ConnectionError: the Hub does not answer, or fails four times.
    """
    if tag and create_pr:
        raise ValueError(f"tag={tag!r} names a commit of a branch; create_pr=True takes no tag.")
    api, name = open_api(repo_id, token), repo_id.partition("/")[2]
    settings = {
        "revision": revision,
        "commit_message": commit_message or f"Upload {name} with dtram-hub",
        "create_pr": create_pr,
    }
    with tempfile.TemporaryDirectory() as folder, explained(repo_id, revision):
        _collect(model_or_dir, Path(folder), repo_id)
        again(_open, api, repo_id, private, None if create_pr else revision, tag)
        arguments = (api, repo_id, Path(folder), settings)
        # A repeated commit of the same files is harmless. A repeated pull request would be a second one.
        commit = _commit(*arguments) if create_pr else again(_commit, *arguments)
    if tag:
        _tag(api, repo_id, tag, commit)
    return commit


def _collect(model_or_dir: nn.Module | str | Path, folder: Path, repo_id: str) -> None:
    """Write all files of the push into an empty folder."""
    name = repo_id.partition("/")[2]
    if isinstance(model_or_dir, nn.Module):
        checkpoint.save(model_or_dir, folder, class_names(model_or_dir))
    else:
        source = RunFolder(model_or_dir)
        checkpoint.load(source.path)  # a checkpoint that does not load is not pushed
        _check_own(source.path, RECIPE)
        for file in (CONFIG, WEIGHTS, CARD, METRICS, *PICTURES):
            if _check_own(source.path, file):
                shutil.copy(source.path / file, folder / file)
        if source.exists:
            write_text(RunFolder(folder).recipe_path, source.public_recipe(name))
    checkpoint.write_header(folder / WEIGHTS, cards.facts(folder))
    results = cards.eval_results(folder)
    if results:
        (folder / ".eval_results").mkdir()
        write_text(folder / ".eval_results" / "dtram.yaml", results)
    if not (folder / CARD).is_file():
        cards.render_card(folder, name, f"hf-hub:{repo_id}").save(folder / CARD)


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


def _open(api: HfApi, repo_id: str, private: bool, branch: str | None, tag: str | None) -> None:
    """Create the repository and the branch if they do not exist.

    Raises:
        ValueError: `private` for a public repository, or a tag that exists.
    """
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.repo_info(repo_id).private:
        raise ValueError(f"repo_id={repo_id!r} exists and is public; private=True does not hide it.")
    if tag and tag in {ref.name for ref in api.list_repo_refs(repo_id).tags}:
        raise ValueError(f"tag={tag!r} is taken in {repo_id!r}; accepted is the name of a new release.")
    if branch:
        api.create_branch(repo_id, branch=branch, exist_ok=True)


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


def _tag(api: HfApi, repo_id: str, tag: str, commit: CommitInfo) -> None:
    """Tag a commit. The message of a failure adds that the files were uploaded."""
    try:
        with explained(repo_id, commit.oid):
            again(api.create_tag, repo_id, tag=tag, revision=commit.oid, exist_ok=True)
    except OSError as error:
        there = f"The files are there, as commit {commit.oid}, without their tag."
        raise type(error)(f"{error} {there}") from None
