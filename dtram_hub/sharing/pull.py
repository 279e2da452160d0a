"""Downloads from the Hub, with every file checked against its checksum on the Hub.

Only JSON, YAML, Markdown, pictures and safetensors are fetched. No file is executed or unpickled.
"""

import hashlib
import re
import shutil
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from torch import nn

from ..models import checkpoint
from ..models.checkpoint import CONFIG, WEIGHTS
from .hub_client import PUSHED, again, explained, open_api

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


def pull(
    repo_id: str,
    revision: str | None = None,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    **kwargs,
) -> nn.Module:
    """Load the DT-RAM of a repository, in evaluation mode.

    Args:
        repo_id, revision, token, cache_dir: as in `download`.
        kwargs: constructor arguments to change, such as `num_classes`.

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
    """Fetch one revision of a repository into the Hub's cache, and check every file.

    A file with another checksum than on the Hub is removed and fetched once more. A full commit hash that is
    in the cache needs no request. With HF_HUB_OFFLINE=1 only the cache is read.

    Args:
        repo_id: "org/name".
        revision: a branch, tag or commit; `main` by default.
        token: a token of the Hub; the saved one by default.
        cache_dir: the Hub's cache; its default folder unless given.

    Returns:
        The directory of the revision in the cache.

    Raises:
        ValueError: no such repository or revision, no safetensors in it, or damaged files on the Hub.
        PermissionError: the Hub refuses the token, or the repository is gated.
        ConnectionError: the Hub does not answer, and the cache lacks the revision.
    """
    api = open_api(repo_id, token)
    settings = {"token": token, "cache_dir": cache_dir, "library_name": "dtram-hub"}
    with explained(repo_id, revision):
        folder = _fetch(repo_id, revision, settings)
        if _remove_damaged(api, repo_id, folder):
            folder = _fetch(repo_id, folder.name, settings)
            damaged = _remove_damaged(api, repo_id, folder)
            if damaged:
                raise ValueError(
                    f"repo_id={repo_id!r}: {damaged[0]} came twice with another checksum than the Hub has on "
                    "record, and was thrown away."
                )
        _check_complete(api, repo_id, folder)
    return folder


def copy(
    repo_id: str, directory: str | Path, revision: str | None = None, *, token: str | None = None
) -> None:
    """Copy the files of `download` into `directory`, which does not link to the cache.

    Raises:
        ValueError, PermissionError, ConnectionError: as in `pull`, before a file is written.
    """
    folder = download(repo_id, revision, token=token)
    checkpoint.load(folder)
    shutil.copytree(folder, directory, dirs_exist_ok=True)


def _fetch(repo_id: str, revision: str | None, settings: dict) -> Path:
    return Path(again(snapshot_download, repo_id, revision=revision, allow_patterns=list(PUSHED), **settings))


def _check_complete(api: HfApi, repo_id: str, folder: Path) -> None:
    """ValueError if configuration or weights are missing; the message names a pickle in their place."""
    missing = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if not missing:
        return
    listed = again(api.list_repo_files, repo_id, revision=folder.name)
    pickles = [name for name in listed if name.endswith(PICKLES)]
    rest = f", only {pickles[0]}, and pickles are never loaded" if pickles else ""
    raise ValueError(f"repo_id={repo_id!r} has no {missing[-1]}{rest}.")


def _remove_damaged(api: HfApi, repo_id: str, folder: Path) -> list[str]:
    """Remove cached files with another checksum than on the Hub, and return their names."""
    damaged = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        # A cache with links names each blob by its checksum.
        blob, name = path.resolve(), path.relative_to(folder).as_posix()
        record = blob.name
        if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", record):
            if constants.HF_HUB_OFFLINE:
                continue
            (entry,) = again(api.get_paths_info, repo_id, [name], revision=folder.name)
            record = entry.lfs.sha256 if entry.lfs else entry.blob_id  # type: ignore[union-attr]  # no folder
        if _checksum(path, git=len(record) == 40) != record:
            damaged.append(name)
            blob.unlink()
            path.unlink(missing_ok=True)
    return damaged


def _checksum(path: Path, git: bool) -> str:
    """The sha256 of a file, or with `git` its hash in git."""
    if git:
        content = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
