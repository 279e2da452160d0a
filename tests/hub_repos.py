"""What the loopback Hub holds, in memory: repositories and the files of LFS; and who may see them."""

import hashlib
import itertools
import json
import time
from dataclasses import dataclass, field

from flask import Response, abort, request

LFS_SUFFIXES = (".safetensors", ".bin", ".png", ".parquet")
TOKENS = {"hf_loopback": "me", "hf_stranger": "stranger", "hf_my_name": "my-name", "hf_org": "org"}


@dataclass
class Repo:
    """refs, tags: name -> commit. commits: hash -> {path: content}. history: (hash, title), newest first."""

    private: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    history: list[tuple[str, str]] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], title: str, ref: str = "main") -> str:
        """A new commit that holds exactly `files`."""
        oid = hashlib.sha1(f"{self.refs.get(ref)}{title}{sorted(files)}{time.time_ns()}".encode()).hexdigest()
        self.commits[oid], self.refs[ref] = dict(files), oid
        self.history.insert(0, (oid, title))
        return oid

    def resolve(self, revision: str) -> str:
        """The commit of a branch, a tag, a pull request or itself."""
        revision = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        found = self.refs.get(revision) or self.tags.get(revision)
        if found is None and revision not in self.commits:
            refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found or revision

    def files_at(self, revision: str) -> dict[str, bytes]:
        return self.commits[self.resolve(revision)]

    def split(self, where: str) -> tuple[str, str]:
        """ "main/a/b" -> ("main", "a/b"); pull requests and branches may hold slashes themselves."""
        known = [ref for ref in (*self.refs, *self.tags) if where == ref or where.startswith(f"{ref}/")]
        revision = max(known, key=len) if known else where.partition("/")[0]
        return revision, where[len(revision) + 1 :]

    @property
    def files(self) -> dict[str, bytes]:
        """What `main` holds."""
        return self.commits[self.refs["main"]]


class Repos:
    """`repos` by ("models" or "datasets", "org/name"); `blobs`, the files of LFS, by sha256."""

    def __init__(self, lfs: bool = True):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.lfs = lfs

    def add(self, repo_id: str, files: dict[str, bytes], kind: str = "models", private: bool = False) -> Repo:
        """A repository with one commit."""
        repo = self.repos[kind, repo_id] = Repo(private)
        repo.commit(files, "initial commit")
        return repo

    def find(self, kind: str, repo_id: str, write: bool = False) -> Repo:
        """The repository, unless the request's user must not see it, or not write to it."""
        who, repo = user(), self.repos.get((kind, repo_id))
        mine = who == repo_id.partition("/")[0]
        if repo is None or (repo.private and not mine):
            refuse(404 if who else 401, "RepoNotFound", "Repository not found")
        if write and not mine:
            refuse(403 if who else 401, message="You have no write access")
        return repo

    def is_lfs(self, path: str) -> bool:
        return self.lfs and path.endswith(LFS_SUFFIXES)

    def file_entry(self, path: str, content: bytes) -> dict:
        """How the Hub lists one file."""
        found = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
        if self.is_lfs(path):
            sha256 = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
        return found


def user() -> str | None:
    """Whose token the request bears."""
    header = request.headers.get("Authorization")
    if header is None:
        return None
    name = TOKENS.get(header.removeprefix("Bearer "))
    if name is None:
        refuse(401, message="Invalid credentials in Authorization header")
    return name


def refuse(status: int, code: str | None = None, message: str | None = None, **headers: str) -> None:
    """Answer with an error as the Hub words it."""
    found = {"X-Error-Code": code, "X-Error-Message": message} | headers
    abort(
        Response(
            json.dumps({"error": message}), status, {k: v for k, v in found.items() if v}, "application/json"
        )
    )


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def folder_entry(path: str) -> dict:
    """How the Hub lists one folder."""
    return {"type": "directory", "path": path, "size": 0, "oid": git_oid(path.encode())}


def folders_of(paths: list[str]) -> set[str]:
    """All folders that hold some of the files, at any depth."""
    parents = (path.split("/")[:-1] for path in paths)
    return {folder for parts in parents for folder in itertools.accumulate(parts, lambda a, b: f"{a}/{b}")}
