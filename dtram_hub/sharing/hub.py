"""The Hub: a model directory goes there in one commit, and comes back checked against the Hub's own record.

What comes back is JSON, YAML, pictures and safetensors. Nothing in a repository is executed or unpickled.
"""

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    errors,
    snapshot_download,
)
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter
from torch import nn

from ..models import checkpoint
from ..models.checkpoint import CONFIG, WEIGHTS
from . import cards

try:
    import httpx2 as httpx  # what huggingface_hub 2 speaks through
except ImportError:
    import httpx

PICTURES = ("tradeoff.png", "steps.png", "glimpses.png")
PUSHED = (CONFIG, WEIGHTS, "README.md", "metrics.json", "recipe.yaml", *PICTURES, ".eval_results/*.yaml")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
PASSING = (408, 412, 429, 500, 502, 503, 504)  # 412: someone else has committed since
LONGEST_WAIT = 60.0


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
    """Put a model on the Hub, with its card, in one commit: all of it arrives, or nothing does.

    Of a run's folder, its metrics, recipe and pictures go along, without the folders of this machine that the
    recipe names. A README.md in the folder is taken as it is, else the card is rendered. Files of an earlier
    push that this one does not have are removed; any other file of the repository stays.

    Args:
        model_or_dir: a DTRAM, or a directory with config.json and model.safetensors.
        repo_id: "org/name"; made if it does not exist.
        private: who may see a repository that is made. One that exists must be private already.
        revision: branch, made if it does not exist; `main` unless given.
        token: of the Hub; the one that `hf auth login` has saved, or HF_TOKEN, unless given.
        commit_message: title of the commit.
        create_pr: open a pull request instead of committing to the branch.
        tag: name of the release that this commit becomes; a name that is taken is refused.

    Returns:
        The commit: `.oid` is its hash, `.commit_url` its page, `.pr_url` the pull request's.

    Raises:
        ValueError: a bad argument, or a directory that `DTRAM.from_pretrained` would not load.
        PermissionError: the token is refused, or may not write there.
        ConnectionError: the Hub does not answer, or fails again and again; nothing was changed, or all of it.
    """
    _check(repo_id, token)
    if tag and create_pr:
        raise ValueError(f"tag={tag!r} names a commit of a branch; it does not go with create_pr=True.")
    api = HfApi(token=token, library_name="dtram-hub")
    with tempfile.TemporaryDirectory() as folder, _explained(repo_id, revision):
        _stage(model_or_dir, Path(folder), repo_id)
        _again(_open, api, repo_id, private, None if create_pr else revision, tag)
        settings = {
            "revision": revision,
            "commit_message": commit_message or f"Upload {repo_id.partition('/')[2]} with dtram-hub",
            "create_pr": create_pr,
        }
        # A second pull request would not be the first one again, as a second commit of the same files is.
        what = (api, repo_id, Path(folder), settings)
        commit = _commit(*what) if create_pr else _again(_commit, *what)
    if tag:
        try:
            with _explained(repo_id, revision):
                _again(api.create_tag, repo_id, tag=tag, revision=commit.oid, exist_ok=True)
        except OSError as error:
            raise type(error)(
                f"{error} The files are there, as commit {commit.oid}, without their tag."
            ) from None
    return commit


def pull(
    repo_id: str,
    revision: str | None = None,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    **kwargs,
) -> nn.Module:
    """The DT-RAM of a repository, in evaluation mode.

    Args:
        repo_id, revision, token, cache_dir: as in `download`.
        kwargs: arguments of the model to change, such as `num_classes`.

    Raises:
        ValueError: as in `download`, or the repository holds another kind of model.
        PermissionError, ConnectionError: as in `download`.
    """
    folder = download(repo_id, revision, token=token, cache_dir=cache_dir)
    try:
        return checkpoint.load(folder, **kwargs)
    except ValueError as error:
        raise ValueError(f"repo_id={repo_id!r}: {error}") from None


