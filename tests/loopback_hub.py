"""A Hub on the loopback interface, for the real client: repositories in memory, and faults on demand.

It speaks what huggingface_hub and datasets need of the Hub's HTTP interface: models and datasets, commits,
LFS, branches, tags, pull requests, private repositories, ranges. `hub.faults["commit"] = [Fault("lost")]`
makes the next request of that kind fail; `hub.requests` has the kinds of all requests so far. The kinds are
the names of the view functions below, and "head" for the HEAD of a file.
"""

import base64
import hashlib
import itertools
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import sleep

from flask import Flask, Response, abort, jsonify, request
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

LFS_SUFFIXES = (".safetensors", ".bin", ".png", ".parquet")
TOKENS = {"hf_loopback": "me", "hf_stranger": "stranger"}


@dataclass
class Fault:
    """How one request fails.

    kind: "status" (answered by `status`, nothing done), "unheard" (the connection drops, nothing done),
        "lost" (done, and the connection drops before the answer), "half" (drops half-way through the answer),
        "slow" (the answer trickles), "size" (shorter than announced), "corrupt" (one byte is flipped),
        "overtaken" (someone else commits first).
    """

    kind: str
    status: int = 500
    retry_after: str | None = None
    pause: float = 0.05


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

    @property
    def files(self) -> dict[str, bytes]:
        """What `main` holds."""
        return self.commits[self.refs["main"]]


class LoopbackHub:
    """The server: `url` while it runs, `repos` by ("models" or "datasets", "org/name")."""

    def __init__(self, lfs: bool = True):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.requests: list[str] = []
        self.lfs = lfs
        self._lock = threading.RLock()
        self._server = make_server(
            "127.0.0.1", 0, create_app(self), threaded=True, request_handler=_QuietHandler
        )
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()

    def clear(self) -> None:
        """Forget all repositories, faults and requests."""
        for store in (self.repos, self.blobs, self.faults, self.requests):
            store.clear()

    def add(self, repo_id: str, files: dict[str, bytes], kind: str = "models", private: bool = False) -> Repo:
        """A repository with one commit."""
        repo = self.repos[kind, repo_id] = Repo(private)
        repo.commit(files, "initial commit")
        return repo

    def next_fault(self, kind: str) -> Fault | None:
        with self._lock:
            waiting = self.faults.get(kind)
            return waiting.pop(0) if waiting else None


class _QuietHandler(WSGIRequestHandler):
    def log_request(self, *args, **kwargs) -> None:
        pass

    def connection_dropped(self, error: BaseException, environ: dict | None = None) -> None:
        self.close_connection = True


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


def create_app(hub: LoopbackHub) -> Flask:
    app = Flask("loopback_hub")

    def user() -> str | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        name = TOKENS.get(header.removeprefix("Bearer "))
        if name is None:
            refuse(401, message="Invalid credentials in Authorization header")
        return name

    def find(kind: str, repo_id: str, write: bool = False) -> Repo:
        who, repo = user(), hub.repos.get((kind, repo_id))
        mine = who == repo_id.partition("/")[0]
        if repo is None or (repo.private and not mine):
            refuse(404 if who else 401, "RepoNotFound", "Repository not found")
        if write and not mine:
            refuse(403 if who else 401, message="You have no write access")
        return repo

    def is_lfs(path: str) -> bool:
        return hub.lfs and path.endswith(LFS_SUFFIXES)

    def entry(path: str, content: bytes) -> dict:
        found = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
        if is_lfs(path):
            sha256 = hashlib.sha256(content).hexdigest()
            found["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
        return found

    @app.before_request
    def before() -> Response | None:
        request.get_data()  # the server hangs on to connections with unread bodies
        request.kind = "head" if request.method == "HEAD" else request.endpoint
        hub.requests.append(request.kind)
        request.fault = fault = hub.next_fault(request.kind)
        if fault is not None and fault.kind == "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            return Response("try again", fault.status, headers)
        if fault is not None and fault.kind == "unheard":
            return Response(_broken(b""))
        return None

    @app.after_request
    def after(response: Response) -> Response:
        fault = getattr(request, "fault", None)
        if fault is None or fault.kind in ("status", "unheard", "overtaken"):
            return response
        if fault.kind == "lost":
            return Response(_broken(b""))
        body, headers = response.get_data(), dict(response.headers)
        if fault.kind == "half":
            return Response(_broken(body[: len(body) // 2]), response.status, headers | _length(len(body)))
        if fault.kind == "size":
            return Response(_broken(body), response.status, headers | _length(len(body) + 10))
        if fault.kind == "corrupt":
            body = body[:-1] + bytes([body[-1] ^ 1])
            return Response(body, response.status, headers)
        return Response(_trickle(body, fault.pause), response.status, headers | _length(len(body)))

    @app.get("/api/whoami-v2")
    def whoami() -> dict:
        name = user() or refuse(401, message="Invalid username or password.")
        return {"name": name, "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}}

    @app.post("/api/repos/create")
    def create() -> Response:
        who, wanted = user() or refuse(401, message="Invalid username or password."), request.json
        kind, repo_id = (
            f"{wanted.get('type') or 'model'}s",
            f"{wanted.get('organization') or who}/{wanted['name']}",
        )
        if repo_id.partition("/")[0] != who:
            refuse(403, message=f"You don't have the rights to create a {kind[:-1]} under this namespace")
        answer = jsonify(url=f"{hub.url}/{'' if kind == 'models' else kind + '/'}{repo_id}")
        if (kind, repo_id) in hub.repos:
            answer.status = 409
        else:
            private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            hub.add(repo_id, {".gitattributes": b"*.safetensors filter=lfs\n"}, kind, private)
        return answer

    @app.delete("/api/repos/delete")
    def delete() -> dict:
        kind = f"{request.json.get('type') or 'model'}s"
        repo_id = f"{request.json.get('organization') or user()}/{request.json['name']}"
        find(kind, repo_id, write=True)
        del hub.repos[kind, repo_id]
        return {}

    @app.post("/api/validate-yaml")
    def validate_yaml() -> dict:
        return {"errors": [], "warnings": []}

    @app.get("/api/<kind>/<org>/<name>")
    @app.get("/api/<kind>/<org>/<name>/revision/<path:revision>")
    def info(kind: str, org: str, name: str, revision: str = "main") -> dict:
        repo = find(kind, f"{org}/{name}")
        sha = repo.resolve(revision)
        siblings = []
        for path, content in repo.commits[sha].items():
            found = entry(path, content)
            lfs = {"lfs": found["lfs"] | {"sha256": found["lfs"]["oid"]}} if "lfs" in found else {}
            siblings.append({"rfilename": path, "size": found["size"], "blobId": found["oid"]} | lfs)
        return {
            "id": f"{org}/{name}",
            "sha": sha,
            "private": repo.private,
            "siblings": siblings,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
        }

    @app.get("/api/<kind>/<org>/<name>/tree/<path:where>")
    def tree(kind: str, org: str, name: str, where: str) -> Response:
        repo = find(kind, f"{org}/{name}")
        revision, folder = _split_revision(repo, where)
        files = repo.commits[repo.resolve(revision)]
        prefix = f"{folder}/" if folder else ""
        inside = {path: content for path, content in files.items() if path.startswith(prefix)}
        if folder and not inside:
            refuse(404, "EntryNotFound", f"{folder} does not exist")
        recursive = request.args.get("recursive", "").lower() in ("1", "true")
        folders = {
            prefix + part
            for path in inside
            for part in itertools.accumulate(path[len(prefix) :].split("/")[:-1], lambda a, b: f"{a}/{b}")
            if recursive or "/" not in part
        }
        listed = [
            {"type": "directory", "path": path, "size": 0, "oid": git_oid(path.encode())} for path in folders
        ]
        listed += [
            entry(path, content)
            for path, content in inside.items()
            if recursive or "/" not in path[len(prefix) :]
        ]
        return jsonify(sorted(listed, key=lambda item: item["path"]))

    @app.post("/api/<kind>/<org>/<name>/paths-info/<path:revision>")
    def paths_info(kind: str, org: str, name: str, revision: str) -> Response:
        repo = find(kind, f"{org}/{name}")
        files = repo.commits[repo.resolve(revision)]
        paths = request.form.getlist("paths") or (request.get_json(silent=True) or {}).get("paths", [])
        found = [entry(path, files[path]) for path in paths if path in files]
        found += [
            {"type": "directory", "path": path, "size": 0, "oid": git_oid(path.encode())}
            for path in paths
            if any(file.startswith(path.rstrip("/") + "/") for file in files)
        ]
        return jsonify(found)

    @app.get("/api/<kind>/<org>/<name>/refs")
    def refs(kind: str, org: str, name: str) -> dict:
        repo = find(kind, f"{org}/{name}")

        def rows(found: dict[str, str], where: str) -> list[dict]:
            return [{"name": k, "ref": f"refs/{where}/{k}", "targetCommit": oid} for k, oid in found.items()]

        branches = {k: v for k, v in repo.refs.items() if not k.startswith("refs/")}
        return {"branches": rows(branches, "heads"), "converts": [], "tags": rows(repo.tags, "tags")}

    @app.get("/api/<kind>/<org>/<name>/commits/<path:revision>")
    def commits(kind: str, org: str, name: str, revision: str) -> Response:
        repo = find(kind, f"{org}/{name}")
        repo.resolve(revision)
        date = "2026-01-01T00:00:00.000Z"
        return jsonify(
            [{"id": o, "title": t, "message": "", "authors": [], "date": date} for o, t in repo.history]
        )

    @app.post("/api/<kind>/<org>/<name>/tag/<path:revision>")
    def tag(kind: str, org: str, name: str, revision: str) -> dict:
        repo = find(kind, f"{org}/{name}", write=True)
        if request.json["tag"] in repo.tags:
            refuse(409, message="Tag reference exists already")
        repo.tags[request.json["tag"]] = repo.resolve(revision)
        return {}

    @app.post("/api/<kind>/<org>/<name>/branch/<path:branch>")
    def branch(kind: str, org: str, name: str, branch: str) -> dict:
        repo = find(kind, f"{org}/{name}", write=True)
        if branch in repo.refs:
            refuse(409, message="Reference already exists")
        repo.refs[branch] = repo.resolve((request.get_json(silent=True) or {}).get("startingPoint", "main"))
        return {}

    @app.post("/api/<kind>/<org>/<name>/preupload/<path:revision>")
    def preupload(kind: str, org: str, name: str, revision: str) -> dict:
        repo = find(kind, f"{org}/{name}", write=True)
        files = repo.commits[repo.resolve(revision)]
        answer = []
        for file in request.json["files"]:
            lfs, old = is_lfs(file["path"]), files.get(file["path"])
            oid = None if old is None else hashlib.sha256(old).hexdigest() if lfs else git_oid(old)
            mode = {"uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid}
            answer.append({"path": file["path"]} | mode)
        return {"files": answer, "commitOid": repo.resolve(revision)}

    @app.post("/<path:repo>.git/info/lfs/objects/batch")
    def lfs_batch(repo: str) -> Response:
        objects = []
        for wanted in request.json["objects"]:
            known = wanted["oid"] in hub.blobs
            href = {
                "upload": {"href": f"{hub.url}/lfs/{wanted['oid']}"},
                "verify": {"href": f"{hub.url}/lfs-verify"},
            }
            objects.append(wanted if known else wanted | {"actions": href})
        answer = jsonify(transfer="basic", objects=objects)
        answer.mimetype = "application/vnd.git-lfs+json"
        return answer

    @app.put("/lfs/<oid>")
    def lfs_upload(oid: str) -> str:
        content = request.get_data()
        if hashlib.sha256(content).hexdigest() != oid:
            refuse(400, message="content does not match its oid")
        hub.blobs[oid] = content
        return ""

    @app.post("/lfs-verify")
    def lfs_verify() -> dict:
        blob = hub.blobs.get(request.json["oid"])
        if blob is None or len(blob) != request.json["size"]:
            refuse(404, message="object is not here")
        return {}

    @app.post("/api/<kind>/<org>/<name>/commit/<path:revision>")
    def commit(kind: str, org: str, name: str, revision: str) -> dict:
        repo_id = f"{org}/{name}"
        repo = find(kind, repo_id, write=True)
        if request.fault is not None and request.fault.kind == "overtaken":
            repo.commit(repo.commits[repo.resolve(revision)] | {"NOTES.md": b"someone else's"}, "overtaking")
        head = repo.resolve(revision)
        files, title = dict(repo.commits[head]), ""
        for line in map(json.loads, request.get_data().splitlines()):
            value = line["value"]
            match line["key"]:
                case "header":
                    title = value["summary"]
                    if value.get("parentCommit", head) != head:
                        refuse(412, message="A commit has happened since. Please refresh and try again.")
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    if value["oid"] not in hub.blobs:
                        refuse(400, message="the LFS object was never uploaded")
                    files[value["path"]] = hub.blobs[value["oid"]]
                case "deletedFile":
                    if files.pop(value["path"], None) is None:
                        refuse(404, "EntryNotFound", "A file with this name doesn't exist")
                case "deletedFolder":
                    files = {
                        k: v for k, v in files.items() if not k.startswith(value["path"].rstrip("/") + "/")
                    }
        ref, answer = revision, {}
        if request.args.get("create_pr"):
            number = 1 + sum(name.startswith("refs/pr/") for name in repo.refs)
            ref, answer = f"refs/pr/{number}", {"pullRequestUrl": f"{hub.url}/{repo_id}/discussions/{number}"}
        oid = repo.commit(files, title, ref)
        return answer | {"success": True, "commitOid": oid, "commitUrl": f"{hub.url}/{repo_id}/commit/{oid}"}

    @app.get("/<org>/<name>/resolve/<path:where>", defaults={"kind": "models"})
    @app.get("/<kind>/<org>/<name>/resolve/<path:where>")
    def download(kind: str, org: str, name: str, where: str) -> Response:
        repo = find(kind, f"{org}/{name}")
        revision, path = _split_revision(repo, where)
        oid = repo.resolve(revision)
        content = repo.commits[oid].get(path)
        if content is None:
            refuse(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": oid})
        answer = Response(content, mimetype="application/octet-stream")
        answer.headers["X-Repo-Commit"] = oid
        answer.set_etag(hashlib.sha256(content).hexdigest() if is_lfs(path) else git_oid(content))
        return answer.make_conditional(request, accept_ranges=True, complete_length=len(content))

    @app.errorhandler(HTTPException)
    def failed(error: HTTPException) -> Response:
        return error.response or Response(error.name, error.code)

    return app


def _split_revision(repo: Repo, where: str) -> tuple[str, str]:
    """ "main/a/b" -> ("main", "a/b"); pull requests and branches may hold slashes themselves."""
    known = [ref for ref in (*repo.refs, *repo.tags) if where == ref or where.startswith(f"{ref}/")]
    revision = max(known, key=len) if known else where.partition("/")[0]
    return revision, where[len(revision) + 1 :]


def _length(length: int) -> dict[str, str]:
    return {"Content-Length": str(length)}


def _broken(body: bytes) -> Iterator[bytes]:
    if body:
        yield body
    raise ConnectionResetError


def _trickle(body: bytes, pause: float) -> Iterator[bytes]:
    piece = max(1, len(body) // 8)
    for start in range(0, len(body), piece):
        sleep(pause)
        yield body[start : start + piece]