def download(
    repo_id: str,
    revision: str | None = None,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """The directory, in the Hub's own cache, of one revision of a repository; what it holds is checked.

    The content of every file is held against its checksum on the Hub. One that differs is thrown away and
    fetched once more. A revision given by its full commit hash is not asked for again once it is in the
    cache, and with HF_HUB_OFFLINE=1 the cache is all there is.

    Args:
        repo_id: "org/name".
        revision: a branch, tag or commit; `main` unless given.
        token: of the Hub; the saved one unless given.
        cache_dir: the Hub's cache; its usual place unless given.

    Raises:
        ValueError: no such repository or revision, no safetensors in it, or files that are damaged there.
        PermissionError: the token is refused, or the repository is gated.
        ConnectionError: the Hub does not answer and the cache has nothing.
    """
    _check(repo_id, token)
    api = HfApi(token=token, library_name="dtram-hub")
    settings = {"token": token, "cache_dir": cache_dir, "library_name": "dtram-hub"}
    with _explained(repo_id, revision):
        folder = Path(_again(_snapshot, repo_id, revision, settings))
        damaged = _remove_damaged(api, repo_id, folder)
        if damaged:
            folder = Path(_again(_snapshot, repo_id, folder.name, settings))
            damaged = _remove_damaged(api, repo_id, folder)
        if damaged:
            raise ValueError(
                f"repo_id={repo_id!r}: {damaged[0]} came twice with another checksum than the Hub has on "
                "record, and was thrown away."
            )
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
        if missing:
            pickles = [
                name
                for name in _again(api.list_repo_files, repo_id, revision=folder.name)
                if name.endswith(PICKLES)
            ]
            rest = f", only {pickles[0]}, and pickles are never loaded" if pickles else ""
            raise ValueError(f"repo_id={repo_id!r} has no {missing[-1]}{rest}.")
    return folder


def copy(
    repo_id: str, directory: str | Path, revision: str | None = None, *, token: str | None = None
) -> None:
    """Write what `download` finds into a directory of its own, which needs the cache no more.

    Raises:
        As `pull`; the model is loaded once before anything is written.
    """
    folder = download(repo_id, revision, token=token)
    checkpoint.load(folder)
    shutil.copytree(folder, directory, dirs_exist_ok=True)


def _check(repo_id: str, token: str | None) -> None:
    if not isinstance(repo_id, str) or not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise ValueError(f"repo_id={repo_id!r} is not of the form 'org/name'.")
    if isinstance(token, str) and not re.fullmatch(r"[!-~]+", token):
        raise ValueError("token has blanks or other characters that no token of the Hub has.")


def _stage(model_or_dir: nn.Module | str | Path, folder: Path, repo_id: str) -> None:
    """Everything that is to be pushed, in an empty folder."""
    if isinstance(model_or_dir, nn.Module):
        checkpoint.save(model_or_dir, folder, model_or_dir.pretrained_cfg.get("label_names"))
    else:
        source = Path(model_or_dir)
        checkpoint.load(source)  # what could not be loaded again is not pushed
        for name in (CONFIG, WEIGHTS, "README.md", "metrics.json", *PICTURES):
            if (source / name).is_file():
                shutil.copy(source / name, folder / name)
        if (source / "recipe.yaml").is_file():
            (folder / "recipe.yaml").write_text(cards.public_recipe(source / "recipe.yaml", repo_id))
    checkpoint.write_header(folder / WEIGHTS, cards.facts(folder))
    results = cards.eval_results(folder)
    if results:
        (folder / ".eval_results").mkdir()
        (folder / ".eval_results" / "dtram.yaml").write_text(results)
    if not (folder / "README.md").is_file():
        cards.render_card(folder, name=repo_id.partition("/")[2], source=f"hf-hub:{repo_id}").save(
            folder / "README.md"
        )


def _open(api: HfApi, repo_id: str, private: bool, branch: str | None, tag: str | None) -> None:
    """Make the repository and the branch if need be, and refuse what could not end well."""
    api.create_repo(repo_id, private=private, exist_ok=True)
    if private and not api.repo_info(repo_id).private:
        raise ValueError(f"repo_id={repo_id!r} exists and is public; private=True does not hide it.")
    if tag and tag in {ref.name for ref in api.list_repo_refs(repo_id).tags}:
        raise ValueError(f"tag={tag!r} is taken in {repo_id!r}; accepted is the name of a new release.")
    if branch:
        api.create_branch(repo_id, branch=branch, exist_ok=True)


def _commit(api: HfApi, repo_id: str, folder: Path, settings: dict) -> CommitInfo:
    """Make the repository hold these files and none of an earlier push; no commit where it does already."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    head = api.repo_info(repo_id, revision=settings["revision"])
    there = {sibling.rfilename for sibling in head.siblings}
    stale = [name for name in there - files.keys() if any(fnmatch(name, pattern) for pattern in PUSHED)]
    operations = [CommitOperationAdd(name, path) for name, path in files.items()]
    operations += [CommitOperationDelete(name) for name in stale]
    try:
        return api.create_commit(repo_id, operations, parent_commit=head.sha, **settings)
    except RuntimeError as error:  # what it makes of any failed upload
        raise error.__cause__ or error from None


def _snapshot(repo_id: str, revision: str | None, settings: dict) -> str:
    return snapshot_download(repo_id, revision=revision, allow_patterns=list(PUSHED), **settings)


def _remove_damaged(api: HfApi, repo_id: str, folder: Path) -> list[str]:
    """Throw away the cached files whose content is not what the Hub has on record; their names."""
    damaged = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        # The cache names a blob by its checksum, where it can link to it.
        blob, name = path.resolve(), path.relative_to(folder).as_posix()
        record = blob.name
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", record):
            if constants.HF_HUB_OFFLINE:
                continue
            (entry,) = _again(api.get_paths_info, repo_id, [name], revision=folder.name)
            record = entry.lfs.sha256 if entry.lfs else entry.blob_id
        if _checksum(path, git=len(record) == 40) != record:
            damaged.append(name)
            blob.unlink()
            path.unlink(missing_ok=True)
    return damaged


def _checksum(path: Path, git: bool) -> str:
    """sha256 of a file, or the hash that git knows it by."""
    if git:
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _retry_after(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait for, if it does."""
    headers = getattr(getattr(_root(error), "response", None), "headers", {})
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _root(error: BaseException) -> BaseException:
    """Why a file that is not in the cache could not be fetched either, where the client says so."""
    hidden = isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__
    return _root(error.__cause__) if hidden else error


def _is_passing(error: BaseException) -> bool:
    root = _root(error)
    if isinstance(root, errors.HfHubHTTPError) and root.response is not None:
        return root.response.status_code in PASSING and (_retry_after(error) or 0) <= LONGEST_WAIT
    if isinstance(error, errors.LocalEntryNotFoundError):
        return not constants.HF_HUB_OFFLINE
    # An error page where JSON should be; a file of another size than announced is a bare OSError.
    return isinstance(error, httpx.TransportError | json.JSONDecodeError) or (
        type(error) is OSError and error.errno is None
    )


def _wait(state: RetryCallState) -> float:
    return _retry_after(state.outcome.exception()) or wait_exponential_jitter(initial=1, max=8)(state)


def _again(function, *args, **kwargs):
    """Call a function that may be called twice, until it passes or has failed four times."""
    retrying = Retrying(
        retry=retry_if_exception(_is_passing), wait=_wait, stop=stop_after_attempt(4), reraise=True
    )
    return retrying(function, *args, **kwargs)


@contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn the client's errors into one sentence each; without their requests, which hold the token."""
    here = f"repo_id={repo_id!r}"
    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(f"{here}: {' '.join(str(error).split())}") from None
    except errors.GatedRepoError:
        raise PermissionError(
            f"{here} is gated: ask for access on its page, then log in with `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise ValueError(
            f"{here} does not exist on {constants.ENDPOINT}, or your token may not see it; "
            "log in with `hf auth login` or pass token=."
        ) from None
    except errors.RevisionNotFoundError:
        raise ValueError(f"revision={revision!r} is no branch, tag or commit of {repo_id!r}.") from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if isinstance(_root(error), errors.HfHubHTTPError):
            raise _of_status(_root(error), here) from None
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError(
                f"{here} is not in the cache, and HF_HUB_OFFLINE is set; unset it to fetch it."
            ) from None
        raise ConnectionError(
            f"{here} could not be fetched from {constants.ENDPOINT}, and the cache does not have it."
        ) from None
    except errors.HfHubHTTPError as error:
        raise _of_status(error, here) from None
    except json.JSONDecodeError:
        raise ConnectionError(f"{here}: the Hub answers with an error page; try again later.") from None
    except httpx.HTTPError as error:
        raise ConnectionError(
            f"{here}: {constants.ENDPOINT} does not answer ({type(error).__name__}); try again later."
        ) from None


def _of_status(error: errors.HfHubHTTPError, here: str) -> OSError:
    status = error.response.status_code
    if status == 401:
        return PermissionError(f"{here}: the Hub refuses the token; log in with `hf auth login`.")
    if status == 403:
        return PermissionError(f"{here}: your token may not write there.")
    if status == 412:
        return ConnectionError(f"{here} is being changed by someone else; nothing was pushed, try again.")
    seconds = _retry_after(error)
    later = f"in {seconds:.0f} seconds" if seconds else "later"
    said = error.server_message or "no reason given"
    return ConnectionError(f"{here}: the Hub answers {status} ({said}); try again {later}.")
